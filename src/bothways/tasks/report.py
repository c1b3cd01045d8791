"""Tells a caller how far a task has come, and that texts were cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bothways.tokens import Sequence

__all__ = ["Progress", "Report"]

#: Called after each batch with the texts done, tokens computed and texts truncated so far.
Progress = Callable[[int, int, int], None]


class Report:
    """Counts texts and tokens; calls `progress` after every batch or, without one, logs in the end what was cut."""

    def __init__(self, progress: Progress | None, max_tokens: int, advice: str = "") -> None:
        """Begin at nothing; `advice` is what else to do about long texts than to refuse them."""
        self._progress = progress
        self._max_tokens = max_tokens
        self._advice = advice
        self._texts = self._tokens = self._truncated = 0

    def add(self, texts: int, truncated: int, sequences: Iterable[Sequence]) -> None:
        """Count a batch: texts done, how many of them were cut, and what was computed."""
        self._texts += texts
        self._truncated += truncated
        self._tokens += sum(len(sequence) for sequence in sequences)
        if self._progress is not None:
            self._progress(self._texts, self._tokens, self._truncated)

    def close(self) -> None:
        """Say what was cut where nobody was told meanwhile."""
        if not self._truncated or self._progress is not None:
            return
        import logging

        logging.getLogger("bothways").warning(
            "%d of %d texts were longer than %d tokens and were cut; pass %struncation=False to make this an error",
            self._truncated,
            self._texts,
            self._max_tokens,
            self._advice,
        )
