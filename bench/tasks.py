"""Every task of a text with a head, beside transformers' pipelines: MiniLM's and BERT-base's shape, random weights.

Each candidate is a process of its own (task_worker.py); rounds alternate. transformers has no question-answering
pipeline any more, so its side of `answer` is what that one did; `rerank` is also measured beside sentence-transformers.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from common import comparison, read_workload, save
from task_models import SHAPES, make_models
from task_worker import TASKS, Work, serve

from bothways.engines.native import level_in_force

_PAUSE = 0.3  # seconds between candidates, as torch's threads spin on for a while
_AGREEMENT = 0.97  # the share of a float32 candidate's results that must be the first one's


def works(data: Path) -> dict[str, Work]:
    """What every task is given: web documents of some 90 tokens, questions people ask, and one long context."""
    documents, questions = read_workload(data, "docs"), read_workload(data, "short")
    labels = ["food", "travel", "sports", "health", "money", "law", "music", "science", "history", "politics"]
    labels += ["weather", "games", "cars", "school", "work", "family", "art", "film", "books", "animals"]
    # transformers' pipeline reads no more than 512 tokens of a text, where `tag` reads all.
    short = [text for text in documents if len(text) < 1200]
    return {
        "classify": Work(documents[:100]),
        "tag": Work(short[:100]),
        "rerank": Work(documents[:100], query=questions[0]),
        "zero_shot": Work(documents[:5], labels=labels),
        "answer": Work([" ".join(documents[100:160])], query=questions[1]),
    }


def candidates() -> dict[str, dict[str, str]]:
    """Name -> what the worker is told, and the environment that it gets."""
    best = level_in_force()
    mine = [(best, "float32"), (best, "bfloat16"), (best, "int8")]
    mine += [("avx512", "float32")] if best == "amx" else []
    found = {
        f"bothways {level} {dtype}": {"library": "bothways", "dtype": dtype, "BOTHWAYS_LEVEL": level}
        for level, dtype in mine
    }
    for batch in (1, 32):
        found[f"transformers float32, batch {batch}"] = {"library": "transformers", "batch": str(batch)}
    return found | {"sentence-transformers float32": {"library": "sentence-transformers", "batch": "32"}}


@contextmanager
def worker(told: dict[str, str], models: Path, threads: int) -> Iterator[Any]:
    """One candidate's process; what comes out is the near end of its pipe."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    before = dict(os.environ)
    os.environ.update({"OMP_NUM_THREADS": str(threads)} | {k: v for k, v in told.items() if k.isupper()})
    process = context.Process(target=serve, args=(far, told, models, threads), daemon=True)
    process.start()
    os.environ.clear()
    os.environ.update(before)
    try:
        yield near
    finally:
        process.terminate()
        process.join()


def ask(near: Any, task: str, work: Work) -> tuple[float, list[Any]]:
    """One round of a task: the seconds it took and its results."""
    near.send((task, work))
    answer = near.recv()
    if isinstance(answer, str):
        sys.exit(f"error: {answer}")
    seconds, results = answer
    return seconds, results


def measure(near: dict[str, Any], task: str, work: Work, rounds: int) -> dict[str, Any]:
    """Seconds of every candidate, and how many times as fast each of ours is as each other, within rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in near}
    first: list[Any] = []
    for number in range(rounds + 1):
        for name, pipe in near.items():
            taken, results = ask(pipe, task, work)
            if number:
                seconds[name].append(taken)
            else:
                first = first or results
                check_agreement(name, task, results, first)
            time.sleep(_PAUSE)
    mine = [name for name in near if name.startswith("bothways")]
    ratios = {
        f"{own} / {other}": round(median(b / a for a, b in zip(seconds[own], seconds[other], strict=True)), 2)
        for own in mine
        for other in near
        if other not in mine
    }
    return {
        "rounds": rounds,
        "ms": {name: round(1000 * median(taken), 2) for name, taken in seconds.items()},
        "ratios": ratios,
    }


def check_agreement(name: str, task: str, results: list[Any], first: list[Any]) -> None:
    """Stop where a float32 candidate's results are others than the first one's: speeds would compare nothing."""
    same = sum(_alike(a, b) for a, b in zip(results, first, strict=False)) / max(len(results), len(first), 1)
    if "float32" in name and same < _AGREEMENT:
        sys.exit(f"error: {name} disagrees on {task}: {same:.0%} of its results are the first candidate's")


def _alike(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return all(x == y if isinstance(x, str | int) else abs(x - y) < 2e-3 for x, y in zip(a, b, strict=True))


def main() -> None:
    parser = comparison(__doc__ or "")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    options = parser.parse_args()
    wanted = {name: told for name, told in candidates().items() if options.only is None or name in options.only}
    if not wanted:
        sys.exit(f"error: --only names no candidate; there are {', '.join(candidates())}")
    given = works(options.data)
    # What this run leaves out stays as it was measured before.
    earlier = Path(__file__).parent / "results" / "tasks.json"
    found: dict[str, Any] = json.loads(earlier.read_text())["shapes"] if earlier.exists() else {}
    for shape in options.shapes:
        with tempfile.TemporaryDirectory() as folder:
            make_models(Path(folder), SHAPES[shape])
            found.setdefault(shape, {})
            for task in options.tasks:
                result = measure_task(task, given[task], wanted, Path(folder), options)
                print(
                    f"{shape} {task}",
                    *(f"{name:68} {ratio:6.2f}" for name, ratio in result["ratios"].items()),
                    sep="\n",
                )
                found[shape][task] = result
    save("tasks", {"threads": options.threads, "shapes": found}, options)


def measure_task(
    task: str, work: Work, wanted: dict[str, dict[str, str]], models: Path, options: Any
) -> dict[str, Any]:
    """Measure one task with all candidates that have it."""
    able = {
        name: told
        for name, told in wanted.items()
        if told["library"] != "sentence-transformers" or task == "rerank"
        # One question in one long context is one batch whatever its size.
        if not (task == "answer" and told.get("batch") == "32")
    }
    with multiple(able, models, options.threads) as near:
        return measure(near, task, work, options.rounds)


@contextmanager
def multiple(wanted: dict[str, dict[str, str]], models: Path, threads: int) -> Iterator[dict[str, Any]]:
    """All candidates' processes at once."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(worker(told, models, threads)) for name, told in wanted.items()}


if __name__ == "__main__":
    main()
