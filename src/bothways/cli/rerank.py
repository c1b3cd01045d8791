"""`bothways rerank`: a query and documents in, the documents in order of their relevance out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import click

from bothways.cli.results import Column, Shape, open_results
from bothways.cli.tasks import Job, percent, task_options

__all__ = ["command"]


@dataclass(frozen=True)
class _Document:
    index: int
    score: float
    text: str


def _lines(_: tuple[str, ...], documents: list[_Document]) -> Iterator[tuple[str, ...]]:
    for document in documents:
        yield percent(document.score), str(document.index), document.text


_RANKED = Shape(
    ("query",),
    "documents",
    _Document,
    (Column("score", 10, right=True), Column("index", 10, right=True), Column("document")),
    _lines,
)


@click.command("rerank", short_help="Order documents by how well they answer a query.")
@task_options
@click.option("--query", required=True, metavar="TEXT", help="What is asked.")
@click.option("--top-k", type=click.IntRange(min=1), metavar="N", help="Only the best N documents.")
@click.option("--raw-scores", is_flag=True, help="Scores as the network gives them.")
def command(*, job: Job, query: str, top_k: int | None, raw_scores: bool) -> None:
    """Order documents by how well they answer a query, the best first, with a cross-encoder.

    Documents come from the command line or from --input, and are kept in memory. The result goes to --output, or to
    standard output: as a table on a terminal, as a line of JSON anywhere else. An index is a document's place among
    those given, from 0.
    """
    source = job.source()
    encoder = job.load()
    with job.progress(source.total) as progress, open_results(job.output, _RANKED, as_json=job.as_json) as writer:
        documents = list(source)
        ranked = encoder.rerank(
            query,
            documents,
            top_k=top_k,
            raw_scores=raw_scores,
            truncation=job.truncation,
            progress=progress.report,
        )
        writer.write((query,), [_Document(item.index, item.score, documents[item.index]) for item in ranked])
    job.report(source, progress, encoder)
