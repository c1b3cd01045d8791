"""Reads texts from files and from standard input, one by one, however large the input is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bothways.errors import InputError

if TYPE_CHECKING:
    import pyarrow.parquet

__all__ = ["FORMATS", "Texts", "given_texts", "import_parquet", "read_texts"]

_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_LARGEST_FIELD = 2**31 - 1  # characters in a csv field; Python's own limit of 131,072 is less than a long document
_PARQUET_ROWS = 1024  # rows decoded at a time


@dataclass
class Texts:
    """Texts to iterate over once.

    Attributes:
        name: What an error or a note calls the input.
        read: Yields the texts, each alone or with what stands in another column, and keeps `done` up to date.
        total: How much there is to read, in bytes, rows or texts; None where it can't be known.
        done: How much of `total` has been read.
    """

    name: str
    read: Callable[[Texts], Iterator[tuple[str, ...]]] = field(repr=False)
    total: int | None = None
    done: int = 0

    def __iter__(self) -> Iterator[str]:
        return (row[0] for row in self.read(self))

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The texts with what stands in the other column that was asked for."""
        return self.read(self)


def given_texts(texts: tuple[str, ...]) -> Texts:
    """The texts that stand on the command line."""

    def read(progress: Texts) -> Iterator[tuple[str, ...]]:
        for text in texts:
            progress.done += 1
            yield (text,)

    return Texts("the command line", read, total=len(texts))


def read_texts(name: str, column: str | None = None, format: str | None = None, second: str | None = None) -> Texts:
    """Open an input.

    Args:
        name: A file's path, or `-` for standard input.
        column: The column that holds the texts, `text` when None. Lines of plain text have no columns.
        format: One of `FORMATS`; when None the ending of the name says it, and `-` is plain text.
        second: Another column to read beside it.

    Raises:
        InputError: The file can't be read, here or later while iterating.
    """
    path = Path(name)
    ending = f".{format or 'txt'}" if format or name == "-" else path.suffix.lower()
    if ending not in _ENDINGS:
        raise InputError(
            f"input {name!r} has no known ending; use {', '.join(_ENDINGS)}, or - for standard input, "
            f"or say what it holds with --format {'|'.join(FORMATS)}"
        )
    columns = (column or "text", *([] if second is None else [second]))
    if (column is not None or second is not None) and ending == ".txt":
        raise InputError(
            f"column {column or second!r} asked of {name!r}, which is read as plain text, a text a line; "
            "leave --column out, or say what it holds with --format"
        )
    if name == "-":
        return Texts("standard input", lambda texts: _READERS[ending](texts, _standard_input(), columns))
    if not path.exists():
        raise InputError(f"there is no file {name!r}; check the path")
    if path.is_dir():
        raise InputError(f"{name!r} is a folder; give one of the files in it")
    if ending == ".parquet":
        return _parquet_texts(name, columns)
    total = path.stat().st_size if path.is_file() else None  # a pipe's size says nothing
    return Texts(name, lambda texts: _opened(texts, _READERS[ending], columns), total=total)


def _standard_input() -> IO[bytes]:
    if sys.stdin is None:
        raise InputError("standard input is closed; pipe the texts in, or use --input FILE")
    return sys.stdin.buffer


def _opened(texts: Texts, read: _Reader, columns: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    with open(texts.name, "rb") as file:
        yield from read(texts, file, columns)


def _lines(texts: Texts, file: IO[bytes]) -> Iterator[str]:
    """Decode the lines, with their ends; only a line feed ends a line, as other breaks may stand inside a text."""
    for number, line in enumerate(file, 1):
        texts.done += len(line)
        try:
            yield (line.removeprefix(_BOM) if number == 1 else line).decode("utf-8")
        except UnicodeDecodeError as error:
            encoding = "utf-16" if number == 1 and line.startswith(_UTF16_BOMS) else "latin1"
            raise InputError(
                f"{texts.name}, line {number}: byte 0x{line[error.start]:02x} at position {error.start} is not UTF-8; "
                f"convert the file first, e.g. iconv -f {encoding} -t utf-8"
            ) from error


def _plain(texts: Texts, file: IO[bytes], _: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """A text a line; an empty line is an empty text, so that rows and lines keep the same numbers."""
    for line in _lines(texts, file):
        yield (line.removesuffix("\n").removesuffix("\r"),)


def _jsonl(texts: Texts, file: IO[bytes], columns: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for number, line in enumerate(_lines(texts, file), 1):
        if not line.strip():
            continue
        place = f"{texts.name}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place} is not JSON ({error}); every line must be one JSON object") from error
        if not isinstance(row, dict):
            raise InputError(f"{place} is not a JSON object; write it as {{{json.dumps(columns[0])}: ...}}")
        _check_columns(place, columns, list(row))
        yield tuple(_checked(row[column], place, column) for column in columns)


def _csv(texts: Texts, file: IO[bytes], columns: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    return _separated(texts, file, columns, ",")


def _tsv(texts: Texts, file: IO[bytes], columns: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    return _separated(texts, file, columns, "\t")


def _separated(texts: Texts, file: IO[bytes], columns: tuple[str, ...], delimiter: str) -> Iterator[tuple[str, ...]]:
    import csv

    csv.field_size_limit(_LARGEST_FIELD)
    # Strict: a quote that is never closed is an error, where csv would else swallow the rest of the file as one field.
    rows = csv.reader(_lines(texts, file), delimiter=delimiter, strict=True)
    try:
        header = next(rows, None)
        if header is None:
            raise InputError(f"{texts.name} is empty; its first line must name the columns, {columns[0]!r} among them")
        _check_columns(texts.name, columns, header)
        for column in columns:
            if header.count(column) > 1:
                raise InputError(f"{texts.name} has {header.count(column)} columns {column!r}; give each its own name")
        for row in rows:
            if row:  # csv gives an empty line as no fields at all
                place = f"{texts.name}, line {rows.line_num}"
                spoken = "a tab" if delimiter == "\t" else "a comma"
                yield tuple(_field(row, header, column, place, spoken) for column in columns)
    except csv.Error as error:
        raise InputError(
            f"{texts.name}, line {rows.line_num}: {error}; check the quotes on this line and before"
        ) from error


def _field(row: list[str], header: list[str], column: str, place: str, delimiter: str) -> str:
    if len(row) > len(header):
        raise InputError(
            f"{place} has {len(row)} fields, the header only {len(header)}; "
            f'put fields that hold {delimiter} in double quotes: "..."'
        )
    index = header.index(column)
    if len(row) <= index:
        raise InputError(f"{place} has only {len(row)} of {len(header)} fields, so none for {column!r}")
    return row[index]


def import_parquet() -> Any:
    """Import pyarrow.parquet, which the extra `tables` brings."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError('.parquet files need pyarrow; run: pip install "bothways[tables]"') from error
    return pyarrow.parquet


def _parquet_texts(name: str, columns: tuple[str, ...]) -> Texts:
    """Open a Parquet file and check its columns at once, as all of it stands in the file's footer."""
    import_parquet()
    import pyarrow

    try:
        file = pyarrow.parquet.ParquetFile(name)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{name!r} is not a Parquet file that pyarrow can read: {error}") from error
    schema = file.schema_arrow
    _check_columns(name, columns, schema.names)
    for column in columns:
        kind = schema.field(column).type
        if not _holds_strings(kind):
            raise InputError(f"{name}: column {column!r} holds {kind}, not strings; name another column with --column")
    return Texts(name, lambda texts: _parquet(texts, file, columns), total=file.metadata.num_rows)


def _holds_strings(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _parquet(texts: Texts, file: pyarrow.parquet.ParquetFile, columns: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    import pyarrow

    try:
        with file:
            for batch in file.iter_batches(_PARQUET_ROWS, columns=list(dict.fromkeys(columns))):
                for row in zip(*(batch.column(column).to_pylist() for column in columns), strict=True):
                    texts.done += 1
                    place = f"{texts.name}, row {texts.done}"
                    yield tuple(_checked(text, place, column) for text, column in zip(row, columns, strict=True))
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{texts.name} is damaged after row {texts.done}: {error}") from error


def _checked(text: object, place: str, column: str) -> str:
    if not isinstance(text, str):
        raise InputError(f"{place}: column {column!r} holds {json.dumps(text)[:40]}, not a string")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:  # a JSON escape such as \ud800 can write what no UTF-8 can
        surrogate = ord(text[error.start])
        raise InputError(
            f"{place}: column {column!r} has a lone surrogate U+{surrogate:04X} at character {error.start}; "
            "surrogates mean something in pairs only, so remove it or complete the pair"
        ) from error
    return text


def _check_columns(place: str, wanted: tuple[str, ...], columns: list[str]) -> None:
    for column in wanted:
        if column not in columns:
            there = ", ".join(map(repr, columns)) or "none"
            raise InputError(f"{place} has no column {column!r}; the columns are {there}; choose one with --column")


_Reader = Callable[[Texts, IO[bytes], tuple[str, ...]], Iterator[tuple[str, ...]]]

#: What reads a file of bytes by its ending; Parquet is opened by pyarrow instead.
_READERS: dict[str, _Reader] = {".txt": _plain, ".jsonl": _jsonl, ".csv": _csv, ".tsv": _tsv}
_ENDINGS = (*_READERS, ".parquet")

#: What an input can be said to hold where its name doesn't tell. Parquet is not among them: it can't be read in order.
FORMATS = tuple(ending.removeprefix(".") for ending in _READERS)
