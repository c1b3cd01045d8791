from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bothways.cli import main
from bothways.encoder import Encoder

HIDDEN = np.arange(2 * 3 * 6, dtype=np.float32).reshape(2, 3, 6)


def encoded(pooler: bool) -> SimpleNamespace:
    """What a model of hidden size 6 could answer for the texts "hi yo" and "hi"."""
    return SimpleNamespace(
        input_ids=np.array([[101, 7, 8], [101, 7, 0]]),
        attention_mask=np.array([[1, 1, 1], [1, 1, 0]]),
        last_hidden_state=HIDDEN,
        pooler_output=HIDDEN[:, 0] / 2 if pooler else None,
        pooler_reason="" if pooler else "the checkpoint carries no pooler weights",
        tokens=[["[CLS]", "hi", "yo"], ["[CLS]", "hi"]],
        offsets=[np.array([[0, 0], [0, 2], [3, 5]]), np.array([[0, 0], [0, 2]])],
        truncated=[4, 0],
    )


@pytest.fixture(params=[True, False], ids=["pooler", "no pooler"])
def pooler(request, monkeypatch):
    model = SimpleNamespace(encode=lambda texts, truncation: encoded(request.param))
    monkeypatch.setattr(Encoder, "from_pretrained", lambda *_, **__: model)
    return request.param


def encode(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["encode", "--model", "m", "hi yo", "hi", *arguments])
    assert result.exit_code == 0, result.output
    return result


def test_shapes_come_first(pooler):
    lines = encode().stdout.splitlines()
    assert lines[0].split(maxsplit=1) == ["input_ids", "(2, 3)           int64"]
    assert lines[2].split(maxsplit=1) == ["last_hidden_state", "(2, 3, 6)        float32"]
    reason = "(2, 6)           float32" if pooler else "None: the checkpoint carries no pooler weights"
    assert lines[3].split(maxsplit=1) == ["pooler_output", reason]


def test_every_token_has_a_line_with_its_first_values(pooler):
    lines = encode().stdout.splitlines()
    assert lines[5] == "hi yo  (4 tokens were cut)"
    assert lines[7].split() == ["101", "[CLS]", "0.0000", "1.0000", "2.0000", "3.0000", "4.0000", "..."]
    assert lines[9].split() == ["8", "yo", "3-5", "12.0000", "13.0000", "14.0000", "15.0000", "16.0000", "..."]
    assert any(line.split()[:2] == ["pooler_output", "0.5000"] or "0.5000" in line for line in lines[10:]) == pooler


def test_json_has_every_value_and_no_padding(pooler):
    first, second = [json.loads(line) for line in encode("--json").stdout.splitlines()]
    assert second["text"] == "hi"
    assert second["input_ids"] == [101, 7]
    assert second["tokens"] == ["[CLS]", "hi"]
    assert second["offsets"] == [[0, 0], [0, 2]]
    assert second["last_hidden_state"] == HIDDEN[1, :2].tolist()
    assert (first["truncated"], second["truncated"]) == (4, 0)
    if pooler:
        assert first["pooler_output"] == (HIDDEN[0, 0] / 2).tolist()
    else:
        assert first["pooler_output"] is None
        assert first["pooler_reason"] == "the checkpoint carries no pooler weights"


def test_arguments_that_are_no_text_are_an_error():
    result = CliRunner().invoke(main, ["encode", "--model", "m", "a\udcff"])
    assert (result.exit_code, result.stderr.split(";")[0]) == (
        1,
        "error: argument 1 is not valid UTF-8 (at character 1)",
    )


def test_no_text_is_bad_usage():
    assert CliRunner().invoke(main, ["encode", "--model", "m"]).exit_code == 2
