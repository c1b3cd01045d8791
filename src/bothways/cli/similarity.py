"""`bothways similarity`: one score for two texts, a matrix for more."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np

from bothways.cli.options import ModelChoice, embed_limit, json_option, load, model_options
from bothways.cli.output import Vector, json_numbers, open_file, shortened, to_terminal
from bothways.cli.progress import Progress
from bothways.cli.sources import check_output_name, check_target, chosen_texts, source_options
from bothways.errors import InputError

__all__ = ["command"]


@click.command("similarity", short_help="Score how similar texts are to each other.")
@source_options
@click.option("--output", "output_name", metavar="FILE", help=".npy: the matrix of scores, float32.")
@model_options
@json_option
def command(
    *,
    choice: ModelChoice,
    texts: tuple[str, ...],
    input_name: str | None,
    format: str | None,
    column: str | None,
    output_name: str | None,
    as_json: bool,
) -> None:
    """Score how similar texts are to each other.

    Texts come from the command line or from --input. Two give one score, more give a matrix, every text against every
    other: to --output, or to standard output as a table on a terminal, as JSON anywhere else.
    The measure is the checkpoint's own, cosine where it names none.
    """
    if input_name is None and len(texts) < 2:
        raise click.UsageError(f"similarity needs two texts or more, not {len(texts)}")
    check_output_name(output_name)
    output = None if output_name is None else Path(output_name)
    if output is not None:
        check_target(output, input_name, (".npy",))
    texts = tuple(chosen_texts(texts, input_name, column, format))
    if len(texts) < 2:
        raise InputError(f"similarity needs two texts or more, and {input_name} has {len(texts)}")
    encoder = load(choice)
    progress = Progress(len(texts), show=False)
    if encoder.spec.embed.splade is not None or encoder.spec.embed.late is not None:
        scores = encoder.similarity(
            list(texts), list(texts)
        )  # of token vectors, each as a query with each as a document
    else:
        embeddings = encoder.embed(list(texts), progress=progress.report)
        scores = encoder.similarity(embeddings, embeddings)
        progress.note_truncated(embed_limit(encoder, choice))
    if output is not None:
        with open_file(output, len(texts), np.dtype(np.float32)) as writer:
            for text, row in zip(texts, scores, strict=True):
                writer.write(text, row)
    elif as_json or (len(texts) > 2 and not to_terminal()):
        matrix = "[" + ", ".join(map(json_numbers, scores)) + "]"
        start = json.dumps({"similarity": encoder.spec.embed.similarity, "texts": texts}, ensure_ascii=False)[:-1]
        click.echo(f'{start}, "scores": {matrix}}}')
    elif len(texts) == 2:
        click.echo(f"{scores[0, 1]:.4f}")
    else:
        _print_matrix(texts, scores)


def _print_matrix(texts: tuple[str, ...], scores: Vector) -> None:
    """The texts are long and the cells narrow, so columns carry the number that stands before the text of their row."""
    label = len(str(len(texts)))
    click.echo(" " * label + "".join(f"{n:>9}" for n in range(1, len(texts) + 1)))
    for n, text in enumerate(texts):
        click.echo(f"{n + 1:>{label}}" + "".join(f"{score:9.4f}" for score in scores[n]) + f"  {shortened(text)}")
