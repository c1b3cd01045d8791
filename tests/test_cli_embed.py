from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_model import LetterModel, vector
from click.testing import CliRunner, Result

from bothways.cli import main
from bothways.encoder import Encoder
from bothways.errors import DeviceError, InputError
from bothways.precision import quantize


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


def test_standard_input_holds_what_format_says():
    stdin = b'id,body\n1,"a, b"\n'
    found = rows(embed("--input", "-", "--format", "csv", "--column", "body", stdin=stdin))
    assert [row["text"] for row in found] == ["a, b"]
    found = rows(embed("--input", "-", "--format", "jsonl", stdin=b'{"text": "hi"}'))
    assert [row["text"] for row in found] == ["hi"]


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
        *("hello", "--model", "m", "--revision", "r", "--dtype", "float32", "--threads", 3, "--max-length", 9),
        *("--batch-tokens", 77, "--pooling", "cls", "--pooling", "max", "--no-normalize"),
        *("--prompt-name", "query", "--dimensions", 2, "--no-truncation"),
    )
    assert result.exit_code == 0, result.output
    model = LetterModel.last
    assert model.loaded_with == {
        **{"name": "m", "revision": "r", "dtype": "float32", "threads": 3, "max_length": 9, "batch_tokens": 77}
    }
    assert model.embedded_with == {
        **{"pooling": ["cls", "max"], "normalize": False, "prompt": None, "prompt_name": "query"},
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
    advice = "; pass --window to embed all of them\n"
    assert result.stderr == "note: 2 of 4 texts were longer than 4 tokens and were cut" + advice
    assert embed("a b c d e").stderr == "note: 1 of 1 text was longer than 4 tokens and was cut" + advice
    assert embed("a b c d e", "b").stderr == "note: 1 of 2 texts was longer than 4 tokens and was cut" + advice
    assert embed("a b c d e", "--quiet").stderr == ""
    assert embed("short").stderr == ""


def test_no_truncation_makes_long_texts_an_error():
    result = embed("a b c d e", "--no-truncation")
    assert result.exit_code == 1
    assert result.stderr == "error: a text has 5 tokens, the model takes 4\n"


def test_window_embeds_long_texts_whole():
    result = embed("a b c d e", "--window")
    assert (result.exit_code, result.stderr) == (0, "")
    assert LetterModel.last.embedded_with["truncation"] == "window"


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
        (["text", "--dtype", "float8"], "'float8' is not one of 'float32', 'bfloat16', 'int8'"),
        (["text", "--precision", "int4"], "'int4' is not one of 'float32', 'int8'"),
        (["text", "--prompt", "", "--prompt-name", "query"], "--prompt or --prompt-name, not both"),
        (["text", "--window", "--no-truncation"], "--window or --no-truncation, not both"),
        (["text", "--output", ""], "--output is empty"),
        (["text", "--format", "csv"], "say how to read --input"),
        (["--input", "-", "--format", "parquet"], "'parquet' is not one of"),
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


def test_option_of_the_machine_that_fails_is_one_line(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise DeviceError("threads is 99999; this machine starts at most 1024")

    monkeypatch.setattr(Encoder, "from_pretrained", refuse)
    result = embed("text", "--threads", 99999)
    assert (result.exit_code, result.stderr) == (1, "error: threads is 99999; this machine starts at most 1024\n")


@pytest.mark.parametrize(
    ("librarys", "ours"),
    [
        ("text 0 has 9 tokens; pass truncation=True to cut it", "text 0 has 9 tokens; pass --truncation to cut it"),
        ('pass max_length=4, or truncation="window".', "pass --max-length=4, or --window."),
        ("max_length is 9", "--max-length is 9"),
        ('pass prompt="" or truncation=False', 'pass --prompt "" or --no-truncation'),
        ("pass revision=<the commit>", "pass --revision <the commit>"),
        ("'max_length.txt' and a/max_length/b stay", "'max_length.txt' and a/max_length/b stay"),
    ],
)
def test_errors_name_options_as_the_command_line_does(monkeypatch, librarys, ours):
    def refuse(*_: object, **__: object) -> None:
        raise InputError(librarys)

    monkeypatch.setattr(LetterModel, "embed", refuse)
    assert embed("text").stderr == f"error: {ours}\n"


def test_arguments_that_are_no_text_are_an_error():
    result = embed("fine", b"\xff".decode("utf-8", "surrogateescape"))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: argument 2 is not valid UTF-8 (at character 0)")


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
