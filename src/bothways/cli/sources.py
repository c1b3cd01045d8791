"""Where a command's texts come from and its results go: the options, and the slips that they allow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import click

from bothways.cli.files import FORMATS, Texts, given_texts, read_texts
from bothways.cli.options import check_utf8
from bothways.cli.output import check_output
from bothways.errors import InputError

__all__ = ["check_output_name", "check_target", "chosen_texts", "source_options"]

_Command = Callable[..., None]

_OPTIONS = (
    click.argument("texts", nargs=-1, metavar="[TEXT]...", callback=check_utf8),
    click.option(
        "--input",
        "input_name",
        metavar="FILE",
        help=".txt .jsonl .csv .tsv .parquet, or - for standard input (a text a line, or see --format). "
        "Texts are read ahead and computed in batches, so from a slow pipe results come batch by batch.",
    ),
    click.option("--format", type=click.Choice(FORMATS), help="What the input holds, where its name doesn't tell."),
    click.option("--column", metavar="NAME", help="The input column that holds the texts.  [default: text]"),
)


def source_options(command: _Command) -> _Command:
    """Give a command the argument and the options that texts come from."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def chosen_texts(
    texts: tuple[str, ...],
    input_name: str | None,
    column: str | None,
    format: str | None,
    second: str | None = None,
) -> Texts:
    """Open what the options name; `second` is another column, beside --column's."""
    if texts and input_name is not None:
        raise click.UsageError("give texts or --input, not both")
    if texts and (column is not None or format is not None or second is not None):
        raise click.UsageError("columns and --format say how to read --input; leave them out with texts as arguments")
    if texts:
        return given_texts(texts)
    if input_name is None:
        raise click.UsageError("no texts given: write them as arguments, or use --input FILE (- for standard input)")
    return read_texts(input_name, column, format, second)


def check_output_name(name: str | None) -> None:
    """Refuse an empty name, which a shell makes of a variable that is not set."""
    if name == "":
        raise click.UsageError("--output is empty; name a file, or leave it out to write to standard output")


def check_target(output: Path, input_name: str | None, endings: Iterable[str] | None = None) -> None:
    """Refuse an output that can't be written, or that is the input."""
    if endings is None:
        check_output(output)
    else:
        check_output(output, endings)
    if input_name not in (None, "-") and output.exists() and output.samefile(input_name):
        raise InputError(f"output {str(output)!r} is the input file, which it would replace; name another file")
