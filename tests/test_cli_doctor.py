from __future__ import annotations

import json
import math
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

import bothways
from bothways.cli import main

# Imported before any test puts a stand-in under it.
pytest.importorskip("bothways.engines.native", reason="the native engine is not built")


def native(**changes: object) -> SimpleNamespace:
    """A native module as on a machine with AVX2 and no AVX-512."""
    parts: dict[str, object] = {
        "cpu_features": lambda: ["avx2", "fma"],
        "levels": lambda: [("avx512", "the CPU has no avx512f"), ("avx2", ""), ("generic", "")],
        "level": lambda wanted: wanted or "avx2",
        "self_test": lambda level, dtype: {"float32": 2e-7, "bfloat16": 0.03, "int8": 0.1}[dtype],
    }
    return SimpleNamespace(**{**parts, **changes})


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.delenv("BOTHWAYS_LEVEL", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def doctor(monkeypatch, module: object, *arguments: str) -> Result:
    monkeypatch.setitem(sys.modules, "bothways._native", module)
    monkeypatch.setattr(bothways, "_native", module, raising=False)
    monkeypatch.setattr("bothways.engines.native._native", module)
    monkeypatch.setattr("bothways.engines.threads.default_threads", lambda: (2, "physical cores"))
    return CliRunner().invoke(main, ["doctor", *arguments])


def test_report_names_every_level_and_why_not(monkeypatch):
    result = doctor(monkeypatch, native())
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert any(line.split()[:2] == ["cpu", "features"] and line.endswith("avx2 fma") for line in lines)
    assert any(line.split() == ["level", "avx2", "(the", "best", "that", "is", "usable", "here)"] for line in lines)
    assert any("avx512" in line and "not usable: the CPU has no avx512f" in line for line in lines)
    assert any("generic" in line and "self-test passed (largest errors: float32 2.0e-07, " in line for line in lines)
    assert any(line.split() == ["threads", "2", "(physical", "cores)"] for line in lines)
    assert any(line.startswith("numpy") for line in lines)


def test_json_has_the_same_facts(monkeypatch):
    report = json.loads(doctor(monkeypatch, native(), "--json").stdout)
    assert report["level"]["name"] == "avx2"
    assert report["threads"] == {"number": 2, "from": "physical cores"}
    assert [level["name"] for level in report["levels"]] == ["avx512", "avx2", "generic"]
    assert report["levels"][0]["errors"] is None
    assert report["levels"][1]["errors"] == {"float32": 2e-7, "bfloat16": 0.03, "int8": 0.1}
    assert report["versions"]["numpy"] and "pyarrow" in report["versions"]
    assert "torch" not in report["versions"]
    assert report["problems"] == []


def test_forced_level_says_so(monkeypatch):
    monkeypatch.setenv("BOTHWAYS_LEVEL", "generic")
    result = doctor(monkeypatch, native())
    assert "generic (BOTHWAYS_LEVEL asks for it)" in result.stdout


def test_level_that_can_not_be_forced_is_a_problem(monkeypatch):
    def refuse(wanted: str) -> str:
        raise ValueError(f"level {wanted!r} is unknown; use generic, avx2 or avx512")

    monkeypatch.setenv("BOTHWAYS_LEVEL", "sse9")
    result = doctor(monkeypatch, native(level=refuse))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: BOTHWAYS_LEVEL=sse9: level 'sse9' is unknown; use generic, avx2 or avx512")


@pytest.mark.parametrize(
    ("dtype", "error"), [("float32", 2e-4), ("float32", math.nan), ("bfloat16", math.inf), ("int8", 0.5)]
)
def test_failed_self_test_exits_with_1(monkeypatch, dtype, error):
    wrong = native(self_test=lambda *which: error if which == ("avx2", dtype) else 0.0)
    result = doctor(monkeypatch, wrong)
    assert result.exit_code == 1
    assert f"level avx2 computes wrongly in {dtype}" in result.stderr
    assert "generic" not in result.stderr
    assert "self-test FAILED" in result.stdout


def test_no_usable_level_exits_with_1(monkeypatch):
    result = doctor(monkeypatch, native(levels=lambda: [("avx2", "no avx2")], level=lambda wanted: "none"))
    assert result.exit_code == 1
    assert "no level of the native engine is usable" in result.stderr


def test_missing_native_module_exits_with_1(monkeypatch):
    monkeypatch.delattr(bothways, "_native", raising=False)
    monkeypatch.setitem(sys.modules, "bothways._native", None)
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert "the native engine can't be loaded" in result.stderr


def test_hub_cache_counts_every_file_once(monkeypatch, tmp_path):
    blobs = tmp_path / "hub" / "models--a" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "x").write_bytes(b"0" * 1000)
    (tmp_path / "hub" / "models--a" / "link").symlink_to(blobs / "x")
    cache = json.loads(doctor(monkeypatch, native(), "--json").stdout)["hub_cache"]
    assert cache == {"folder": str(tmp_path / "hub"), "exists": True, "bytes": 1000}


def test_hub_cache_that_is_not_there_yet(monkeypatch):
    assert "(not there yet)" in doctor(monkeypatch, native()).stdout


def test_this_machine_passes_its_own_tests():
    result = CliRunner().invoke(main, ["doctor", "--json"])
    report = json.loads(result.stdout)
    assert result.exit_code == 0, result.output
    assert report["level"]["name"] in [level["name"] for level in report["levels"] if level["sound"]]
    assert report["threads"]["number"] >= 1
