"""Reading safetensors files: a JSON header and raw little-endian values, mapped rather than read.

Nothing that the header says is believed before it is checked against the file.
Format: https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bothways.errors import CheckpointError

__all__ = ["MappedFile", "Tensor", "map_file", "read"]

# NumPy has no bfloat16 and no float8: their bits are held in unsigned integers of the same width.
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "F8_E4M3": "u1",
    "F8_E5M2": "u1",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}

_FLOATS = ("F64", "F32", "F16", "BF16")

_PREAMBLE = 8  # bytes: the header's length
_MAX_HEADER = 100_000_000  # bytes: the format's own limit
_MAX_DIMENSIONS = 16
_MAX_LENGTH = 2**48  # more than any machine addresses, and far from overflowing NumPy's size arithmetic
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Tensor:
    """One stored tensor.

    Attributes:
        dtype: The format's name for what is stored: "F32", "F16", "BF16", ...
        array: The values, read-only and aligned, usually straight out of the mapped file; BF16 as its bits in uint16.
    """

    dtype: str
    array: npt.NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of every dimension."""
        return self.array.shape

    @property
    def is_float(self) -> bool:
        """Whether `float32` can be asked for."""
        return self.dtype in _FLOATS

    def float32(self) -> npt.NDArray[np.float32]:
        """Give the values as float32: stored F32 without a copy, F16 and BF16 exactly."""
        if not self.is_float:
            raise CheckpointError(f"a tensor of dtype {self.dtype} holds no floats; it must be one of {_FLOATS}")
        if self.dtype == "BF16":
            # A bfloat16 is the upper half of a float32.
            wide: npt.NDArray[np.uint32] = self.array.astype(np.uint32) << np.uint32(16)
            return wide.view(np.float32)
        return np.asarray(self.array, np.float32)


@dataclass(frozen=True)
class MappedFile:
    """A safetensors file whose tensors are looked at where they lie.

    Attributes:
        state: What the system knew of the file when it was mapped.
    """

    path: Path
    tensors: dict[str, Tensor]
    state: os.stat_result
    _data: mmap.mmap = field(repr=False)

    def release(self, kept: Iterable[Tensor]) -> None:
        """Give back the memory of all tensors but `kept`; looked at again, they are read from the file again."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        base = np.frombuffer(self._data, np.uint8).ctypes.data
        places = sorted((tensor.array.ctypes.data - base, tensor.array.nbytes) for tensor in kept)
        begin = 0
        for place, size in [*places, (len(self._data), 0)]:
            if not 0 <= place <= len(self._data):
                continue  # a copy, or of another file
            first, last = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE, place // mmap.PAGESIZE * mmap.PAGESIZE
            if first < last:
                self._data.madvise(mmap.MADV_DONTNEED, first, last - first)
            begin = place + size

    def check_unchanged(self) -> None:
        """Raise CheckpointError if the file was written to since; deleting or replacing it leaves the mapping whole."""
        try:
            now = os.stat(self.path)
        except OSError:
            return
        then = self.state
        same_file = (now.st_dev, now.st_ino) == (then.st_dev, then.st_ino)
        if same_file and (now.st_size, now.st_mtime_ns) != (then.st_size, then.st_mtime_ns):
            raise CheckpointError(f"{self.path} changed on disk since it was loaded; load the model again")


def read(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Map a safetensors file and return its tensors by name; raises what `map_file` does."""
    return map_file(path).tensors


def map_file(path: str | os.PathLike[str]) -> MappedFile:
    """Map a safetensors file.

    Raises:
        CheckpointError: The file can't be read, or its header does not describe exactly what the file holds.
    """
    path = Path(path)
    data, state = _map(path)
    size = int.from_bytes(data[:_PREAMBLE], "little")
    start = _PREAMBLE + size
    if size > _MAX_HEADER or start > len(data):
        hint = "it is a Git LFS pointer; run `git lfs pull`" if data[:23] == _LFS_POINTER else "download it again"
        raise CheckpointError(
            f"{path}: the header claims {size} bytes, but the file has {len(data)} and a header at most {_MAX_HEADER}; "
            f"it is damaged or no safetensors file; {hint}"
        )
    header = _parse(path, data[_PREAMBLE:start])
    entries = {name: _Entry.check(path, name, value) for name, value in header.items()}
    _check_layout(path, entries, len(data) - start)
    return MappedFile(path, {name: entry.view(data, start) for name, entry in entries.items()}, state, data)


def _map(path: Path) -> tuple[mmap.mmap, os.stat_result]:
    """Map a file for reading; the mapping stays open for as long as an array looks into it."""
    if not os.path.isfile(path):  # unlike Path.is_file, it takes any name, however odd
        raise CheckpointError(f"{path}: there is no such file; download the checkpoint again")
    try:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            if state.st_size < _PREAMBLE:
                raise CheckpointError(
                    f"{path}: {state.st_size} bytes are too few for a safetensors file; download it again"
                )
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), state
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read: {error}") from error


def _parse(path: Path, header: bytes) -> dict[str, Any]:
    """Parse the header's JSON into its tensor entries."""
    try:
        value = json.loads(header.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the header is not valid JSON ({error}); download the file again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: the header is a JSON {type(value).__name__}, it must be an object")
    metadata = value.pop("__metadata__", None)
    if metadata is not None and not isinstance(metadata, dict):
        raise CheckpointError(f"{path}: __metadata__ in the header is {metadata!r}, it must be an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for name, item in pairs:
        if name in value:
            raise ValueError(f"the name {name!r:.100} appears twice")
        value[name] = item
    return value


@dataclass(frozen=True)
class _Entry:
    """What the header says about one tensor, checked on its own."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @classmethod
    def check(cls, path: Path, name: str, value: Any) -> _Entry:
        """Check one entry of the header."""

        def fault(problem: str) -> CheckpointError:
            return CheckpointError(f"{path}: tensor {name!r} {problem}; the header is damaged; download the file again")

        if not isinstance(value, Mapping) or not {"dtype", "shape", "data_offsets"} <= value.keys():
            raise fault(f"is described by {value!r:.100}, not by dtype, shape and data_offsets")
        dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
        if not isinstance(dtype, str) or dtype not in _DTYPES:
            raise fault(f"has dtype {dtype!r:.100}, not one of {', '.join(_DTYPES)}")
        if not _is_shape(shape):
            raise fault(f"has shape {shape!r:.100}, not up to {_MAX_DIMENSIONS} whole numbers of a sensible size")
        if not _are_lengths(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
            raise fault(f"has data_offsets {offsets!r:.100}, not a begin and an end")
        size = offsets[1] - offsets[0]
        if math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize != size:
            raise fault(f"of dtype {dtype} and shape {shape!r:.100} does not fill its {size} bytes")
        return cls(dtype, tuple(shape), *offsets)

    def view(self, data: mmap.mmap, start: int) -> Tensor:
        """Look at the tensor's bytes in the mapped file; a tensor at an unaligned address is copied."""
        dtype = np.dtype(_DTYPES[self.dtype])
        count = (self.end - self.begin) // dtype.itemsize
        flat = np.frombuffer(data, dtype, count, start + self.begin)
        array = np.require(flat, requirements="A").reshape(self.shape)
        array.flags.writeable = False
        return Tensor(self.dtype, array)


def _are_lengths(value: Any) -> bool:
    return isinstance(value, list) and all(type(v) is int and 0 <= v < _MAX_LENGTH for v in value)


def _is_shape(value: Any) -> bool:
    # The dimensions beside a 0 must stay sensible too: NumPy multiplies them.
    return _are_lengths(value) and len(value) <= _MAX_DIMENSIONS and math.prod(v or 1 for v in value) < _MAX_LENGTH


def _check_layout(path: Path, entries: dict[str, _Entry], size: int) -> None:
    """Check that the tensors fill the data part of the file from end to end, each byte once."""
    at, before = 0, "the header"
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != at:
            what = "overlaps" if entry.begin < at else "leaves a hole after"
            raise CheckpointError(f"{path}: tensor {name!r} {what} {before}; the file is damaged; download it again")
        at, before = entry.end, f"tensor {name!r}"
    if at != size:
        what = "is cut short" if at > size else "has bytes that no tensor claims"
        raise CheckpointError(
            f"{path}: the file {what}: its tensors take {at} bytes, it holds {size}; download it again"
        )
