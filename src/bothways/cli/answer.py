"""`bothways answer`: questions and contexts in, the pieces of the contexts that answer out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from itertools import tee
from typing import TYPE_CHECKING, Any

import click

from bothways.cli.progress import Progress
from bothways.cli.results import Column, Shape
from bothways.cli.tasks import Job, percent, task_options, window_option
from bothways.tasks.answer import MAX_TOKENS, Answer

if TYPE_CHECKING:
    from bothways.encoder import Encoder

__all__ = ["command"]


def _lines(given: tuple[str, ...], answers: list[Answer]) -> Iterator[tuple[str, ...]]:
    for n, answer in enumerate(answers):
        question = given[1] if n == 0 and len(given) > 1 else ""
        place = f"{answer.start}-{answer.end}" if answer.text else ""
        yield question, answer.text or "(no answer)", percent(answer.score), place


def _lines_alone(given: tuple[str, ...], answers: list[Answer]) -> Iterator[tuple[str, ...]]:
    return (line[1:] for line in _lines(given, answers))


_COLUMNS = (Column("question"), Column("answer"), Column("score", 10, right=True), Column("characters", 16, right=True))
_ANSWERS = Shape(("context",), "answers", Answer, _COLUMNS[1:], _lines_alone)
_ANSWERS_TO_MANY = Shape(("context", "question"), "answers", Answer, _COLUMNS, _lines)


@click.command("answer", short_help="Find the piece of a text that answers a question.")
@task_options
@click.option("--question", metavar="TEXT", help="What is asked of every text.")
@click.option("--question-column", metavar="NAME", help="The input column that holds a question for each text.")
@click.option("--top-k", type=click.IntRange(min=1), default=1, show_default=True, help="Answers to each question.")
@click.option(
    "--max-answer-tokens", type=click.IntRange(min=1), default=15, show_default=True, help="The longest answer."
)
@click.option("--impossible", is_flag=True, help="Also offer that there is no answer.")
@click.option("--whole-words/--no-whole-words", default=True, show_default=True, help="Extend answers to whole words.")
@window_option
@click.option("--stride", type=click.IntRange(min=0), metavar="N", help="Tokens that a window repeats.")
def command(*, job: Job, question: str | None, question_column: str | None, window: bool, **how: Any) -> None:
    """Find the piece of a text that answers a question.

    The texts to search come from the command line or from --input, the question from --question or, text by text, from
    --question-column. Answers go to --output, or to standard output: as a table on a terminal, as JSON lines anywhere
    else. Places are counted in characters.
    """
    if (question is None) == (question_column is None):
        raise click.UsageError("give a question: one of --question and --question-column")

    def task(encoder: Encoder, rows: Iterator[tuple[str, ...]], progress: Progress) -> Iterable[list[Any]]:
        first, second = tee(rows)  # read in step, so that hardly a row waits
        answers = encoder.answer(
            question if question is not None else (row[1] for row in second),
            (row[0] for row in first),
            truncation=job.long_texts(window),
            progress=progress.report,
            **how,
        )
        return ([dataclasses.replace(best, others=()), *best.others] for best in answers)

    def limit(encoder: Encoder) -> int:
        return min(MAX_TOKENS, encoder.tokenizer.max_tokens)

    job.run(job.source(question_column), _ANSWERS if question_column is None else _ANSWERS_TO_MANY, task, limit=limit)
