"""`bothways tag`: texts of any length in, their labelled spans out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from bothways.cli.progress import Progress
from bothways.cli.results import Column, Shape
from bothways.cli.tasks import Job, percent, task_options, window_option
from bothways.tasks.spans import AGGREGATIONS, Span

if TYPE_CHECKING:
    from bothways.encoder import Encoder

__all__ = ["command"]


def _lines(given: tuple[str, ...], spans: list[Span]) -> Iterator[tuple[str, ...]]:
    for span in spans:
        yield span.text, span.label, percent(span.score), f"{span.start}-{span.end}"


_SPANS = Shape(
    ("text",),
    "spans",
    Span,
    (Column("span"), Column("label", 24), Column("score", 10, right=True), Column("characters", 16, right=True)),
    _lines,
)


@click.command("tag", short_help="Find labelled spans, such as names, in texts.")
@task_options
@click.option(
    "--aggregation",
    type=click.Choice(AGGREGATIONS),
    default="simple",
    show_default=True,
    help="How tokens become spans: each by itself, neighbours of one label, or whole words.",
)
@window_option
@click.option("--stride", type=click.IntRange(min=0), metavar="N", help="Tokens that a window repeats.")
@click.option("--ignore-label", "ignored", multiple=True, metavar="LABEL", help="Leave these labels out.  [default: O]")
def command(*, job: Job, aggregation: str, window: bool, stride: int | None, ignored: tuple[str, ...]) -> None:
    """Find labelled spans, such as names, in texts of any length.

    Texts come from the command line or from --input. Spans go to --output, or to standard output: as a table on a
    terminal, as JSON lines anywhere else. Places are counted in characters.
    """

    def task(encoder: Encoder, rows: Iterator[tuple[str, ...]], progress: Progress) -> Iterable[list[Any]]:
        return encoder.tag(
            (row[0] for row in rows),
            aggregation=aggregation,
            stride=stride,
            ignore_labels=ignored or ("O",),
            truncation=job.long_texts(window),
            progress=progress.report,
        )

    job.run(job.source(), _SPANS, task)
