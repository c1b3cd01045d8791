"""`bothways zero-shot`: texts in, out the labels of one's own choice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from bothways.cli.progress import Progress
from bothways.cli.tasks import LABELS, Job, task_options

if TYPE_CHECKING:
    from bothways.encoder import Encoder

__all__ = ["command"]


@click.command("zero-shot", short_help="Label texts with any labels.")
@task_options
@click.option("--labels", required=True, metavar="A,B,C", help="The labels to choose from, with commas between them.")
@click.option(
    "--template",
    default="This example is {}.",
    show_default=True,
    help="The sentence that a label makes, with {} where the label goes.",
)
@click.option("--multi-label", is_flag=True, help="Score every label on its own, as several may hold.")
def command(*, job: Job, labels: str, template: str, multi_label: bool) -> None:
    """Label texts with any labels, by a checkpoint trained to tell what follows from what.

    Texts come from the command line or from --input. Labels go to --output, or to standard output: as a table on a
    terminal, as JSON lines anywhere else.
    """

    def task(encoder: Encoder, rows: Iterator[tuple[str, ...]], progress: Progress) -> Iterable[list[Any]]:
        return encoder.zero_shot(
            (row[0] for row in rows),
            labels,
            template=template,
            multi_label=multi_label,
            truncation=job.truncation,
            progress=progress.report,
        )

    job.run(job.source(), LABELS[False], task)
