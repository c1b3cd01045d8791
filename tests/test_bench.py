"""`bothways bench` and what is behind it: the arithmetic of its figures, its checks, its outputs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from bothways import Encoder, _native
from bothways.bench import candidates, plot
from bothways.bench.candidates import Candidate, ours, rival
from bothways.bench.machine import operations, record
from bothways.bench.measure import Figures, measure, processes, ratios
from bothways.bench.report import figures, single_texts
from bothways.bench.rivals.recipe import Recipe
from bothways.checkpoint import open_checkpoint
from bothways.cli import main
from bothways.errors import BothwaysError, InputError, UnsupportedModel
from bothways.spec import Spec

FAST = Candidate("bothways generic float32", "bothways", "float32")
SLOW = Candidate("rival float32", "rival", "float32")


class Fake:
    """A candidate that takes the given seconds and gives the given vectors; `asked` are the single texts."""

    load_seconds = 1.5
    peak_mib = 7.0

    def __init__(self, seconds: list[float], vectors: Any = ((1.0, 0.0), (0.0, 1.0))) -> None:
        self.seconds = iter(seconds)
        self.vectors = np.array(vectors, np.float32)
        self.asked: list[list[str]] = []

    def embed(self, texts: list[str]) -> tuple[float, Any]:
        return next(self.seconds), self.vectors

    def alone(self, texts: list[str]) -> list[float]:
        self.asked.append(texts)
        return [0.25] * len(texts)


def test_figures_are_of_the_rounds_after_the_first_and_ratios_of_the_same_round() -> None:
    fast, slow = Fake([9.0, 1.0, 2.0, 4.0]), Fake([9.0, 3.0, 5.0, 12.0])
    results = measure([FAST, SLOW], [fast, slow], ["a", "b"], rounds=3, latency_texts={8: ["x"] * 3}, pause=0)
    assert [figures.seconds for figures in results] == [[1.0, 2.0, 4.0], [3.0, 5.0, 12.0]]
    assert ratios(results) == {"bothways generic float32 / rival float32": 3.0}  # of 3, 2.5 and 3
    assert results[0].latency == {8: [0.25] * 3}
    assert results[1].load_seconds == 1.5
    assert results[1].peak_mib == 7.0


def test_single_texts_are_dealt_out_to_the_rounds_behind_warm_ups() -> None:
    runner = Fake([1.0] * 9)
    singles = {8: ["a", "b", "c"], 16: ["d"]}
    results = measure([FAST], [runner], ["a", "b"], rounds=2, latency_texts=singles, pause=0)
    a, d = singles.values()
    assert runner.asked == [a, a, ["a", "c"], d, d, a, a, ["b"]]  # a round: settling, then warm-ups and share by length
    assert results[0].latency == {8: [0.25] * 3, 16: [0.25]}


def test_single_texts_are_of_about_the_tokens_asked_for(minilm: Path) -> None:
    encoder = Encoder.from_pretrained(minilm)
    for few in (["", " "], ["one word or two"]):
        made = single_texts(encoder, few, count=2)
        assert [len(encoder.tokenizer.tokenize(made[n], max_length=512)[0]) for n in made] == pytest.approx(
            list(made), rel=0.2
        )
    texts = ["How do I reset the PIN of my card?", "Please cancel my order and refund the money."] * 20
    singles = single_texts(encoder, texts, count=30)
    assert list(singles) == [8, 16, 32, 128]  # the checkpoint cuts at 256
    for tokens, single in singles.items():
        lengths = [len(sequence) for sequence in encoder.tokenizer.tokenize(single, max_length=512)]
        assert len(single) == 30 and np.mean(lengths) == pytest.approx(tokens, rel=0.15)
    assert len(single_texts(encoder, texts)[128]) == 50


def test_embeddings_that_differ_end_the_measurement_by_name() -> None:
    wrong = Fake([1.0] * 9, [(1.0, 0.0), (0.1, 1.0)])
    with pytest.raises(InputError, match=r"rival float32 and bothways generic float32 disagree: .* 0\.995037"):
        measure([FAST, SLOW], [Fake([1.0] * 9), wrong], ["a", "b"], rounds=1, pause=0)
    with pytest.raises(InputError, match=r"gives embeddings \(1, 2\), bothways generic float32 \(2, 2\)"):
        measure([FAST, SLOW], [Fake([1.0] * 9), Fake([1.0] * 9, [(1.0, 0.0)])], ["a", "b"], rounds=1, pause=0)
    broken = Fake([1.0] * 9, [(1.0, 0.0), (np.nan, 1.0)])
    with pytest.raises(InputError, match="disagree"):
        measure([FAST, SLOW], [Fake([1.0] * 9), broken], ["a", "b"], rounds=1, pause=0)


def test_int8_reports_its_cosine_and_goes_on() -> None:
    int8 = Candidate("rival int8", "rival", "int8")
    exact, coarse = Fake([1.0] * 9), Fake([1.0] * 9, [(1.0, 0.0), (3.0, 4.0)])
    results = measure([FAST, int8], [exact, coarse], ["a", "b"], rounds=1, pause=0)
    assert results[1].cosine == pytest.approx(0.8)


def test_operations_of_minilm_by_hand(minilm: Path) -> None:
    # A layer's weights: 4 of 384 x 384 and 2 of 384 x 1536; 10 tokens, each attending to 10.
    products = 10 * 2 * (4 * 384 * 384 + 2 * 384 * 1536)
    attention = 2 * 2 * 10 * 10 * 384
    spec = open_checkpoint(minilm).spec
    assert operations(spec, [10]) == 6 * (products + attention)
    assert operations(spec, [10, 10]) == 2 * operations(spec, [10])


def test_operations_of_gates_windows_shared_keys_and_a_projection_by_hand() -> None:
    spec = Spec(
        family="none",
        vocab_size=9,
        hidden_size=8,
        num_layers=3,
        num_heads=4,
        inner_size=12,
        activation="gelu",
        norm_eps=1e-5,
        num_positions=64,
        embedding_size=6,
        windows=(None, 2, 40),
        gated=True,
        num_key_heads=2,
    )
    # Queries and the output 8 x 8, keys and values 8 x 4, gates, values and the way back 8 x 12.
    products = 10 * 2 * (3 * (2 * 64 + 2 * 32 + 3 * 96) + 6 * 8)
    near = sum(abs(query - key) <= 2 for query in range(10) for key in range(10))
    assert operations(spec, [10]) == products + 2 * 2 * 8 * (100 + near + 100)


def test_the_share_of_peak_is_operations_a_second_over_the_peak(
    bert_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder.from_pretrained(str(bert_folder), threads=3)
    texts, tokens = ["the cat", "the dog sat", "a bird"], 4 + 5 + 4
    # 2 layers, each with 4 weights of 20 x 20 and 2 of 20 x 36; every token attends to its own text's.
    work = 2 * (2 * tokens * (4 * 20 * 20 + 2 * 20 * 36) + 2 * 2 * 20 * (4 * 4 + 5 * 5 + 4 * 4))
    peaks = {("generic", "float32", 3): 1e9, ("avx2", "int8", 3): 4e9}
    monkeypatch.setattr(_native, "measure_peak", lambda level, dtype, threads, seconds: peaks[level, dtype, threads])
    seconds = [1.0, work / 0.5e9, 1e-9]  # the median round reaches half of the first peak
    wanted = [ours("generic", "float32"), ours("avx2", "int8"), SLOW]
    rows = figures(encoder, texts, [Figures(each, seconds=seconds) for each in wanted])["candidates"]
    assert rows["bothways generic float32"]["peak_gflops"] == 1
    assert rows["bothways generic float32"]["share_of_peak"] == 0.5
    assert rows["bothways avx2 int8"]["share_of_peak"] == 0.125
    assert rows["bothways generic float32"]["tokens_per_second"] * work / tokens == pytest.approx(0.5e9)
    assert "share_of_peak" not in rows["rival float32"]


def test_the_record_names_the_machine_and_the_versions() -> None:
    found = record()
    assert "levels" in found["cpu"]
    assert found["versions"]["numpy"] == np.__version__


def test_peak_and_products_are_measured() -> None:
    for level, why in _native.levels():
        if not why:
            for dtype in _native.dtypes():
                assert _native.measure_peak(level, dtype, 1, 0.01) > 1e8
                assert _native.measure_linear(level, dtype, 5, 40, 33, True, 0.005) > 1e6
                assert _native.measure_attention(level, dtype, 20, 2, 32, 0.005) > 1e6
    with pytest.raises(ValueError, match="threads must be at least 1"):
        _native.measure_peak("generic", "float32", 0, 0.01)
    with pytest.raises(ValueError, match="rows, columns and depth"):
        _native.measure_linear("generic", "float32", 1, 0, 1, False, 0.01)
    with pytest.raises(ValueError, match="size a multiple of 16"):
        _native.measure_attention("generic", "float32", 16, 2, 30, 0.01)


def test_unknown_rivals_dtypes_and_missing_packages_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="rival 'tensorflow' is unknown; .*openvino, ctranslate2"):
        rival("tensorflow")
    with pytest.raises(InputError, match="onnxruntime is measured in float32, not in 'int8'"):
        rival("onnxruntime:int8")
    monkeypatch.setattr(candidates.importlib.util, "find_spec", lambda name: None if name == "openvino" else object())
    with pytest.raises(InputError, match="openvino needs what is not installed here: pip install openvino"):
        rival("openvino")


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["bench", *arguments])


def test_the_command_measures_every_dtype(bert_folder: Path, tmp_path: Path) -> None:
    texts, picture = tmp_path / "texts.txt", tmp_path / "speeds.png"
    texts.write_text("the cat\nthe dog sat\na bird\n")
    result = run("--model", str(bert_folder), "--input", str(texts), "--rounds", "2", "--json", "--plot", str(picture))
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["texts"] == 3
    level = _native.level()
    assert list(report["candidates"]) == [f"bothways {level} {dtype}" for dtype in _native.dtypes()]
    for row in report["candidates"].values():
        assert len(row["seconds"]) == 2
        assert row["tokens_per_second"] > 0 and row["peak_gflops"] > 0 and row["smallest_cosine"] > 0.9
        assert row["latency_ms"]["8"]["p50"] <= row["latency_ms"]["8"]["p99"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    table = run("--model", str(bert_folder), "--input", str(texts), "--rounds", "1", "--one-dtype", "--no-latency")
    assert table.exit_code == 0, table.output
    assert f"bothways {level} float32" in table.stdout and "int8" not in table.stdout


def test_rivals_run_and_agree(minilm: Path) -> None:
    texts = ["The sky is clear tonight.", "No clouds are out.", "a"]
    wanted = [ours("generic", "float32"), rival("sentence-transformers")]
    with processes(wanted, str(minilm), threads=1) as runners:
        results = measure(wanted, runners, texts, rounds=1, latency_texts={8: texts}, pause=0)
    assert results[1].cosine > 0.99999
    assert len(results[1].latency[8]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against", "nothing"], "rival 'nothing' is unknown"),
        (["--level", "sse9"], "level 'sse9' is unknown; .*see `bothways doctor`"),
        (["--plot", "speeds.txt"], "plot 'speeds.txt' must end with .png, .svg, .pdf"),
        (["--plot", "no/such/folder.png"], "make it first"),
        (["--input", "none.txt"], "none.txt"),
    ],
)
def test_bad_input_ends_with_one_line(bert_folder: Path, arguments: list[str], message: str) -> None:
    result = run("--model", str(bert_folder), *arguments)
    assert result.exit_code == 1
    assert re.search(message, result.stderr) and result.stderr.count("error:") == 1


def test_an_input_without_texts_is_refused(bert_folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    result = run("--model", str(bert_folder), "--input", str(empty))
    assert result.exit_code == 1 and "holds no texts to measure with" in result.stderr


def test_a_candidate_that_fails_is_named_with_its_last_words(tmp_path: Path) -> None:
    wanted = [ours("generic", "float32")]
    with pytest.raises(BothwaysError, match="bothways generic float32 failed: .*ModelNotFound"):
        with processes(wanted, str(tmp_path / "nowhere"), threads=1):
            pass


def test_rivals_refuse_checkpoints_that_need_more_than_pooling(minilm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "max"
    shutil.copytree(minilm, folder)
    settings = folder / "1_Pooling" / "config.json"
    settings.write_text('{"word_embedding_dimension": 384, "pooling_mode_max_tokens": true}')
    with pytest.raises(UnsupportedModel, match="mean or cls pooling alone"):
        Recipe.read(str(folder), dtype="float32", threads=1)


def test_a_plot_without_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plot.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "bothways\[bench\]"'):
        plot.check(tmp_path / "a.png")
