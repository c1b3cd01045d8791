"""The command line: the group `main`, which imports a command only when it is asked for.

Every error becomes one line here, and every way to end becomes an exit code: 0 done, 1 failed, 2 bad usage,
130 interrupted, 143 terminated.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
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
    "classify": "Label texts, or pairs of texts.",
    "tag": "Find labelled spans, such as names, in texts.",
    "answer": "Find the piece of a text that answers a question.",
    "rerank": "Order documents by how well they answer a query.",
    "zero-shot": "Label texts with any labels.",
    "fill-mask": "Find the tokens that fit where a text has a mask.",
    "serve": "Serve models over HTTP to the clients of other APIs.",
    "inspect": "Say what a checkpoint is, without loading it.",
    "bench": "Measure how fast a model runs here, beside other libraries if wanted.",
    "doctor": "Say what this machine offers and test the arithmetic.",
}

# The shell's numbers for a program ended by Ctrl-C and by SIGTERM.
_INTERRUPTED = 130
_TERMINATED = 143

#: What the library calls an option, and what it is called here.
_OPTIONS = {
    "max_length": "--max-length",
    "batch_tokens": "--batch-tokens",
    "prompt_name": "--prompt-name",
    'prompt=""': '--prompt ""',
    "revision=": "--revision ",
    "sparse=True": "--sparse",
    "tokens=True": "--tokens",
    "truncation=True": "--truncation",
    "truncation=False": "--no-truncation",
    'truncation="window"': "--window",
    'truncation "window"': "--window",
}
# Whole words only, and none inside a quoted or longer name such as that of a file.
_OPTION = re.compile(r"(?<![\w'\"./-])(?:" + "|".join(map(re.escape, _OPTIONS)) + r")(?!\w|['\"/-]|\.\w)")


class _LazyGroup(click.Group):
    """A group that knows its commands by name and imports the module of the one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"bothways.cli.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _signals_unwind():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            # The reader (head, less) has what it wanted: nothing failed. Python's own flush at exit must not complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except KeyboardInterrupt as interrupt:
            click.echo("; ".join(["interrupted", *map(str, interrupt.args)]), err=True)
            ctx.exit(_INTERRUPTED)
        except Exception as error:
            _report(ctx, error)
            ctx.exit(1)


@contextmanager
def _signals_unwind() -> Iterator[None]:
    """Let SIGTERM unwind the program as Ctrl-C does, so that an unfinished output is removed."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    # Only the main thread may do this, and a signal that is ignored or handled already is the caller's affair.
    in_main = threading.current_thread() is threading.main_thread()
    taken = {n: handler for n, handler in usual.items() if in_main and signal.getsignal(n) == handler}
    for n in taken:
        signal.signal(n, _unwind)
    try:
        yield
    finally:
        for n, handler in taken.items():
            if signal.getsignal(n) == _unwind:
                signal.signal(n, handler)


def _unwind(number: int, _: FrameType | None) -> None:
    # From here on the program ends: a second signal must not cut the cleaning up short.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(_TERMINATED)


def _report(ctx: click.Context, error: Exception) -> None:
    """Print the one line that says what failed, after the traceback where --verbose asks for it."""
    if is_verbose(ctx):
        traceback.print_exc()
    if isinstance(error, BothwaysError):
        message = _OPTION.sub(lambda found: _OPTIONS[found[0]], str(error))
    elif isinstance(error, OSError):
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
    """Turn text into vectors, labels, spans and scores with encoder models (BERT, RoBERTa, DistilBERT) on the CPU."""
