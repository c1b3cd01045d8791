"""A bar for every candidate's speed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from bothways.errors import InputError

__all__ = ["check", "draw"]

_ENDINGS = (".png", ".svg", ".pdf")
_OURS, _THEIRS = "#1b6ca8", "#b8b8b8"


def check(path: Path) -> None:
    """Say before a long measurement what would keep its plot from being drawn.

    Raises:
        InputError: The ending is unknown, the folder is not there, or matplotlib is not installed.
    """
    if path.suffix.lower() not in _ENDINGS:
        raise InputError(f"plot {str(path)!r} must end with {', '.join(_ENDINGS)}")
    if not path.resolve().parent.is_dir():
        raise InputError(f"plot {str(path)!r}: there is no folder {path.resolve().parent}; make it first")
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError('plots need matplotlib: pip install "bothways[bench]"')


def draw(report: dict[str, Any], path: Path) -> None:
    """Draw the candidates of a report (thousand tokens/s), the fastest on top."""
    from matplotlib.figure import Figure

    rows = sorted(report["candidates"].items(), key=lambda row: row[1]["tokens_per_second"])
    speeds = [row["tokens_per_second"] / 1000 for _, row in rows]
    figure = Figure(figsize=(8, 1 + 0.4 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    colours = [_OURS if name.startswith("bothways") else _THEIRS for name, _ in rows]
    bars = axes.barh([name for name, _ in rows], speeds, color=colours)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_xlabel("thousand tokens/s")
    axes.set_title(f"{report['model']}, {report['threads']} threads\n{report['cpu']}", fontsize=8, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
