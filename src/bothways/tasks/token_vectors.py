"""Token embeddings: texts to a vector for each of their tokens, as checkpoints of ColBERT's kind are made for.

T tokens of a batch, n one sequence's tokens, D values of a vector.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.batch import pack
from bothways.checkpoint import Checkpoint
from bothways.embed_spec import EmbedSpec, LateSpec, SideSpec
from bothways.engines.base import Engine
from bothways.errors import CheckpointError
from bothways.heads import Head, dense
from bothways.pooling import normalize
from bothways.spec import Spec
from bothways.tasks.embed import token_limit
from bothways.tasks.plan import Plan
from bothways.tasks.prompts import choose_prompt, prompted
from bothways.tasks.scores import Limits
from bothways.tokens import Sequence, Tokenizer
from bothways.vocabulary import Vocabulary

__all__ = ["Side", "TokenEmbedder", "vectors_limit"]


@dataclass(frozen=True)
class Side:
    """How the texts of one call are taken: a `SideSpec` in the vocabulary's terms.

    Attributes:
        prompt: What is put in front of a text.
        marker: The id that is put behind a sequence's first token; None for none.
        skip: The ids whose vectors are left out.
        fill: The id that shorter texts are filled up with.
        fill_to: Up to how many tokens.
        attend: Whether a text's tokens see those that it is filled with.
    """

    prompt: str = ""
    marker: int | None = None
    skip: npt.NDArray[np.int32] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))
    fill: int = 0
    fill_to: int = 0
    attend: bool = False


class TokenEmbedder:
    """Computes token vectors with one checkpoint."""

    def __init__(self, checkpoint: Checkpoint, tokenizer: Tokenizer, engine: Engine) -> None:
        """Join the parts; nothing is loaded until a text is embedded."""
        self._checkpoint = checkpoint
        self._tokenizer = tokenizer
        self._engine = engine

    @cached_property
    def _dense(self) -> list[Head]:
        late = self._checkpoint.spec.embed.late
        size, layers = self._checkpoint.spec.hidden_size, () if late is None else late.dense
        for layer in layers:
            if layer.in_features != size:
                raise CheckpointError(
                    f"the dense layer in {layer.folder!r} takes vectors of {layer.in_features} values, but is given "
                    f"{size}; its files and the network's are of two checkpoints: fetch both again"
                )
            size = layer.out_features
        return [dense(self._engine, self._checkpoint.folder, layer) for layer in layers]

    def side(self, prompt: str | None, prompt_name: str | None) -> Side:
        """Find how texts are taken: as queries where the prompt's name is "query", otherwise as documents.

        Without a name it is the checkpoint's default prompt, or else "document".
        """
        embed = self._checkpoint.spec.embed
        if embed.late is None:
            return Side(choose_prompt(embed, prompt, prompt_name))
        name, spec = _role(embed, embed.late, prompt_name)
        text = choose_prompt(embed, prompt, name).removeprefix(spec.marker)  # some files have it there too
        return _side(spec, text, self._tokenizer.vocabulary)

    def plan(self, side: Side, limits: Limits, normal: bool | None) -> Plan[str, FloatArray]:
        """Plan to give every text its vectors (n, D), of length 1 if `normal`; None leaves that to the checkpoint."""
        late = self._checkpoint.spec.embed.late
        scale = normal if normal is not None else late is not None and late.normalize

        def tokenize(texts: list[str], first: int) -> list[list[Sequence]]:
            sequences = self._tokenizer.tokenize(
                texts,
                max_length=limits.max_tokens - (side.marker is not None),
                truncation=limits.truncation,
                first=first,
                spans=False,
            )
            return [[_marked(sequence, side, limits.max_tokens)] for sequence in sequences]

        return prompted(
            Plan(
                tokenize=tokenize,
                compute=lambda sequences: self._compute(sequences, side, scale),
                finish=lambda texts: [text.rows[0] for text in texts],
                group=("token vectors", tuple(side.skip.tolist()), scale),
                max_tokens=limits.max_tokens,
            ),
            side.prompt,
        )

    def _compute(self, sequences: list[Sequence], side: Side, scale: bool) -> list[FloatArray]:
        batch = pack(sequences, self._checkpoint.spec)
        vectors = self._engine.encode(batch).rows  # (T, H)
        for layer in self._dense:
            vectors = layer(vectors)
        if scale:
            vectors = normalize(vectors)
        kept = ~np.isin(batch.ids, side.skip)  # (T,)
        # Arrays of their own: slices would keep all of the batch in memory.
        cuts = [slice(start, end) for start, end in zip(batch.starts, batch.starts[1:], strict=False)]
        return [vectors[cut][kept[cut]] for cut in cuts]


def vectors_limit(spec: Spec, tokenizer: Tokenizer, prompt_name: str | None) -> int:
    """The tokens of a text, all that it is given included, where no call says otherwise."""
    late = spec.embed.late
    own = None if late is None else _role(spec.embed, late, prompt_name)[1].max_tokens
    return min(own or token_limit(spec, tokenizer), spec.max_tokens)


def _role(embed: EmbedSpec, late: LateSpec, prompt_name: str | None) -> tuple[str, SideSpec]:
    """The prompt's name, and the side that it stands for."""
    name = prompt_name or embed.default_prompt or "document"
    return name, late.query if name == "query" else late.document


def _side(spec: SideSpec, prompt: str, vocabulary: Vocabulary) -> Side:
    """Look a side's tokens up; a marker that is no token goes in front of the text, as sentence-transformers does."""
    marker = None
    if spec.marker.strip():
        spellings = (spec.marker, spec.marker.split()[0])
        marker = next((id for id in map(vocabulary.id, spellings) if id is not None), None)
    skipped = [id for id in map(vocabulary.id, spec.skip) if id is not None]
    return Side(
        prompt if marker is not None else spec.marker + prompt,
        marker,
        np.array(skipped, np.int32),
        _fill_id(spec, vocabulary) if spec.fill_to else 0,
        spec.fill_to,
        spec.attend,
    )


def _fill_id(spec: SideSpec, vocabulary: Vocabulary) -> int:
    found = vocabulary.id(spec.fill_token) if spec.fill_token else vocabulary.mask and vocabulary.mask[1]
    if found is None:
        named = f"has no token {spec.fill_token!r}" if spec.fill_token else "names no mask token"
        raise CheckpointError(
            f"queries are filled up to {spec.fill_to} tokens, but the tokenizer {named}; add the one that the "
            'checkpoint was trained with to tokenizer_config.json, e.g. "mask_token": "[MASK]"'
        )
    return found


def _marked(sequence: Sequence, side: Side, most: int) -> Sequence:
    """Put the marker behind the first token, and fill up behind the last."""
    ids, types = sequence.ids, sequence.token_types
    if side.marker is not None:
        ids, types = np.insert(ids, 1, side.marker), np.insert(types, 1, 0)
    own, missing = len(ids), min(side.fill_to, most) - len(ids)
    if missing > 0:
        ids = np.concatenate([ids, np.full(missing, side.fill, np.int32)])
        types = np.concatenate([types, np.zeros(missing, np.int32)])
    keys = own if missing > 0 and not side.attend else None
    return Sequence(ids.astype(np.int32), types.astype(np.int32), sequence.truncated, keys=keys)
