"""The checked-in stub of the C++ module is the one that nanobind generates from it."""

from __future__ import annotations

from pathlib import Path

import pytest

import bothways


def test_the_stub_is_up_to_date() -> None:
    stubgen = pytest.importorskip("nanobind.stubgen", reason="nanobind is not installed")
    from bothways import _native

    generator = stubgen.StubGen(_native)
    generator.put(_native)
    checked_in = Path(bothways.__file__).with_name("_native.pyi").read_text()
    assert generator.get().strip() == checked_in.strip(), "run `make stubs`"
