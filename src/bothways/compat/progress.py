"""Tells callers how far long work has come, as a bar on standard error, and in the end what was cut."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

__all__ = ["Watch"]

_LOGGER = "bothways"


class Watch:
    """A `progress` of `Encoder`'s methods, and the context that it is used in.

    A bar is shown where it is asked for, or where the log shows what is as unimportant as that. Texts that were cut
    are counted, and logged at the end.
    """

    def __init__(self, total: int, limit: int, *, show: bool | None, advice: str = "") -> None:
        """Begin.

        Args:
            total: The number of texts.
            limit: The tokens that are read of a text.
            show: Whether there is a bar; None leaves it to the level of the log.
            advice: What to do about texts that were cut.
        """
        level = logging.getLogger(_LOGGER).getEffectiveLevel()
        self._show = level in (logging.INFO, logging.DEBUG) if show is None else bool(show)
        self._total, self._limit, self._advice = total, limit, advice
        self._truncated = 0
        self._bar: Bar | None = None

    def __call__(self, texts: int, tokens: int, truncated: int) -> None:
        """Take the totals so far."""
        self._truncated = truncated
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=texts)

    def __enter__(self) -> Watch:
        """Show the bar, if there is one."""
        if self._show:
            from rich.console import Console
            from rich.progress import Progress as Bar

            self._bar = Bar(console=Console(stderr=True))
            self._bar.add_task("Texts", total=self._total)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away and log what was cut."""
        if self._bar is not None:
            self._bar.stop()
        if self._truncated and error is None:
            logging.getLogger(_LOGGER).warning(
                "%d of %d texts were longer than %d tokens and were cut%s",
                self._truncated,
                self._total,
                self._limit,
                self._advice,
            )
