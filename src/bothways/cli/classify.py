"""`bothways classify`: texts or pairs in, their labels out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from bothways.cli.progress import Progress
from bothways.cli.tasks import LABELS, Job, task_options

if TYPE_CHECKING:
    from bothways.encoder import Encoder

__all__ = ["command"]


@click.command("classify", short_help="Label texts, or pairs of texts.")
@task_options
@click.option("--pair", metavar="TEXT", help="Read every text as the first of a pair, with this as the second.")
@click.option("--pair-column", metavar="NAME", help="The input column that holds the second texts of pairs.")
@click.option("--top-k", type=click.IntRange(min=1), help="Labels for each text.  [default: 1]")
@click.option("--all", "every", is_flag=True, help="Every label with its score.")
def command(*, job: Job, pair: str | None, pair_column: str | None, top_k: int | None, every: bool) -> None:
    """Label texts, or pairs of texts, with the labels that the checkpoint was trained on.

    Texts come from the command line or from --input. Labels go to --output, or to standard output: as a table on a
    terminal, as JSON lines anywhere else.
    """
    if pair is not None and pair_column is not None:
        raise click.UsageError("give --pair or --pair-column, not both")
    if every and top_k is not None:
        raise click.UsageError("give --all or --top-k, not both")
    paired = pair is not None or pair_column is not None

    def task(encoder: Encoder, rows: Iterator[tuple[str, ...]], progress: Progress) -> Iterable[list[Any]]:
        texts: Iterator[Any] = rows if paired else (row[0] for row in rows)
        wanted = None if every else top_k or 1
        return encoder.classify(texts, top_k=wanted, truncation=job.truncation, progress=progress.report)

    job.run(job.source(pair_column), LABELS[paired], task, also=() if pair is None else (pair,))
