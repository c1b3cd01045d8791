"""Writes the figures of results/*.json into README.md, between its two marks, and the chart; --check only compares."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
CHART = "docs/figures/speeds.svg"
BEGIN, END = "<!-- figures: begin (bench/report.py) -->", "<!-- figures: end -->"


def read(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return result


def report() -> str:
    """The Markdown between the marks."""
    embed = read("embed")
    parts = [
        speed_table(embed),
        f"![Thousand tokens/s on web sentences]({CHART})",
        ratio_table(embed),
        base_table(read("base")),
        tasks_table(read("tasks")),
        windows_table(read("windows")),
        latency_table(read("latency")),
        quality_table(read("quality")),
        startup_table(read("startup")),
        scale_table(read("scale")),
        server_table(read("server")),
    ]
    return "\n\n".join(parts)


def speed_table(found: dict[str, Any]) -> str:
    workloads = found["workloads"]
    lines = [
        f"{found['model']}, strings to vectors, thousand tokens/s, {found['threads']} threads "
        f"(medians of alternating rounds in one run, {found['date']}, {found['cpu']}):",
        "",
        "| | short | mid | docs | of the peak, docs | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for name in workloads["docs"]["candidates"]:
        rows = [workload["candidates"][name] for workload in workloads.values()]
        speeds = " | ".join(f"{row['tokens_per_second'] / 1000:.1f}" for row in rows)
        share = f"{100 * rows[-1]['share_of_peak']:.0f} %" if "share_of_peak" in rows[-1] else ""
        lines.append(f"| {shown(found, name)} | {speeds} | {share} | {rows[-1]['peak_mib']} MiB |")
    return "\n".join(lines)


def shown(found: dict[str, Any], name: str) -> str:
    """A candidate's name: ours bold, others with their version."""
    package = name.split()[0]
    if package == "bothways":
        return f"**{name}**"
    return name.replace(package, f"{package} {found['versions'].get(package) or ''}".strip(), 1)


def ratio_table(found: dict[str, Any]) -> str:
    """Each of ours against the fastest rival in the same dtype (int8: in both), avx2 against one held to AVX2."""
    workloads = found["workloads"]
    lines = ["| ratio of the times within a round | short | mid | docs |", "|---|---|---|---|"]
    for name in workloads["docs"]["ratios"]:
        mine, rival = name.split(" / ")
        alike = mine.split()[-1] in (rival.split()[-1], "int8")
        if rival.startswith("openvino") and alike and ("AVX2" in rival) == ("avx2" in mine):
            lines.append(f"| {name} | " + " | ".join(f"{w['ratios'][name]:.2f}" for w in workloads.values()) + " |")
    return "\n".join(lines)


def base_table(found: dict[str, Any]) -> str:
    """Every candidate's speed, and for ours its ratio to each of the others."""
    rivals = [name for name in found["candidates"] if not name.startswith("bothways")]
    lines = [
        f"| {found['model']}, {found['texts']} texts of docs | thousand tokens/s | of the peak | "
        + "".join(f"/ {rival} | " for rival in rivals)
        + "peak memory |",
        "|---|---|---|" + "---|" * len(rivals) + "---|",
    ]
    for name, row in found["candidates"].items():
        ratios = (found["ratios"].get(f"{name} / {rival}") for rival in rivals)
        cells = [
            shown(found, name),
            f"{row['tokens_per_second'] / 1000:.1f}",
            f"{100 * row['share_of_peak']:.0f} %" if "share_of_peak" in row else "",
            *(f"{ratio:.2f}" if ratio else "" for ratio in ratios),
            f"{row['peak_mib']} MiB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def tasks_table(found: dict[str, Any]) -> str:
    """How many times as fast tasks are as transformers' pipelines, and rerank as a CrossEncoder."""
    shapes = found["shapes"]
    tasks = list(next(iter(shapes.values())))
    lines = ["| times as fast, random weights | " + " | ".join(tasks) + " |", "|---|" + "---|" * len(tasks)]
    for shape, results in shapes.items():
        ratios = {task: results[task]["ratios"] if task in results else {} for task in tasks}
        for pair in dict.fromkeys(pair for each in ratios.values() for pair in each):
            cells = (f"{ratios[task][pair]:.1f}" if pair in ratios[task] else "" for task in tasks)
            lines.append(f"| {shape}'s shape: {pair} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def windows_table(found: dict[str, Any]) -> str:
    lengths = list(next(iter(found["candidates"].values()))["ms_per_layer"])
    lines = [
        f"| {found['model']}, one text of so many tokens, ms for each layer | " + " | ".join(lengths) + " |",
        "|---|" + "---|" * len(lengths),
    ]
    for name, row in found["candidates"].items():
        lines.append(
            f"| {name} | "
            + " | ".join(f"{row['ms_per_layer'][n]:.1f}" if n in row["ms_per_layer"] else "" for n in lengths)
            + " |"
        )
    return "\n".join(lines)


def latency_table(found: dict[str, Any]) -> str:
    rows = found["candidates"]
    lengths = list(next(iter(rows.values()))["latency_ms"])
    lines = [
        "| one text of so many tokens, ms: p50 (p99) | " + " | ".join(lengths) + " |",
        "|---|" + "---|" * len(lengths),
    ]
    for name, row in rows.items():
        cells = (f"{row['latency_ms'][n]['p50']:.2f} ({row['latency_ms'][n]['p99']:.2f})" for n in lengths)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def quality_table(found: dict[str, Any]) -> str:
    lines = [
        "| dtype | cosine to float32: mean, smallest | Banking77 accuracy | SciFact nDCG@10 |",
        "|---|---|---|---|",
    ]
    for dtype, row in found["dtypes"].items():
        cosine = f"{row['cosine']['mean']:.4f}, {row['cosine']['smallest']:.4f}"
        lines.append(f"| {dtype} | {cosine} | {row['banking77_accuracy']:.4f} | {row['scifact_ndcg10']:.4f} |")
    return "\n".join(lines)


def startup_table(found: dict[str, Any]) -> str:
    lines = ["| from process start to exit | median |", "|---|---|"]
    lines += [f"| `{name}` | {figure['median']:.2f} s |" for name, figure in found["commands"].items()]
    peaks = ", ".join(f"{dtype} {peak:.0f} MiB" for dtype, peak in found["peak_mib"].items())
    return "\n".join([*lines, "", f"Peak memory of one process that embeds docs: {peaks}."])


def scale_table(found: dict[str, Any]) -> str:
    lines = ["| texts streamed | thousand tokens/s | resident memory after |", "|---|---|---|"]
    for size, figure in found["sizes"].items():
        speed, memory = figure["thousand_tokens_per_second"], figure["resident_mib"]
        lines.append(f"| {int(size):,} | {speed:.2f} | {memory:.0f} MiB |")
    return "\n".join(lines)


def server_table(found: dict[str, Any]) -> str:
    """Requests of one text, by how many are under way, of many texts, and of one beside a large one."""
    one, bulk, tail = found["one"], found["bulk"], found["tail"]
    counts = list(one)
    lines = [
        f"The server over HTTP, {found['model']}, banking queries of 15 tokens, {found['threads']} threads, level "
        f"{found['level']} (medians of alternating rounds in one run, {found['date']}, {found['cpu']}):",
        "",
        "| requests at once: p50 ms, requests/s | "
        + " | ".join(counts)
        + f" | {bulk['texts']} texts a request, texts/s | p99 beside {tail['texts']:,} texts / idle p50 |",
        "|---|" + "---|" * (len(counts) + 2),
    ]
    for name in one[counts[0]]["candidates"]:
        rows = [one[count]["candidates"][name] for count in counts]
        cells = [f"{row['p50_ms']:.2f}, {row['requests_per_second']:.0f}" for row in rows]
        many = f"{bulk['candidates'][name]['texts_per_second']:.0f}" if name in bulk["candidates"] else ""
        beside = f"{tail['candidates'][name]['p99_over_idle']:.1f}" if name in tail["candidates"] else ""
        lines.append(f"| {shown(found, name)} | {' | '.join([*cells, many, beside])} |")
    for name in one[counts[0]]["ratios"]:
        cells = [f"{one[count]['ratios'][name]['requests_per_second']:.1f}" for count in counts]
        many = f"{bulk['ratios'][name]['texts_per_second']:.1f}" if name in bulk["ratios"] else ""
        lines.append(f"| times as many: {name} | {' | '.join([*cells, many, ''])} |")
    return "\n".join(lines)


def draw_chart() -> None:
    from bothways.bench.plot import draw

    found = read("embed")
    (ROOT / CHART).parent.mkdir(exist_ok=True)
    draw(found | found["workloads"]["mid"], ROOT / CHART)


def main() -> None:
    text = README.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    wanted = f"{before}{BEGIN}\n{report()}\n{END}{after}"
    if "--check" in sys.argv:
        sys.exit("README.md and bench/results differ: run `python bench/report.py`" if wanted != text else 0)
    README.write_text(wanted)
    draw_chart()


if __name__ == "__main__":
    main()
