"""The command line: the group `main`, which imports a command only when it is asked for.

Every error becomes one line here, and every way to end becomes an exit code: 0 done, 1 failed, 2 bad usage,
130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import Any

import click

from bothways.cli.options import is_verbose
from bothways.errors import BothwaysError

__all__ = ["main"]

#: The commands with their one-line help, so that `bothways --help` imports none of them.
_COMMANDS = {
    "encode": "Show the tokens and token vectors of texts.",
    "embed": "Turn texts into embeddings, from and to files of any size.",
    "similarity": "Score how similar texts are to each other.",
    "doctor": "Say what this machine offers and test the arithmetic.",
}

_INTERRUPTED = 130  # the shell's number for a program ended by Ctrl-C


class _LazyGroup(click.Group):
    """A group that knows its commands by name and imports the module of the one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"bothways.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            # The reader (head, less) has what it wanted: nothing failed. Python's own flush at exit must not complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)
        except Exception as error:
            _report(ctx, error)
            ctx.exit(1)


def _report(ctx: click.Context, error: Exception) -> None:
    """Print the one line that says what failed, after the traceback where --verbose asks for it."""
    if is_verbose(ctx):
        traceback.print_exc()
    if isinstance(error, (BothwaysError, OSError)):
        message = str(error)
    elif isinstance(error, MemoryError):
        message = f"out of memory {error}".rstrip() + "; try a smaller --batch-tokens or --max-length"
    else:
        message = f"{type(error).__name__}: {error} (this is a fault in Bothways; --verbose shows where)"
    click.echo(f"error: {message}", err=True)


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        click.echo(f"bothways {version('bothways')}")
    except PackageNotFoundError:
        click.echo("bothways (run from its sources, not installed)")
    ctx.exit()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Turn text into vectors with encoder models (BERT, RoBERTa, DistilBERT), fast on an ordinary CPU."""
