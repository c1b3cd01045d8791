from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from bothways.cli.files import given_texts, read_texts
from bothways.cli.output import check_output, json_numbers, open_file, printable
from bothways.errors import BothwaysError, InputError

pyarrow = pytest.importorskip("pyarrow")
import pyarrow.parquet as parquet  # noqa: E402


def write(folder: Path, name: str, content: bytes | str) -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return str(path)


def texts_of(folder: Path, name: str, content: bytes | str, column: str | None = None) -> list[str]:
    return list(read_texts(write(folder, name, content), column))


# Reading


def test_txt_is_a_text_a_line(tmp_path):
    assert texts_of(tmp_path, "a.txt", "one\ntwo\n") == ["one", "two"]


def test_txt_needs_no_line_feed_at_the_end(tmp_path):
    assert texts_of(tmp_path, "a.txt", "one\ntwo") == ["one", "two"]


def test_txt_keeps_empty_lines_as_empty_texts(tmp_path):
    assert texts_of(tmp_path, "a.txt", "one\n\n two \n") == ["one", "", " two "]


def test_txt_drops_byte_order_mark_and_carriage_returns(tmp_path):
    assert texts_of(tmp_path, "a.txt", b"\xef\xbb\xbfone\r\ntwo\r\n") == ["one", "two"]


def test_txt_breaks_lines_at_line_feeds_only(tmp_path):
    text = "a\u2028b\x0bc\x0cd\x85e\rf"
    assert texts_of(tmp_path, "a.txt", text + "\nnext") == [text, "next"]


def test_ending_may_be_in_capitals(tmp_path):
    assert texts_of(tmp_path, "A.TXT", "one\n") == ["one"]


def test_empty_txt_and_jsonl_hold_no_texts(tmp_path):
    assert texts_of(tmp_path, "a.txt", "") == []
    assert texts_of(tmp_path, "a.jsonl", "") == []


def test_bytes_that_are_not_utf8_are_named_with_their_line(tmp_path):
    with pytest.raises(InputError, match=r"a\.txt, line 2: byte 0xff at position 3 is not UTF-8"):
        texts_of(tmp_path, "a.txt", b"one\ntwo\xff\n")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_is_recognized_by_its_mark(tmp_path, encoding):
    with pytest.raises(InputError, match="line 1: .*iconv -f utf-16 -t utf-8"):
        texts_of(tmp_path, "a.txt", "\ufeffone\n".encode(encoding))


def test_texts_before_a_bad_line_are_still_given(tmp_path):
    reading = iter(read_texts(write(tmp_path, "a.txt", b"one\n\xff\n")))
    assert next(reading) == "one"
    with pytest.raises(InputError, match="line 2"):
        next(reading)


def test_jsonl_takes_the_column(tmp_path):
    lines = '{"text": "caf\\u00e9", "n": 1}\n\n{"n": 2, "text": "日本"}\n'
    assert texts_of(tmp_path, "a.jsonl", lines) == ["café", "日本"]
    assert texts_of(tmp_path, "b.jsonl", '{"body": "x"}', "body") == ["x"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
        ('"a string"', "line 2 is not a JSON object"),
        ('{"id": 1, "body": "x"}', "line 2 has no column 'text'; the columns are 'id', 'body'"),
        ('{"text": 3}', "line 2: column 'text' holds 3, not a string"),
        ('{"text": null}', "line 2: column 'text' holds null, not a string"),
        ('{"text": "a \\ud800"}', r"line 2: column 'text' has a lone surrogate U\+D800 at character 2"),
    ],
)
def test_jsonl_errors_name_the_line(tmp_path, line, message):
    with pytest.raises(InputError, match=message):
        texts_of(tmp_path, "a.jsonl", '{"text": "fine"}\n' + line + "\n")


def test_csv_takes_the_column_and_quoted_line_feeds(tmp_path):
    content = b'\xef\xbb\xbfid,text\r\n1,"a, ""b""\r\nc"\r\n\r\n2,d\r\n'
    assert texts_of(tmp_path, "a.csv", content) == ['a, "b"\r\nc', "d"]


def test_tsv_takes_the_column(tmp_path):
    assert texts_of(tmp_path, "a.tsv", "id\tbody\n1\ta, b\n", "body") == ["a, b"]


def test_csv_takes_fields_longer_than_pythons_own_limit(tmp_path):
    assert texts_of(tmp_path, "a.csv", "text\n" + "x" * 200_000 + "\n") == ["x" * 200_000]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty; its first line must name the columns, 'text' among them"),
        ("id,body\n1,x\n", "has no column 'text'; the columns are 'id', 'body'"),
        ("id,text\n1,x\n2\n", r"line 3 has only 1 of 2 fields, so none for 'text'"),
        ("id,text\n1,x\n2,a, b\n", "line 3 has 3 fields, the header only 2; put fields that hold a comma in double"),
        ("text,id,text\na,1,b\n", "has 2 columns 'text'; give each its own name"),
        ('text\n"never closed\nmore\n', r"line 3: .*check the quotes"),
    ],
)
def test_csv_errors_say_what_is_wrong(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        texts_of(tmp_path, "a.csv", content)


def test_tsv_with_a_tab_too_many_is_an_error(tmp_path):
    with pytest.raises(
        InputError, match="line 2 has 2 fields, the header only 1; put fields that hold a tab in double"
    ):
        texts_of(tmp_path, "a.tsv", "text\na\tb\n")


def test_column_that_is_not_asked_for_may_stand_twice(tmp_path):
    assert texts_of(tmp_path, "a.csv", "id,text,id\n1,a,2\n") == ["a"]


def parquet_file(folder: Path, **columns: object) -> str:
    path = folder / "a.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    return str(path)


def test_parquet_takes_the_column(tmp_path):
    texts = [f"text {n}" for n in range(3000)]
    source = read_texts(parquet_file(tmp_path, id=list(range(3000)), text=texts))
    assert list(source) == texts
    assert source.done == source.total == 3000


def test_parquet_takes_dictionaries_of_strings(tmp_path):
    column = pyarrow.array(["a", "b", "a"]).dictionary_encode()
    assert list(read_texts(parquet_file(tmp_path, text=column))) == ["a", "b", "a"]


def test_parquet_column_errors(tmp_path):
    path = parquet_file(tmp_path, id=[1, 2], body=["a", None])
    with pytest.raises(InputError, match="has no column 'text'; the columns are 'id', 'body'"):
        read_texts(path)
    with pytest.raises(InputError, match="column 'id' holds int64, not strings"):
        read_texts(path, "id")
    with pytest.raises(InputError, match="row 2: column 'body' holds null, not a string"):
        list(read_texts(path, "body"))


def test_file_that_is_not_parquet_is_an_error(tmp_path):
    with pytest.raises(InputError, match="is not a Parquet file"):
        texts_of(tmp_path, "a.parquet", "not parquet")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    path = parquet_file(tmp_path, text=["a"])
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match=r'pip install "bothways\[tables\]"'):
        read_texts(path)
    with pytest.raises(InputError, match=r'pip install "bothways\[tables\]"'):
        check_output(tmp_path / "out.parquet")


def test_standard_input_is_plain_text(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("één\r\n\nzwei".encode())))
    assert list(read_texts("-")) == ["één", "", "zwei"]


def test_format_says_what_a_name_does_not(tmp_path):
    name = write(tmp_path, "data", "id,text\n1,a\n")
    assert list(read_texts(name, format="csv")) == ["a"]
    assert list(read_texts(name, "id", "csv")) == ["1"]
    assert list(read_texts(name, format="txt")) == ["id,text", "1,a"]


def test_inputs_that_are_not_there_or_not_known(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_texts(str(tmp_path / "none.txt"))
    with pytest.raises(
        InputError,
        match=r"no known ending; use \.txt, \.jsonl, \.csv, \.tsv, \.parquet, or - .* --format txt\|jsonl\|csv\|tsv",
    ):
        read_texts(write(tmp_path, "a.xlsx", "x"))
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        read_texts(str(tmp_path / "folder.txt"))


def test_column_of_plain_text_is_an_error(tmp_path):
    with pytest.raises(InputError, match="leave --column out"):
        texts_of(tmp_path, "a.txt", "x", "body")
    with pytest.raises(InputError, match="leave --column out"):
        read_texts("-", "body")


def test_readers_say_how_far_they_are(tmp_path):
    source = read_texts(write(tmp_path, "a.txt", "é\nb\n"))
    assert source.total == 5
    assert [source.done for _ in source] == [3, 5]
    given = given_texts(("a", "b"))
    assert (given.total, list(given), given.done) == (2, ["a", "b"], 2)
    assert read_texts("-").total is None


# Writing

ROWS = [("a", [0.1, 1.0]), ("b\n", [1e-30, -2.5]), ("日", [3.0, 1 / 3])]


def write_rows(path: Path, rows=ROWS, dtype: type = np.float32) -> None:
    with open_file(path, 2, np.dtype(dtype)) as writer:
        for text, values in rows:
            writer.write(text, np.array(values, dtype))


def values(rows=ROWS, dtype: type = np.float32) -> np.ndarray:
    return np.array([row for _, row in rows], dtype).reshape(-1, 2)


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.uint8])
@pytest.mark.parametrize("rows", [[("a", [3, 4])] * 5, []])
def test_npy_is_what_numpy_reads(tmp_path, dtype, rows):
    write_rows(tmp_path / "a.npy", rows, dtype)
    read = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, values(rows, dtype))


def test_npy_keeps_every_bit_of_float32(tmp_path):
    write_rows(tmp_path / "a.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), values())


def test_jsonl_keeps_texts_and_every_bit_of_float32(tmp_path):
    write_rows(tmp_path / "a.jsonl")
    lines = (tmp_path / "a.jsonl").read_bytes().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["text"] for row in rows] == ["a", "b\n", "日"]
    np.testing.assert_array_equal(np.array([row["embedding"] for row in rows], np.float32), values())


def test_written_jsonl_can_be_read_again(tmp_path):
    write_rows(tmp_path / "a.jsonl")
    assert list(read_texts(str(tmp_path / "a.jsonl"))) == ["a", "b\n", "日"]


@pytest.mark.parametrize(("dtype", "kind"), [(np.float32, "float"), (np.int8, "int8"), (np.uint8, "uint8")])
def test_parquet_holds_lists_of_fixed_size(tmp_path, dtype, kind):
    rows = [("a", [3, 4]), ("b", [5, 6])]
    write_rows(tmp_path / "a.parquet", rows, dtype)
    table = parquet.read_table(tmp_path / "a.parquet")
    embedding = table.schema.field("embedding").type
    assert (str(embedding.value_type), embedding.list_size) == (kind, 2)
    assert table.to_pydict() == {"text": ["a", "b"], "embedding": [[3, 4], [5, 6]]}


def test_parquet_is_written_in_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("bothways.cli.output._ROW_GROUP_BYTES", 2 * 2 * 4)
    write_rows(tmp_path / "a.parquet", ROWS)
    assert parquet.ParquetFile(tmp_path / "a.parquet").num_row_groups == 2
    np.testing.assert_array_equal(
        np.stack(parquet.read_table(tmp_path / "a.parquet")["embedding"].to_numpy()), values()
    )


def test_parquet_without_rows_can_be_read(tmp_path):
    write_rows(tmp_path / "a.parquet", [])
    assert parquet.read_table(tmp_path / "a.parquet").num_rows == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("ending", ["npy", "jsonl", "parquet"])
def test_error_leaves_the_old_file_and_nothing_else(tmp_path, ending):
    target = tmp_path / f"a.{ending}"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), open_file(target, 2, np.dtype(np.float32)) as writer:
        writer.write("a", np.zeros(2, np.float32))
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_output_replaces_what_a_link_points_to(tmp_path):
    (tmp_path / "real.npy").write_text("old")
    (tmp_path / "link.npy").symlink_to("real.npy")
    write_rows(tmp_path / "link.npy")
    assert (tmp_path / "link.npy").is_symlink()
    assert len(np.load(tmp_path / "real.npy")) == 3


def test_outputs_that_can_not_be_written_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no known ending; use \.npy, \.jsonl, \.parquet"):
        check_output(tmp_path / "a.csv")
    with pytest.raises(InputError, match="isn't there; make it first"):
        check_output(tmp_path / "none" / "a.npy")
    (tmp_path / "a.npy").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        check_output(tmp_path / "a.npy")


def test_errors_of_the_system_name_the_output_that_was_asked_for(tmp_path, monkeypatch):
    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    target = tmp_path / "a.npy"
    for where in ("bothways.cli.output.open", "os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(where, refuse, raising=False)
            with pytest.raises(InputError) as caught:
                write_rows(target)
        assert str(caught.value) == f"output {str(target)!r} can't be written: Permission denied; choose another one"
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_read_only_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InputError, match=r"a\.npy' can't be written: its folder is read-only"):
        check_output(tmp_path / "a.npy")


def test_output_may_have_the_longest_name_there_is(tmp_path):
    target = tmp_path / ("x" * 251 + ".npy")
    write_rows(target)
    assert len(np.load(target)) == 3


def test_json_numbers_bring_float32_back_exactly():
    numbers = (
        np.random.default_rng(0).normal(size=1000).astype(np.float32)
        * np.float32(10) ** np.arange(-30, 30).repeat(17)[:1000]
    )
    read = np.array(json.loads(json_numbers(numbers.astype(np.float32))), np.float32)
    np.testing.assert_array_equal(read, numbers.astype(np.float32))
    assert json_numbers(np.array([-128, 127], np.int8)) == "[-128, 127]"


def test_json_refuses_nan_and_infinity():
    for value in (np.nan, np.inf):
        with pytest.raises(BothwaysError, match="NaN or infinity"):
            json_numbers(np.array([value], np.float32))


def test_printable_text_moves_no_cursor():
    assert printable("a\x1b[31m\nb\u202eé日") == "a [31m b é日"
