"""bothways embed --sparse and --tokens: what is written where, and what is refused before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from late_checkpoints import save_pylate
from task_checkpoints import save_task

from bothways import Encoder
from bothways.cli import main

TEXTS = ["The quick fox", "don't stop!"]


@pytest.fixture(scope="module")
def splade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_task(tmp_path_factory.mktemp("splade"), "bert", "masked_lm")


@pytest.fixture(scope="module")
def colbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pylate(tmp_path_factory.mktemp("colbert"))


def embed(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["embed", *map(str, arguments)])


def test_terms_are_an_object_a_line(splade: Path, tmp_path: Path) -> None:
    expected = Encoder.from_pretrained(splade).embed(TEXTS, sparse=True)
    result = embed(*TEXTS, "--sparse", "--model", splade)
    assert result.exit_code == 0, result.output
    embed(*TEXTS, "--sparse", "--model", splade, "--output", tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == result.stdout
    for line, text, embedding in zip(result.stdout.splitlines(), TEXTS, expected, strict=True):
        row = json.loads(line)
        assert row["text"] == text
        assert list(row["terms"]) == list(embedding.terms)
        np.testing.assert_array_equal(np.array(list(row["terms"].values()), np.float32), embedding.weights)


def test_vectors_are_a_list_a_line(colbert: Path) -> None:
    encoder = Encoder.from_pretrained(colbert)
    for options, name in (((), None), (("--prompt-name", "query"), "query")):
        expected = encoder.embed(TEXTS, tokens=True, prompt_name=name)
        result = embed(*TEXTS, "--tokens", "--json", "--model", colbert, *options)
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        assert [row["text"] for row in rows] == TEXTS
        for row, vectors in zip(rows, expected, strict=True):
            np.testing.assert_array_equal(np.array(row["vectors"], np.float32), vectors)


def test_both_are_written_to_parquet(splade: Path, colbert: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    for kind, model in (("sparse", splade), ("tokens", colbert)):
        target = tmp_path / f"{kind}.parquet"
        assert embed(*TEXTS, f"--{kind}", "--model", model, "--output", target).exit_code == 0
        expected = Encoder.from_pretrained(model).embed(TEXTS, **{kind: True})
        table = parquet.read_table(target)
        assert table["text"].to_pylist() == TEXTS
        for found, embedding in zip(
            table["terms" if kind == "sparse" else "vectors"].to_pylist(), expected, strict=True
        ):
            if kind == "sparse":
                assert found == list(zip(embedding.terms, embedding.weights.tolist(), strict=True))
            else:
                np.testing.assert_array_equal(np.array(found, np.float32), embedding)


def test_a_terminal_gets_a_table(splade: Path, colbert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bothways.cli.results.to_terminal", lambda: True)
    monkeypatch.setattr("bothways.cli.tasks.to_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "150")
    best = Encoder.from_pretrained(splade).embed(TEXTS, sparse=True)[0]
    lines = embed(*TEXTS, "--sparse", "--model", splade).stdout.splitlines()
    assert "terms" in lines[0] and TEXTS[0] in lines[1] and str(len(best)) in lines[1]
    assert f"{best.terms[0]} {best.weights[0]:.2f}" in lines[1]
    assert "5 x 7" in embed("the fox", "--tokens", "--model", colbert).stdout


def test_texts_that_were_cut_are_counted_with_the_sides_limit(colbert: Path) -> None:
    long = "fox " * 60
    assert embed(long, "--tokens", "--model", colbert).stderr.startswith("note: 1 of 1 text was longer than 25 tokens")
    query = embed(long, "--tokens", "--prompt-name", "query", "--model", colbert)
    assert query.stderr.startswith("note: 1 of 1 text was longer than 14 tokens")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--sparse", "--tokens"), 2, "give --sparse or --tokens, not both"),
        (("--sparse", "--pooling", "mean"), 2, "--pooling is for one dense vector a text; leave it out with --sparse"),
        (("--tokens", "--dimensions", "3"), 2, "--dimensions is for one dense vector a text"),
        (("--tokens", "--precision", "int8"), 2, "--precision is for one dense vector a text"),
        (("--sparse", "--window"), 2, "--window is for one dense vector a text"),
        (("--sparse", "--no-normalize"), 2, "--normalize is for vectors"),
        (
            ("--sparse", "--output", "out.npy"),
            1,
            "a .npy file holds one vector a text, all of one size; with --sparse use",
        ),
        (("--tokens", "--output", "out.csv"), 1, "has no known ending; use .jsonl, .parquet"),
    ],
)
def test_what_does_not_go_together_is_refused(options: tuple[str, ...], code: int, message: str) -> None:
    result = embed("text", "--model", "nowhere", *options)
    assert result.exit_code == code
    assert message in result.stderr


def test_a_checkpoint_without_the_head_says_what_it_can_do(minilm: Path) -> None:
    result = embed("text", "--sparse", "--model", minilm)
    assert result.exit_code == 1
    assert "can't embed(--sparse): it has no masked lm head" in result.stderr


def test_similarity_compares_them_by_the_checkpoints_own_measure(colbert: Path) -> None:
    result = CliRunner().invoke(main, ["similarity", "--json", "--model", str(colbert), "the fox", "a dog", "fox"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    expected = Encoder.from_pretrained(colbert).similarity(found["texts"], found["texts"])
    np.testing.assert_allclose(found["scores"], expected, rtol=1e-6)


def test_inspect_tells_them_from_one_dense_vector(colbert: Path) -> None:
    result = CliRunner().invoke(main, ["inspect", "--no-hash", "--model", str(colbert)])
    assert "for each token (--tokens)" in result.stdout
    assert "pooling" not in result.stdout
