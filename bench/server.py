"""The server beside infinity-emb's, over HTTP on loopback, in alternating rounds: one text, many, and both at once.

Every server is a process of its own, and so is the load (server_load.py). Servers that are not being measured are
stopped meanwhile, as some look for work all the time.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from common import MODEL, comparison, read_workload, save
from server_load import Job, Load, percentiles

from bothways.bench.candidates import ours
from bothways.bench.machine import record
from bothways.bench.measure import Runner, processes
from bothways.engines.native import level_in_force
from bothways.sources import resolve
from bothways.spec import DTYPES

RIVAL = "infinity-emb float32"
CONNECTIONS = (1, 16, 64)  # of one-text requests
BULK, BULK_CONNECTIONS = 256, 2  # texts in a request, and how many such requests there are at a time
LONG, SAMPLES = 10_000, 300  # texts in the long request, and one-text requests that must be sent beside such
DIMENSIONS = 384
PARTS = ("one", "bulk", "tail")
_SETTLE = 0.5  # seconds of load before those that count
_START = 180  # seconds that a server may take to start
#: The smallest cosine to the rival's vector that a text's may have, by dtype; None only reports.
_AGREEMENT = {"float32": 0.999, "bfloat16": 0.995, "int8": None}
_VENV = Path(__file__).parent.parent / ".venv-infinity"
_QUIET = {"DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "HF_HUB_OFFLINE": "1"}
_PACKAGES = ("infinity-emb", "torch", "transformers", "sentence-transformers", "fastapi", "uvicorn")

Round = dict[str, float]  # what a round measured


class Server:
    """A server at work, in a process group of its own."""

    def __init__(self, name: str, options: argparse.Namespace, folder: Path) -> None:
        """Start it; `wait` waits until it answers."""
        self.name = name
        self.ours = name != RIVAL
        self.dtype = name.split()[1]
        self.port = free_port()
        self.path = "/v1/embeddings" if self.ours else "/embeddings"
        self._output = (folder / f"{name}.log").open("w+")
        self._process = subprocess.Popen(
            self._command(options.threads),
            env={**os.environ, **_QUIET, "OMP_NUM_THREADS": str(options.threads)},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _command(self, threads: int) -> list[str]:
        at = ["--host", "127.0.0.1", "--port", str(self.port)]
        if self.ours:
            given = ["--model", MODEL, "--dtype", self.dtype, "--threads", str(threads)]
            return [sys.executable, "-m", "bothways", "serve", *given, *at]
        given = ["--model-id", str(resolve(MODEL).folder), "--device", "cpu", "--engine", "torch"]
        given += ["--dtype", self.dtype, "--no-bettertransformer"]
        return [str(_VENV / "bin" / "infinity_emb"), "v2", *given, *at]

    def wait(self) -> float:
        """Wait until it is ready and has embedded a text; returns the seconds since the call."""
        begin = time.perf_counter()
        while self._process.poll() is None and time.perf_counter() - begin < _START:
            try:
                if self._ask("GET", "/readyz" if self.ours else "/health")[0] == 200:
                    self.vectors(["hello"])
                    return time.perf_counter() - begin
            except OSError:
                pass
            time.sleep(0.05)
        sys.exit(f"error: {self.name} did not start; the last of what it printed:\n{self._last_lines()}")

    def vectors(self, texts: list[str], encoding: str = "float") -> Any:
        """Embed texts with one request."""
        asked = {"input": texts, "model": "model", "encoding_format": encoding}
        status, body = self._ask("POST", self.path, json.dumps(asked))
        if status != 200:
            sys.exit(f"error: {self.name} answered {status}: {body[:500].decode(errors='replace')}")
        items = sorted(json.loads(body)["data"], key=lambda item: item["index"])
        rows = [item["embedding"] for item in items]
        return np.array([np.frombuffer(base64.b64decode(row), "<f4") if isinstance(row, str) else row for row in rows])

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let it run; outside of this it is stopped."""
        os.killpg(self._process.pid, signal.SIGCONT)
        try:
            yield
        finally:
            self.stop()

    def stop(self) -> None:
        """Let it stand still."""
        if self._process.poll() is not None:
            sys.exit(f"error: {self.name} ended; the last of what it printed:\n{self._last_lines()}")
        os.killpg(self._process.pid, signal.SIGSTOP)

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._output.close()

    def _last_lines(self) -> str:
        self._output.seek(0)
        return "\n".join(self._output.read().splitlines()[-10:])


@dataclass(frozen=True)
class Candidate:
    """A server and how it is asked for vectors: a row of the results."""

    name: str
    server: Server
    encoding: str = "float"


class Bench:
    """The candidates, the load and the texts: everything that a part measures with."""

    def __init__(self, texts: list[str], options: argparse.Namespace, folder: Path, stack: ExitStack) -> None:
        self.texts, self.options = texts, options
        self.rows: list[Candidate] = []
        self.loads = [Load(), Load()]
        for load in self.loads:
            stack.callback(load.close)
        self._files = {1: folder / "texts.json", LONG: folder / "long.json"}
        self._files[1].write_text(json.dumps(self.texts))
        # A request has no text twice, though the workload has fewer than the long one.
        rest = (f"{self.texts[n % len(self.texts)]} ({n})" for n in range(len(self.texts), LONG))
        self._files[LONG].write_text(json.dumps([*self.texts, *rest]))

    def warm_up(self) -> None:
        for row in self.rows:
            with row.server.alone():
                self.loads[0].run(self.job(row, connections=max(CONNECTIONS)))

    def job(self, row: Candidate, size: int = 1, connections: int = 1, settle: float = _SETTLE) -> Job:
        server, file = row.server, self._files.get(size, self._files[1])
        given = (server.port, server.path, str(file), size, row.encoding, connections, settle, self.options.seconds)
        return Job(*given, DIMENSIONS)

    def rounds(self, names: list[str], measure: Callable[[str], Round], note: str) -> dict[str, list[Round]]:
        """Measure each name once a round; every other round goes through them backwards."""
        found: dict[str, list[Round]] = {name: [] for name in names}
        for number in range(self.options.rounds):
            print(f"{note}: round {number + 1} of {self.options.rounds}", file=sys.stderr)
            for name in names if number % 2 == 0 else reversed(names):
                found[name].append(measure(name))
        return found

    def one(self) -> dict[str, Any]:
        """One-text requests, so many at a time."""
        by_name = {row.name: row for row in self.rows}

        def measure(name: str) -> Round:
            row = by_name[name]
            with row.server.alone():
                found = self.loads[0].run(self.job(row, connections=connections))
            speed = {"requests_per_second": found.rate, "load_share_of_a_core": found.share_of_a_core}
            return percentiles(found.seconds) | speed

        results = {}
        for connections in CONNECTIONS:
            found = self.rounds(list(by_name), measure, f"one text, {connections} at a time")
            results[str(connections)] = summary(found) | {"ratios": ratios(found)}
        return results

    def bulk(self, bare: dict[str, Runner]) -> dict[str, Any]:
        """Requests of many texts, and beside them the library alone on the same texts."""
        by_name = {row.name: row for row in self.rows}
        texts = self.texts[: len(self.texts) // BULK * BULK]

        def measure(name: str) -> Round:
            if name in bare:
                taken: list[float] = []
                while sum(taken) < self.options.seconds:
                    taken.append(bare[name].embed(texts)[0])
                return {"texts_per_second": len(texts) * len(taken) / sum(taken)}
            row = by_name[name]
            with row.server.alone():
                found = self.loads[0].run(self.job(row, BULK, BULK_CONNECTIONS))
            return {"texts_per_second": BULK * found.rate, "load_share_of_a_core": found.share_of_a_core}

        for runner in bare.values():
            runner.embed(texts)
        found = self.rounds([*by_name, *bare], measure, f"{BULK} texts")
        result = summary(found) | {"texts": BULK, "connections": BULK_CONNECTIONS, "ratios": ratios(found)}
        for row in self.rows:
            if row.server.ours:
                pairs = zip(found[row.name], found[f"library {row.server.dtype}"], strict=True)
                share = median(a["texts_per_second"] / b["texts_per_second"] for a, b in pairs)
                result["ratios"][f"{row.name} / library {row.server.dtype}"] = {"texts_per_second": round(share, 3)}
        return result

    def tail(self) -> dict[str, Any]:
        """One-text requests while a long one runs, and while nothing does."""
        by_name = {row.name: row for row in self.rows if row.server.ours}

        def measure(name: str) -> Round:
            row = by_name[name]
            with row.server.alone():
                idle = self.loads[0].run(self.job(row)).seconds
                busy: list[float] = []
                long: list[float] = []
                limit = time.perf_counter() + 10 * self.options.seconds
                while len(busy) < SAMPLES and time.perf_counter() < limit:
                    both = self._one_beside_long(row)
                    busy, long = busy + both[0], long + both[1]
            before, during = percentiles(idle), percentiles(busy)
            return {
                "idle_p50_ms": before["p50_ms"],
                **during,
                "p50_over_idle": during["p50_ms"] / before["p50_ms"],
                "p99_over_idle": during["p99_ms"] / before["p50_ms"],
                "samples": len(busy),
                "long_request_seconds": median(long),
            }

        return {"texts": LONG, **summary(self.rounds(list(by_name), measure, f"one text beside {LONG:,}"))}

    def _one_beside_long(self, row: Candidate) -> tuple[list[float], list[float]]:
        """Seconds of the one-text requests that fell into a long one's time as a whole, and of the long ones."""
        single, long = self.loads
        long.begin(self.job(row, LONG, settle=0.0))
        ones = single.run(self.job(row))
        longs = long.end()
        inside = [span for span in ones.spans if any(a <= span[0] and span[1] <= b for a, b in longs.spans)]
        return [end - begin for begin, end in inside], [end - begin for begin, end in longs.spans]


def summary(found: dict[str, list[Round]]) -> dict[str, Any]:
    """The medians over rounds, and what every round measured."""
    return {
        "candidates": {
            name: {key: round(median(each[key] for each in rounds), 3) for key in rounds[0]}
            | {"rounds": [{key: round(value, 3) for key, value in each.items()} for each in rounds]}
            for name, rounds in found.items()
        }
    }


def ratios(found: dict[str, list[Round]]) -> dict[str, Any]:
    """How many times as good each of ours is as the rival, in each figure: medians of the ratios within rounds."""
    rival = found.get(RIVAL, [])
    result: dict[str, Any] = {}
    for name, rounds in found.items():
        if rival and name.startswith("bothways"):
            result[f"{name} / {RIVAL}"] = {
                key: round(
                    median(
                        b[key] / a[key] if key.endswith("_ms") else a[key] / b[key]
                        for a, b in zip(rounds, rival, strict=True)
                    ),
                    3,
                )
                for key in rounds[0]
                if not key.startswith("load")
            }
    return result


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def agreement(rows: list[Candidate], texts: list[str]) -> dict[str, float]:
    """The smallest cosine of a text's vectors to the rival's (without it, to the first one's), or stop."""
    reference = next((row for row in rows if row.name == RIVAL), rows[0])
    found = {}
    vectors = {}
    for row in rows:
        with row.server.alone():
            vectors[row.name] = row.server.vectors(texts, row.encoding)
    for row in rows:
        a, b = (each / np.linalg.norm(each, axis=1)[:, None] for each in (vectors[row.name], vectors[reference.name]))
        found[row.name] = round(float((a * b).sum(axis=1).min()), 6)
        bounds = [_AGREEMENT[each.server.dtype] for each in (row, reference)]
        if None not in bounds and not found[row.name] >= min(bound for bound in bounds if bound is not None):
            sys.exit(f"error: {row.name} disagrees with {reference.name}: the smallest cosine is {found[row.name]}")
    return found


def show(results: dict[str, Any]) -> None:
    """Print every part's table, and the ratios below it."""
    print("smallest cosine:", ", ".join(f"{name} {cosine}" for name, cosine in results["smallest_cosine"].items()))
    tables = {f"one text, {n} at a time": part for n, part in results.get("one", {}).items()}
    if "bulk" in results:
        tables[f"{BULK} texts, {BULK_CONNECTIONS} at a time"] = results["bulk"]
    if "tail" in results:
        tables[f"one text beside a request of {LONG:,}"] = results["tail"]
    for title, part in tables.items():
        print(f"\n{title}")
        for name, row in (part["candidates"] | part.get("ratios", {})).items():
            cells = (f"{key} {value:,.2f}" for key, value in row.items() if key != "rounds")
            print(f"  {name:52} {'   '.join(cells)}")


def rival_versions() -> dict[str, str]:
    program = "import json, sys, importlib.metadata as m; print(json.dumps([*map(m.version, sys.argv[1:])]))"
    command = [str(_VENV / "bin" / "python"), "-c", program, *_PACKAGES]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(zip(_PACKAGES, json.loads(run.stdout), strict=True))


def choose(options: argparse.Namespace) -> list[str]:
    """The names of --only, or all without it: dtypes in their order, and the rival."""
    known = [f"bothways {dtype}" for dtype in DTYPES]
    known[1:1] = [f"{known[0]} base64"]
    known.append(RIVAL)
    for name in options.only or ():
        if name not in known:
            sys.exit(f"error: --only {name!r} is unknown; there are {', '.join(known)}")
    names = [name for name in known if options.only is None or name in options.only]
    if RIVAL in names and not (_VENV / "bin" / "infinity_emb").exists():
        sys.exit(f"error: {RIVAL} is not installed: run `make .venv-infinity/ready`, or name others with --only")
    return names


def main() -> None:
    parser = comparison(__doc__ or "")
    parser.add_argument("--seconds", type=float, default=4, help="of each candidate's load in a round")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="only printed if not all")
    options = parser.parse_args()
    options.no_save |= set(options.parts) != set(PARTS)
    names = choose(options)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = Bench(read_workload(options.data, "short"), options, folder, stack)
        servers: dict[str, Server] = {}
        for name in names:
            key = name.removesuffix(" base64")
            if key not in servers:
                servers[key] = Server(key, options, folder)
                stack.callback(servers[key].close)
                print(f"{key} answers after {servers[key].wait():.1f} s", file=sys.stderr)
                servers[key].stop()
            bench.rows.append(Candidate(name, servers[key], "base64" if name.endswith(" base64") else "float"))
        results: dict[str, Any] = {"smallest_cosine": agreement(bench.rows, bench.texts[:50])}
        bench.warm_up()
        if "one" in options.parts:
            results["one"] = bench.one()
        if "bulk" in options.parts:
            dtypes = dict.fromkeys(row.server.dtype for row in bench.rows if row.server.ours)
            wanted = [ours(level_in_force(), dtype) for dtype in dtypes]
            runners = stack.enter_context(processes(wanted, MODEL, options.threads))
            results["bulk"] = bench.bulk({f"library {dtype}": r for dtype, r in zip(dtypes, runners, strict=True)})
        if "tail" in options.parts and any(row.server.ours for row in bench.rows):
            results["tail"] = bench.tail()
    show(results)
    settings = {"model": "all-MiniLM-L6-v2", "threads": options.threads, "level": level_in_force()}
    settings |= {"rounds": options.rounds, "seconds": options.seconds}
    if RIVAL in names:
        settings["rival_versions"] = rival_versions()
        settings["versions"] = record()["versions"] | {"infinity-emb": settings["rival_versions"]["infinity-emb"]}
    save("server", settings | results, options)


if __name__ == "__main__":
    main()
