"""When a request is sent again, and when it is given up. Nothing here waits or sends."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from bothways.errors import BothwaysError

__all__ = ["Attempts", "Failure", "retry_after"]

#: Seconds that the first wait takes at most, and any.
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 8.0


@dataclass(frozen=True)
class Failure:
    """Why an attempt came to nothing.

    Attributes:
        kind: The error that it is for the caller.
        said: What was given, and what the server said.
        advice: What to do.
        place: Which request it was.
        again: Whether another attempt may succeed.
        after: How many seconds the server asks to wait before that.
    """

    kind: type[BothwaysError]
    said: str
    advice: str
    place: str
    again: bool = False
    after: float | None = None

    def error(self, tried: str = "") -> BothwaysError:
        """The error to raise; `tried` tells of the attempts."""
        return self.kind(f"{self.said}{tried}{self.advice and '; '}{self.advice} ({self.place})")


class Attempts:
    """One request's attempts, which share one time limit."""

    def __init__(
        self,
        timeout: float | None,
        retries: int,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Begin now; `chance` gives numbers from 0 to 1."""
        self._timeout = timeout
        self._retries = retries
        self._clock = clock
        self._chance = chance
        self._begun = clock()
        self._made = 0

    def begin(self) -> float | None:
        """Begin an attempt: how many seconds it may take, None for any number."""
        self._made += 1
        return self.seconds_left()

    def seconds_left(self) -> float | None:
        """How long the request may still take."""
        return None if self._timeout is None else self._timeout - (self._clock() - self._begun)

    def wait_after(self, failure: Failure) -> float:
        """How many seconds to wait before the next attempt; or raise the failure's error."""
        if not failure.again or self._made > self._retries:
            raise failure.error(self._told())
        wait, left = self._wait(failure.after), self.seconds_left()
        if left is not None and wait >= left:
            asked = "" if failure.after is None else f"; it asks to wait {failure.after:g} s"
            raise failure.error(f"{self._told()}{asked}, past the timeout of {self._timeout:g} s")
        return wait

    def _wait(self, after: float | None) -> float:
        """Twice as long each time, and never as long as others wait who failed at the same moment."""
        longest = min(_FIRST_WAIT * 2.0 ** min(self._made - 1, 30), _LONGEST_WAIT)
        if after is None:
            return longest * (0.5 + 0.5 * self._chance())
        return after + 0.25 * longest * self._chance()

    def _told(self) -> str:
        if self._made == 1:
            return ""
        return f" ({self._made} attempts in {self._clock() - self._begun:.1f} s)"


def retry_after(value: str | None, now: float) -> float | None:
    """Read the header Retry-After, seconds or a date, as seconds from now; None where it says nothing."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except (TypeError, ValueError, OverflowError):
            return None
    return max(seconds, 0.0) if seconds < float("inf") else None
