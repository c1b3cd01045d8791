"""Safetensors files are read exactly, and no damaged or lying one is believed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny_checkpoints import join_file

from bothways.errors import CheckpointError
from bothways.safetensors import map_file, read

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def write(path: Path, header: Any, data: bytes = b"", size: int | None = None) -> Path:
    path.write_bytes(join_file(header, data, size))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"])
def test_values_equal_what_the_reference_library_wrote(file: Path, dtype: str) -> None:
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    save_file({"a": values, "b": values[0], "scalar": np.array(values[1, 2, 3])}, file, metadata={"format": "pt"})
    tensors = read(file)
    assert tensors.keys() == {"a", "b", "scalar"}
    np.testing.assert_array_equal(tensors["a"].array, values)
    np.testing.assert_array_equal(tensors["b"].array, values[0])
    assert tensors["scalar"].shape == ()
    assert tensors["a"].array.dtype == values.dtype


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_float32_equals_torch(file: Path, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    values = torch.randn(5, 7, generator=torch.Generator().manual_seed(1)) * 1e3
    values[0, :3] = torch.tensor([0.0, -0.0, 1e-6])
    values = values.to(getattr(torch, dtype))
    save_torch({"a": values}, file)
    np.testing.assert_array_equal(read(file)["a"].float32(), values.float().numpy())


def test_float32_is_not_copied(file: Path) -> None:
    save_file({"a": np.ones(8, np.float32)}, file)
    tensor = read(file)["a"]
    assert tensor.float32() is tensor.array
    assert not tensor.array.flags.owndata


def test_arrays_are_read_only(file: Path) -> None:
    save_file({"a": np.ones(8, np.float32)}, file)
    with pytest.raises(ValueError, match="read-only"):
        read(file)["a"].array[0] = 2


def test_arrays_outlive_the_mapping_and_the_file(file: Path) -> None:
    save_file({"a": np.arange(8, dtype=np.float32)}, file)
    array = read(file)["a"].array
    file.unlink()
    np.testing.assert_array_equal(array, np.arange(8))


def test_unaligned_tensors_are_aligned_by_a_copy(file: Path) -> None:
    header = {
        "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
    }
    tensors = read(write(file, header, b"\1" + np.array([1.5, -2.0], "<f4").tobytes()))
    assert tensors["b"].array.flags.aligned
    assert tensors["b"].array.tolist() == [1.5, -2.0]


@pytest.mark.parametrize("shape", [[0], [0, 4], [3, 0, 2**40]])
def test_tensors_without_values_are_fine(file: Path, shape: list[int]) -> None:
    header = {"a": F32, "empty": {"dtype": "F32", "shape": shape, "data_offsets": [8, 8]}}
    assert read(write(file, header, bytes(8)))["empty"].shape == tuple(shape)


def test_empty_file_behind_the_header_is_fine(file: Path) -> None:
    assert read(write(file, {"empty": F32 | {"shape": [0], "data_offsets": [0, 0]}}))["empty"].shape == (0,)


def test_file_without_tensors_is_empty(file: Path) -> None:
    assert read(write(file, {})) == {}
    assert read(write(file, {"__metadata__": {"format": "pt"}})) == {}


def test_integers_are_not_floats(file: Path) -> None:
    save_file({"a": np.ones(3, np.int64)}, file)
    with pytest.raises(CheckpointError, match="I64 holds no floats"):
        read(file)["a"].float32()


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "0 bytes are too few"),
        (b"\0\0\0", "3 bytes are too few"),
        (join_file({}, b"", size=3), "header claims 3 bytes|not valid JSON"),
        (join_file({"a": F32}, b"", size=2**63), "header claims 9223372036854775808"),
        (join_file({"a": F32}, bytes(8), size=100_000_001), "header claims 100000001"),
        (join_file({"a": F32}, bytes(8))[:40], "header claims"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (join_file(b"", b""), "not valid JSON"),
        (join_file(b"{", b""), "not valid JSON"),
        (join_file(b'{"\xff": 1}', b""), "not valid JSON"),
        (join_file(b"[" * 100_000, b""), "not valid JSON"),
        (join_file(b'{"a": ' * 100_000, b""), "not valid JSON"),
        (join_file([], b""), "JSON list, it must be an object"),
        (join_file(b"null", b""), "JSON NoneType, it must be an object"),
        (join_file(b'{"a": 1, "a": 2}', b""), "'a' appears twice"),
        (join_file({"__metadata__": 3}, b""), "__metadata__ in the header is 3"),
    ],
)
def test_damaged_header_is_named(file: Path, content: bytes, match: str) -> None:
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=match) as caught:
        read(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (7, "is described by 7"),
        ({"dtype": None}, "has dtype None"),
        ({"dtype": "F4"}, "has dtype 'F4'"),
        ({"dtype": ["F32"]}, "has dtype"),
        ({"shape": 2}, "has shape 2"),
        ({"shape": [-2]}, "has shape"),
        ({"shape": [2.0]}, "has shape"),
        ({"shape": [True]}, "has shape"),
        ({"shape": [2**64]}, "has shape"),
        ({"shape": [1] * 40 + [2]}, "has shape"),
        ({"shape": [2**32, 2**32]}, "has shape"),
        ({"shape": [0, 2**40, 2**40]}, "has shape"),
        ({"shape": [3]}, "does not fill its 8 bytes"),
        ({"dtype": "F64"}, "does not fill its 8 bytes"),
        ({"data_offsets": [8, 0]}, "has data_offsets"),
        ({"data_offsets": [-8, 0]}, "has data_offsets"),
        ({"data_offsets": [0]}, "has data_offsets"),
        ({"data_offsets": "08"}, "has data_offsets"),
        ({"data_offsets": [0, 8, 8]}, "has data_offsets"),
        ({"data_offsets": [8, 16]}, "leaves a hole after the header"),
        ({"data_offsets": [2**40, 2**40 + 8]}, "leaves a hole after the header"),
    ],
)
def test_lying_entry_is_named(file: Path, change: Any, match: str) -> None:
    entry = F32 | change if isinstance(change, dict) else change
    with pytest.raises(CheckpointError, match=match) as caught:
        read(write(file, {"weight": entry}, bytes(8)))
    assert "'weight'" in str(caught.value)


def test_overlap_hole_and_wrong_length_are_named(file: Path) -> None:
    two = {"a": F32, "b": F32 | {"data_offsets": [4, 12]}}
    with pytest.raises(CheckpointError, match="'b' overlaps tensor 'a'"):
        read(write(file, two, bytes(12)))
    two["b"] = F32 | {"data_offsets": [12, 20]}
    with pytest.raises(CheckpointError, match="'b' leaves a hole after tensor 'a'"):
        read(write(file, two, bytes(20)))
    with pytest.raises(CheckpointError, match="is cut short"):
        read(write(file, {"a": F32}, bytes(7)))
    with pytest.raises(CheckpointError, match="has bytes that no tensor claims"):
        read(write(file, {"a": F32}, bytes(9)))


@pytest.mark.parametrize("name", ["absent", "", "a" * 5000, "nul\0", "\ud800"])
def test_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="there is no such file"):
        read(tmp_path / name)


def test_reading_needs_no_torch(file: Path) -> None:
    save_file({"a": np.ones(3, np.float32)}, file)
    code = f"import sys; from bothways.safetensors import read; read({str(file)!r}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_released_tensors_give_back_their_memory_and_are_read_again(file: Path) -> None:
    random = np.random.default_rng(0)
    values = {name: random.standard_normal((300, 1000)).astype(np.float32) for name in "abcd"}
    save_file(values, file)
    mapped = map_file(file)
    for tensor in mapped.tensors.values():
        tensor.array.sum()  # brings it into memory
    before = file_pages()
    mapped.release([mapped.tensors["b"]])
    assert before - file_pages() >= 3 * 1100  # KiB of three tensors, but for the pages at their ends
    for name, expected in values.items():
        np.testing.assert_array_equal(mapped.tensors[name].array, expected)


def file_pages() -> int:
    """KiB of mapped files in this process's memory."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("there is no /proc here to ask for memory")
    return int(status.read_text().split("RssFile:")[1].split()[0])
