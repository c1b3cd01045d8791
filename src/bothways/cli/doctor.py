"""`bothways doctor`: what this machine offers, what Bothways makes of it, and whether the arithmetic is right."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from bothways.cli.options import json_option, verbose_option
from bothways.errors import DeviceError
from bothways.spec import DTYPES

__all__ = ["command"]

#: The largest error that a level's self-test may show. Its numbers are about 1 and its sums have a hundred terms:
#: float32 stays below 1e-5, bfloat16 rounds in the third digit, int8 in steps of 1/127 of a row's largest number.
_LARGEST_ERRORS = {"float32": 1e-4, "bfloat16": 0.1, "int8": 0.3}

_REQUIRED = ("bothways", "numpy", "tokenizers", "huggingface-hub", "click", "rich")
_OPTIONAL = {"pyarrow": "tables"}  # package: the extra that brings it


@dataclass(frozen=True)
class _Level:
    """One level of the native engine; `errors` are the self-test's by dtype, None where the level can't run here."""

    name: str
    reason: str
    errors: dict[str, float] | None

    @property
    def failed(self) -> dict[str, float]:
        """The errors that are too large; written so that NaN is."""
        return {dtype: error for dtype, error in (self.errors or {}).items() if not error <= _LARGEST_ERRORS[dtype]}

    @property
    def sound(self) -> bool:
        return self.errors is not None and not self.failed


@click.command("doctor", short_help="Say what this machine offers and test the arithmetic.")
@json_option
@verbose_option
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> None:
    """Say what this machine offers and test the arithmetic.

    Ends with exit code 1 if no level of the native engine is usable or if one of them computes wrongly.
    """
    report: dict[str, Any] = {"python": platform.python_version(), "platform": platform.platform()}
    problems = _examine_native(report)
    report["versions"] = {name: _version(name) for name in (*_REQUIRED, *_OPTIONAL)}
    report["hub_cache"] = _hub_cache()
    report["problems"] = problems
    click.echo(json.dumps(report, indent=2)) if as_json else _print_report(report)
    for problem in problems:
        click.echo(f"error: {problem}", err=True)
    ctx.exit(1 if problems else 0)


def _examine_native(report: dict[str, Any]) -> list[str]:
    """Fill in what the native engine says of itself; return what is wrong with it."""
    try:
        from bothways import _native
    except ImportError as error:
        return [f"the native engine can't be loaded ({error}); build it again: pip install --force-reinstall bothways"]
    from bothways.engines.native import level_in_force
    from bothways.engines.threads import default_threads

    threads, where = default_threads()
    levels = [_Level(name, why, None if why else _self_test(_native, name)) for name, why in _native.levels()]
    report["cpu_features"] = list(_native.cpu_features())
    report["levels"] = [{**asdict(level), "sound": level.sound} for level in levels]
    report["threads"] = {"number": threads, "from": where}
    problems = [
        f"level {level.name} computes wrongly in {dtype}: error {error:.1e}, allowed {_LARGEST_ERRORS[dtype]:.0e}; "
        "force another one with BOTHWAYS_LEVEL and report this machine"
        for level in levels
        for dtype, error in level.failed.items()
    ]
    if all(level.reason for level in levels):
        problems.append("no level of the native engine is usable on this machine")
    try:
        why = "BOTHWAYS_LEVEL asks for it" if os.environ.get("BOTHWAYS_LEVEL") else "the best that is usable here"
        report["level"] = {"name": level_in_force(), "why": why}
    except DeviceError as error:
        report["level"] = None
        problems.append(str(error))
    return problems


def _self_test(native: Any, level: str) -> dict[str, float]:
    return {dtype: float(native.self_test(level, dtype)) for dtype in DTYPES}


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _hub_cache() -> dict[str, Any]:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    # The cache's snapshots are links to its blobs: links are not followed, so each file counts once.
    files = (Path(where, name) for where, _, names in os.walk(folder) for name in names)
    size = sum(path.lstat().st_size for path in files if not path.is_symlink())
    return {"folder": str(folder), "exists": folder.is_dir(), "bytes": size}


def _print_report(report: dict[str, Any]) -> None:
    lines = [("machine", report["platform"]), ("python", report["python"])]
    if "levels" in report:
        threads, level = report["threads"], report["level"]
        lines += [
            ("cpu features", " ".join(report["cpu_features"]) or "none that matter here"),
            ("threads", f"{threads['number']} ({threads['from']})"),
            ("level", f"{level['name']} ({level['why']})" if level else "none"),
        ]
        lines += [("  " + found["name"], _in_words(found)) for found in report["levels"]]
    for name, version in report["versions"].items():
        hint = f'pip install "bothways[{_OPTIONAL[name]}]"' if name in _OPTIONAL else "not installed"
        lines.append((name, version or f"not installed ({hint})" if name in _OPTIONAL else version or hint))
    cache = report["hub_cache"]
    lines.append(("hub cache", f"{cache['folder']} ({_size(cache['bytes']) if cache['exists'] else 'not there yet'})"))
    for name, value in lines:
        click.echo(f"{name:<16} {value}")


def _in_words(level: dict[str, Any]) -> str:
    if level["errors"] is None:
        return f"not usable: {level['reason']}"
    verdict = "usable, self-test passed" if level["sound"] else "usable, self-test FAILED"
    errors = ", ".join(f"{dtype} {error:.1e}" for dtype, error in level["errors"].items())
    return f"{verdict} (largest errors: {errors})"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
