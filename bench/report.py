"""Writes the figures of results/*.json into README.md, between its two marks; --check only compares."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- figures: begin (bench/report.py) -->", "<!-- figures: end -->"


def read(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return result


def report() -> str:
    """The Markdown between the marks."""
    return "\n\n".join([embed_table(read("embed")), startup_table(read("startup")), scale_table(read("scale"))])


def embed_table(found: dict[str, Any]) -> str:
    versions = found["versions"]
    lines = [
        f"{found['model']}, float32, strings to vectors, thousand tokens/s, {found['threads']} threads "
        f"(medians of alternating rounds in one run, {found['date']}, {found['cpu']}):",
        "",
        "| | short | mid | docs | peak memory on docs |",
        "|---|---|---|---|---|",
    ]
    for name, figures in found["candidates"].items():
        package = name.split()[0]
        named = name.replace(package, f"{package} {versions[package]}", 1)
        shown = f"**{name}**" if package == "bothways" else named
        speeds = " | ".join(f"{figures['thousand_tokens_per_second'][w]:.1f}" for w in found["tokens"])
        lines.append(f"| {shown} | {speeds} | {figures['peak_mib']['docs']} MiB |")
    lines += ["", "| ratio of the times within a round | short | mid | docs |", "|---|---|---|---|"]
    for name, ratios in found["ratios"].items():
        lines.append(f"| {name} | " + " | ".join(f"{ratios[w]:.2f}" for w in found["tokens"]) + " |")
    return "\n".join(lines)


def startup_table(found: dict[str, Any]) -> str:
    lines = ["| from process start to exit | median |", "|---|---|"]
    lines += [f"| `{name}` | {figure['median']:.2f} s |" for name, figure in found["commands"].items()]
    lines += ["", f"Peak memory of one process that embeds docs: {found['peak_mib']:.0f} MiB."]
    return "\n".join(lines)


def scale_table(found: dict[str, Any]) -> str:
    lines = ["| texts streamed | thousand tokens/s | resident memory after |", "|---|---|---|"]
    for size, figure in found["sizes"].items():
        speed, memory = figure["thousand_tokens_per_second"], figure["resident_mib"]
        lines.append(f"| {int(size):,} | {speed:.2f} | {memory:.0f} MiB |")
    return "\n".join(lines)


def main() -> None:
    text = README.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    wanted = f"{before}{BEGIN}\n{report()}\n{END}{after}"
    if "--check" in sys.argv:
        sys.exit("README.md and bench/results differ: run `python bench/report.py`" if wanted != text else 0)
    README.write_text(wanted)


if __name__ == "__main__":
    main()
