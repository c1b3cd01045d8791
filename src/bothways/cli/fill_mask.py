"""`bothways fill-mask`: texts with a token missing in, the tokens that fit out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from bothways.cli.progress import Progress
from bothways.cli.results import Column, Shape
from bothways.cli.tasks import Job, percent, task_options
from bothways.tasks.fill_mask import Fill

if TYPE_CHECKING:
    from bothways.encoder import Encoder

__all__ = ["command"]


def _lines(given: tuple[str, ...], fills: list[Fill]) -> Iterator[tuple[str, ...]]:
    for fill in fills:
        yield str(fill.mask + 1), fill.token, percent(fill.score), fill.text


_FILLS = Shape(
    ("text",),
    "fills",
    Fill,
    (Column("mask", 4, right=True), Column("token", 20), Column("score", 10, right=True), Column("text")),
    _lines,
)


@click.command("fill-mask", short_help="Find the tokens that fit where a text has a mask.")
@task_options
@click.option("--top-k", type=click.IntRange(min=1), default=5, show_default=True, help="Tokens for each mask.")
@click.option("--target", "targets", multiple=True, metavar="TOKEN", help="Choose among these tokens only.")
def command(*, job: Job, top_k: int, targets: tuple[str, ...]) -> None:
    """Find the tokens that fit where a text has the tokenizer's mask, such as [MASK] or <mask>.

    Texts come from the command line or from --input. Tokens go to --output, or to standard output: as a table on a
    terminal, as JSON lines anywhere else.
    """

    def task(encoder: Encoder, rows: Iterator[tuple[str, ...]], progress: Progress) -> Iterable[list[Any]]:
        return encoder.fill_mask(
            (row[0] for row in rows),
            top_k=top_k,
            targets=targets or None,
            truncation=job.truncation,
            progress=progress.report,
        )

    job.run(job.source(), _FILLS, task)
