"""Where embeddings go: .npy, .jsonl and .parquet files, JSON lines or a table on standard output.

Every writer takes one text and its embedding at a time and keeps a bounded number of them.
"""

from __future__ import annotations

import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from bothways.cli.files import import_parquet
from bothways.errors import BothwaysError, InputError

__all__ = [
    "Sink",
    "Vector",
    "Writer",
    "check_output",
    "json_numbers",
    "open_file",
    "open_stdout",
    "printable",
    "replaced",
    "shortened",
    "to_terminal",
]

Vector = npt.NDArray[Any]

_NPY_HEADER = 128  # bytes; fixed, so that the number of rows can be filled in at the end
_ROW_GROUP_BYTES = 8 << 20  # of embeddings held before a Parquet row group is written
_TABLE_ROWS = 20  # rows held before a piece of the table is printed
_TABLE_VALUES = 4  # values of an embedding that the table shows
_LABEL = 40  # characters of a text that stand for it


class Sink:
    """What is written to piece by piece."""

    def finish(self) -> None:
        """Write what is still held, if anything. Not called after an error."""

    def close(self) -> None:
        """Let go of what is open, if anything, after an error too."""


class Writer(Sink, ABC):
    """Takes texts with their embeddings, in order."""

    @abstractmethod
    def write(self, text: str, embedding: Vector) -> None:
        """Add one row."""


class _NpyWriter(Writer):
    """A two-dimensional .npy file (format 1.0 of numpy.lib.format), rows appended as they come."""

    def __init__(self, file: IO[bytes], dimensions: int, dtype: np.dtype[Any]) -> None:
        self._file, self._dimensions, self._dtype, self._rows = file, dimensions, dtype, 0
        file.write(self._header())

    def _header(self) -> bytes:
        shape = (self._rows, self._dimensions)
        fields = f"{{'descr': {self._dtype.str!r}, 'fortran_order': False, 'shape': {shape}, }}"
        start = b"\x93NUMPY\x01\x00" + (_NPY_HEADER - 10).to_bytes(2, "little")
        return start + fields.ljust(_NPY_HEADER - 11).encode("ascii") + b"\n"

    def write(self, text: str, embedding: Vector) -> None:
        self._file.write(embedding.tobytes())
        self._rows += 1

    def finish(self) -> None:
        self._file.seek(0)
        self._file.write(self._header())


class _JsonWriter(Writer):
    """A JSON object a line; each line is flushed, so that a reader at the other end of a pipe sees it at once."""

    def __init__(self, file: IO[bytes], dimensions: int, dtype: np.dtype[Any]) -> None:
        self._file = file

    def write(self, text: str, embedding: Vector) -> None:
        start = json.dumps({"text": text}, ensure_ascii=False)[:-1]
        self._file.write(f'{start}, "embedding": {json_numbers(embedding)}}}\n'.encode())
        self._file.flush()

    def finish(self) -> None:
        self._file.flush()


class _ParquetWriter(Writer):
    """Columns `text` and `embedding` (a list of fixed size), a row group every few megabytes."""

    def __init__(self, file: IO[bytes], dimensions: int, dtype: np.dtype[Any]) -> None:
        parquet = import_parquet()
        import pyarrow

        self._arrow, self._dimensions = pyarrow, dimensions
        embedding = pyarrow.list_(pyarrow.from_numpy_dtype(dtype), dimensions)
        schema = pyarrow.schema([("text", pyarrow.string()), ("embedding", embedding)])
        self._schema = schema
        self._writer = parquet.ParquetWriter(file, schema, use_dictionary=False)
        self._group_rows = max(1, _ROW_GROUP_BYTES // max(1, dimensions * dtype.itemsize))
        self._texts: list[str] = []
        self._rows: list[Vector] = []

    def write(self, text: str, embedding: Vector) -> None:
        self._texts.append(text)
        self._rows.append(embedding)
        if len(self._rows) == self._group_rows:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        values = self._arrow.array(np.concatenate(self._rows))
        embeddings = self._arrow.FixedSizeListArray.from_arrays(values, self._dimensions)
        self._writer.write_table(
            self._arrow.table([self._arrow.array(self._texts, self._arrow.string()), embeddings], schema=self._schema)
        )
        self._texts, self._rows = [], []

    def finish(self) -> None:
        self._flush()

    def close(self) -> None:
        self._writer.close()


class _TableWriter(Writer):
    """A table for people, printed a screenful at a time with the same column widths throughout."""

    def __init__(self, file: IO[str], dimensions: int, dtype: np.dtype[Any]) -> None:
        from rich.console import Console

        self._console = Console(file=file, highlight=False)
        self._dimensions, self._shown = dimensions, 0
        self._rows: list[tuple[str, str]] = []

    def write(self, text: str, embedding: Vector) -> None:
        values = "  ".join(_short(value) for value in embedding[:_TABLE_VALUES])
        self._rows.append((printable(text), values + ("  …" if self._dimensions > _TABLE_VALUES else "")))
        if len(self._rows) == _TABLE_ROWS:
            self._print()

    def _print(self) -> None:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, show_header=self._shown == 0, padding=(0, 2, 0, 0))
        values_width = max(10 * _TABLE_VALUES, len(f"embedding ({self._dimensions} values)"))
        table.add_column("", justify="right", width=5)
        table.add_column("text", width=max(12, self._console.width - values_width - 11), no_wrap=True)
        table.add_column(f"embedding ({self._dimensions} values)", width=values_width, no_wrap=True)
        for number, (text, values) in enumerate(self._rows, self._shown + 1):
            table.add_row(str(number), Text(text), values)
        self._console.print(table)
        self._shown += len(self._rows)
        self._rows = []

    def finish(self) -> None:
        if self._rows:
            self._print()


#: What writes a file by its ending.
_WRITERS: dict[str, Callable[[IO[bytes], int, np.dtype[Any]], Writer]] = {
    ".npy": _NpyWriter,
    ".jsonl": _JsonWriter,
    ".parquet": _ParquetWriter,
}


def check_output(path: Path, endings: Iterable[str] = tuple(_WRITERS)) -> None:
    """Refuse an output path that can't be written, before any work is done.

    Raises:
        InputError: The ending is unknown, the folder isn't there or can't be written to, or the path is a folder.
    """
    if path.suffix.lower() not in endings:
        raise InputError(
            f"output {str(path)!r} has no known ending; use {', '.join(endings)}, "
            "or leave --output out to write to standard output"
        )
    if path.is_dir():
        raise InputError(f"output {str(path)!r} is a folder; give a file in it")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise InputError(f"output folder {str(path.parent)!r} isn't there; make it first")
    if not os.access(folder, os.W_OK):
        raise InputError(f"output {str(path)!r} can't be written: its folder is read-only for you; choose another one")
    if path.suffix.lower() == ".parquet":
        import_parquet()


@contextmanager
def open_file(path: Path, dimensions: int, dtype: np.dtype[Any]) -> Iterator[Writer]:
    """Write embeddings to a file; after an error or Ctrl-C, it is as it was before."""
    with replaced(path) as file, closing(_WRITERS[path.suffix.lower()](file, dimensions, dtype)) as writer:
        yield writer
        writer.finish()


@contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """Write beside `path` and rename at the end: after an error or Ctrl-C, `path` is as it was before."""
    target = path.resolve()  # through a symbolic link, which the rename would otherwise replace
    # Only the start of the name, as a name has a largest length.
    partial = target.with_name(f".{target.name[:40]}.{os.getpid()}-{os.urandom(3).hex()}.part")
    try:
        try:
            with _errors_name(path):
                file = open(partial, "xb")
            with file:
                yield file
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{path} was not changed") from None
        with _errors_name(path):
            os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _errors_name(path: Path) -> Iterator[None]:
    """Make errors of the system speak of the output that was asked for, not of the unfinished file beside it."""
    try:
        yield
    except OSError as error:
        raise InputError(f"output {str(path)!r} can't be written: {error.strerror}; choose another one") from error


def to_terminal() -> bool:
    """Whether standard output is a terminal, which gets tables instead of JSON lines."""
    return sys.stdout is not None and sys.stdout.isatty()


@contextmanager
def open_stdout(dimensions: int, dtype: np.dtype[Any], *, as_json: bool) -> Iterator[Writer]:
    """Write a table to a terminal, and JSON lines to anything else or where they are asked for."""
    if sys.stdout is None:  # as after >&-
        raise InputError("standard output is closed; open it, or write to a file with --output FILE")
    writer: Writer
    if as_json or not to_terminal():
        writer = _JsonWriter(sys.stdout.buffer, dimensions, dtype)
    else:
        writer = _TableWriter(sys.stdout, dimensions, dtype)
    yield writer
    writer.finish()


def json_numbers(values: Vector) -> str:
    """A vector as a JSON array; nine digits bring every float32 back exactly.

    Raises:
        BothwaysError: A value is NaN or infinite, which JSON has no word for.
    """
    if values.dtype.kind != "f":
        return json.dumps(values.tolist())
    if not np.isfinite(values).all():
        raise BothwaysError(
            "a vector holds NaN or infinity, which JSON can't carry; are the checkpoint's weights sound?"
        )
    return "[" + ", ".join(["%.9g"] * values.size) % tuple(values.tolist()) + "]"


def printable(text: str) -> str:
    """Text on one line, without the control characters that could move the cursor or colour the screen."""
    return "".join(c if c.isprintable() else " " for c in text)


def shortened(text: str) -> str:
    """Printable text, cut to a label's length."""
    text = printable(text)
    return text if len(text) <= _LABEL else text[: _LABEL - 3] + "..."


def _short(value: Any) -> str:
    return f"{value:8.4f}" if isinstance(value, np.floating) else f"{value:8d}"
