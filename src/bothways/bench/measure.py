"""Measures candidates in alternating rounds.

Every candidate embeds the same texts once a round, so that a machine whose speed wanders treats all alike. Figures are
medians; a ratio is the median of the ratios within rounds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np

from bothways.arrays import FloatArray
from bothways.bench.candidates import Candidate, environment
from bothways.errors import BothwaysError, InputError

__all__ = ["Figures", "Process", "Runner", "measure", "processes", "ratios"]

#: The smallest cosine to the first candidate's embedding that a text's may have, by dtype. Results that differ more are
#: not worth comparing; None only reports.
_AGREEMENT: dict[str, float | None] = {"float32": 0.9999, "bfloat16": 0.995, "int8": None}

_PAUSE = 0.2  # seconds between candidates, as some libraries' threads spin on for a while
_WARM_UPS = 5  # single texts of a length before those that count
_SETTLING = 0.3  # seconds of single texts before a round's: the system has to put woken threads on cores of their own


class Runner(Protocol):
    """A candidate at work."""

    load_seconds: float
    peak_mib: float | None

    def embed(self, texts: list[str]) -> tuple[float, FloatArray]:
        """Embed all texts; return the seconds it took, and (B, H)."""
        ...

    def alone(self, texts: list[str]) -> list[float]:
        """Embed the texts one by one; return each one's seconds."""
        ...


@dataclass
class Figures:
    """What was measured of one candidate.

    Attributes:
        seconds: Of every round.
        cosine: The smallest cosine of an embedding to the first candidate's.
        latency: For every length in tokens, the seconds of single texts.
    """

    candidate: Candidate
    load_seconds: float = 0.0
    peak_mib: float | None = None
    seconds: list[float] = field(default_factory=list)
    cosine: float = 1.0
    latency: dict[int, list[float]] = field(default_factory=dict)


class Process:
    """A candidate in a process of its own (worker.py)."""

    def __init__(self, candidate: Candidate, model: str, threads: int, folder: Path) -> None:
        """Start and load it; raises BothwaysError with the last of what it printed, if it fails."""
        self._name = candidate.name
        self._folder = folder
        self._errors = (folder / "errors").open("w+")
        self.peak_mib: float | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bothways.bench.worker"],
            env=environment(candidate, threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        wanted = {"module": candidate.module, "model": model, "dtype": candidate.dtype, "threads": threads}
        try:
            self.load_seconds: float = self._ask(wanted)["seconds"]
        except BaseException:
            self.close()
            raise

    def embed(self, texts: list[str]) -> tuple[float, FloatArray]:
        """Embed all texts in the candidate's process."""
        path = self._folder / "vectors.npy"
        seconds = self._ask({"texts": self._write(texts), "vectors": str(path)})["seconds"]
        return seconds, np.load(path)

    def alone(self, texts: list[str]) -> list[float]:
        """Embed the texts one by one in the candidate's process."""
        seconds: list[float] = self._ask({"alone": self._write(texts)})["seconds"]
        return seconds

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _write(self, texts: list[str]) -> str:
        path = self._folder / "texts.json"
        path.write_text(json.dumps(texts))
        return str(path)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101 - both are pipes
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._errors.seek(0)
            last = (self._errors.read().strip().splitlines() or ["it printed nothing"])[-1]
            raise BothwaysError(f"{self._name} failed: {last}")
        answer: dict[str, Any] = json.loads(line)
        self.peak_mib = answer["peak_mib"]
        return answer


@contextmanager
def processes(candidates: list[Candidate], model: str, threads: int) -> Iterator[list[Runner]]:
    """Start every candidate, and end all afterwards."""
    with ExitStack() as stack:
        runners: list[Runner] = []
        for candidate in candidates:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            process = Process(candidate, model, threads, folder)
            stack.callback(process.close)
            runners.append(process)
        yield runners


def measure(
    candidates: list[Candidate],
    runners: list[Runner],
    texts: list[str],
    *,
    rounds: int,
    latency_texts: dict[int, list[str]] | None = None,
    report: Callable[[str], None] = lambda _: None,
    pause: float = _PAUSE,
) -> list[Figures]:
    """Run all rounds, after one that warms up and checks that the embeddings agree; then those of single texts.

    Raises:
        InputError: Embeddings differ from the first candidate's by more than their dtype explains.
    """
    results = [Figures(candidate, runner.load_seconds) for candidate, runner in zip(candidates, runners, strict=True)]
    first: FloatArray | None = None
    for number in range(rounds + 1):
        report(f"round {number} of {rounds}" if number else "warming up")
        for figures, runner in zip(results, runners, strict=True):
            seconds, vectors = runner.embed(texts)
            if number:
                figures.seconds.append(seconds)
            else:
                first = vectors if first is None else first
                figures.cosine = _check_agreement(figures.candidate, vectors, candidates[0], first)
            time.sleep(pause)
    for figures, runner in zip(results, runners, strict=True):
        figures.peak_mib = runner.peak_mib  # before single texts, so that it is that of the texts
    if latency_texts:
        _measure_single(results, runners, latency_texts, rounds=rounds, report=report, pause=pause)
    return results


def _measure_single(
    results: list[Figures],
    runners: list[Runner],
    texts: dict[int, list[str]],
    *,
    rounds: int,
    report: Callable[[str], None],
    pause: float,
) -> None:
    """Deal every length's texts out to the rounds, so that single texts meet the machine at all its speeds too."""
    first = next(iter(texts.values()))
    for number in range(rounds):
        report(f"single texts, round {number + 1} of {rounds}")
        for figures, runner in zip(results, runners, strict=True):
            settling = 0.0
            while settling < _SETTLING:
                settling += sum(runner.alone(first[:_WARM_UPS]))
            for tokens, single in texts.items():
                if share := single[number::rounds]:
                    runner.alone(single[:_WARM_UPS])
                    figures.latency.setdefault(tokens, []).extend(runner.alone(share))
            time.sleep(pause)


def _check_agreement(candidate: Candidate, vectors: FloatArray, other: Candidate, expected: FloatArray) -> float:
    """Return the smallest cosine between two candidates' embeddings of one text."""
    if vectors.shape != expected.shape:
        raise InputError(f"{candidate.name} gives embeddings {vectors.shape}, {other.name} {expected.shape}")
    sizes = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    products = (vectors * expected).sum(axis=1)
    # Of a text without tokens that count, a static model makes a vector of no length.
    same = (vectors == expected).all(axis=1)
    cosine = float(np.where(same, 1.0, products / np.maximum(sizes, 1e-12)).min())
    bounds = [bound for bound in (_AGREEMENT[candidate.dtype], _AGREEMENT[other.dtype]) if bound is not None]
    if len(bounds) == 2 and not cosine >= min(bounds):
        raise InputError(
            f"{candidate.name} and {other.name} disagree: the smallest cosine between their embeddings of a text is "
            f"{cosine:.6f}, below {min(bounds)}; leave {candidate.name} out"
        )
    return cosine


def ratios(results: list[Figures]) -> dict[str, float]:
    """How many times as fast each of ours is as each rival: the median of the ratios within rounds."""
    return {
        f"{mine.candidate.name} / {theirs.candidate.name}": median(
            b / a for a, b in zip(mine.seconds, theirs.seconds, strict=True)
        )
        for mine in results
        for theirs in results
        if mine.candidate.is_ours and not theirs.candidate.is_ours
    }
