"""What a checkpoint is: the network (`Spec`), how it embeds (`EmbedSpec`, embed_spec.py) and its heads (`HeadSpec`).

Both engines read a `Spec` and nothing else; only `families/` knows how a config.json spells it.
Letters used for shapes: V vocabulary, P positions, Y token types, E embedding, H hidden, I inner, N heads, D head size,
L layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bothways.embed_spec import EmbedSpec

__all__ = [
    "ACTIVATIONS",
    "DTYPES",
    "Convolution",
    "HeadRows",
    "HeadSpec",
    "RelativeVectors",
    "Rotary",
    "Spec",
    "StepSpec",
]

#: The activations that the engines compute, by Bothways' own names.
ACTIVATIONS = ("gelu", "gelu_tanh", "gelu_fast", "quick_gelu", "relu", "silu", "tanh")

#: The dtypes of the arithmetic, the default first.
DTYPES = ("float32", "bfloat16", "int8")


#: What a head takes: every sequence's first row, their mean, the pooler's output, or all rows.
HeadRows = Literal["first", "mean", "pooled", "all"]


@dataclass(frozen=True)
class StepSpec:
    """One step of a head, taken by every row on its own: a product or a layer norm, then an activation.

    Attributes:
        weight: The name of its weight in the checkpoint's files.
        bias: The name of its bias, "" for none.
        activation: One of `ACTIVATIONS`, or "identity"; in a family's data also "network", the network's own.
        norm: Whether it is a layer norm, with the network's eps.
    """

    weight: str
    bias: str = ""
    activation: str = "identity"
    norm: bool = False

    @property
    def tensors(self) -> tuple[str, ...]:
        """The names of its tensors."""
        return (self.weight, self.bias) if self.bias else (self.weight,)


@dataclass(frozen=True)
class HeadSpec:
    """What turns token vectors into scores.

    Attributes:
        rows: What it takes.
        steps: From those rows to the scores.
        labels: C, what each score is about; none for a masked language model, whose labels are the vocabulary.
        problem: What the scores of a classification are: logits of labels that exclude each other, or of labels
            that each hold or not, or values ("regression").
        late_mean: Whether a sequence's scores are the mean of those of all its rows.
    """

    rows: HeadRows
    steps: tuple[StepSpec, ...]
    labels: tuple[str, ...] = ()
    problem: Literal["single_label", "multi_label", "regression"] = "single_label"
    late_mean: bool = False


@dataclass(frozen=True)
class Rotary:
    """By what angles queries and keys are turned: pair i of D / 2 by position * factor / base ** (2 * i / D)."""

    base: float
    factor: float = 1.0


@dataclass(frozen=True)
class RelativeVectors:
    """Vectors by the distance of two tokens, whose products with queries and keys are added to scores.

    Attributes:
        rows: R, of the table. A query that stands d tokens behind a key has row d + R // 2, kept within the table.
        max_distance: Distances of more than R // 4 share rows by logarithm, so that this one has about the last; None
            where every distance has its own.
        keys: Whether queries meet position keys (DeBERTa's c2p, BERT's relative_key).
        queries: Whether keys meet position queries (DeBERTa's p2c, BERT's relative_key_query).
        projections: How position keys and queries come about: all layers share a table (R, H), which passes the
            projections of the layer's keys and queries ("shared") or other ones ("own"); or each layer has a table
            (R, D), which is both, for all heads ("none").
        norm: Whether the shared table is normed.
    """

    rows: int
    max_distance: int | None = None
    keys: bool = True
    queries: bool = False
    projections: Literal["shared", "own", "none"] = "none"
    norm: bool = False


@dataclass(frozen=True)
class Convolution:
    """What is added behind the first layer, and normed: activation(convolution(embeddings)), over so many tokens."""

    tokens: int
    groups: int
    activation: str


@dataclass(frozen=True)
class Spec:
    """What an encoder's network is: everything an engine needs besides the weights.

    Attributes:
        family: The name of the family that read the config, such as bert.
        vocab_size: V, rows of the word table.
        hidden_size: H, values in a token's vector.
        num_layers: L.
        num_heads: N, attention heads per layer.
        inner_size: I, width of the feed-forward part.
        activation: One of `ACTIVATIONS`.
        norm_eps: Added to the variance in every layer norm.
        num_positions: P, rows of the position table, or the positions that a network without one is made for.
        position_offset: The row that a sequence's first token takes (RoBERTa: padding id + 1).
        padding_id: A token with this id takes row `padding_id` and does not count as a
            position (RoBERTa's rule); None where every token counts.
        num_token_types: Y, rows of the token type table; 0 for none.
        num_task_types: Rows of the task type table (ERNIE), of which the first is added to every token; 0 for none.
        embedding_size: E, values in a row of the embedding tables, of which a linear layer behind their norm makes H;
            None for H without such a layer.
        embedding_norm: Whether the embeddings are normed.
        projection_first: Whether the layer that makes H of E stands before the norm, which is then of H values.
        relative_buckets: Rows of the table of T5's relative position bias, which all layers add to scores (MPNet);
            0 for none.
        relative_vectors: What else scores have by distance (DeBERTa; BERT's relative_key), or None.
        score_terms: Scores are divided by the root of D times this.
        convolution: What is added behind the first layer (DeBERTa-v2's largest checkpoints), or None.
        alibi: Every layer takes from a score a head's slope times the distance of key and query.
        query_key_norm: Queries and keys are normed, those of all heads of a token as one vector.
        residual_norm: Behind the norm behind attention, attention's input is added once more, and a norm follows.
        pre_norm: Norms stand before attention and before the feed-forward part, and a last one behind all layers;
            else behind each, after its input is added again.
        first_norm: Of a network with `pre_norm`, whether the first layer's attention has a norm before it.
        position_table: Whether the embeddings have a position table.
        rotary: For every layer, how queries and keys are turned by their positions; () where they are not.
        rotary_interleaved: A pair that is turned is a head's values 2 i and 2 i + 1 (RoFormer); else i and i + D / 2.
        windows: For every layer, how many tokens away the furthest key is that a query sees, or None for all; () where
            every layer sees all.
        rms_norm: Norms divide by the root of the mean square and subtract no mean (RMSNorm).
        gated: The feed-forward part's inner values are activation(gate(x)) * inner(x), else activation(inner(x)).
        num_key_heads: Heads of keys and of values, each for as many neighbouring heads of queries; None for N.
        unbiased: The linear layers without a bias, by canonical name, and "norm" where norms have none.
        static: Of a network that is a table of token vectors and nothing else, which tokens of a text count: "all" or
            the "known" ones (model2vec); no special tokens stand around a text, so it may have none. None for others.
        stored_layers: For every layer, the number of the stored one whose weights it uses; () where each has its own.
        pooler: Whether the checkpoint carries trained pooler weights.
        pooler_reason: Why there is no pooler output, or "" when there is.
        embed: How token vectors become an embedding.
        heads: What the checkpoint carries of "classification", "token_classification", "masked_lm" and
            "question_answering".
        rank_activation: What a cross-encoder's score goes through: "sigmoid", "identity" or another activation.
    """

    family: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    inner_size: int
    activation: str
    norm_eps: float
    num_positions: int
    position_offset: int = 0
    padding_id: int | None = None
    num_token_types: int = 0
    num_task_types: int = 0
    embedding_size: int | None = None
    embedding_norm: bool = True
    projection_first: bool = False
    relative_buckets: int = 0
    relative_vectors: RelativeVectors | None = None
    score_terms: int = 1
    convolution: Convolution | None = None
    alibi: bool = False
    query_key_norm: bool = False
    residual_norm: bool = False
    pre_norm: bool = False
    first_norm: bool = True
    position_table: bool = True
    rotary: tuple[Rotary, ...] = ()
    rotary_interleaved: bool = False
    windows: tuple[int | None, ...] = ()
    rms_norm: bool = False
    gated: bool = False
    num_key_heads: int | None = None
    unbiased: frozenset[str] = frozenset()
    stored_layers: tuple[int, ...] = ()
    static: Literal["all", "known"] | None = None
    pooler: bool = False
    pooler_reason: str = ""
    embed: EmbedSpec = field(default_factory=EmbedSpec)
    heads: Mapping[str, HeadSpec] = field(default_factory=dict)
    rank_activation: str = "sigmoid"

    @property
    def head_size(self) -> int:
        """D, values per attention head."""
        return self.hidden_size // self.num_heads

    @property
    def max_tokens(self) -> int:
        """The longest sequence that the position table has rows for, special tokens included."""
        return self.num_positions - self.position_offset

    @property
    def embedding_width(self) -> int:
        """E, values in a row of the embedding tables."""
        return self.hidden_size if self.embedding_size is None else self.embedding_size

    @property
    def key_heads(self) -> int:
        """Heads of keys and of values."""
        return self.num_heads if self.num_key_heads is None else self.num_key_heads

    def stored_layer(self, number: int) -> int:
        """The number of the stored layer whose weights a layer uses."""
        return self.stored_layers[number] if self.stored_layers else number

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """The canonical name and shape of every tensor that an engine needs for this network.

        Of a layer's two norms, attention_norm belongs to attention and output_norm to the feed-forward part, whether
        they stand before or behind it.
        """
        hidden = self.hidden_size
        shapes = self._embedding_shapes()
        layer = self._layer_shapes()
        for n in sorted({self.stored_layer(number) for number in range(self.num_layers)}):
            shapes |= {f"layers.{n}.{name}": shape for name, shape in layer.items()}
        if not self.first_norm:
            shapes = {name: shape for name, shape in shapes.items() if not name.startswith("layers.0.attention_norm.")}
        if self.relative_buckets:
            shapes["relative_bias"] = (self.relative_buckets, self.num_heads)
        if self.relative_vectors is not None and self.relative_vectors.projections != "none":
            shapes["relative_vectors"] = (self.relative_vectors.rows, hidden)
            if self.relative_vectors.norm:
                shapes |= self._norm("relative_norm", hidden)
        if self.convolution is not None:
            shapes["convolution.weight"] = (hidden, hidden // self.convolution.groups, self.convolution.tokens)
            shapes["convolution.bias"] = (hidden,)
            shapes |= self._norm("convolution_norm", hidden)
        if self.pre_norm:
            shapes |= self._norm("final_norm", hidden)
        if self.pooler:
            shapes |= _linear_shapes("pooler", hidden, hidden)
        return shapes

    def _embedding_shapes(self) -> dict[str, tuple[int, ...]]:
        width = self.embedding_width
        shapes: dict[str, tuple[int, ...]] = {
            "embeddings.word": (self.vocab_size, width),
        }
        if self.position_table:
            shapes["embeddings.position"] = (self.num_positions, width)
        if self.embedding_norm:
            shapes |= self._norm("embeddings.norm", self.hidden_size if self.projection_first else width)
        if self.num_token_types:
            shapes["embeddings.token_type"] = (self.num_token_types, width)
        if self.num_task_types:
            shapes["embeddings.task_type"] = (self.num_task_types, width)
        if self.embedding_size is not None:
            shapes["embeddings.projection.weight"] = (self.hidden_size, width)
            if "embeddings.projection" not in self.unbiased:
                shapes["embeddings.projection.bias"] = (self.hidden_size,)
        return shapes

    def _layer_shapes(self) -> dict[str, tuple[int, ...]]:
        hidden, inner, keys = self.hidden_size, self.inner_size, self.key_heads * self.head_size
        linears = {"query": (hidden, hidden), "key": (keys, hidden), "value": (keys, hidden)}
        linears |= {"attention_output": (hidden, hidden), "inner": (inner, hidden), "output": (hidden, inner)}
        if self.gated:
            linears["gate"] = (inner, hidden)
        vectors = self.relative_vectors
        if vectors is not None and vectors.projections == "own":
            names = {"relative_key": vectors.keys, "relative_query": vectors.queries}
            linears |= {name: (hidden, hidden) for name, there in names.items() if there}
        shapes: dict[str, tuple[int, ...]] = {}
        for name, (rows, columns) in linears.items():
            shapes[f"{name}.weight"] = (rows, columns)
            if name not in self.unbiased:
                shapes[f"{name}.bias"] = (rows,)
        if vectors is not None and vectors.projections == "none":
            shapes["relative_vectors"] = (vectors.rows, self.head_size)
        norms = ["attention_norm", "output_norm"]
        norms += ["query_norm", "key_norm"] * self.query_key_norm + ["residual_norm"] * self.residual_norm
        for name in norms:
            shapes |= self._norm(name, hidden)
        return shapes

    def _norm(self, name: str, size: int) -> dict[str, tuple[int, ...]]:
        weight: dict[str, tuple[int, ...]] = {f"{name}.weight": (size,)}
        return weight if "norm" in self.unbiased else weight | {f"{name}.bias": (size,)}


def _linear_shapes(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
