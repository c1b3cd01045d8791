"""The native engine at every level: the numbers of transformers, and the same bits whatever the circumstances."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batches import LENGTHS, make_batch, rows_of, select
from reference import ACTIVATIONS as FORMULAS
from tiny_checkpoints import save_model

from bothways import _native
from bothways.batch import TokenBatch, pack
from bothways.checkpoint import open_checkpoint
from bothways.engines.base import Rows
from bothways.engines.native import NativeEngine, level_in_force
from bothways.errors import DeviceError
from bothways.spec import ACTIVATIONS, DTYPES

MakeNative = Callable[..., NativeEngine]


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("bert", {}),
    ("bert", {"num_hidden_layers": 1, "hidden_act": "relu", "layer_norm_eps": 1e-3}),
    ("bert", {"hidden_size": 15, "num_attention_heads": 3, "hidden_act": "gelu_new", "intermediate_size": 7}),
    ("bert", {"hidden_size": 160, "num_attention_heads": 2, "intermediate_size": 1100, "vocab_size": 1000}),
    ("bert", {"hidden_act": "silu", "type_vocab_size": 1}),
    ("bert", {"hidden_act": "quick_gelu", "hidden_size": 7, "num_attention_heads": 1}),
    ("bert", {"hidden_act": "tanh"}),
    ("bert", {"hidden_act": "gelu_fast"}),
    ("roberta", {"max_position_embeddings": 18, "type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5}),
    ("xlm-roberta", {"max_position_embeddings": 18, "type_vocab_size": 1, "pad_token_id": 1}),
    ("camembert", {"max_position_embeddings": 18, "type_vocab_size": 1, "pad_token_id": 1}),
    ("distilbert", {}),
    ("distilbert", {"dim": 10, "n_heads": 2, "hidden_dim": 33, "activation": "relu", "sinusoidal_pos_embds": True}),
]


@pytest.mark.parametrize(("model_type", "config"), VARIANTS)
def test_hidden_states_equal_transformers(tmp_path: Path, level: str, model_type: str, config: dict[str, Any]) -> None:
    model = save_model(tmp_path, model_type, attn_implementation="eager", **config)
    check_against(model, tmp_path)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("config", [{}, {"hidden_size": 15, "num_attention_heads": 5}])
def test_half_precision_files_give_the_numbers_of_their_float32_copies(
    tmp_path: Path, level: str, dtype: str, config: dict[str, Any]
) -> None:
    model = save_model(tmp_path, "bert", dtype=dtype, **config)
    check_against(model.float(), tmp_path)


def check_against(model: Any, folder: Path, lengths: tuple[int, ...] = LENGTHS) -> None:
    """Compare every layer and attention with transformers; 1e-4, scaled where the numbers exceed 1, is the promise."""
    import torch

    checkpoint = open_checkpoint(folder)
    spec = checkpoint.spec
    batch = make_batch(spec, lengths)
    hidden = NativeEngine(checkpoint, threads=2).encode(batch, hidden_states=True, attentions=True)
    assert hidden.layers is not None and hidden.attentions is not None
    for n, part in enumerate(slice(*pair) for pair in zip(batch.starts, batch.starts[1:], strict=False)):
        inputs = {"input_ids": torch.tensor(batch.ids[None, part].astype(np.int64))}
        if spec.num_token_types:
            inputs["token_type_ids"] = torch.tensor(batch.token_types[None, part].astype(np.int64))
        with torch.no_grad():
            expected = model(**inputs, output_hidden_states=True, output_attentions=True)
        assert_close(hidden.rows[part], expected.last_hidden_state[0])
        for ours, theirs in zip(hidden.layers, expected.hidden_states, strict=True):
            assert_close(ours[part], theirs[0])
        for ours, theirs in zip(hidden.attentions[n], expected.attentions or (), strict=bool(expected.attentions)):
            assert_close(ours, theirs[0])


def assert_close(ours: np.ndarray[Any, Any], theirs: Any) -> None:
    expected = theirs.numpy()
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4 * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize("lengths", [(1, 5, 17, 31, 33, 64, 100), (512, 257, 129)])
def test_the_real_model_equals_transformers(minilm: Path, level: str, lengths: tuple[int, ...]) -> None:
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(minilm).eval()
    checkpoint = open_checkpoint(minilm)
    batch = make_batch(checkpoint.spec, lengths)
    ours = NativeEngine(checkpoint).encode(batch).rows
    for part in (slice(*pair) for pair in zip(batch.starts, batch.starts[1:], strict=False)):
        with torch.no_grad():
            expected = model(
                input_ids=torch.tensor(batch.ids[None, part].astype(np.int64)),
                token_type_ids=torch.tensor(batch.token_types[None, part].astype(np.int64)),
            ).last_hidden_state
        np.testing.assert_allclose(ours[part], expected[0].numpy(), rtol=0, atol=1e-4)


@pytest.fixture(params=DTYPES)
def engine(minilm: Path, level: str, request: pytest.FixtureRequest) -> NativeEngine:
    """The real model at the level under test, in every dtype, on two threads."""
    return NativeEngine(open_checkpoint(minilm), dtype=request.param, threads=2)


MIXED = (5, 1, 40, 130, 12, 13, 17, 64, 3, 300, 16, 15, 2, 128)


def test_a_sequence_has_the_same_bits_alone_and_in_any_batch(engine: NativeEngine, minilm: Path) -> None:
    batch = make_batch(open_checkpoint(minilm).spec, MIXED)
    together = rows_of(batch, engine.encode(batch).rows)
    order = np.random.default_rng(1).permutation(len(batch)).tolist()
    shuffled = select(batch, order)
    for n, rows in zip(order, rows_of(shuffled, engine.encode(shuffled).rows), strict=True):
        np.testing.assert_array_equal(rows, together[n])
    for n in range(len(batch)):
        np.testing.assert_array_equal(engine.encode(select(batch, [n])).rows, together[n])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", ["all", "first", "mean"])
def test_the_number_of_threads_changes_no_bit(minilm: Path, level: str, rows: Rows, dtype: str) -> None:
    checkpoint = open_checkpoint(minilm)
    engines = [NativeEngine(checkpoint, dtype=dtype, threads=n) for n in (1, 2, 3)]
    # Many sequences are shared out whole; one alone, or a few tokens, are computed by all threads together.
    for lengths in (MIXED, (200,), (1,), (7, 30, 5), (63,), (64, 1)):
        batch = make_batch(checkpoint.spec, lengths)
        results = [engine.encode(batch, rows=rows).rows for engine in engines]
        np.testing.assert_array_equal(results[0], results[1])
        np.testing.assert_array_equal(results[0], results[2])


def test_eight_threads_at_once_get_the_bits_that_one_gets(engine: NativeEngine, minilm: Path) -> None:
    batches = [make_batch(open_checkpoint(minilm).spec, (9, 30 + n, 2), seed=n) for n in range(16)]
    expected = [engine.encode(batch).rows for batch in batches]
    with ThreadPoolExecutor(8) as threads:
        for ours, theirs in zip(threads.map(lambda batch: engine.encode(batch).rows, batches), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_first_and_mean_rows_are_those_of_all_rows(engine: NativeEngine, minilm: Path) -> None:
    batch = make_batch(open_checkpoint(minilm).spec, MIXED)
    parts = rows_of(batch, engine.encode(batch).rows)
    np.testing.assert_array_equal(engine.encode(batch, rows="first").rows, np.stack([part[0] for part in parts]))
    means = np.stack([part.mean(axis=0, dtype=np.float64) for part in parts])
    np.testing.assert_allclose(engine.encode(batch, rows="mean").rows, means, rtol=0, atol=1e-6)


FORK = """
import os, sys, threading
import numpy as np
from test_native import make_batch
from pathlib import Path
from bothways.checkpoint import open_checkpoint
from bothways.engines.native import NativeEngine

checkpoint = open_checkpoint(Path(sys.argv[1]))
engine = NativeEngine(checkpoint, threads=2)
batch = make_batch(checkpoint.spec, (30, 90, 60, 120))
expected = engine.encode(batch).rows
stop = threading.Event()
def work():
    while not stop.is_set():
        engine.encode(batch)
busy = threading.Thread(target=work)
busy.start()
for _ in range(5):
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(engine.encode(batch).rows, expected) else 3)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
busy.join()
np.testing.assert_array_equal(engine.encode(batch).rows, expected)
print("same bits")
"""


def test_a_forked_child_gets_the_same_bits_even_if_a_thread_was_busy(minilm: Path) -> None:
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, str(minilm)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.stdout.strip() == "same bits", run.stderr


def test_ids_positions_and_types_outside_the_tables_are_refused(engine: NativeEngine, minilm: Path) -> None:
    spec = open_checkpoint(minilm).spec
    for name, value, message in (
        ("ids", spec.vocab_size, "id 30522 of token 3"),
        ("ids", -1, "id -1 of token 3"),
        ("positions", spec.num_positions, "position 512 of token 3"),
        ("token_types", 2, "token type 2 of token 3"),
    ):
        batch = make_batch(spec, (2, 4))
        getattr(batch, name)[3] = value
        with pytest.raises(ValueError, match=message):
            engine.encode(batch)


def test_an_empty_batch_gives_no_rows(engine: NativeEngine, minilm: Path) -> None:
    batch = pack([], open_checkpoint(minilm).spec)
    assert engine.encode(batch).rows.shape == (0, 384)
    assert engine.encode(batch, rows="mean").rows.shape == (0, 384)


@pytest.mark.parametrize(("rows", "columns", "depth"), [(1, 1, 1), (3, 5, 7), (130, 17, 33), (2, 384, 384)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_linear_equals_float64_and_rows_are_independent(
    engine: NativeEngine, rows: int, columns: int, depth: int, with_bias: bool
) -> None:
    random = np.random.default_rng(2)
    x, weight = (random.standard_normal(shape).astype(np.float32) for shape in ((rows, depth), (columns, depth)))
    bias = random.standard_normal(columns).astype(np.float32) if with_bias else None
    linear = engine.linear(weight, bias)
    result = linear(x)
    expected = x.astype(np.float64) @ weight.T.astype(np.float64) + (0 if bias is None else bias)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * np.sqrt(depth))
    for n in range(rows):
        np.testing.assert_array_equal(linear(x[n : n + 1])[0], result[n])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_linear_activates_every_row_alike(engine: NativeEngine, name: str) -> None:
    random = np.random.default_rng(3)
    x, weight = (random.standard_normal(shape).astype(np.float32) for shape in ((130, 5), (19, 5)))
    bias = random.standard_normal(19).astype(np.float32)
    linear = engine.linear(weight, bias, name)
    result = linear(x)
    expected = FORMULAS[name](x.astype(np.float64) @ weight.T.astype(np.float64) + bias)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)
    for n in (0, 12, 128, 129):
        np.testing.assert_array_equal(linear(x[n : n + 1])[0], result[n])


def test_a_forced_level_is_the_one_that_computes(minilm: Path, level: str) -> None:
    assert level_in_force() == level
    assert NativeEngine(open_checkpoint(minilm)).level == level


def test_an_unknown_level_is_an_error_that_lists_the_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTHWAYS_LEVEL", "sse9")
    with pytest.raises(DeviceError, match="BOTHWAYS_LEVEL=sse9: level 'sse9' is unknown; this build has .*generic"):
        level_in_force()


MANY_THREADS = """
import resource, sys
from pathlib import Path
from bothways.checkpoint import open_checkpoint
from bothways.engines.native import NativeEngine
from bothways.errors import DeviceError

checkpoint = open_checkpoint(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
try:
    NativeEngine(checkpoint, threads=2000)
except DeviceError as error:
    print(error)
NativeEngine(checkpoint, threads=2)
"""


def test_threads_that_can_not_be_started_are_an_error_not_an_abort(minilm: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", MANY_THREADS, str(minilm)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert "2000 threads can't be started here: Resource temporarily unavailable; pass a smaller" in run.stdout


def test_arrays_of_another_type_are_refused_not_converted(engine: NativeEngine, minilm: Path) -> None:
    batch = make_batch(open_checkpoint(minilm).spec, (3,))
    wrong = TokenBatch(batch.ids.astype(np.int64), batch.positions, batch.token_types, batch.starts)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        engine.encode(wrong)


def test_a_head_without_values_is_refused(engine: NativeEngine) -> None:
    with pytest.raises(ValueError, match="can't be 3 by 0"):
        engine.linear(np.zeros((3, 0), np.float32), None)


def test_every_usable_level_passes_its_self_test(level: str) -> None:
    assert _native.self_test(level) < 1e-4
    assert _native.self_test(level, "bfloat16") < 0.05
    assert _native.self_test(level, "int8") < 0.15


def test_the_host_programs_float_mode_changes_nothing_and_is_left_alone(engine: NativeEngine, minilm: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch sets the float mode here")
    batch = make_batch(open_checkpoint(minilm).spec, (20,))
    expected = engine.encode(batch).rows
    tiny = torch.tensor([1e-39])
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU can't flush subnormal numbers")
    try:
        np.testing.assert_array_equal(engine.encode(batch).rows, expected)
        assert float(tiny * 1.0) == 0.0
    finally:
        torch.set_flush_denormal(False)
    engine.encode(batch)
    assert float(tiny * 1.0) != 0.0
