"""What an installation holds, what it needs, and what the build says where it can't compile."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed() -> metadata.Distribution:
    """Bothways as pip installed it, as `make test` does."""
    try:
        found = metadata.distribution("bothways")
    except metadata.PackageNotFoundError:
        pytest.skip("bothways runs from its sources here, nothing is installed")
    if any("editable" in str(path) for path in found.files or ()):
        pytest.skip("bothways is installed as a link to its sources")
    return found


def test_an_installation_holds_the_package_and_nothing_else(installed: metadata.Distribution) -> None:
    paths = {path.as_posix() for path in installed.files or () if path.suffix != ".pyc"}
    parts = {path for path in paths if path.startswith("bothways/")}
    others = {re.sub(r"^bothways-[^/]*", "info", path) for path in paths - parts}
    sources = {
        f"bothways/{path.relative_to(ROOT / 'src/bothways').as_posix()}"
        for path in (ROOT / "src/bothways").rglob("*")
        if path.suffix in (".py", ".pyi", ".html", ".css", ".js") or path.name == "py.typed"
    }
    assert {"bothways/py.typed", "bothways/_native.pyi"} <= sources
    compiled = parts - sources
    assert sources - parts == set()
    assert len(compiled) == 1
    assert re.fullmatch(r"bothways/_native\..*(so|pyd)", compiled.pop())
    assert {path.split("/")[0] for path in others} <= {"info", ".."}  # "..": the command, in a folder of its own
    assert {"info/licenses/LICENSE", "info/entry_points.txt"} <= others


def test_an_installation_needs_five_packages_and_no_torch(installed: metadata.Distribution) -> None:
    needed = [re.split(r"[<>=!;\s\[]", line)[0] for line in installed.requires or () if "extra ==" not in line]
    assert sorted(needed) == ["click", "huggingface-hub", "numpy", "rich", "tokenizers"]
    assert installed.metadata["Requires-Python"] == ">=3.10"
    assert installed.metadata["License-Expression"] == "Apache-2.0"


def test_every_extra_that_a_message_names_exists() -> None:
    extras = set(re.findall(r'^([a-z-]+) = \[(?:$|")', (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    from bothways.cli import doctor

    named = set(doctor._OPTIONAL.values())
    for path in (ROOT / "src").rglob("*.py"):
        named |= set(re.findall(r"bothways\[([a-z-]+)\]", path.read_text("utf-8")))
    assert named - extras == set()


def test_without_a_compiler_the_error_names_what_to_install(tmp_path: Path) -> None:
    cmake, ninja = shutil.which("cmake"), shutil.which("ninja")
    if cmake is None or ninja is None:
        pytest.skip("cmake or ninja is not here")
    done = subprocess.run(
        [cmake, "-S", str(ROOT), "-B", str(tmp_path), "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"],
        env={**os.environ, "PATH": str(tmp_path), "CXX": "", "CC": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    message = " ".join(done.stderr.split())
    assert "no C++ compiler" in message
    assert "'apt-get install g++'" in message
