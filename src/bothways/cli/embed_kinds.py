"""`bothways embed --sparse` and `--tokens`: how embeddings that are not one dense vector a text are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from bothways.cli.output import json_numbers
from bothways.cli.progress import Progress
from bothways.cli.results import ENDINGS, Column, Shape
from bothways.cli.tasks import Job
from bothways.errors import InputError
from bothways.tasks.embed import token_limit
from bothways.tasks.sparse import SparseEmbedding
from bothways.tasks.token_vectors import vectors_limit

if TYPE_CHECKING:
    from bothways.arrays import FloatArray
    from bothways.encoder import Encoder

__all__ = ["check_kind", "run_kind"]

_SHOWN = 8  # terms that the table shows

# What one dense vector a text alone can have: the option as it is passed on, and as it is typed.
_DENSE_OPTIONS = {
    "pooling": "--pooling",
    "dimensions": "--dimensions",
    "window": "--window",
    "precision": "--precision",
}


class _TermsShape(Shape):
    """Each text's terms, as one object of terms and weights."""

    def row(self, given: tuple[str, ...], results: list[Any]) -> dict[str, Any]:
        """A text's terms as JSON has them."""
        embedding: SparseEmbedding = results[0]
        terms = dict(zip(embedding.terms, _nine_digits(embedding.weights), strict=True))
        return {"text": given[0], "terms": terms}

    def arrow_row(self, given: tuple[str, ...], results: list[Any]) -> dict[str, Any]:
        """The same with terms and weights as pairs."""
        row = self.row(given, results)
        return {**row, "terms": list(row["terms"].items())}

    def arrow_type(self, arrow: Any) -> Any:
        """The Parquet column's type."""
        return arrow.map_(arrow.string(), arrow.float32())


class _VectorsShape(Shape):
    """Each text's token vectors, a list of lists."""

    def row(self, given: tuple[str, ...], results: list[Any]) -> dict[str, Any]:
        """A text's vectors as JSON has them."""
        return {"text": given[0], "vectors": [_nine_digits(vector) for vector in results[0]]}

    def arrow_type(self, arrow: Any) -> Any:
        """The Parquet column's type."""
        return arrow.list_(arrow.list_(arrow.float32()))


def _nine_digits(values: FloatArray) -> list[float]:
    """Numbers that bring every float32 back exactly, without the digits of a float64."""
    numbers: list[float] = [float(number) for number in json_numbers(values)[1:-1].split(", ") if number]
    return numbers


def _term_lines(given: tuple[str, ...], results: list[Any]) -> Iterator[tuple[str, ...]]:
    embedding: SparseEmbedding = results[0]
    heaviest = zip(embedding.terms[:_SHOWN], embedding.weights.tolist(), strict=False)
    terms = "  ".join(f"{term} {weight:.2f}" for term, weight in heaviest)
    yield given[0], str(len(embedding)), terms + ("  …" if len(embedding) > _SHOWN else "")


def _vector_lines(given: tuple[str, ...], results: list[Any]) -> Iterator[tuple[str, ...]]:
    vectors: FloatArray = results[0]
    yield given[0], f"{len(vectors)} x {vectors.shape[1]}", "  ".join(f"{value:8.4f}" for value in vectors[:1, :4].flat)


_SHAPES: dict[str, Shape] = {
    "sparse": _TermsShape(
        ("text",),
        "terms",
        object,  # each shape makes its own rows
        (Column("text"), Column("terms", 6, right=True), Column("the heaviest, and their weights")),
        _term_lines,
    ),
    "tokens": _VectorsShape(
        ("text",),
        "vectors",
        object,
        (Column("text"), Column("vectors", 12, right=True), Column("the first one", 44)),
        _vector_lines,
    ),
}


def check_kind(kind: str, how: dict[str, Any], output_name: str | None) -> None:
    """Refuse options, and a kind of file, that only one dense vector a text goes with.

    Raises:
        click.UsageError: Such an option is given.
        InputError: The output is a .npy file.
    """
    for name, option in _DENSE_OPTIONS.items():
        if how[name] and how[name] != "float32":
            raise click.UsageError(f"{option} is for one dense vector a text; leave it out with --{kind}")
    if kind == "sparse" and how["normalize"] is not None:
        raise click.UsageError("--normalize is for vectors; leave it out with --sparse")
    if output_name is not None and output_name.lower().endswith(".npy"):
        raise InputError(
            f"output {output_name!r}: a .npy file holds one vector a text, all of one size; with --{kind} use "
            f"{' or '.join(ENDINGS)}"
        )


def run_kind(job: Job, kind: str, how: dict[str, Any]) -> None:
    """Embed a job's texts as `kind` says."""
    options = {name: how[name] for name in ("prompt", "prompt_name")}
    if kind == "tokens":
        options["normalize"] = how["normalize"]

    def task(encoder: Encoder, rows: Iterator[tuple[str, ...]], progress: Progress) -> Iterable[list[Any]]:
        asked: Any = {kind: True, **options}
        texts = (row[0] for row in rows)
        found = encoder.embed(texts, truncation=job.truncation, progress=progress.report, **asked)
        return ([embedding] for embedding in found)

    def limit(encoder: Encoder) -> int:
        if kind == "tokens":
            return vectors_limit(encoder.spec, encoder.tokenizer, how["prompt_name"])
        return token_limit(encoder.spec, encoder.tokenizer)

    job.run(job.source(), _SHAPES[kind], task, limit=limit)
