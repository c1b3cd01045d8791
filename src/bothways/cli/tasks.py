"""What the commands of tasks share: their options, and texts streamed through a task into its results."""

from __future__ import annotations

import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bothways.cli.files import Texts
from bothways.cli.options import ModelChoice, json_option, load, model_options, truncation_option
from bothways.cli.output import to_terminal
from bothways.cli.progress import Progress
from bothways.cli.results import ENDINGS, Column, Shape, open_results
from bothways.cli.sources import check_output_name, check_target, chosen_texts, source_options
from bothways.tasks.classify import Label
from bothways.tasks.inputs import Truncation

if TYPE_CHECKING:
    from bothways.encoder import Encoder

__all__ = ["LABELS", "Job", "percent", "task_options", "window_option"]

_Row = tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """What every command of a task is given."""

    choice: ModelChoice
    texts: tuple[str, ...]
    input_name: str | None
    format: str | None
    column: str | None
    output_name: str | None
    batch_tokens: int | None
    truncation: bool
    quiet: bool
    as_json: bool

    @property
    def output(self) -> Path | None:
        """Where results go; None for standard output."""
        return None if self.output_name is None else Path(self.output_name)

    def source(self, second: str | None = None) -> Texts:
        """Open the input, with another column beside --column's where one is named, and check the output."""
        check_output_name(self.output_name)
        source = chosen_texts(self.texts, self.input_name, self.column, self.format, second)
        if self.output is not None:
            check_target(self.output, self.input_name, ENDINGS)
        return source

    def load(self) -> Encoder:
        """Load the checkpoint."""
        return load(self.choice, batch_tokens=self.batch_tokens)

    def progress(self, total: int | None) -> Progress:
        """What shows how far the work is; a bar would tear a table on the same terminal apart."""
        return Progress(total, show=not self.quiet and (self.output is not None or not to_terminal()))

    def long_texts(self, window: bool) -> Truncation:
        """How a task that can read windows takes long texts; --no-truncation wins."""
        return "window" if window and self.truncation else self.truncation

    def run(
        self,
        source: Texts,
        shape: Shape,
        task: Callable[[Encoder, Iterator[_Row], Progress], Iterable[list[Any]]],
        *,
        also: _Row = (),
        limit: Callable[[Encoder], int] | None = None,
    ) -> None:
        """Stream the source's rows through a task, and put each row back beside its results.

        Args:
            source: The input.
            shape: How results are written.
            task: Gives the results of the rows that it reads.
            also: What every row is read with besides.
            limit: The tokens that the task takes where no option says otherwise; None for the tokenizer's own limit.
        """
        encoder = self.load()
        ahead: deque[tuple[_Row, int]] = deque()

        def read() -> Iterator[_Row]:
            for row in source.rows():
                ahead.append(((*row, *also), source.done))
                yield ahead[-1][0]

        with (
            self.progress(source.total) as progress,
            open_results(self.output, shape, as_json=self.as_json) as writer,
        ):
            for results in task(encoder, read(), progress):
                row, progress.place = ahead.popleft()
                writer.write(row, results)
        self.report(source, progress, encoder, limit)

    def report(
        self,
        source: Texts,
        progress: Progress,
        encoder: Encoder,
        limit: Callable[[Encoder], int] | None = None,
    ) -> None:
        """Say what was cut, and what was written."""
        if not self.quiet:
            usual = encoder.tokenizer.max_tokens if limit is None else limit(encoder)
            progress.note_truncated(self.choice.max_length or usual)
            if not progress.texts:
                click.echo(f"note: {source.name} holds no texts", err=True)
            if self.output is not None:
                progress.note_written(self.output)
        if self.output is not None and self.as_json:
            progress.print_totals(self.output)


def task_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of every task; it receives them as one `Job` named `job`."""

    @functools.wraps(command)
    def gathered(**given: Any) -> None:
        names = [field.name for field in dataclasses.fields(Job)]
        command(job=Job(**{name: given.pop(name) for name in names}), **given)

    with_model = model_options(_with_own_options(gathered))
    output: Callable[..., Any] = click.option("--output", "output_name", metavar="FILE", help=" ".join(ENDINGS))
    return source_options(output(with_model))


def _with_own_options(command: Callable[..., None]) -> Callable[..., None]:
    options: tuple[Callable[..., Any], ...] = (
        click.option("--batch-tokens", type=click.IntRange(min=1), metavar="N", help="Tokens computed at a time."),
        truncation_option,
        click.option("--quiet", is_flag=True, help="No progress bar and no notes."),
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


window_option = click.option(
    "--window/--no-window",
    default=True,
    show_default=True,
    help="Read texts that are too long in overlapping windows, or as --truncation says.",
)


def percent(score: float) -> str:
    """A score as a table shows it."""
    return f"{score:.4f}"


def _label_lines(given: _Row, labels: list[Label]) -> Iterator[_Row]:
    for n, label in enumerate(labels):
        yield " | ".join(given) if n == 0 else "", label.label, percent(label.score)


#: The labels of texts, or of pairs where a second column is read.
LABELS = {
    pair: Shape(
        ("text", "pair") if pair else ("text",),
        "labels",
        Label,
        (Column("text"), Column("label", 24), Column("score", 10, right=True)),
        _label_lines,
    )
    for pair in (False, True)
}
