"""`bothways bench`: how fast a checkpoint runs here, at every dtype asked for, beside other libraries if wanted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bothways.cli.files import FORMATS, read_texts
from bothways.cli.options import ModelChoice, json_option, model_options
from bothways.errors import InputError
from bothways.spec import DTYPES

if TYPE_CHECKING:
    from rich.table import Table

    from bothways.encoder import Encoder

__all__ = ["command"]

_MOST_TEXTS = 5000  # read from an input

#: What is measured without --input: short questions and longer passages.
_SENTENCES = (
    "How do I reset the PIN of my card?",
    "Which vitamins help against a common cold?",
    "Please cancel my order and refund the money to my account as soon as possible.",
    "The committee will publish its report on Tuesday morning, and members of the public may comment until June.",
    "A light rain fell over the harbour while the last ferry left; on the quay, two boys counted the gulls on the roof "
    "of the fish market, argued about the number, and began again from the other end.",
    "Prices rose by three per cent in the second quarter, the statistics office said, driven by the cost of energy and "
    "by rents in the larger cities. Economists had expected a smaller increase. The central bank is likely to leave "
    "its rate unchanged until the autumn, when new figures on wages are due.",
)
_BUILT_IN = [f"{sentence} ({number})" for number in range(100) for sentence in _SENTENCES]


@click.command("bench", short_help="Measure how fast a model runs here, beside other libraries if wanted.")
@model_options
@click.option("--input", "input_name", metavar="FILE", help="Texts to measure with: a file, or - for standard input.")
@click.option("--format", type=click.Choice(FORMATS), help="What --input holds, if its ending does not say it.")
@click.option("--column", metavar="NAME", help="The input's column that holds the texts.  [default: text]")
@click.option(
    "--all-dtypes/--one-dtype", default=True, show_default=True, help="Measure every dtype, or the one of --dtype."
)
@click.option("--level", "levels", multiple=True, metavar="NAME", help="Measure this level; may be repeated.")
@click.option("--against", metavar="NAME[:DTYPE],...", help="Other libraries to measure in the same rounds.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="How often to measure.")
@click.option("--latency/--no-latency", default=True, show_default=True, help="Measure single texts too.")
@click.option("--plot", "plot_name", metavar="FILE", help="Draw the speeds, as .png, .svg or .pdf.")
@json_option
def command(
    *,
    choice: ModelChoice,
    input_name: str | None,
    format: str | None,
    column: str | None,
    all_dtypes: bool,
    levels: tuple[str, ...],
    against: str | None,
    rounds: int,
    latency: bool,
    plot_name: str | None,
    as_json: bool,
) -> None:
    """Measure how fast a model runs on this machine.

    Every candidate runs in a process of its own and embeds the same texts, in alternating rounds; the embeddings are
    compared before anything is measured.
    """
    from bothways.bench import measure, plot
    from bothways.bench.machine import record
    from bothways.bench.report import figures, single_texts

    if choice.max_length is not None:
        raise InputError(
            "all candidates are measured at the checkpoint's own limit; leave out --max-length, or give --input texts "
            "that are cut"
        )
    if plot_name is not None:
        plot.check(Path(plot_name))
    candidates = _candidates(levels, DTYPES if all_dtypes else (choice.dtype,), against)
    texts = _texts(input_name, column, format)
    encoder = _encoder(choice)
    singles = single_texts(encoder, texts) if latency else {}
    with measure.processes(candidates, choice.model, encoder.engine.threads) as runners:
        results = measure.measure(
            candidates,
            runners,
            texts,
            rounds=rounds,
            latency_texts=singles,
            report=lambda note: click.echo(note, err=True),
        )
    report = {**record(), "model": choice.model, **figures(encoder, texts, results)}
    if plot_name is not None:
        plot.draw(report, Path(plot_name))
    click.echo(json.dumps(report, indent=2)) if as_json else _print_report(report)


def _candidates(levels: tuple[str, ...], dtypes: tuple[str, ...], against: str | None) -> list[Any]:
    from bothways import _native
    from bothways.bench.candidates import ours, rival
    from bothways.engines.native import level_in_force

    for level in levels:
        try:
            _native.level(level)
        except ValueError as error:
            raise InputError(f"{error}; see `bothways doctor`") from None
    wanted = [ours(level, dtype) for level in levels or (level_in_force(),) for dtype in dtypes]
    return wanted + [rival(name.strip()) for name in (against or "").split(",") if name.strip()]


def _texts(input_name: str | None, column: str | None, format: str | None) -> list[str]:
    if input_name is None:
        return list(_BUILT_IN)
    texts = []
    for text in read_texts(input_name, column, format):
        texts.append(text)
        if len(texts) == _MOST_TEXTS:
            break
    if not texts:
        raise InputError(f"{input_name} holds no texts to measure with")
    return texts


def _encoder(choice: ModelChoice) -> Encoder:
    from bothways.encoder import Encoder

    return Encoder.from_pretrained(choice.model, revision=choice.revision, threads=choice.threads)


def _print_report(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    rows = report["candidates"]
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in ("tokens/s", "texts/s", "of peak", "cosine", "load s", "peak MiB"):
        table.add_column(name, justify="right")
    for name, row in rows.items():
        share = f"{100 * row['share_of_peak']:.0f} %" if "share_of_peak" in row else ""
        memory = "" if row["peak_mib"] is None else str(row["peak_mib"])
        speeds = f"{row['tokens_per_second']:,.0f}", f"{row['texts_per_second']:,.0f}"
        rest = f"{row['smallest_cosine']:.4f}", f"{row['load_seconds']:.2f}", memory
        table.add_row(name, *speeds, share, *rest)
    console = Console(width=None if Console().is_terminal else 200, highlight=False)
    console.print(f"{report['cpu']}, {report['threads']} threads")
    console.print(f"{report['model']}: {report['texts']:,} texts, {report['tokens']:,} tokens")
    console.print(table)
    if any(row["latency_ms"] for row in rows.values()):
        console.print(_latency_table(rows))
    if report["ratios"]:
        console.print(_ratio_table(report["ratios"]))


def _latency_table(rows: dict[str, Any]) -> Table:
    """A row for each candidate, a column for each length of a single text."""
    from rich.table import Table

    lengths = list(next(iter(rows.values()))["latency_ms"])
    table = Table(box=None, pad_edge=False)
    table.add_column("one text, ms: p50 (p99)")
    for length in lengths:
        table.add_column(f"{length} tokens", justify="right")
    for name, row in rows.items():
        single = row["latency_ms"]
        table.add_row(name, *(f"{single[n]['p50']:.2f} ({single[n]['p99']:.2f})" for n in lengths))
    return table


def _ratio_table(ratios: dict[str, float]) -> Table:
    """A row for each of ours, a column for each rival."""
    from rich.table import Table

    pairs = [name.split(" / ") for name in ratios]
    ours, rivals = (list(dict.fromkeys(pair[side] for pair in pairs)) for side in (0, 1))
    table = Table(box=None, pad_edge=False)
    table.add_column("times as fast as")
    for rival in rivals:
        table.add_column(rival, justify="right")
    for mine in ours:
        table.add_row(mine, *(f"{ratios[f'{mine} / {rival}']:.2f}" for rival in rivals))
    return table
