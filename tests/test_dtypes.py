"""bfloat16 and int8 at every level: near float32, and as independent of circumstances as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batches import make_batch, rows_of
from tiny_checkpoints import save_model

from bothways import Encoder
from bothways.batch import TokenBatch
from bothways.checkpoint import open_checkpoint
from bothways.engines.native import NativeEngine
from bothways.errors import DeviceError
from bothways.spec import DTYPES

ENGLISH = [
    "How do I reset the PIN of my card?",
    "The committee will publish its report on Tuesday morning.",
    "I have been charged twice for the same cash withdrawal.",
    "A light rain fell over the harbour while the last ferry left.",
    "Which vitamins help against a common cold?",
    "The quick brown fox jumps over the lazy dog.",
    "Why was my transfer declined although my balance is sufficient?",
    "She plays the violin in the city's youth orchestra.",
    "Install the package and restart the service.",
    "Prices rose by three per cent in the second quarter, the statistics office said.",
    "Good morning!",
    "Please cancel my order and refund the money to my account as soon as possible.",
]


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_a_team_gives_the_layers_and_attentions_that_one_thread_gives(minilm: Path, level: str, dtype: str) -> None:
    checkpoint = open_checkpoint(minilm)
    batch = make_batch(checkpoint.spec, (33,))
    one, three = (
        NativeEngine(checkpoint, dtype=dtype, threads=n).encode(batch, hidden_states=True, attentions=True)
        for n in (1, 3)
    )
    np.testing.assert_array_equal(one.layers, three.layers)
    np.testing.assert_array_equal(one.attentions, three.attentions)


@pytest.mark.parametrize(("dtype", "smallest", "mean"), [("bfloat16", 0.9995, 0.9999), ("int8", 0.97, 0.99)])
def test_embeddings_of_other_dtypes_are_close_to_float32(
    minilm: Path, level: str, dtype: str, smallest: float, mean: float
) -> None:
    expected = Encoder.from_pretrained(str(minilm)).embed(ENGLISH)
    cosines = (Encoder.from_pretrained(str(minilm), dtype=dtype).embed(ENGLISH) * expected).sum(axis=1)
    assert cosines.min() >= smallest
    assert cosines.mean() >= mean


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.02), ("int8", 0.1)])
@pytest.mark.parametrize("config", [{}, {"hidden_size": 15, "num_attention_heads": 5, "intermediate_size": 7}])
def test_hidden_states_of_other_dtypes_are_near_float32(
    tmp_path: Path, level: str, dtype: str, tolerance: float, config: dict[str, Any]
) -> None:
    """An 8-bit significand is off by 2^-9 a number, int8 by 1/254 of a row's largest; layers add up a few of these."""
    save_model(tmp_path, "bert", **config)
    checkpoint = open_checkpoint(tmp_path)
    batch = make_batch(checkpoint.spec)
    expected = NativeEngine(checkpoint).encode(batch).rows
    ours = NativeEngine(checkpoint, dtype=dtype).encode(batch).rows
    assert np.abs(ours - expected).max() <= tolerance * max(1.0, float(np.abs(expected).max()))


def test_a_number_that_is_not_finite_stays_in_its_sequence(tmp_path: Path, level: str) -> None:
    import torch

    model = save_model(tmp_path, "bert")
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[7] = float("nan")
    model.save_pretrained(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    batch = make_batch(checkpoint.spec, (5, 9, 4))
    batch.ids[batch.ids == 7] = 8
    for dtype in DTYPES:
        engine = NativeEngine(checkpoint, dtype=dtype, threads=2)
        whole = rows_of(batch, engine.encode(batch).rows)
        broken = TokenBatch(batch.ids.copy(), batch.positions, batch.token_types, batch.starts)
        broken.ids[6] = 7
        first, second, third = rows_of(broken, engine.encode(broken).rows)
        np.testing.assert_array_equal(first, whole[0])
        np.testing.assert_array_equal(third, whole[2])
        assert np.isnan(second).all()


def test_an_unknown_dtype_is_an_error_that_lists_the_known(minilm: Path) -> None:
    with pytest.raises(DeviceError, match="dtype 'float16' is not available.*use float32 or bfloat16 or int8"):
        Encoder.from_pretrained(str(minilm), dtype="float16")
