"""How far long work has come: counts for the notes at the end, and a bar on standard error where it is a terminal."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

__all__ = ["Progress"]


class Progress:
    """Counts what an `Encoder` reports after every batch, and shows it.

    Attributes:
        texts: Texts done so far.
        tokens: Tokens computed so far.
        truncated: Texts that were cut so far.
        place: How much of the input the texts written so far came from, in the input's own measure.
    """

    def __init__(self, total: int | None, *, show: bool) -> None:
        self.texts = self.tokens = self.truncated = self.place = 0
        self._total = total
        self._show = show and sys.stderr is not None and sys.stderr.isatty()
        self._started = time.perf_counter()
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._closing = ExitStack()

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.perf_counter() - self._started

    @property
    def tokens_per_second(self) -> float:
        """The mean rate since the start."""
        return self.tokens / max(self.seconds, 1e-9)

    def report(self, texts: int, tokens: int, truncated: int) -> None:
        """Take the totals so far, as `Encoder.embed(progress=...)` gives them."""
        self.texts, self.tokens, self.truncated = texts, tokens, truncated
        if self._bar is not None and self._task is not None:
            rate = f"{texts:,} texts  {self.tokens_per_second:,.0f} tokens/s"
            self._bar.update(self._task, completed=self.place, rate=rate)

    def note_truncated(self, limit: int, advice: str = "") -> None:
        """Say on standard error how many texts were cut, if any, and what to do about it."""
        if self.truncated:
            texts = "text" if self.texts == 1 else "texts"
            were = "was" if self.truncated == 1 else "were"
            note = f"{self.truncated:,} of {self.texts:,} {texts} {were} longer than {limit} tokens and {were} cut"
            click.echo(f"note: {note}{advice and '; '}{advice}", err=True)

    def note_written(self, output: Path) -> None:
        """Say on standard error what was done, how fast, and where it is."""
        click.echo(
            f"{self.texts:,} texts, {self.tokens:,} tokens in {self.seconds:.1f} s "
            f"({self.tokens_per_second:,.0f} tokens/s), written to {output}",
            err=True,
        )

    def print_totals(self, output: Path) -> None:
        """Print the same as JSON."""
        totals = {
            "output": str(output),
            "texts": self.texts,
            "tokens": self.tokens,
            "truncated": self.truncated,
            "seconds": round(self.seconds, 3),
        }
        click.echo(json.dumps(totals))

    def __enter__(self) -> Progress:
        self._started = time.perf_counter()
        if self._show:
            self._open_bar()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing.close()

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        timing = TimeElapsedColumn() if self._total is None else TimeRemainingColumn(compact=True)
        columns = (BarColumn(), TextColumn("{task.fields[rate]}"), timing)
        bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._bar = self._closing.enter_context(bar)
        self._task = bar.add_task("", total=self._total, rate="")
