"""`bothways inspect`: what a checkpoint is, and what its tokenizer makes of a text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from bothways.cli.options import check_utf8, json_option, name_options
from bothways.cli.output import printable, shortened

if TYPE_CHECKING:
    from bothways.embed_spec import EmbedSpec
    from bothways.inspection import Inspection, LengthLimits, TokenizedText

__all__ = ["command"]

_SHOWN = 8  # labels, tensors or tokens that are named before the rest is counted

_LIMITS = {
    "positions": "what the network can read",
    "tokenizer": "the tokenizer's limit",
    "embedding": "the sentence-transformers files' limit",
}


@click.command("inspect", short_help="Say what a checkpoint is, without loading it.")
@click.argument("texts", nargs=-1, metavar="[TEXT]", callback=check_utf8)
@name_options
@click.option("--hash/--no-hash", "hashes", default=True, help="Compute the files' SHA-256, which reads them.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, *, model: str, revision: str | None, texts: tuple[str, ...], hashes: bool, as_json: bool
) -> None:
    """Say what a checkpoint is, without loading it: sizes, parameters, heads, tasks, tokenizer, limits, files.

    With a TEXT also its tokens, and what `bothways embed` would cut off.
    A checkpoint that Bothways can't compute is described as far as possible; the exit code is then 1.
    """
    if len(texts) > 1:
        raise click.UsageError(f"inspect takes one text, not {len(texts)}; put it in quotes")
    from bothways.inspection import inspect

    found = inspect(model, texts[0] if texts else None, revision=revision, hashes=hashes)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2, ensure_ascii=False))
    else:
        _print(found)
    if found.problem:
        click.echo(f"error: {found.problem}", err=True)
        ctx.exit(1)


def _print(found: Inspection) -> None:
    for name, value in (*_network(found), *_heads(found), *_reading(found)):
        click.echo(f"{name:<14} {printable(value)}")
    click.echo("files")
    width = max((len(printable(file.name)) for file in found.files), default=0)
    for file in found.files:
        click.echo(f"  {printable(file.name):<{width}}  {_size(file.bytes):>8}  {file.sha256 or ''}".rstrip())
    if found.text is not None:
        _print_tokens(found.text)


def _network(found: Inspection) -> Iterator[tuple[str, str]]:
    yield "name", found.name
    yield "folder", found.folder
    if found.revision:
        yield "commit", found.revision
    named = found.model_type or "not named"
    yield "model type", f"{named} ({', '.join(found.architectures)})" if found.architectures else named
    if found.family:
        yield "family", found.family
    if found.sizes:
        yield "sizes", ", ".join(f"{name.replace('_', ' ')} {size:,}" for name, size in found.sizes.items())
    if found.parameters:
        parts = ", ".join(f"{name} {count:,}" for name, count in found.parameters.items() if name != "total" and count)
        total = f"{found.parameters['total']:,}"
        yield "parameters", f"{total} ({parts})" if parts else total
    for each in found.stored:
        yield "stored", f"{each.dtype}: {each.tensors} tensors, {each.values:,} values, {_size(each.bytes)}"
    if found.memory:
        yield (
            "memory",
            ", ".join(f"{dtype} {_size(size)}" for dtype, size in found.memory.items()) + " (weights, about)",
        )
    if found.surplus:
        yield "not used", _some(found.surplus)


def _heads(found: Inspection) -> Iterator[tuple[str, str]]:
    for head in found.heads:
        spoken = head.kind.replace("_", " ")
        labels = f": {len(head.labels)} labels ({_some(head.labels)}), {head.problem.replace('_', ' ')}"
        yield "head", spoken + labels if head.labels else spoken
    if found.tasks:
        yield "tasks", ", ".join(found.tasks)


def _reading(found: Inspection) -> Iterator[tuple[str, str]]:
    if (tokenizer := found.tokenizer) is not None:
        case = "lower case" if tokenizer.lower_case else "case kept"
        by = "the native core" if tokenizer.fast else "the tokenizers library"
        yield "tokenizer", f"{tokenizer.kind}, {tokenizer.vocabulary:,} tokens, {case}, for embed by {by}"
        yield "special", _some([f"{token} {number}" for token, number in tokenizer.special.items()])
    if found.limits is not None:
        yield "tokens", _in_words(found.limits)
    if (embed := found.embedding) is not None:
        yield from _kind(embed)
        yield "similarity", embed.similarity
        for layer in embed.dense:
            yield "dense", f"{layer.in_features} to {layer.out_features}, {layer.activation}"
        if embed.dimensions:
            yield "dimensions", f"the first {embed.dimensions}"
        for name, prompt in embed.prompts.items():
            yield "prompt", f"{name}: {prompt!r}" + (" (default)" if name == embed.default_prompt else "")


def _kind(embed: EmbedSpec) -> Iterator[tuple[str, str]]:
    if embed.splade is not None:
        yield "embeddings", f"weighted terms (--sparse), the {embed.splade.pooling} over tokens"
    elif embed.late is not None:
        sizes = [f" of {layer.out_features} values" for layer in embed.late.dense[-1:]]
        yield "embeddings", f"a vector{''.join(sizes)} for each token (--tokens), queries by --prompt-name query"
    else:
        yield "pooling", f"{', '.join(embed.pooling)} ({embed.pooling_from})"
        yield "normalize", "yes" if embed.normalize else "no"


def _in_words(limits: LengthLimits) -> str:
    embed = f"embed takes {limits.embed} ({_LIMITS[limits.embed_from]})"
    return f"{embed}, other tasks {limits.tokens} ({_LIMITS[limits.tokens_from]})"


def _print_tokens(text: TokenizedText) -> None:
    width = max((len(printable(token.token)) for token in text.tokens), default=0)
    click.echo(f"\n{shortened(text.text)}")
    if text.cut_tokens:
        rest = shortened(text.text[text.kept_characters :])
        click.echo(f"{text.cut_tokens} tokens would be cut, from character {text.kept_characters} on: {rest}")
    click.echo(f"{'id':>8}  {'token':<{width}}  characters")
    for token in text.tokens:
        place = f"{token.start}-{token.end}" if token.end > token.start else ""
        special = "special" if token.special else ""
        click.echo(f"{token.id:>8}  {printable(token.token):<{width}}  {place:<10}  {special}".rstrip())


def _some(items: Sequence[str]) -> str:
    rest = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _size(count: int) -> str:
    if count < 1000:
        return f"{count} B"
    return (
        f"{count / 1e9:.2f} GB"
        if count >= 1e9
        else f"{count / 1e6:.1f} MB"
        if count >= 1e6
        else f"{count / 1e3:.1f} kB"
    )
