"""One candidate of bench/tasks.py at work, in a process of its own: a task's texts in, seconds and results out.

Results are tuples of strings, whole numbers and scores that are the same for every library.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["TASKS", "Work", "serve"]

TASKS = ("classify", "tag", "rerank", "zero_shot", "answer")


@dataclass(frozen=True)
class Work:
    """What a task is given."""

    texts: list[str]
    query: str = ""
    labels: list[str] = field(default_factory=list)


Run = Callable[[Work], list[tuple[Any, ...]]]


def serve(pipe: Any, told: dict[str, str], models: Path, threads: int) -> None:
    """Answer (task, work) with (seconds, results), or with what went wrong, until the pipe ends."""
    loaded: dict[str, Run] = {}
    libraries = {"bothways": bothways, "transformers": pipelines, "sentence-transformers": cross_encoder}
    while True:
        try:
            task, work = pipe.recv()
        except EOFError:
            return
        try:
            if task not in loaded:
                loaded[task] = libraries[told["library"]](task, str(models / task), told, threads)
            begin = time.perf_counter()
            results = loaded[task](work)
            pipe.send((time.perf_counter() - begin, results))
        except Exception as error:
            pipe.send(f"{told['library']} fails at {task}: {error!r}")


def bothways(task: str, model: str, told: dict[str, str], threads: int) -> Run:
    """The task's method, as users call it."""
    from bothways import Encoder

    encoder = Encoder.from_pretrained(model, dtype=told["dtype"], threads=threads)
    runs: dict[str, Run] = {
        "classify": lambda work: [(best.label, best.score) for (best,) in encoder.classify(work.texts)],
        "tag": lambda work: [(s.label, s.start, s.end, s.score) for spans in encoder.tag(work.texts) for s in spans],
        "rerank": lambda work: [(r.score,) for r in encoder.rerank(work.query, work.texts)],
        "zero_shot": lambda work: [
            (label.score,) for labels in encoder.zero_shot(work.texts, work.labels) for label in labels
        ],
        "answer": lambda work: [
            (answer.start, answer.end, answer.score)
            for answer in [encoder.answer(work.query, work.texts[0], whole_words=False)]
        ],
    }
    return runs[task]


def pipelines(task: str, model: str, told: dict[str, str], threads: int) -> Run:
    """transformers' pipeline of the task, as users call it, with texts cut where it would crash."""
    import torch
    from transformers import pipeline

    torch.set_num_threads(threads)
    batch = int(told["batch"])
    if task == "answer":
        return _former_pipeline(model)
    name = {"tag": "token-classification", "zero_shot": "zero-shot-classification"}.get(task, "text-classification")
    how: dict[str, Any] = {"aggregation_strategy": "simple"} if task == "tag" else {}
    pipe = pipeline(name, model=model, device="cpu", batch_size=batch, **how)
    pipe.tokenizer.model_max_length = 512
    runs: dict[str, Run] = {
        "classify": lambda work: [(r["label"], r["score"]) for r in pipe(work.texts, truncation=True)],
        "tag": lambda work: [
            (s["entity_group"], s["start"], s["end"], float(s["score"])) for spans in pipe(work.texts) for s in spans
        ],
        "rerank": lambda work: sorted(
            (
                (r["score"],)
                for r in pipe([{"text": work.query, "text_pair": text} for text in work.texts], truncation=True)
            ),
            reverse=True,
        ),
        "zero_shot": lambda work: [(score,) for r in pipe(work.texts, work.labels) for score in r["scores"]],
    }
    return runs[task]


def _former_pipeline(model: str) -> Run:
    """What transformers' question-answering pipeline did up to 5.2: windows of 384 tokens, one after another."""
    import torch
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    tokenizer, network = AutoTokenizer.from_pretrained(model), AutoModelForQuestionAnswering.from_pretrained(model)
    network.eval()

    @torch.inference_mode()
    def run(work: Work) -> list[tuple[Any, ...]]:
        found: dict[str, list[Any]] = {}
        windows = tokenizer(
            work.query,
            work.texts[0],
            truncation="only_second",
            max_length=384,
            stride=128,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        for n, ids in enumerate(windows["input_ids"]):
            types = torch.tensor([windows["token_type_ids"][n]])
            out = network(input_ids=torch.tensor([ids]), token_type_ids=types)
            context = torch.tensor([part == 1 for part in windows.sequence_ids(n)])
            allowed = context.clone()
            allowed[0] = True
            starts, ends = (
                logits[0].masked_fill(~allowed, -10000).softmax(-1) * context
                for logits in (out.start_logits, out.end_logits)
            )
            best = (starts[:, None] * ends).triu().tril(14).flatten()
            top = int(best.argmax())
            first, last = windows["offset_mapping"][n][top // len(ids)], windows["offset_mapping"][n][top % len(ids)]
            piece = work.texts[0][first[0] : last[1]].lower()
            score = float(best[top])
            if piece in found:
                found[piece][2] += score
            else:
                found[piece] = [first[0], last[1], score]
        return [tuple(max(found.values(), key=lambda each: each[2]))]

    return run


def cross_encoder(task: str, model: str, told: dict[str, str], threads: int) -> Run:
    """sentence-transformers' CrossEncoder."""
    import torch
    from sentence_transformers import CrossEncoder

    torch.set_num_threads(threads)
    encoder = CrossEncoder(model, device="cpu", max_length=512)
    return lambda work: [
        (float(r["score"]),) for r in encoder.rank(work.query, work.texts, batch_size=int(told["batch"]))
    ]
