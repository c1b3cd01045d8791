"""Random checkpoints of every family with every head, compared with transformers on random inputs.

`compare(model_type, head, seed, folder)` is one comparison; `python tests/sweep.py MODEL_TYPE HEAD SEED` repeats it.
A family is one row of FAMILIES.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from task_checkpoints import HEADS
from tiny_checkpoints import make_model

from bothways import families
from bothways.batch import pack
from bothways.checkpoint import Checkpoint, open_checkpoint
from bothways.heads import pooler
from bothways.spec import Spec
from bothways.tasks.scores import Scorer
from bothways.tokens import Sequence

Draw = Callable[[random.Random], dict[str, Any]]
Array = npt.NDArray[np.float32]

#: What a checkpoint is compared by: hidden states, or the scores of a head.
KINDS = {"hidden": "AutoModel"} | HEADS

# Tiles take float32 as two bfloat16 parts, and a random network's norms of hardly differing values make much of that.
_ATOL = {"amx": 2e-2}

_ACTIVATIONS = ("gelu", "gelu_new", "gelu_fast", "quick_gelu", "relu", "silu", "tanh")


@dataclass(frozen=True)
class Family:
    """What sets a model type's configs apart.

    Attributes:
        config: Draws the keys that the common ones lack or have otherwise; None removes one.
        kinds: What of KINDS transformers has a class for.
        even: Whether the head size must be even (rotary positions).
        extra: Positions that no token takes (RoBERTa's first two).
    """

    config: Draw = lambda source: {}
    kinds: tuple[str, ...] = tuple(KINDS)
    even: bool = False
    extra: int = 0


def _albert(source: random.Random) -> dict[str, Any]:
    return {"embedding_size": source.randint(8, 40), "num_hidden_groups": 1}


def _deberta(source: random.Random) -> dict[str, Any]:
    terms, legacy = source.choice(("p2c|c2p", "c2p", "p2c")), source.random() < 0.5
    return {
        "embedding_size": source.randint(8, 40) if legacy else None,  # the newer head can't differ
        "relative_attention": source.random() < 0.8,
        "position_buckets": source.choice((-1, 4, 6)),
        "max_relative_positions": source.choice((-1, 48)),
        "share_att_key": source.random() < 0.5,
        "pos_att_type": source.choice((terms, terms.split("|"))),
        "norm_rel_ebd": source.choice(("none", "layer_norm")),
        "position_biased_input": source.random() < 0.5,
        "type_vocab_size": source.randint(0, 3),
        "conv_kernel_size": source.choice((0, 0, 3, 5)),
        "pooler_hidden_act": source.choice(_ACTIVATIONS),
        "legacy": legacy,
    }


def _distilbert(source: random.Random) -> dict[str, Any]:
    names = {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"}
    names |= {"intermediate_size": "hidden_dim", "hidden_act": "activation"}
    return {"rename": names, "type_vocab_size": None, "layer_norm_eps": None}


def _eurobert(source: random.Random) -> dict[str, Any]:
    return {
        "classifier_pooling": source.choice(("late", "bos", "mean")),
        "num_key_value_heads": source.choice((None, 1)),
        "attention_bias": source.random() < 0.5,
        "mlp_bias": source.random() < 0.5,
        "rms_norm_eps": source.choice((1e-5, 1e-6)),
        "rope_parameters": {"rope_type": "default", "rope_theta": source.choice((1e4, 2.5e5))},
        "type_vocab_size": None,
        "pad_token_id": 0,
    }


def _gte(source: random.Random) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": source.choice((1e4, 5e5))}}


def _modernbert(source: random.Random) -> dict[str, Any]:
    flags = ("attention_bias", "mlp_bias", "norm_bias", "decoder_bias", "classifier_bias")
    return {flag: source.random() < 0.5 for flag in flags} | {
        "rename": {"hidden_act": "hidden_activation", "layer_norm_eps": "norm_eps"},
        "num_hidden_layers": source.randint(1, 4),
        "local_attention": source.randint(2, 20),
        "classifier_pooling": source.choice(("cls", "mean")),
        "classifier_activation": source.choice(_ACTIVATIONS),
        "type_vocab_size": None,
        "pad_token_id": 0,
    }


def _width(source: random.Random) -> dict[str, Any]:
    return {"embedding_size": source.randint(8, 40)}


_NO_ANSWERS = tuple(kind for kind in KINDS if kind != "question_answering")

FAMILIES: dict[str, Family] = {
    "albert": Family(_albert),
    "bert": Family(),
    "camembert": Family(extra=2),
    "deberta-v2": Family(_deberta),
    "distilbert": Family(_distilbert),
    "electra": Family(_width),
    "ernie": Family(lambda source: {"use_task_id": source.random() < 0.5, "task_type_vocab_size": 3}),
    "eurobert": Family(_eurobert, _NO_ANSWERS, even=True),
    "gte": Family(_gte, _NO_ANSWERS, even=True),
    "megatron-bert": Family(),
    "modernbert": Family(_modernbert, even=True),
    "mpnet": Family(lambda source: {"type_vocab_size": None}, extra=2),
    "nomic_bert": Family(kinds=_NO_ANSWERS, even=True),
    "roberta": Family(extra=2),
    "roformer": Family(_width, even=True),
    "xlm-roberta": Family(extra=2),
}


def draw_config(model_type: str, kind: str, source: random.Random) -> dict[str, Any]:
    """Draw a small config with odd sizes."""
    family = FAMILIES[model_type]
    heads = source.randint(1, 5)
    # A norm of fewer than 8 values or so makes much of any rounding.
    size = source.randint(max(3, 8 // heads), 19)
    size += size % 2 if family.even else 0
    config: dict[str, Any] = {
        "vocab_size": source.randint(20, 90),
        "hidden_size": heads * size,
        "num_hidden_layers": source.randint(1, 3),
        "num_attention_heads": heads,
        "intermediate_size": source.randint(1, 70),
        "max_position_embeddings": source.randint(5, 40) + family.extra,
        "type_vocab_size": source.randint(1, 3),
        "hidden_act": source.choice(_ACTIVATIONS),
        "layer_norm_eps": source.choice((1e-12, 1e-7, 1e-5)),
        "pad_token_id": 1,
        "tie_word_embeddings": source.random() < 0.7,
    } | family.config(source)
    if kind in ("classification", "token_classification"):
        config["num_labels"] = source.randint(1, 5)
    names = config.pop("rename", {})
    return {names.get(key, key): value for key, value in config.items() if value is not None}


def draw_model(model_type: str, kind: str, source: random.Random) -> tuple[Any, dict[str, Any]]:
    """Draw a config and make a model of it whose every part matters, whatever its sizes are."""
    import torch

    config = draw_config(model_type, kind, source)
    model = make_model(model_type, KINDS[kind], **config)
    torch.manual_seed(source.randrange(2**31))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            if "embeddings" in name and parameter.ndim == 2:
                parameter.normal_(0.0, 1.0)
            elif parameter.ndim == 2:
                parameter.normal_(0.0, 1.0 / parameter.shape[1] ** 0.5)
            else:
                parameter.normal_(1.0 if name.endswith("weight") else 0.0, 0.2)
    return model, config


def draw_sequences(spec: Spec, source: random.Random) -> list[Sequence]:
    """One token, as many as the model takes, and some in between; single texts and pairs."""
    longest = spec.max_tokens
    sequences = []
    for length in (1, longest, *(source.randint(1, longest) for _ in range(3))):
        ids = np.array([source.randrange(2, spec.vocab_size) for _ in range(length)], np.int32)
        types = np.zeros_like(ids)
        if source.random() < 0.5:  # a pair, of as many types as there are
            types[source.randrange(length) :] = max(spec.num_token_types, 1) - 1
        sequences.append(Sequence(ids, types))
    return sequences


def save(model: Any, folder: Path, source: random.Random) -> None:
    """Save as transformers does, or under the names of its modules; both are found."""
    from safetensors.torch import save_file

    model.save_pretrained(folder)
    if source.random() < 0.3:
        tensors = {name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}
        save_file(tensors, folder / "model.safetensors")


def ours(checkpoint: Checkpoint, kind: str, sequences: list[Sequence]) -> Iterator[list[Array]]:
    """What Bothways makes of each sequence, all computed together: arrays in the order of `theirs`."""
    from bothways.engines.native import NativeEngine

    engine = NativeEngine(checkpoint, threads=1)
    if kind == "hidden":
        batch = pack(sequences, checkpoint.spec)
        rows = np.split(engine.encode(batch).rows, batch.starts[1:-1])
        pooled = pooler(engine, checkpoint)
        for own in rows:
            yield [own] if pooled is None else [own, pooled(own[:1])[0]]
        return
    scorer = Scorer(checkpoint, None, engine, kind)  # type: ignore[arg-type]  # nothing is left to tokenize
    for scores in scorer.compute(sequences):
        yield [scores[:, 0], scores[:, 1]] if kind == "question_answering" else [scores]


def theirs(model: Any, checkpoint: Checkpoint, kind: str, sequence: Sequence) -> list[Array]:
    """What transformers makes of a sequence."""
    import torch

    inputs = {"input_ids": torch.from_numpy(sequence.ids.astype(np.int64))[None]}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if checkpoint.spec.num_token_types:
        inputs["token_type_ids"] = torch.from_numpy(sequence.token_types.astype(np.int64))[None]
    with torch.inference_mode():
        result = model(**inputs)
    if kind == "question_answering":
        found = [result.start_logits, result.end_logits]
    elif kind == "hidden":
        found = [result.last_hidden_state, getattr(result, "pooler_output", None)]
    else:
        found = [result.logits]
    return [tensor[0].numpy() for tensor in found if tensor is not None]


def check(model: Any, folder: Path, kind: str, source: random.Random) -> None:
    """Compare what was saved in a folder with the model."""
    checkpoint = open_checkpoint(folder)
    assert list(checkpoint.spec.heads) == ([] if kind == "hidden" else [kind])
    unused = tuple(families.find(checkpoint.config).unused)
    assert all(name.endswith((".bias", *unused)) for name in checkpoint.surplus)  # a decoder's, under its second name
    sequences = draw_sequences(checkpoint.spec, source)
    expected = [theirs(model, checkpoint, kind, sequence) for sequence in sequences]
    for level in _levels():
        with mock.patch.dict(os.environ, BOTHWAYS_LEVEL=level):
            found = list(ours(checkpoint, kind, sequences))
        for mine, wanted in zip(found, expected, strict=True):
            for a, b in zip(mine, wanted, strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=_ATOL.get(level, 1e-4), err_msg=level)


def _levels() -> list[str]:
    """The best level that this machine can run, and the best without tiles."""
    from bothways import _native

    usable = [name for name, reason in _native.levels() if not reason]  # the best first
    return usable[:2] if usable[0] == "amx" else usable[:1]


def compare(model_type: str, kind: str, seed: int, folder: Path) -> None:
    """Make, save, open and compare one random checkpoint; an AssertionError says how to repeat it."""
    source = random.Random(f"{model_type} {kind} {seed}")
    model, config = draw_model(model_type, kind, source)
    save(model, folder, source)
    try:
        check(model, folder, kind, source)
    except Exception as error:
        raise AssertionError(f"{model_type} {kind} {seed}: {error}\nconfig: {config}") from error


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        compare(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(place))
