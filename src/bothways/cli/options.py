"""Options that several commands share, and how they become an `Encoder`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from bothways.errors import InputError
from bothways.spec import DTYPES

if TYPE_CHECKING:
    from bothways.encoder import Encoder

__all__ = [
    "ModelChoice",
    "check_utf8",
    "embed_limit",
    "is_verbose",
    "json_option",
    "load",
    "model_options",
    "name_options",
    "truncation_option",
    "verbose_option",
]

_VERBOSE = "bothways.verbose"

_Command = Callable[..., None]


@dataclass(frozen=True)
class ModelChoice:
    """Which checkpoint to load, and how."""

    model: str
    revision: str | None
    dtype: str
    threads: int | None
    max_length: int | None


def load(choice: ModelChoice, *, batch_tokens: int | None = None) -> Encoder:
    """Load the chosen checkpoint; with --verbose, name the tensors in it that no task here uses."""
    from bothways.encoder import Encoder

    encoder = Encoder.from_pretrained(
        choice.model,
        revision=choice.revision,
        dtype=choice.dtype,
        threads=choice.threads,
        max_length=choice.max_length,
        batch_tokens=batch_tokens,
    )
    if is_verbose():
        surplus = ", ".join(encoder.checkpoint.surplus) or "none"
        click.echo(f"tensors of the checkpoint that were not used: {surplus}", err=True)
    return encoder


def embed_limit(encoder: Encoder, choice: ModelChoice) -> int:
    """The tokens that `Encoder.embed` takes of a text, special ones included."""
    from bothways.tasks.embed import token_limit

    return choice.max_length or token_limit(encoder.spec, encoder.tokenizer)


def check_utf8(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse arguments whose bytes are no text: Python carries such bytes as lone surrogates."""
    for number, text in enumerate(texts, 1):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"argument {number} is not valid UTF-8 (at character {error.start}); check the terminal's encoding"
            ) from error
    return texts


def is_verbose(ctx: click.Context | None = None) -> bool:
    """Whether --verbose was given to the command that runs."""
    ctx = ctx or click.get_current_context()
    return bool(ctx.meta.get(_VERBOSE, False))


def _remember_verbose(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    ctx.meta[_VERBOSE] = wanted  # meta is shared with the group, which reports errors


def _require_model(_: click.Context, __: click.Parameter, model: str | None) -> str:
    if not model:
        raise click.UsageError(
            "no model given, and there is no default one: pass --model NAME or set BOTHWAYS_MODEL "
            "(a checkpoint folder, a hub name such as org/name, or pkg:package/folder)"
        )
    return model


verbose_option = click.option(
    "--verbose",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_remember_verbose,
    help="Show tracebacks, and what of the checkpoint was not used.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs to read.")

truncation_option = click.option(
    "--truncation/--no-truncation",
    default=True,
    show_default=True,
    help="Cut texts that are too long, or fail on them.",
)

_MODEL_OPTIONS = (
    click.option(
        "--model",
        metavar="NAME",
        envvar="BOTHWAYS_MODEL",
        show_envvar=True,
        callback=_require_model,
        help="A checkpoint folder, a hub name (org/name) or pkg:package/folder.",
    ),
    click.option("--revision", metavar="COMMIT", help="The commit, tag or branch of a hub name."),
    click.option(
        "--dtype",
        type=click.Choice(DTYPES),
        default=DTYPES[0],
        show_default=True,
        help="The arithmetic's number type.",
    ),
    click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads; see `bothways doctor`."),
    click.option("--max-length", type=click.IntRange(min=1), metavar="N", help="The most tokens a text may have."),
)


def name_options(command: _Command) -> _Command:
    """Give a command the options that name a model but load nothing."""
    for option in reversed((*_MODEL_OPTIONS[:2], verbose_option)):
        command = option(command)
    return command


def model_options(command: _Command) -> _Command:
    """Give a command the options that choose a model; it receives them as one `ModelChoice` named `choice`."""

    @functools.wraps(command)
    def gathered(
        *, model: str, revision: str | None, dtype: str, threads: int | None, max_length: int | None, **rest: Any
    ) -> None:
        command(choice=ModelChoice(model, revision, dtype, threads, max_length), **rest)

    for option in reversed((*_MODEL_OPTIONS, verbose_option)):
        gathered = option(gathered)
    return gathered
