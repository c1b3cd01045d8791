from __future__ import annotations

import json

import numpy as np
import pytest
from cli_model import LetterModel
from click.testing import CliRunner, Result

from bothways.cli import main
from bothways.encoder import Encoder


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(Encoder, "from_pretrained", LetterModel.from_pretrained)
    monkeypatch.setenv("BOTHWAYS_MODEL", "stand-in")


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr("bothways.cli.similarity.to_terminal", lambda: True)


def similarity(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["similarity", *arguments])


def test_two_texts_give_one_score():
    # (2, 1, 1) . (3, 0, 1)
    assert similarity("ab", "xyz").stdout == "7.0000\n"


@pytest.mark.usefixtures("terminal")
def test_more_texts_give_a_matrix_with_the_texts_beside_it():
    lines = similarity("ab", "xyz", "\x1b[1m").stdout.splitlines()
    assert lines[0].split() == ["1", "2", "3"]
    assert lines[1].split() == ["1", "6.0000", "7.0000", "9.0000", "ab"]
    assert lines[2].split() == ["2", "7.0000", "10.0000", "13.0000", "xyz"]
    assert "\x1b" not in lines[3]


@pytest.mark.usefixtures("terminal")
def test_long_texts_are_shortened_in_the_matrix_only():
    text = "0123456789" * 10
    lines = similarity(text, "x", "y").stdout.splitlines()
    assert lines[1].endswith("  " + text[:37] + "...")
    assert json.loads(similarity(text, "x", "--json").stdout)["texts"][0] == text


def test_arguments_that_are_no_text_are_an_error():
    result = similarity("\udcff", "x")
    assert (result.exit_code, result.stderr.split(" (")[0]) == (1, "error: argument 1 is not valid UTF-8")


def test_more_texts_give_json_where_no_terminal_is():
    assert json.loads(similarity("ab", "xyz", "c").stdout)["texts"] == ["ab", "xyz", "c"]


def test_json_names_measure_texts_and_scores():
    assert json.loads(similarity("ab", "xyz", "--json").stdout) == {
        "similarity": "dot",
        "texts": ["ab", "xyz"],
        "scores": [[6, 7], [7, 10]],
    }


def test_cut_texts_are_noted():
    assert similarity("1 2 3 4 5", "b").stderr == "note: 1 of 2 texts was longer than 4 tokens and was cut\n"


@pytest.mark.parametrize("texts", [[], ["one"]])
def test_fewer_than_two_texts_are_bad_usage(texts):
    result = similarity(*texts)
    assert result.exit_code == 2
    assert f"two texts or more, not {len(texts)}" in result.stderr


def test_texts_come_from_a_file_and_scores_go_to_one(tmp_path):
    source, target = tmp_path / "texts.txt", tmp_path / "scores.npy"
    source.write_text("ab\nxyz\n")
    assert similarity("--input", str(source)).stdout == "7.0000\n"
    result = similarity("--input", str(source), "--output", str(target))
    assert (result.exit_code, result.stdout) == (0, "")
    assert np.load(target).tolist() == [[6, 7], [7, 10]]
    result = similarity("--input", str(source), "--output", str(tmp_path / "scores.jsonl"))
    assert result.exit_code == 1
    assert "has no known ending; use .npy" in result.stderr
    source.write_text("alone\n")
    assert "needs two texts or more, and" in similarity("--input", str(source)).stderr
