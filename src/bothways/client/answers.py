"""The call of the task `answer`: questions go with contexts, lists of them or streams; see head_tasks.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from bothways.client.call import CUT_OR_WINDOW, Call, each_result, is_stream, joined_lists
from bothways.client.replies import read_answer
from bothways.client.target import Target
from bothways.errors import InputError
from bothways.tasks import inputs
from bothways.tasks.answer import Answer, questions
from bothways.tasks.report import Progress

__all__ = ["answer"]

_NOTHING = object()


def answer(
    target: Target,
    question: str | Iterable[str],
    context: str | Iterable[str],
    *,
    top_k: int = 1,
    max_answer_tokens: int = 15,
    impossible: bool = False,
    whole_words: bool = True,
    stride: int | None = None,
    truncation: inputs.Truncation = "window",
    max_length: int | None = None,
    progress: Progress | None = None,
) -> Call[Answer, Any]:
    """Find the piece of a context that answers a question, as `Encoder.answer` does: an `Answer`.

    Lists of questions and contexts give a list, an iterator gives an iterator; one question goes with many
    contexts, and one context with many questions.

    Args:
        target: Where to.
        question: What is asked.
        context: Where the answer stands.
        top_k: How many answers to each question, the best and its `others`.
        max_answer_tokens: The most tokens of an answer.
        impossible: Also offer that there is no answer, an `Answer` whose text is empty.
        whole_words: Extend answers to whole words.
        stride: Tokens that a window repeats of the one before; None for 128, or half of a small window.
        truncation: "window" reads longer contexts in overlapping windows; True cuts them, counted in `progress` or
            else logged; False makes them an InputError.
        max_length: Tokens of a question and a window together; None for 384, or what the model takes if less.
        progress: Called after each request with the questions done, tokens computed and contexts cut so far.
    """
    options = {
        "top_k": inputs.whole_number(top_k, "top_k") or 1,
        "max_answer_tokens": inputs.whole_number(max_answer_tokens, "max_answer_tokens") or 15,
        "impossible": inputs.flag(impossible, "impossible"),
        "whole_words": inputs.flag(whole_words, "whole_words"),
        "stride": inputs.natural(stride, "stride"),
        "truncation": inputs.read_truncation(truncation),
        "max_length": inputs.whole_number(max_length, "max_length"),
    }
    streamed = is_stream(question) or is_stream(context)
    alone = isinstance(question, str) and isinstance(context, str)
    pairs = [(question, context)] if alone else _pairs(question, context)

    def body(items: list[tuple[str, str]]) -> dict[str, Any]:
        """One question or context that goes with many is sent once."""
        return {
            "question": question if isinstance(question, str) and not alone else [pair[0] for pair in items],
            "context": context if isinstance(context, str) and not alone else [pair[1] for pair in items],
        }

    return Call(
        target,
        "answer",
        pairs if streamed else list(pairs),
        streamed,
        body,
        options,
        each_result(read_answer),
        (lambda blocks: blocks[0][0]) if alone else joined_lists,
        checked=_string_pairs,
        progress=progress,
        message=CUT_OR_WINDOW,
    )


def _pairs(question: Any, context: Any) -> Any:
    """Pair questions with contexts; one alone goes with each of the other side's."""
    if not isinstance(question, AsyncIterator) and not isinstance(context, AsyncIterator):
        return questions(question, context)
    for name, side in (("question", question), ("context", context)):
        if not isinstance(side, str | list | tuple | Iterator | AsyncIterator):
            raise InputError(f"{name} is {inputs.shown(side)}; pass a string, a list of them or an iterator")
    return _paired(question, context)


async def _paired(question: Any, context: Any) -> AsyncIterator[tuple[Any, Any]]:
    if isinstance(question, str):
        async for one in _each(context):
            yield question, one
    elif isinstance(context, str):
        async for one in _each(question):
            yield one, context
    else:
        contexts, count = _each(context), 0
        async for one in _each(question):
            other = await anext(contexts, _NOTHING)
            if other is _NOTHING:
                raise InputError(f"question {count} has no context; give as many of both, or one")
            yield one, other
            count += 1
        if await anext(contexts, _NOTHING) is not _NOTHING:
            raise InputError("there are more contexts than questions; give as many of both, or one")


async def _each(side: Any) -> AsyncIterator[Any]:
    if isinstance(side, AsyncIterator):
        async for one in side:
            yield one
    else:
        for one in side:
            yield one


def _string_pairs(pairs: Iterable[Any]) -> Iterator[tuple[str, str]]:
    for n, pair in enumerate(pairs):
        for name, part in zip(("question", "context"), pair, strict=True):
            if not isinstance(part, str):
                raise InputError(f"{name} {n} is {inputs.shown(part)}; it must be a string")
        yield pair
