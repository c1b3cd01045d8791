"""The moving belt: texts in, sequences tokenized ahead, packed into batches, computed, results out in input order.

Texts are read in the caller's thread and tokenized in another while the engine computes. Memory is bounded
by a batch and a few chunks of text, not by the input.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, TypeVar

from bothways.batch import split
from bothways.errors import InputError, OutOfMemory
from bothways.tokens import Sequence

__all__ = ["BATCH_TOKENS", "characters", "run"]

#: Tokens in a batch: enough that reading every weight once per batch costs little beside computing with it,
#: few enough that a base-size network's widest activations take tens of megabytes.
BATCH_TOKENS = 4096

# A chunk is what the tokenizing thread takes at once; it ends at whichever of these comes first.
_CHUNK_TEXTS = 256
_CHUNK_CHARACTERS = 32_768

# Chunks tokenized, or waiting to be, while a batch is computed; fewer where they are long.
_CHUNKS_AHEAD = 4

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

#: (texts, number of the first text) -> their sequences, in order.
_Tokenize = Callable[[list[_Item], int], list[Sequence]]

#: The number of the first text, the texts, and their weight.
_Chunk = tuple[int, list[_Item], int]


def characters(text: Any) -> int:
    """How long a text, a pair or a list of words is."""
    return len(text) if isinstance(text, str) else sum(len(part) for part in text)


def run(
    texts: Iterable[_Item],
    tokenize: _Tokenize[_Item],
    compute: Callable[[list[Sequence]], _Result],
    *,
    batch_tokens: int = BATCH_TOKENS,
    weight: Callable[[_Item], int] = characters,
) -> Iterator[tuple[list[Sequence], _Result]]:
    """Yield batch after batch, in input order: its sequences and what `compute` made of them.

    A failure of `texts` or `tokenize` is raised after everything before it has been yielded. Batches follow
    the input's order: packed sequences waste nothing on unequal lengths, so there is no sorting by length.
    `weight` says how many characters are tokenized for a text, which bounds what is tokenized ahead.

    Raises:
        InputError: The process was forked since the first batch was asked for.
        OutOfMemory: A batch of one sequence does not fit in memory. Larger batches are halved and tried again.
    """
    failures: list[Exception] = []
    process = os.getpid()
    sequences = _until_failure(_tokenized(_chunks(_until_failure(texts, failures), weight), tokenize), failures)
    for batch in split(sequences, batch_tokens):
        yield from _computed(batch, compute)
        if os.getpid() != process:
            # The thread that tokenizes stayed with the parent: to wait for it would be to wait for ever.
            raise InputError("this stream was begun before a fork; begin a new one in the child")
    if failures:
        # The source is read ahead, so of two failures the tokenizer's, noted later, concerns the earlier text.
        raise failures[-1]


def _until_failure(items: Iterable[_Item], failures: list[Exception]) -> Iterator[_Item]:
    """Pass items on; let a failure look like the end, so that what came before it is still worked off."""
    try:
        yield from items
    except Exception as failure:
        failures.append(failure)


def _tokenized(chunks: Iterator[_Chunk[_Item]], tokenize: _Tokenize[_Item]) -> Iterator[Sequence]:
    """Tokenize in a thread, some chunks ahead; a single chunk is not worth a thread."""
    begin = list(islice(chunks, 2))
    if len(begin) < 2:
        for first, chunk, _ in begin:
            yield from _passed_on(_attempt(tokenize, chunk, first))
        return
    from concurrent.futures import ThreadPoolExecutor

    # The executor belongs to this call: nothing is shared between callers or inherited by a fork.
    executor = ThreadPoolExecutor(1, thread_name_prefix="bothways-tokenize")
    try:
        ahead: deque[tuple[Any, int]] = deque()
        waiting = 0
        for first, chunk, size in chain(begin, chunks):
            ahead.append((executor.submit(_attempt, tokenize, chunk, first), size))
            waiting += size
            # One text may be many times a chunk, as where it is paired with thousands of labels.
            while len(ahead) >= _CHUNKS_AHEAD or (len(ahead) > 1 and waiting > _CHUNKS_AHEAD * _CHUNK_CHARACTERS):
                attempt, size = ahead.popleft()
                waiting -= size
                yield from _passed_on(attempt.result())
        while ahead:
            yield from _passed_on(ahead.popleft()[0].result())
    finally:
        executor.shutdown(cancel_futures=True)


def _chunks(texts: Iterator[_Item], weight: Callable[[_Item], int]) -> Iterator[_Chunk[_Item]]:
    """Cut texts into chunks."""
    chunk: list[_Item] = []
    first = total = 0
    for text in texts:
        chunk.append(text)
        total += weight(text)
        if len(chunk) == _CHUNK_TEXTS or total >= _CHUNK_CHARACTERS:
            yield first, chunk, total
            first += len(chunk)
            chunk, total = [], 0
    if chunk:
        yield first, chunk, total


def _attempt(tokenize: _Tokenize[_Item], chunk: list[_Item], first: int) -> tuple[list[Sequence], Exception | None]:
    """Tokenize a chunk; if a text fails, also return the sequences of the texts before it."""
    try:
        return tokenize(chunk, first), None
    except Exception:
        return _one_by_one(tokenize, chunk, first)


def _one_by_one(tokenize: _Tokenize[_Item], chunk: list[_Item], first: int) -> tuple[list[Sequence], Exception | None]:
    sequences: list[Sequence] = []
    for n, text in enumerate(chunk):
        try:
            sequences += tokenize([text], first + n)
        except Exception as failure:
            return sequences, failure
    return sequences, None


def _passed_on(attempt: tuple[list[Sequence], Exception | None]) -> Iterator[Sequence]:
    sequences, failure = attempt
    yield from sequences
    if failure is not None:
        raise failure


def _computed(
    batch: list[Sequence], compute: Callable[[list[Sequence]], _Result]
) -> Iterator[tuple[list[Sequence], _Result]]:
    """Compute a batch, or its halves where it does not fit in memory."""
    try:
        result = compute(batch)
    except MemoryError:
        if len(batch) == 1:
            raise OutOfMemory(
                f"a sequence of {len(batch[0])} tokens does not fit in memory; pass a smaller max_length, "
                'or to embed truncation="window"'
            ) from None
    else:
        yield batch, result
        return
    middle = len(batch) // 2
    yield from _computed(batch[:middle], compute)
    yield from _computed(batch[middle:], compute)
