"""What is too much: of one request, and of all that are under way together."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sized
from typing import Any

from bothways.server.calls import Call
from bothways.server.metrics import Metrics
from bothways.server.problems import Problem
from bothways.server.settings import Settings
from bothways.tasks.zero_shot import TEMPLATE

__all__ = ["Limits", "label_count"]

# The most answers to a question: more would only cost time, as a context has hardly so many that differ.
_MOST_ANSWERS = 1000

# The longest time, in seconds, after which a request that is turned away is told to come again.
_LONGEST_WAIT = 60


class Limits:
    """The settings' limits, and what is under way now.

    Args:
        settings: Where the limits stand.
        metrics: Where what is under way is shown.
        wait: Tells in how many seconds what waits now is computed.

    Attributes:
        requests: How many are under way.
        queued_tokens: How many tokens they have.
        held_bytes: Bytes of the bodies and answers that are held now.
    """

    def __init__(self, settings: Settings, metrics: Metrics, wait: Callable[[], float]) -> None:
        self._settings = settings
        self._metrics = metrics
        self._wait = wait
        self.requests = 0
        self.queued_tokens = 0
        self.held_bytes = 0

    def _add(self, *, requests: int = 0, tokens: int = 0) -> None:
        """Count what is under way, and show it at once, as another worker may be asked for it."""
        self.requests += requests
        self.queued_tokens += tokens
        self._metrics.queue_size.set(self.requests)
        self._metrics.queued_tokens.set(self.queued_tokens)

    def check_room(self) -> None:
        """Turn a request away where too many are under way."""
        most = self._settings.max_queue_requests
        if self.requests >= most:
            raise self._overloaded("max_queue_requests", f"{most} requests are under way, and no more are let in")

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """Let a request in whose body is there, or turn it away; it is under way until its answer is made."""
        self.check_room()
        self._add(requests=1)
        try:
            yield
        finally:
            self._add(requests=-1)

    def check_options(self, task: str, options: dict[str, Any]) -> None:
        """Refuse options of a task that have too much text, or too many parts."""
        for name, value in options.items():
            parts = value if isinstance(value, tuple | list) else (value,)
            strings = [part for part in parts if isinstance(part, str)]
            self.check_items(max(len(parts), label_count(value) if name == "labels" else 0))
            self._check_length(f"`{name}`", sum(map(len, strings)))
        if task == "zero_shot":  # each label makes a sentence, and they are all made at once
            labels, template = options["labels"], options.get("template", TEMPLATE)
            own = len(labels) if isinstance(labels, str) else sum(map(len, labels))
            self._check_length("the labels' sentences together", label_count(labels) * len(template) + own)
        if options.get("top_k") is not None and task == "answer":
            _check_answers(options["top_k"])

    def check_texts(self, texts: list[Any]) -> int:
        """Refuse a request with too many texts, or one that is too long; their characters.

        A pair counts together, and so do the words of one text; token ids don't count.
        """
        self.check_items(len(texts))
        characters = 0
        for number, text in enumerate(texts):
            if text and isinstance(text[0], int):
                continue
            size = len(text) if isinstance(text, str) else sum(len(part) for part in text if isinstance(part, str))
            if not text and self._settings.refuse_empty:
                raise Problem(400, f"text {number} is empty; leave it out", "empty_input")
            self._check_length(f"text {number}", size)
            characters += size
        return characters

    def _check_length(self, what: str, size: int) -> None:
        most = self._settings.max_text_chars
        if size > most:
            raise Problem(
                413,
                f"{what} has {size} characters, the limit is {most}; send less of it (server option --max-text-chars)",
                "max_text_chars",
            )

    def check_answer(self, size: int) -> None:
        """Refuse a request whose answer would have so many bytes, where they are too many."""
        most = self._settings.max_answer_bytes
        if size > most:
            raise Problem(
                413,
                f"the answer would have about {size} bytes, the limit is {most}; ask for less at once "
                "(server option --max-answer-bytes)",
                "max_answer_bytes",
            )

    def hold(self, call: Call, size: int, *, refuse: bool = True) -> None:
        """Count bytes that are held for a request, or turn it away where there are too many."""
        most = self._settings.max_queue_bytes
        if refuse and self.held_bytes + size > most and self.held_bytes > call.held:
            what = f"requests and answers of {self.held_bytes} bytes are under way, the limit is {most}"
            raise self._overloaded("max_queue_bytes", what)
        self.held_bytes += size
        call.held += size

    def reserve(self, call: Call, tokens: int) -> None:
        """Count tokens of a request that are to be computed, or refuse it where it or all together have too many."""
        self.check_tokens(call.reserved + tokens)
        others, most = self.queued_tokens - call.reserved, self._settings.max_queue_tokens
        if others and others + call.reserved + tokens > most:
            raise self._overloaded(
                "max_queue_tokens",
                f"{others} tokens are under way and this request has {call.reserved + tokens} or more, the limit is "
                f"{most}",
            )
        self._add(tokens=tokens)
        call.reserved += tokens

    def let_go(self, call: Call) -> None:
        """Count no more what was held and reserved for a request."""
        self.held_bytes -= call.held
        self._add(tokens=-call.reserved)
        call.held = call.reserved = 0

    def check_items(self, count: int) -> None:
        """Refuse a request of so many texts, where they are too many."""
        most = self._settings.max_items
        if count > most:
            raise Problem(
                413,
                f"the request has {count} texts, the limit is {most}; send fewer at once (server option --max-items)",
                "max_items",
            )

    def check_tokens(self, tokens: int) -> None:
        """Refuse a request of which so many tokens are known, where they are too many."""
        flags = {"--max-request-tokens": "max_request_tokens", "--max-queue-tokens": "max_queue_tokens"}
        flag, name = min(flags.items(), key=lambda item: getattr(self._settings, item[1]))
        most = getattr(self._settings, name)
        if tokens > most:
            raise Problem(
                413,
                f"the request has {tokens} tokens or more, the limit is {most}; send fewer texts at once "
                f"(server option {flag})",
                name,
            )

    def _overloaded(self, limit: str, what: str) -> Problem:
        flag = "--" + limit.replace("_", "-")
        wait = min(max(1, math.ceil(self._wait())), _LONGEST_WAIT)
        return Problem(
            429,
            f"{what}; send it again in {wait} s (server option {flag})",
            limit,
            headers={"retry-after": str(wait)},
        )


def _check_answers(count: int) -> None:
    if count > _MOST_ANSWERS:
        message = f"top_k is {count}, and the limit is {_MOST_ANSWERS}; ask for fewer answers"
        raise Problem(413, message, "max_answers", param="top_k")


def label_count(labels: str | Sized) -> int:
    """How many labels there are; those of a string stand with commas between them."""
    return labels.count(",") + 1 if isinstance(labels, str) else len(labels)
