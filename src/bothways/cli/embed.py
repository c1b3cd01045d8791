"""`bothways embed`: texts in, embeddings out, in bounded memory whatever the size of the input."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bothways.cli.embed_kinds import check_kind, run_kind
from bothways.cli.files import Texts
from bothways.cli.options import (
    ModelChoice,
    embed_limit,
    json_option,
    load,
    model_options,
    truncation_option,
)
from bothways.cli.output import Vector, Writer, open_file, open_stdout, to_terminal
from bothways.cli.progress import Progress
from bothways.cli.ranges import RANGED, quantized
from bothways.cli.sources import check_output_name, check_target, chosen_texts, source_options
from bothways.cli.tasks import Job
from bothways.precision import PRECISIONS

if TYPE_CHECKING:
    from bothways.encoder import Encoder

__all__ = ["command"]

_FEW_TEXTS = 100  # fewer give int8 ranges that later texts will often exceed; sentence-transformers warns there too


@click.command("embed", short_help="Turn texts into embeddings, from and to files of any size.")
@source_options
@click.option("--output", "output_name", metavar="FILE", help=".npy .jsonl .parquet")
@model_options
@click.option("--batch-tokens", type=click.IntRange(min=1), metavar="N", help="Tokens computed at a time.")
@click.option("--sparse", is_flag=True, help="Give weighted terms, by a masked language model (SPLADE).")
@click.option("--tokens", is_flag=True, help="Give a vector for each token (ColBERT).")
@click.option(
    "--pooling", multiple=True, metavar="NAME", help="How token vectors become one; several are concatenated."
)
@click.option("--normalize/--no-normalize", default=None, help="Scale to length 1.  [default: as the checkpoint says]")
@click.option("--prompt", help="Put this in front of every text.")
@click.option("--prompt-name", metavar="NAME", help="Put this prompt of the checkpoint in front of every text.")
@click.option("--dimensions", type=click.IntRange(min=1), metavar="N", help="Keep only the first N values.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="What a value is stored as.",
)
@truncation_option
@click.option("--window", is_flag=True, help="Embed texts that are too long piece by piece and average the pieces.")
@click.option("--quiet", is_flag=True, help="No progress bar and no notes.")
@json_option
def command(
    *,
    choice: ModelChoice,
    texts: tuple[str, ...],
    input_name: str | None,
    format: str | None,
    column: str | None,
    output_name: str | None,
    batch_tokens: int | None,
    sparse: bool,
    tokens: bool,
    window: bool,
    quiet: bool,
    as_json: bool,
    **how: Any,
) -> None:
    """Turn texts into embeddings.

    Texts come from the command line or from --input. Embeddings go to --output, or to standard output: as a table
    on a terminal, as JSON lines anywhere else. --sparse and --tokens go to .jsonl and .parquet files only.
    """
    _check_usage(output_name, window, how)
    if sparse and tokens:
        raise click.UsageError("give --sparse or --tokens, not both")
    if sparse or tokens:
        kind = "sparse" if sparse else "tokens"
        check_kind(kind, {**how, "window": window}, output_name)
        given = (
            choice,
            texts,
            input_name,
            format,
            column,
            output_name,
            batch_tokens,
            how["truncation"],
            quiet,
            as_json,
        )
        return run_kind(Job(*given), kind, how)
    source = chosen_texts(texts, input_name, column, format)
    output = None if output_name is None else Path(output_name)
    if output is not None:
        check_target(output, input_name)
    encoder = load(choice, batch_tokens=batch_tokens)
    how["pooling"] = list(how["pooling"]) or None
    how["truncation"] = "window" if window else how["truncation"]
    show = not quiet and (output is not None or not to_terminal())  # a bar would tear the table apart
    folder = None if output is None else output.resolve().parent
    with Progress(source.total, show=show) as progress, _writer(encoder, output, as_json, how) as writer:
        _embed_all(encoder, source, writer, progress, how, folder)
    if not quiet:
        _print_notes(source, progress, how, output, embed_limit(encoder, choice))
    if output is not None and as_json:
        progress.print_totals(output)


def _check_usage(output_name: str | None, window: bool, how: dict[str, Any]) -> None:
    check_output_name(output_name)
    if how["prompt"] is not None and how["prompt_name"] is not None:
        raise click.UsageError("give --prompt or --prompt-name, not both")
    if window and not how["truncation"]:
        raise click.UsageError("give --window or --no-truncation, not both")


def _writer(
    encoder: Encoder, output: Path | None, as_json: bool, how: dict[str, Any]
) -> AbstractContextManager[Writer]:
    empty = encoder.embed([], **how)  # (0, D): the shape and dtype, known even if there are no texts at all
    if output is not None:
        return open_file(output, empty.shape[1], empty.dtype)
    return open_stdout(empty.shape[1], empty.dtype, as_json=as_json)


def _embed_all(
    encoder: Encoder, source: Texts, writer: Writer, progress: Progress, how: dict[str, Any], folder: Path | None
) -> None:
    if how["precision"] in RANGED:
        rows = _rows(encoder, source, progress, {**how, "precision": "float32"})
        rows = quantized(rows, how["precision"], folder)
    else:
        rows = _rows(encoder, source, progress, how)
    with closing(rows):
        for text, embedding in rows:
            writer.write(text, embedding)


def _rows(
    encoder: Encoder, source: Texts, progress: Progress, how: dict[str, Any]
) -> Generator[tuple[str, Vector], None, None]:
    """Embed the source as a stream and put each text, which the encoder reads ahead, back beside its embedding."""
    ahead: deque[tuple[str, int]] = deque()

    def read() -> Iterator[str]:
        for text in source:
            ahead.append((text, source.done))
            yield text

    for embedding in encoder.embed(read(), progress=progress.report, **how):
        text, progress.place = ahead.popleft()
        yield text, embedding


def _print_notes(source: Texts, progress: Progress, how: dict[str, Any], output: Path | None, limit: int) -> None:
    progress.note_truncated(limit, "pass --window to embed all of them")
    if how["precision"] in RANGED and progress.texts < _FEW_TEXTS:
        click.echo(f"note: the ranges of {how['precision']} come from {progress.texts} texts only", err=True)
    if not progress.texts:
        click.echo(f"note: {source.name} holds no texts", err=True)
    if output is not None:
        progress.note_written(output)
