"""The task `answer`: the piece of a context that answers a question.

As in transformers' question-answering pipeline, whose last version is that of 5.2. S tokens of a window, n of them the
context's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypedDict, cast, overload

import numpy as np
import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.errors import InputError
from bothways.heads import softmax
from bothways.tasks.inputs import Truncation, shown
from bothways.tasks.plan import Computed, Plan
from bothways.tasks.report import Progress
from bothways.tasks.scores import Limits, Scorer, one_by_one
from bothways.tasks.spans import trimmed
from bothways.tokens import Sequence

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "MAX_TOKENS",
    "Answer",
    "AnswerArguments", "AnswerOptions",
    "Question",
    "answer",
    "answer_each",
    "answering",
    "answers_of",
    "best_pieces",
    "questions",
]

#: A question and the context that holds its answer.
Question: TypeAlias = tuple[str, str]

#: Tokens of a question and a window of its context, where nothing else is said.
MAX_TOKENS = 384

_ADVICE = 'truncation="window" to read all of them, or '

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Answer:
    """A piece of a context, `context[start:end]` in code points; with no text where the context holds no answer.

    `others` are the next best, where more than one answer was asked for.
    """

    text: str
    score: float
    start: int
    end: int
    others: tuple[Answer, ...] = ()


@dataclass(frozen=True)
class AnswerOptions:
    """One call's options, checked.

    Attributes:
        top_k: How many answers.
        longest: The most tokens of an answer.
        impossible: Also offer that there is no answer.
        whole_words: Extend answers to whole words.
        window: Read long contexts in windows rather than cut them.
        stride: Tokens that a window repeats of the one before; None for 128, or half of a small window.
    """

    top_k: int
    longest: int
    impossible: bool
    whole_words: bool
    window: bool
    stride: int | None


def answer(scorer: Scorer, limits: Limits, options: AnswerOptions) -> Plan[Question, Answer]:
    """Plan to give every question its best answer, the next best with it; one without text where none is found."""
    tokenizer = scorer.tokenizer

    def tokenize(pairs: list[Question], first: int) -> list[list[Sequence]]:
        return one_by_one(cut, pairs, first)

    def cut(pair: Question, number: int) -> list[Sequence]:
        if options.window:
            return tokenizer.windows(pair, max_length=limits.max_tokens, stride=options.stride, number=number)
        if not limits.truncation:
            return tokenizer.tokenize([pair], max_length=limits.max_tokens, truncation=False, first=number)
        # The first window: a question is never cut.
        first, *rest = tokenizer.windows(pair, max_length=limits.max_tokens, number=number)
        return [replace(first, truncated=sum(int((window.parts == 1).sum()) for window in rest))]

    def finish(pair: Computed[Question]) -> Answer:
        windows = zip(pair.sequences, pair.rows, strict=True)
        best, *others = answers_of(pair.text[1], windows, options) or [Answer("", 0.0, 0, 0)]
        return replace(best, others=tuple(others))

    return scorer.plan(tokenize, finish, limits.max_tokens, advice=_ADVICE)


def answer_each(question: Any, context: Any, run: Callable[[Iterable[Question]], Iterator[Answer]]) -> Any:
    """Answer one question, a list of them or a stream: an `Answer`, a list or an iterator of them."""
    if isinstance(question, str) and isinstance(context, str):
        return next(run([(question, context)]))
    answers = run(questions(question, context))
    return answers if isinstance(question, Iterator) or isinstance(context, Iterator) else list(answers)


def answers_of(context: str, windows: Iterable[tuple[Sequence, FloatArray]], options: AnswerOptions) -> list[Answer]:
    """Find the best answers in a context's windows and their scores (S, 2).

    A piece's score is the product of its first token's share of all starts and its last one's of all ends, each among
    the window's context and the first special token. Scores of pieces that are alike but for case, and for space at
    their ends, add up, in a window and among windows. That there is no answer scores what the first special token does,
    the least of all windows.
    """
    found: dict[str, Answer] = {}
    none = np.inf
    for window, logits in windows:
        inside = np.flatnonzero(window.parts == 1)  # (n,)
        starts, ends = (softmax(logits[np.r_[0, inside], side]) for side in (0, 1))  # (1 + n,)
        none = min(none, float(starts[0] * ends[0]))
        offsets, words = window.offsets[inside], window.words[inside]
        # Some of the best come together when extended to whole words.
        count = 2 * options.top_k + 10 if options.whole_words else options.top_k
        for first, last, score in best_pieces(starts[1:], ends[1:], options.longest, count):
            if options.whole_words:
                first, last = _whole_words(words, first, last)
            start, end = trimmed(context, int(offsets[first, 0]), int(offsets[last, 1]))
            text = context[start:end]
            if not text:  # a tokenizer may have tokens for space alone
                continue
            before = found.get(text.lower())
            found[text.lower()] = Answer(text, score, start, end) if before is None else _sum(before, score)
    answers = [*found.values(), *([Answer("", none, 0, 0)] if options.impossible else [])]
    return sorted(answers, key=lambda answer: -answer.score)[: options.top_k]


def _sum(answer: Answer, score: float) -> Answer:
    return replace(answer, score=answer.score + score)


def best_pieces(starts: _Floats, ends: _Floats, longest: int, count: int) -> list[tuple[int, int, float]]:
    """Find the `count` best pieces: first token, last token, product of starts (n,) and ends (n,).

    The best come first; equal ones in the order of their lengths, then of their starts.
    """
    tokens = len(starts)
    lengths = range(min(longest, tokens))
    products = np.concatenate([starts[: tokens - more] * ends[more:] for more in lengths]) if tokens else np.zeros(0)
    firsts = np.concatenate([np.arange(tokens - more) for more in lengths]) if tokens else np.zeros(0, np.intp)
    extra = np.repeat(np.arange(len(lengths)), [tokens - more for more in lengths])
    if count < len(products):  # only those that are as good as the last one that is wanted are put in order
        among = np.flatnonzero(products >= np.partition(products, -count)[-count])
    else:
        among = np.arange(len(products))
    best = among[np.argsort(-products[among], kind="stable")][:count]
    return [(int(firsts[n]), int(firsts[n] + extra[n]), float(products[n])) for n in best]


def _whole_words(words: npt.NDArray[np.int64], first: int, last: int) -> tuple[int, int]:
    """Extend a piece to the words, as the tokenizer splits them, that its ends are in."""
    if words[first] < 0 or words[last] < 0:
        return first, last
    return int(np.flatnonzero(words == words[first])[0]), int(np.flatnonzero(words == words[last])[-1])


def questions(question: Any, context: Any) -> Iterator[Question]:
    """Pair questions with contexts; one alone goes with each of the other side's.

    Raises:
        InputError: One is no string, or lists are of different lengths; here or later while iterating.
    """
    sides = [_side(question, "question"), _side(context, "context")]
    if all(isinstance(side, Collection) and not isinstance(side, str) for side in sides):
        counts = [len(side) for side in sides]
        if counts[0] != counts[1]:
            raise InputError(f"there are {counts[0]} questions and {counts[1]} contexts; give as many of both, or one")
    return _paired(sides[0], sides[1])


def _side(given: Any, name: str) -> Any:
    if not isinstance(given, str | list | tuple | Iterator):
        raise InputError(f"{name} is {shown(given)}; pass a string, a list of them or an iterator")
    return given


def _paired(questions: Any, contexts: Any) -> Iterator[Question]:
    if isinstance(questions, str):
        pairs: Iterable[Any] = ((questions, context) for context in contexts)
    elif isinstance(contexts, str):
        pairs = ((question, contexts) for question in questions)
    else:
        pairs = _in_step(iter(questions), iter(contexts))
    for n, pair in enumerate(pairs):
        for name, part in zip(("question", "context"), pair, strict=True):
            if not isinstance(part, str):
                raise InputError(f"{name} {n} is {shown(part)}; it must be a string")
        yield pair


def _in_step(questions: Iterator[Any], contexts: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
    nothing = object()
    for n, question in enumerate(questions):
        context = next(contexts, nothing)
        if context is nothing:
            raise InputError(f"question {n} has no context; give as many of both, or one")
        yield question, context
    if next(contexts, nothing) is not nothing:
        raise InputError("there are more contexts than questions; give as many of both, or one")


class AnswerArguments(TypedDict, total=False):
    """What `Encoder.answer` takes besides questions and contexts."""

    top_k: int
    max_answer_tokens: int
    impossible: bool
    whole_words: bool
    stride: int | None
    truncation: Truncation
    max_length: int | None
    progress: Progress | None


_Many: TypeAlias = str | Collection[str]


class _Answering(Protocol):
    """What a caller of `Encoder.answer` sees."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a string is a collection of strings too
        self, question: str, context: str, **how: Unpack[AnswerArguments]
    ) -> Answer: ...
    @overload
    def __call__(self, question: _Many, context: _Many, **how: Unpack[AnswerArguments]) -> list[Answer]: ...
    @overload
    def __call__(
        self, question: Iterator[str], context: str | Iterable[str], **how: Unpack[AnswerArguments]
    ) -> Iterator[Answer]: ...
    @overload
    def __call__(self, question: _Many, context: Iterator[str], **how: Unpack[AnswerArguments]) -> Iterator[Answer]: ...


class _Method(Protocol):
    def __get__(self, instance: object, owner: type | None = None) -> _Answering: ...


def answering(method: Any) -> _Method:
    """Tell type checkers what comes out of `Encoder.answer`; the method itself stays as it is."""
    return cast("_Method", method)
