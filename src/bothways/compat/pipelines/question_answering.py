"""The pipeline "question-answering", which transformers had until 5.2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import tee
from typing import Any

from bothways.compat.pipelines.base import Pipeline
from bothways.tasks.answer import MAX_TOKENS, Answer
from bothways.tasks.inputs import shown

__all__ = ["QuestionAnsweringPipeline"]


class QuestionAnsweringPipeline(Pipeline):
    """Questions to pieces of their contexts.

    Called with `question` and `context`, strings or lists, or with dicts of both. A question with one answer has a
    dict, one with several a list of dicts. `doc_stride` are the tokens that windows of a long context share.
    """

    task = "question-answering"

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Answer a question, a list of questions, or a stream of dicts."""
        names = ("X", "data", "question", "context")
        asked = {name: options.pop(name) for name in names if name in options}
        if isinstance(options.get("topk"), int):
            options.setdefault("top_k", options.pop("topk"))
        inputs = _read_inputs(args, asked)
        return super().__call__(inputs[0] if isinstance(inputs, list) and len(inputs) == 1 else inputs, **options)

    def _results(
        self,
        inputs: Iterator[Any],
        *,
        top_k: int | None = None,
        doc_stride: int | None = None,
        max_answer_len: int | None = None,
        max_seq_len: int | None = None,
        max_question_len: int | None = None,
        handle_impossible_answer: bool | None = None,
        align_to_words: bool | None = None,
        padding: Any = None,
    ) -> Iterator[Any]:
        for name, value in (("top_k", top_k), ("max_answer_len", max_answer_len)):
            if value is not None and value < 1:
                raise ValueError(f"{name} parameter should be >= 1 (got {value})")
        own = self.model.max_length or min(self.tokenizer.max_tokens, MAX_TOKENS)
        limit = own if max_seq_len is None else max_seq_len
        if doc_stride is not None and doc_stride > limit:
            raise ValueError(f"`doc_stride` ({doc_stride}) is larger than `max_seq_len` ({limit})")
        questions, contexts = tee(map(_read_question, inputs))
        for answer in self.model.answer(
            (question for question, _ in questions),
            (context for _, context in contexts),
            top_k=top_k or 1,
            max_answer_tokens=max_answer_len or 15,
            impossible=bool(handle_impossible_answer),
            whole_words=align_to_words is None or bool(align_to_words),
            stride=doc_stride,
            max_length=min(limit, self.model.spec.max_tokens),
        ):
            answers = [_result(one) for one in (answer, *answer.others)]
            yield answers[0] if len(answers) == 1 else answers


def _read_inputs(args: tuple[Any, ...], asked: Mapping[str, Any]) -> Any:
    """What the questions are, in whatever way they are given: a list, or a stream of dicts."""
    if len(args) == 2 and all(isinstance(arg, str) for arg in args):
        return [{"question": args[0], "context": args[1]}]
    if args:
        given: Any = args[0] if len(args) == 1 else list(args)
    elif "X" in asked or "data" in asked:
        given = asked.get("X", asked.get("data"))
    elif "question" in asked and "context" in asked:
        return _pairs(asked["question"], asked["context"])
    else:
        raise ValueError(f"Unknown arguments {dict(asked)}; pass question and context, or a dict of both")
    if isinstance(given, Mapping):
        return [given]
    return list(given) if isinstance(given, tuple) else given


def _pairs(question: Any, context: Any) -> list[dict[str, Any]]:
    if isinstance(question, list) and isinstance(context, str):
        context = [context] * len(question)
    elif isinstance(question, str) and isinstance(context, str):
        question, context = [question], [context]
    elif not (isinstance(question, list) and isinstance(context, list)):
        raise ValueError("Arguments can't be understood; question and context are strings, or lists of them")
    if len(question) != len(context):
        raise ValueError("Questions and contexts don't have the same lengths")
    return [{"question": q, "context": c} for q, c in zip(question, context, strict=True)]


def _read_question(given: Any) -> tuple[str, str]:
    if not isinstance(given, Mapping):
        raise ValueError(f"{shown(given)} is no question; send a dictionary with keys question and context")
    parts = []
    for name in ("question", "context"):
        if name not in given:
            raise KeyError("You need to provide a dictionary with keys {question:..., context:...}")
        if given[name] is None:
            raise ValueError(f"`{name}` cannot be None")
        if not given[name]:
            raise ValueError(f"`{name}` cannot be empty")
        parts.append(given[name])
    return parts[0], parts[1]


def _result(answer: Answer) -> dict[str, Any]:
    return {"score": answer.score, "start": answer.start, "end": answer.end, "answer": answer.text}
