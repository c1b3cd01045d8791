"""The commands of tasks: what they print and write is what the library returns, from and to every kind of file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from task_checkpoints import TEXTS, save_task

from bothways import Encoder
from bothways.cli import main

FOLDERS: dict[str, dict[str, Any]] = {
    "classification": {"num_labels": 3},
    "ranking": {"num_labels": 1},
    "entailment": {"id2label": {0: "contradiction", 1: "neutral", 2: "entailment"}},
    "token_classification": {"id2label": {0: "O", 1: "B-PER", 2: "I-PER", 3: "LOC"}},
    "masked_lm": {},
    "question_answering": {},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A checkpoint of a kind."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            head = "classification" if kind in ("ranking", "entailment") else kind
            made[kind] = save_task(tmp_path_factory.mktemp(kind), "bert", head, **FOLDERS[kind])
        return made[kind]

    return get


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)], input=stdin)


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def dicts(results: list[Any]) -> list[dict[str, Any]]:
    return [{name: value for name, value in asdict(item).items() if name != "others"} for item in results]


def test_classify_prints_what_the_library_returns(folder: Any) -> None:
    model = Encoder.from_pretrained(folder("classification"))
    found = rows(run("classify", "--model", folder("classification"), *TEXTS))
    expected = model.classify(TEXTS)
    assert found == [{"text": t, "labels": dicts(e)} for t, e in zip(TEXTS, expected, strict=True)]
    found = rows(run("classify", "--model", folder("classification"), "--all", "one"))
    assert found[0]["labels"] == dicts(model.classify("one", top_k=None)[0])
    found = rows(run("classify", "--model", folder("classification"), "--top-k", 2, "--pair", "two", "one"))
    assert found == [{"text": "one", "pair": "two", "labels": dicts(model.classify(("one", "two"), top_k=2)[0])}]


def test_pairs_come_from_two_columns(folder: Any, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("a,b\nwho jumps?,the fox\nx,y\n")
    options = ("--model", folder("classification"), "--column", "a", "--pair-column", "b")
    found = rows(run("classify", *options, "--input", path))
    expected = Encoder.from_pretrained(folder("classification")).classify([("who jumps?", "the fox"), ("x", "y")])
    assert [row["labels"] for row in found] == [dicts(e) for e in expected]
    assert [row["pair"] for row in found] == ["the fox", "y"]
    assert rows(run("classify", *options, "--input", "-", "--format", "csv", stdin=path.read_bytes())) == found


def test_tag_prints_what_the_library_returns(folder: Any) -> None:
    model = Encoder.from_pretrained(folder("token_classification"))
    text = " ".join(TEXTS * 6)
    found = rows(run("tag", "--model", folder("token_classification"), text, "fox"))
    assert [row["spans"] for row in found] == [dicts(spans) for spans in model.tag([text, "fox"])]
    options = ("--aggregation", "none", "--ignore-label", "LOC", "--no-window", "--stride", 3)
    result = run("tag", "--model", folder("token_classification"), *options, text)
    expected = model.tag(text, aggregation="none", ignore_labels=["LOC"], truncation=True)
    assert rows(result)[0]["spans"] == dicts(expected[0])
    assert "note: 1 of 1 text was longer than 48 tokens and was cut" in result.stderr
    result = run("tag", "--model", folder("token_classification"), "--no-truncation", text)
    assert (result.exit_code, result.stderr[:12]) == (1, "error: text ")


def test_fill_mask_prints_what_the_library_returns(folder: Any) -> None:
    model = Encoder.from_pretrained(folder("masked_lm"))
    text = "the [MASK] fox [MASK]"
    found = rows(run("fill-mask", "--model", folder("masked_lm"), text, "--top-k", 2))
    assert found == [{"text": text, "fills": dicts(model.fill_mask(text, top_k=2)[0])}]
    found = rows(run("fill-mask", "--model", folder("masked_lm"), text, "--target", "fox", "--target", "the"))
    assert found[0]["fills"] == dicts(model.fill_mask(text, targets=["fox", "the"])[0])


def test_answer_prints_what_the_library_returns(folder: Any, tmp_path: Path) -> None:
    model = Encoder.from_pretrained(folder("question_answering"))
    options = ("--model", folder("question_answering"), "--top-k", 3, "--impossible")
    found = rows(run("answer", *options, "--question", "who?", TEXTS[0]))
    best = model.answer("who?", TEXTS[0], top_k=3, impossible=True)
    assert found == [{"context": TEXTS[0], "answers": dicts([best, *best.others])}]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps({"text": t, "q": f"who {n}?"}) + "\n" for n, t in enumerate(TEXTS)))
    found = rows(run("answer", *options[:2], "--question-column", "q", "--input", path))
    expected = model.answer([f"who {n}?" for n in range(len(TEXTS))], TEXTS)
    assert [row["answers"] for row in found] == [dicts([answer]) for answer in expected]
    assert [row["question"] for row in found] == [f"who {n}?" for n in range(len(TEXTS))]
    for wrong in ((), ("--question", "a", "--question-column", "b")):
        assert run("answer", *options, *wrong, "context").exit_code == 2


def test_rerank_prints_what_the_library_returns(folder: Any) -> None:
    model = Encoder.from_pretrained(folder("ranking"))
    found = rows(run("rerank", "--model", folder("ranking"), "--query", "who?", "--top-k", 3, *TEXTS))
    ranked = model.rerank("who?", TEXTS, top_k=3)
    assert found == [
        {
            "query": "who?",
            "documents": [{"index": r.index, "score": r.score, "text": TEXTS[r.index]} for r in ranked],
        }
    ]
    raw = rows(run("rerank", "--model", folder("ranking"), "--query", "who?", "--raw-scores", *TEXTS))
    assert [d["score"] for d in raw[0]["documents"]] == [r.score for r in model.rerank("who?", TEXTS, raw_scores=True)]


def test_zero_shot_prints_what_the_library_returns(folder: Any) -> None:
    model = Encoder.from_pretrained(folder("entailment"))
    options = ("--labels", "sports, art", "--template", "About {}.", "--multi-label")
    found = rows(run("zero-shot", "--model", folder("entailment"), *options, *TEXTS))
    expected = model.zero_shot(TEXTS, ["sports", "art"], template="About {}.", multi_label=True)
    assert [row["labels"] for row in found] == [dicts(e) for e in expected]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("kind", "arguments", "found"),
    [
        ("classification", ("classify", "--all"), "labels"),
        ("token_classification", ("tag",), "spans"),
        ("question_answering", ("answer", "--question", "who?"), "answers"),
        ("entailment", ("zero-shot", "--labels", "a,b"), "labels"),
    ],
)
def test_files_hold_what_is_printed(
    folder: Any, tmp_path: Path, kind: str, arguments: tuple[str, ...], found: str, ending: str
) -> None:
    source, target = tmp_path / "in.txt", tmp_path / f"out.{ending}"
    source.write_text("\n".join(TEXTS) + "\n")
    printed = rows(run(*arguments, "--model", folder(kind), "--input", source))
    result = run(*arguments, "--model", folder(kind), "--input", source, "--output", target, "--json")
    assert json.loads(result.stdout)["texts"] == len(TEXTS)
    assert f"{len(TEXTS)} texts, " in result.stderr
    if ending == "jsonl":
        written = [json.loads(line) for line in target.read_text().splitlines()]
    else:
        written = pytest.importorskip("pyarrow.parquet").read_table(target).to_pylist()
    assert written == printed
    assert len(written) == len(TEXTS)
    assert found in written[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", target.name]


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        ("classification", ("classify", "--all", "one"), ["text", "label", "score", "one", "LABEL_0", "LABEL_2"]),
        ("token_classification", ("tag", "--ignore-label", "x", "fox \x1b[31m"), ["span", "characters", "fox"]),
        ("masked_lm", ("fill-mask", "the [MASK]"), ["mask", "token", "score", "text", "1"]),
        ("question_answering", ("answer", "--question", "who?", "", "fox"), ["answer", "(no answer)", "0-3"]),
        ("ranking", ("rerank", "--query", "who?", "fox"), ["score", "index", "document", "fox"]),
    ],
)
def test_a_terminal_gets_a_table(
    folder: Any, monkeypatch: pytest.MonkeyPatch, kind: str, arguments: tuple[str, ...], words: list[str]
) -> None:
    for module in ("results", "tasks"):
        monkeypatch.setattr(f"bothways.cli.{module}.to_terminal", lambda: True)
    result = run(*arguments, "--model", folder(kind))
    assert result.exit_code == 0, result.output
    assert all(word in result.stdout for word in words), result.stdout
    assert "\x1b" not in result.stdout
    as_json = run(*arguments, "--model", folder(kind), "--json")
    assert json.loads(as_json.stdout.splitlines()[0])


def test_long_tables_keep_their_numbers(folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bothways.cli.results.to_terminal", lambda: True)
    result = run("classify", "--model", folder("classification"), *["text"] * 45)
    lines = result.stdout.splitlines()
    assert len(lines) == 46
    assert lines[-1].split()[0] == "45"


def test_a_task_without_its_head_is_one_line(folder: Any) -> None:
    result = run("tag", "--model", folder("classification"), "text")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: this checkpoint can't tag: it has no token classification head")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("classify",), "no texts given"),
        (("classify", "a", "--input", "b.txt"), "give texts or --input, not both"),
        (("classify", "a", "--pair-column", "b"), "columns and --format say how to read --input"),
        (("classify", "a", "--pair", "b", "--pair-column", "c"), "give --pair or --pair-column, not both"),
        (("classify", "a", "--output", ""), "--output is empty"),
        (("zero-shot", "a"), "Missing option '--labels'"),
        (("rerank", "a"), "Missing option '--query'"),
        (("tag", "a", "--aggregation", "best"), "'best' is not one of"),
    ],
)
def test_slips_are_bad_usage(folder: Any, arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments, "--model", folder("classification"))
    assert result.exit_code == 2
    assert message in result.stderr


def test_outputs_that_cannot_be_are_refused(folder: Any, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n')
    for output, message in (
        ("out.npy", "has no known ending; use .jsonl, .parquet"),
        ("in.jsonl", "is the input file"),
    ):
        result = run(
            *("classify", "--model", folder("classification"), "--input", tmp_path / "in.jsonl"),
            *("--output", tmp_path / output),
        )
        assert result.exit_code == 1
        assert message in result.stderr


def test_an_input_without_texts_says_so(folder: Any, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("")
    result = run("classify", "--model", folder("classification"), "--input", tmp_path / "in.txt")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "holds no texts" in result.stderr
