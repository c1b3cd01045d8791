"""Where results of tasks go: .jsonl and .parquet files, JSON lines or a table on standard output.

Every writer takes the results of one text at a time and keeps a bounded number of them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bothways.cli.files import import_parquet
from bothways.cli.output import Sink, printable, replaced, to_terminal
from bothways.errors import BothwaysError, InputError

__all__ = ["ENDINGS", "Column", "Shape", "Writer", "open_results"]

#: What a results file can be called.
ENDINGS = (".jsonl", ".parquet")

_PARQUET_ROWS = 4096  # texts held before a Parquet row group is written
_TABLE_ROWS = 20  # rows held before a piece of the table is printed
_GAP = 2  # columns of the terminal between those of a table
_LEAST = 12  # columns of the terminal that a text gets at least


@dataclass(frozen=True)
class Column:
    """A column of the table; of those without a width, each takes an equal share of what is left."""

    name: str
    width: int | None = None
    right: bool = False


@dataclass(frozen=True)
class Shape:
    """How the results of a task are written.

    Attributes:
        given: What the texts are called in JSON: "text", or "question" and "context".
        found: What the list of results is called.
        kind: The dataclass of a result; None where each text has one of its own, written beside it.
        columns: The table's.
        lines: (given texts, results) -> the table's lines.
    """

    given: tuple[str, ...]
    found: str
    kind: type
    columns: tuple[Column, ...]
    lines: Callable[[tuple[str, ...], list[Any]], Iterator[tuple[str, ...]]]

    @property
    def fields(self) -> dict[str, type]:
        """What a result holds, by name; results nested in it are not written."""
        kinds = {"str": str, "float": float, "int": int}
        return {f.name: kinds[str(f.type)] for f in dataclasses.fields(self.kind) if str(f.type) in kinds}

    def row(self, given: tuple[str, ...], results: list[Any]) -> dict[str, Any]:
        """A text's results as JSON has them.

        Raises:
            BothwaysError: A score is NaN or infinite, which JSON has no word for.
        """
        found = [{name: getattr(result, name) for name in self.fields} for result in results]
        for values in found:
            for name, value in values.items():
                if isinstance(value, float) and not math.isfinite(value):
                    raise BothwaysError(f"a {name} is {value}, which JSON can't carry; are the weights sound?")
        return {**dict(zip(self.given, given, strict=True)), self.found: found}

    def arrow_row(self, given: tuple[str, ...], results: list[Any]) -> dict[str, Any]:
        """A text's results as a Parquet file has them."""
        return self.row(given, results)

    def arrow_type(self, arrow: Any) -> Any:
        """The type of a Parquet file's column of results."""
        types = {str: arrow.string(), float: arrow.float64(), int: arrow.int64()}
        return arrow.list_(arrow.struct([(name, types[kind]) for name, kind in self.fields.items()]))


class Writer(Sink, ABC):
    """Takes texts with their results, in order."""

    def __init__(self, file: Any, shape: Shape) -> None:
        """Begin with nothing."""
        self._file, self._shape = file, shape

    @abstractmethod
    def write(self, given: tuple[str, ...], results: list[Any]) -> None:
        """Add one text's results."""


class _JsonWriter(Writer):
    """A JSON object a line; each line is flushed, so that a reader at the other end of a pipe sees it at once."""

    def write(self, given: tuple[str, ...], results: list[Any]) -> None:
        line = json.dumps(self._shape.row(given, results), ensure_ascii=False)
        self._file.write(f"{line}\n".encode())
        self._file.flush()


class _ParquetWriter(Writer):
    """The given texts' columns, and one with a list of results."""

    def __init__(self, file: IO[bytes], shape: Shape) -> None:
        super().__init__(file, shape)
        parquet = import_parquet()
        import pyarrow

        texts = [(name, pyarrow.string()) for name in shape.given]
        self._arrow = pyarrow
        self._schema = pyarrow.schema([*texts, (shape.found, shape.arrow_type(pyarrow))])
        self._writer = parquet.ParquetWriter(file, self._schema)
        self._rows: list[dict[str, Any]] = []

    def write(self, given: tuple[str, ...], results: list[Any]) -> None:
        self._rows.append(self._shape.arrow_row(given, results))
        if len(self._rows) == _PARQUET_ROWS:
            self.finish()

    def finish(self) -> None:
        if self._rows:
            self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []

    def close(self) -> None:
        self._writer.close()


class _TableWriter(Writer):
    """A table for people, printed a screenful at a time with the same column widths throughout."""

    def __init__(self, file: IO[str], shape: Shape) -> None:
        super().__init__(file, shape)
        from rich.console import Console

        self._console = Console(file=file, highlight=False)
        self._texts = 0
        self._begun = False
        self._rows: list[tuple[str, ...]] = []

    def write(self, given: tuple[str, ...], results: list[Any]) -> None:
        self._texts += 1
        shown = tuple(printable(text) for text in given)
        for n, line in enumerate(self._shape.lines(shown, results)):
            self._rows.append((str(self._texts) if n == 0 else "", *map(printable, line)))
        if len(self._rows) >= _TABLE_ROWS:
            self.finish()

    def finish(self) -> None:
        if not self._rows:
            return
        from rich.table import Table
        from rich.text import Text

        columns = (Column("", 5, right=True), *self._shape.columns)
        open_ended = sum(column.width is None for column in columns)
        taken = sum(_GAP + (column.width or 0) for column in columns)
        share = max(_LEAST, (self._console.width - taken) // max(open_ended, 1))
        table = Table(box=None, show_header=not self._begun, padding=(0, _GAP, 0, 0))
        for column in columns:
            justify: Any = "right" if column.right else "left"
            table.add_column(column.name, width=column.width or share, justify=justify, no_wrap=True)
        for row in self._rows:
            table.add_row(*map(Text, row))
        self._console.print(table)
        self._begun, self._rows = True, []


@contextmanager
def open_results(path: Path | None, shape: Shape, *, as_json: bool) -> Iterator[Writer]:
    """Write to a file, or to standard output: a table to a terminal, JSON lines anywhere else or where asked for."""
    writer: Writer
    if path is not None:
        kind = _ParquetWriter if path.suffix.lower() == ".parquet" else _JsonWriter
        with replaced(path) as file, closing(kind(file, shape)) as writer:
            yield writer
            writer.finish()
        return
    if sys.stdout is None:  # as after >&-
        raise InputError("standard output is closed; open it, or write to a file with --output FILE")
    plain = as_json or not to_terminal()
    writer = _JsonWriter(sys.stdout.buffer, shape) if plain else _TableWriter(sys.stdout, shape)
    yield writer
    writer.finish()
