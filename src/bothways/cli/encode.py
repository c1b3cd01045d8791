"""`bothways encode`: a model's tokens, shapes and first values, as people print them while they learn."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from bothways.cli.options import ModelChoice, check_utf8, json_option, load, model_options, truncation_option
from bothways.cli.output import Vector, json_numbers, printable

if TYPE_CHECKING:
    from bothways.tasks.encode import Encoded

__all__ = ["command"]

_VALUES = 5  # values of each vector that are shown


@click.command("encode", short_help="Show the tokens and token vectors of texts.")
@click.argument("texts", nargs=-1, required=True, metavar="TEXT...", callback=check_utf8)
@model_options
@truncation_option
@json_option
def command(*, choice: ModelChoice, texts: tuple[str, ...], truncation: bool, as_json: bool) -> None:
    """Show the tokens and token vectors of texts.

    Prints shapes and first values; --json prints every value, one object a text.
    """
    encoded = load(choice).encode(list(texts), truncation=truncation)
    if as_json:
        _print_json(encoded, texts)
    else:
        _print_summary(encoded, texts)


def _print_json(encoded: Encoded, texts: tuple[str, ...]) -> None:
    rows = zip(texts, encoded.tokens, encoded.offsets, encoded.truncated, strict=True)
    for n, (text, tokens, offsets, truncated) in enumerate(rows):
        length = len(tokens)
        fields = {
            "text": json.dumps(text, ensure_ascii=False),
            "input_ids": json.dumps(encoded.input_ids[n, :length].tolist()),
            "tokens": json.dumps(tokens, ensure_ascii=False),
            "offsets": json.dumps(offsets.tolist()),
            "truncated": json.dumps(truncated),
            "last_hidden_state": "[" + ", ".join(map(json_numbers, encoded.last_hidden_state[n, :length])) + "]",
            "pooler_output": "null" if encoded.pooler_output is None else json_numbers(encoded.pooler_output[n]),
            "pooler_reason": json.dumps(encoded.pooler_reason),
        }
        click.echo("{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}")


def _print_summary(encoded: Encoded, texts: tuple[str, ...]) -> None:
    click.echo(f"input_ids          {_shape(encoded.input_ids)}")
    click.echo(f"attention_mask     {_shape(encoded.attention_mask)}")
    click.echo(f"last_hidden_state  {_shape(encoded.last_hidden_state)}")
    if encoded.pooler_output is None:
        click.echo(f"pooler_output      None: {encoded.pooler_reason}")
    else:
        click.echo(f"pooler_output      {_shape(encoded.pooler_output)}")
    rows = zip(texts, encoded.tokens, encoded.offsets, encoded.truncated, strict=True)
    for n, (text, tokens, offsets, truncated) in enumerate(rows):
        cut = f"  ({truncated} tokens were cut)" if truncated else ""
        click.echo(f"\n{printable(text)}{cut}")
        _print_tokens(encoded, n, [printable(token) for token in tokens], offsets.tolist())


def _print_tokens(encoded: Encoded, n: int, tokens: list[str], offsets: list[list[int]]) -> None:
    """A line a token: its id, string, characters and first values; then the pooler's output where there is one."""
    width = max(len("pooler_output"), *map(len, tokens))
    click.echo(f"{'id':>8}  {'token':<{width}}  {'characters':<10}  last_hidden_state")
    for i, (token, (start, end)) in enumerate(zip(tokens, offsets, strict=True)):
        characters = f"{start}-{end}" if end > start else ""
        values = _first(encoded.last_hidden_state[n, i])
        click.echo(f"{encoded.input_ids[n, i]:>8}  {token:<{width}}  {characters:<10}  {values}")
    if encoded.pooler_output is not None:
        click.echo(f"{'':>8}  {'pooler_output':<{width}}  {'':<10}  {_first(encoded.pooler_output[n])}")


def _shape(array: Vector) -> str:
    return f"{array.shape!s:<16} {array.dtype}"


def _first(vector: Vector) -> str:
    more = " ..." if len(vector) > _VALUES else ""
    return " ".join(f"{value:8.4f}" for value in vector[:_VALUES]) + more
