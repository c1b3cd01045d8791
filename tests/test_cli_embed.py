from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_model import LetterModel, vector
from click.testing import CliRunner, Result

from bothways.cli import main
from bothways.encoder import Encoder
from bothways.precision import quantize

STAND_IN = Path(__file__).with_name("cli_model.py")


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(Encoder, "from_pretrained", LetterModel.from_pretrained)
    monkeypatch.setenv("BOTHWAYS_MODEL", "stand-in")


def embed(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["embed", *map(str, arguments)], input=stdin)


def rows(result: Result) -> list[dict]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_arguments_become_json_lines_where_output_is_no_terminal():
    assert rows(embed("banana", "été")) == [
        {"text": "banana", "embedding": vector("banana")},
        {"text": "été", "embedding": vector("été")},
    ]


def test_texts_and_embeddings_stay_together_over_many_batches(tmp_path):
    texts = ["a" * n for n in range(25)]
    (tmp_path / "in.txt").write_text("\n".join(texts) + "\n")
    found = rows(embed("--input", tmp_path / "in.txt"))
    assert [row["text"] for row in found] == texts
    assert [row["embedding"] for row in found] == [vector(text) for text in texts]


def test_standard_input_is_a_text_a_line():
    assert [row["text"] for row in rows(embed("--input", "-", stdin="één\r\ntwo".encode()))] == ["één", "two"]


def test_column_chooses_what_is_embedded(tmp_path):
    (tmp_path / "in.csv").write_text("id,body\n1,banana\n")
    assert rows(embed("--input", tmp_path / "in.csv", "--column", "body"))[0]["text"] == "banana"


@pytest.mark.parametrize("ending", ["npy", "jsonl", "parquet"])
def test_output_file_holds_the_embeddings(tmp_path, ending):
    target = tmp_path / f"out.{ending}"
    result = embed("banana", "b", "--output", target)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "2 texts, 2 tokens in" in result.stderr
    np.testing.assert_array_equal(load(target), [vector("banana"), vector("b")])
    assert list(tmp_path.iterdir()) == [target]


def load(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".jsonl":
        return np.array([json.loads(line)["embedding"] for line in path.read_text().splitlines()])
    parquet = pytest.importorskip("pyarrow.parquet")
    return np.array(parquet.read_table(path)["embedding"].to_pylist())


def test_json_with_an_output_file_prints_totals(tmp_path):
    result = embed("a b c d e", "b", "--output", tmp_path / "out.npy", "--json", "--quiet")
    totals = json.loads(result.stdout)
    assert (totals["texts"], totals["tokens"], totals["truncated"]) == (2, 5, 1)
    assert totals["output"] == str(tmp_path / "out.npy")
    assert result.stderr == ""


def test_empty_input_gives_an_empty_output_of_the_right_shape(tmp_path):
    (tmp_path / "in.txt").write_text("")
    result = embed("--input", tmp_path / "in.txt", "--output", tmp_path / "out.npy")
    assert np.load(tmp_path / "out.npy").shape == (0, 3)
    assert "holds no texts" in result.stderr


def test_options_reach_the_model():
    result = embed(
        *("hello", "--model", "m", "--revision", "r", "--dtype", "bfloat16", "--threads", 3, "--max-length", 9),
        *("--batch-tokens", 77, "--pooling", "cls", "--pooling", "max", "--no-normalize", "--prompt", "p: "),
        *("--prompt-name", "query", "--dimensions", 2, "--no-truncation"),
    )
    assert result.exit_code == 0, result.output
    model = LetterModel.last
    assert model.loaded_with == {
        **{"name": "m", "revision": "r", "dtype": "bfloat16", "threads": 3, "max_length": 9, "batch_tokens": 77}
    }
    assert model.embedded_with == {
        **{"pooling": ["cls", "max"], "normalize": False, "prompt": "p: ", "prompt_name": "query"},
        **{"dimensions": 2, "precision": "float32", "truncation": False},
    }


def test_options_left_out_leave_the_choice_to_the_checkpoint():
    embed("hello")
    model = LetterModel.last
    assert model.loaded_with == {
        **{"name": "stand-in", "revision": None, "dtype": "float32", "threads": None},
        **{"max_length": None, "batch_tokens": None},
    }
    assert model.embedded_with["pooling"] is None
    assert model.embedded_with["normalize"] is None


def test_texts_that_were_cut_are_counted_in_one_line():
    result = embed("a b c d e", "b", "1 2 3 4 5 6", "c")
    assert result.stderr == "note: 2 texts were longer than 4 tokens and were cut\n"
    assert embed("a b c d e").stderr == "note: 1 text was longer than 4 tokens and was cut\n"
    assert embed("a b c d e", "--quiet").stderr == ""
    assert embed("short").stderr == ""


def test_no_truncation_makes_long_texts_an_error():
    result = embed("a b c d e", "--no-truncation")
    assert result.exit_code == 1
    assert result.stderr == "error: a text has 5 tokens, the model takes 4\n"


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
@pytest.mark.parametrize("ending", ["npy", "parquet", "jsonl"])
def test_precision_of_a_stream_equals_that_of_all_texts_at_once(tmp_path, precision, ending):
    texts = [("a" * n + "é") * (n % 5) for n in range(1, 30)]
    (tmp_path / "in.txt").write_text("\n".join(texts) + "\n")
    target = tmp_path / f"out.{ending}"
    result = embed("--input", tmp_path / "in.txt", "--output", target, "--precision", precision)
    assert result.exit_code == 0, result.output
    expected = quantize(np.array([vector(text) for text in texts], np.float32), precision)
    np.testing.assert_array_equal(load(target), expected)
    if ending == "npy":
        assert np.load(target).dtype == expected.dtype
    assert ("come from 29 texts only" in result.stderr) == (precision in ("int8", "uint8"))
    assert len(list(tmp_path.iterdir())) == 2


def test_int8_of_one_text_is_an_error():
    result = embed("hello", "--precision", "int8")
    assert result.exit_code == 1
    assert "give more than one" in result.stderr


def test_terminal_gets_a_table(monkeypatch):
    monkeypatch.setattr("bothways.cli.embed.to_terminal", lambda: True)
    monkeypatch.setattr("bothways.cli.output.to_terminal", lambda: True)
    lines = embed("banana", "bold \x1b[1m [red]日本[/red]", *["x"] * 30).stdout.splitlines()
    assert "text" in lines[0] and "embedding (3 values)" in lines[0]
    assert lines[1].split() == ["1", "banana", "6.0000", "3.0000", "1.0000"]
    assert "[red]日本[/red]" in lines[2] and "\x1b" not in lines[2]
    assert len(lines) == 33 and lines[32].split()[:2] == ["32", "x"]
    assert all(len(line) <= 80 for line in lines)
    assert rows(embed("banana", "--json"))[0]["text"] == "banana"


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "none.txt", "text"], "not both"),
        ([], "no texts given"),
        (["text", "--threads", "0"], "--threads"),
        (["text", "--unknown"], "No such option"),
    ],
)
def test_bad_usage_exits_with_2(arguments, message):
    result = embed(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_missing_model_exits_with_2_and_says_so(monkeypatch):
    monkeypatch.delenv("BOTHWAYS_MODEL")
    result = embed("text")
    assert result.exit_code == 2
    assert "pass --model NAME or set BOTHWAYS_MODEL" in " ".join(result.stderr.split())


def test_errors_exit_with_1_and_one_line(tmp_path):
    result = embed("--input", tmp_path / "none.txt")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: there is no file") and result.stderr.count("\n") == 1


def test_verbose_shows_the_traceback_and_surplus_tensors(tmp_path):
    result = embed("a b c d e", "--no-truncation", "--verbose")
    assert "Traceback (most recent call last)" in result.stderr
    assert "not used: cls.bias, cls.weight" in result.stderr


def test_faults_are_one_line_too(monkeypatch):
    monkeypatch.setattr(LetterModel, "embed", lambda *_, **__: {}["x"])
    result = embed("text")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith("error: KeyError: 'x'")


def test_output_must_not_be_the_input(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n')
    result = embed("--input", tmp_path / "a.jsonl", "--output", tmp_path / "." / "a.jsonl")
    assert result.exit_code == 1
    assert "is the input file" in result.stderr


def test_outputs_are_refused_before_the_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(Encoder, "from_pretrained", None)
    result = embed("text", "--output", tmp_path / "out.csv")
    assert result.exit_code == 1
    assert "use .npy, .jsonl, .parquet" in result.stderr


@pytest.mark.parametrize("ending", ["npy", "jsonl", "parquet"])
def test_error_in_the_input_leaves_the_old_output(tmp_path, ending):
    (tmp_path / "in.txt").write_bytes(b"a\nb\nc\n\xff\n")
    target = tmp_path / f"out.{ending}"
    target.write_text("old")
    result = embed("--input", tmp_path / "in.txt", "--output", target)
    assert result.exit_code == 1
    assert "line 4: byte 0xff" in result.stderr
    assert target.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


# Real processes: signals and pipes


def start(*arguments: object, **streams: Any) -> subprocess.Popen[bytes]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.Popen([sys.executable, str(STAND_IN), "embed", *map(str, arguments)], **pipes)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("ending", ["npy", "jsonl", "parquet"])
def test_interrupt_leaves_the_old_output_and_nothing_else(tmp_path, ending, precision):
    target = tmp_path / f"out.{ending}"
    target.write_text("old")
    with start("--input", "-", "--output", target, "--precision", precision) as process:
        process.stdin.write(b"one\ntwo\nthree\n")
        process.stdin.flush()  # and never closed: the process waits for more
        wait_for(lambda: any(path.suffix == ".part" for path in tmp_path.iterdir()))
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert b"Traceback" not in process.stderr.read()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def wait_for(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.01)


def test_reader_that_leaves_early_ends_the_work_quietly(tmp_path):
    (tmp_path / "in.txt").write_text("some text\n" * 20_000)
    with start("--input", tmp_path / "in.txt") as process:
        assert json.loads(process.stdout.readline())["text"] == "some text"
        process.stdout.close()
        assert process.wait(20) == 0
        assert process.stderr.read() == b""


def test_exit_codes_of_the_process(tmp_path):
    for arguments, code in [(["hello"], 0), (["--input", tmp_path / "none.txt"], 1), (["--threads", "x"], 2)]:
        with start("--model", "m", *arguments) as process:
            process.communicate()
        assert process.returncode == code


def test_progress_bar_stands_on_a_terminal_only(tmp_path):
    pty = pytest.importorskip("pty")
    (tmp_path / "in.txt").write_text("some text\n" * 500)
    ours, theirs = pty.openpty()
    streams = {"stdout": theirs, "stderr": theirs, "env": {**os.environ, "TERM": "xterm"}}
    with start("--input", tmp_path / "in.txt", "--output", tmp_path / "o.npy", **streams) as process:
        os.close(theirs)
        seen = read_to_end(ours)
    assert process.returncode == 0
    assert "tokens/s" in seen and "━" in seen
    assert "500 texts, 1,000 tokens" in seen


def read_to_end(terminal: int) -> str:
    seen = b""
    with open(terminal, "rb", buffering=0) as file:
        try:
            while block := file.read(65536):
                seen += block
        except OSError:  # how Linux tells that the other end is closed
            pass
    return seen.decode()
