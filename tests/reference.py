"""A naive float64 twin of the network in NumPy: one small function per step, no packing, no tricks.

It is an `Engine`, so that everything above the seam runs on it, and the oracle for the engines that are fast.
Letters: n a sequence's tokens, H hidden, N heads, D head size, I inner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import erf

from bothways.arrays import FloatArray
from bothways.batch import TokenBatch
from bothways.checkpoint import Checkpoint
from bothways.engines.base import Hidden, Rows
from bothways.spec import Rotary, Spec

Array = npt.NDArray[np.float64]
Weights = Mapping[str, Array]


class ReferenceEngine:
    """Computes one checkpoint's network, a sequence at a time, in float64."""

    name = "reference"
    level = "numpy"
    dtype = "float64"
    threads = 1

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.spec = checkpoint.spec
        self.weights: dict[str, Array] = {
            name: tensor.float32().astype(np.float64) for name, tensor in checkpoint.tensors.items()
        }

    def encode(
        self, batch: TokenBatch, *, rows: Rows = "all", hidden_states: bool = False, attentions: bool = False
    ) -> Hidden:
        texts = []
        seen = batch.lengths if batch.keys is None else batch.keys
        for start, end, keys in zip(batch.starts[:-1], batch.starts[1:], seen, strict=True):
            cut = slice(start, end)
            inputs = (batch.ids[cut], batch.positions[cut], batch.token_types[cut])
            texts.append(forward(self.spec, self.weights, *inputs, keys=int(keys)))
        return Hidden(
            rows=_rows([text.layers[-1] for text in texts], rows, self.spec.hidden_size),
            layers=_layers(texts, self.spec) if hidden_states else None,
            attentions=[_attentions(text, self.spec) for text in texts] if attentions else None,
        )

    def linear(
        self, weight: FloatArray, bias: FloatArray | None, activation: str = "identity"
    ) -> Callable[[FloatArray], FloatArray]:
        function = ACTIVATIONS[activation]
        wide = weight.astype(np.float64)
        offset = np.zeros(len(wide)) if bias is None else bias.astype(np.float64)

        def apply(x: FloatArray) -> FloatArray:
            # Row by row, so that no product depends on how many are computed at once.
            products = [function(np.add.reduce(wide * row, axis=1) + offset) for row in x.astype(np.float64)]
            return np.array(products, np.float32).reshape(len(x), len(wide))

        return apply


@dataclass
class Text:
    """What one sequence went through: L + 1 arrays (n, H) and L arrays (N, n, n)."""

    layers: list[Array]
    attentions: list[Array]


def forward(
    spec: Spec,
    weights: Weights,
    ids: npt.NDArray[Any],
    positions: npt.NDArray[Any],
    types: npt.NDArray[Any],
    keys: int | None = None,
) -> Text:
    """Run one sequence through the network; its tokens see only the first `keys` of them."""
    text = Text([embeddings(spec, weights, ids, positions, types)], [])
    for n in range(spec.num_layers):
        hidden, probabilities = layer(spec, weights, n, text.layers[-1], positions, keys)
        if n == 0 and spec.convolution is not None:
            hidden = norm(spec, weights, "convolution_norm", hidden + convolution(spec, weights, text.layers[0]))
        text.layers.append(hidden)
        text.attentions.append(probabilities)
    if spec.pre_norm:
        text.layers[-1] = norm(spec, weights, "final_norm", text.layers[-1])
    return text


def embeddings(
    spec: Spec, weights: Weights, ids: npt.NDArray[Any], positions: npt.NDArray[Any], types: npt.NDArray[Any]
) -> Array:
    """Word, position, token type and task rows, added, normed and made as wide as hidden."""
    total = weights["embeddings.word"][ids]
    if spec.position_table:
        total = total + weights["embeddings.position"][positions]
    if spec.num_token_types:
        total = total + weights["embeddings.token_type"][types]
    if spec.num_task_types:
        total = total + weights["embeddings.task_type"][0]
    if spec.embedding_size is not None and spec.projection_first:
        total = linear(weights, "embeddings.projection", total)
    if spec.embedding_norm:
        total = norm(spec, weights, "embeddings.norm", total)
    if spec.embedding_size is not None and not spec.projection_first:
        total = linear(weights, "embeddings.projection", total)
    return total


def convolution(spec: Spec, weights: Weights, rows: Array) -> Array:
    """The activation of every token's sum over itself and its neighbours, group of columns by group."""
    settings, weight = spec.convolution, weights["convolution.weight"]  # (H, H / groups, tokens)
    assert settings is not None
    reach, group = settings.tokens // 2, weight.shape[1]
    padded = np.pad(rows, ((reach, reach), (0, 0)))
    total = np.tile(weights["convolution.bias"], (len(rows), 1))
    for n in range(settings.groups):
        columns = slice(n * group, (n + 1) * group)
        for token in range(settings.tokens):
            total[:, columns] += padded[token : token + len(rows), columns] @ weight[columns, :, token].T
    return ACTIVATIONS[settings.activation](total)


def layer(
    spec: Spec, weights: Weights, number: int, hidden: Array, positions: npt.NDArray[Any], keys: int | None
) -> tuple[Array, Array]:
    """Attention, then the feed-forward part, each added to its input and normed before or behind."""
    name = f"layers.{spec.stored_layer(number)}"

    def before(part: str, rows: Array) -> Array:
        # ModernBERT's first layer has no norm before attention, as its embeddings have just been normed.
        there = spec.pre_norm and f"{name}.{part}_norm.weight" in weights
        return norm(spec, weights, f"{name}.{part}_norm", rows) if there else rows

    def behind(part: str, rows: Array) -> Array:
        return rows if spec.pre_norm else norm(spec, weights, f"{name}.{part}_norm", rows)

    mixed, probabilities = attention(spec, weights, number, before("attention", hidden), positions, keys)
    attended = behind("attention", hidden + linear(weights, f"{name}.attention_output", mixed))
    hidden = norm(spec, weights, f"{name}.residual_norm", hidden + attended) if spec.residual_norm else attended
    output = feed_forward(spec, weights, name, before("output", hidden))
    return behind("output", hidden + output), probabilities


def feed_forward(spec: Spec, weights: Weights, name: str, hidden: Array) -> Array:
    activation, inner = ACTIVATIONS[spec.activation], linear(weights, f"{name}.inner", hidden)
    inner = activation(linear(weights, f"{name}.gate", hidden)) * inner if spec.gated else activation(inner)
    return linear(weights, f"{name}.output", inner)


def attention(
    spec: Spec, weights: Weights, number: int, hidden: Array, positions: npt.NDArray[Any], keys: int | None
) -> tuple[Array, Array]:
    """Every token's mix of the values that it sees, head by head: (n, H) and the probabilities (N, n, n)."""
    name = f"layers.{spec.stored_layer(number)}"
    query, key, value = (linear(weights, f"{name}.{part}", hidden) for part in ("query", "key", "value"))
    if spec.query_key_norm:
        query, key = (
            norm(spec, weights, f"{name}.{part}_norm", rows) for part, rows in (("query", query), ("key", key))
        )
    query, key, value = (heads(spec, rows) for rows in (query, key, value))
    if spec.rotary:
        query, key = (rotate(spec, spec.rotary[number], rows, positions) for rows in (query, key))
    scores = query @ key.transpose(0, 2, 1) + vector_scores(spec, weights, name, query, key)
    scores = scores / np.sqrt(spec.head_size * spec.score_terms)
    window = spec.windows[number] if spec.windows else None
    if window is not None:
        places = np.arange(len(hidden))
        scores = np.where(abs(places - places[:, None]) <= window, scores, -np.inf)
    scores = scores + relative_bias(spec, weights, len(hidden))
    scores[:, :, keys:] = -np.inf
    unseen = np.isinf(scores).all(axis=-1, keepdims=True)
    probabilities = np.where(unseen, 0, softmax(np.where(unseen, 0, scores)))
    mixed = probabilities @ value  # (N, n, D)
    return mixed.transpose(1, 0, 2).reshape(hidden.shape), probabilities


def vector_scores(spec: Spec, weights: Weights, name: str, query: Array, key: Array) -> Array:
    """What a query's and a key's products with the vectors of their distance come to: (N, n, n), or zero."""
    vectors = spec.relative_vectors
    if vectors is None:
        return np.zeros(1)
    places = np.arange(query.shape[1])
    rows = vector_rows(places[:, None] - places, vectors.rows, vectors.max_distance)  # (n, n): query by key
    total = np.zeros((spec.num_heads, *rows.shape))
    for there, whose, side in ((vectors.keys, "key", query[:, :, None]), (vectors.queries, "query", key[:, None])):
        if there:
            total += (side * position_heads(spec, weights, name, whose)[:, rows]).sum(axis=-1)
    return total


def vector_rows(distance: npt.NDArray[Any], count: int, longest: int | None) -> npt.NDArray[Any]:
    """The row of each distance of a query behind a key; beyond a quarter of them by logarithm, up to the longest."""
    near, size = count // 4, abs(distance)
    if longest is not None:
        # 1e-6 is for what logarithms round off where a bucket ends.
        share = np.log(np.maximum(size, near) / near) / np.log((longest - 1) / near)
        size = np.where(size > near, near + np.ceil(share * (near - 1) - 1e-6), size).astype(int)
    return np.clip(np.sign(distance) * size + count // 2, 0, count - 1)


def position_heads(spec: Spec, weights: Weights, name: str, whose: str) -> Array:
    """Position keys or queries of every head: (N, rows, D)."""
    vectors = spec.relative_vectors
    assert vectors is not None
    if vectors.projections == "none":
        return np.stack([weights[f"{name}.relative_vectors"]] * spec.num_heads)
    table = weights["relative_vectors"]
    if vectors.norm:
        table = norm(spec, weights, "relative_norm", table)
    return heads(spec, linear(weights, f"{name}.{'relative_' if vectors.projections == 'own' else ''}{whose}", table))


def relative_bias(spec: Spec, weights: Weights, count: int) -> Array:
    """T5's or ALiBi's bias for every head, query and key: (N, n, n), or zero."""
    if spec.alibi:
        places = np.arange(count)
        return -np.array(alibi_slopes(spec.num_heads))[:, None, None] * abs(places - places[:, None])
    if not spec.relative_buckets:
        return np.zeros(1)
    each = [[bucket(key - query, spec.relative_buckets) for key in range(count)] for query in range(count)]
    return weights["relative_bias"][np.array(each)].transpose(2, 0, 1)


def bucket(distance: int, count: int) -> int:
    """A bucket for each near distance, then wider and wider ones up to 128; the second half is for keys behind."""
    half, near, size = count // 2, count // 4, abs(distance)
    if size >= near:
        # 1e-6 is for what logarithms round off where a bucket begins.
        size = min(half - 1, near + int(np.log(size / near) / np.log(128 / near) * (half - near) + 1e-6))
    return size + (half if distance > 0 else 0)


def alibi_slopes(count: int) -> list[float]:
    """Roots of 2 ** -8 and their powers; a count between powers of two takes what it lacks from the next one's."""
    below = 2 ** int(np.log2(count))
    lacking = [2 ** (-8 * n / (2 * below)) for n in range(1, 2 * below, 2)]
    return [2 ** (-8 * n / below) for n in range(1, below + 1)] + lacking[: count - below]


def heads(spec: Spec, rows: Array) -> Array:
    """(n, H) to (N, n, D); heads that several queries share are repeated."""
    split = rows.reshape(len(rows), -1, spec.head_size).transpose(1, 0, 2)
    return split.repeat(spec.num_heads // len(split), axis=0)


def rotate(spec: Spec, rotary: Rotary, rows: Array, positions: npt.NDArray[Any]) -> Array:
    """Turn every pair of (N, n, D) by its position's angle, as a product of complex numbers."""
    size = spec.head_size
    angles = positions[:, None] * (rotary.factor / rotary.base ** (np.arange(0, size, 2) / size))  # (n, D / 2)
    places = np.arange(size).reshape((-1, 2) if spec.rotary_interleaved else (2, -1))
    first, second = places.T if spec.rotary_interleaved else places
    turned = (rows[..., first] + 1j * rows[..., second]) * np.exp(1j * angles)
    result = np.empty_like(rows)
    result[..., first], result[..., second] = turned.real, turned.imag
    return result


def linear(weights: Weights, name: str, rows: Array) -> Array:
    return rows @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0)


def norm(spec: Spec, weights: Weights, name: str, rows: Array) -> Array:
    centred = rows if spec.rms_norm else rows - rows.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + spec.norm_eps)
    return scaled * weights[f"{name}.weight"] + weights.get(f"{name}.bias", 0)


def softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * x))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda x: x,
    "gelu": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "gelu_fast": lambda x: 0.5 * x * (1 + np.tanh(0.7978845608 * x * (1 + 0.044715 * x * x))),
    "quick_gelu": lambda x: x * sigmoid(1.702 * x),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x * sigmoid(x),
    "tanh": np.tanh,
}


def cosines(a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    """The cosine of each row of a with the same row of b."""
    left, right = np.asarray(a, np.float64), np.asarray(b, np.float64)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosine: Array = (left * right).sum(axis=1) / lengths
    return cosine


def _rows(last: list[Array], rows: Rows, size: int) -> FloatArray:
    if not last:
        return np.zeros((0, size), np.float32)
    if rows == "all":
        return np.concatenate(last).astype(np.float32)
    kept = [(text[0] if rows == "first" else text.mean(axis=0)) if len(text) else np.zeros(size) for text in last]
    return np.stack(kept).astype(np.float32)


def _attentions(text: Text, spec: Spec) -> FloatArray:
    count = len(text.layers[0])
    shape = (spec.num_layers, spec.num_heads, count, count)
    return np.array(text.attentions, np.float32).reshape(shape)


def _layers(texts: list[Text], spec: Spec) -> list[FloatArray]:
    return [_rows([text.layers[n] for text in texts], "all", spec.hidden_size) for n in range(spec.num_layers + 1)]
