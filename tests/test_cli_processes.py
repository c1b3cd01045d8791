"""`bothways embed` as a process of its own: signals, pipes and terminals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

STAND_IN = Path(__file__).with_name("cli_model.py")


@pytest.fixture(autouse=True)
def model(monkeypatch):
    monkeypatch.setenv("BOTHWAYS_MODEL", "stand-in")


def start(*arguments: object, **streams: Any) -> subprocess.Popen[bytes]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.Popen([sys.executable, str(STAND_IN), "embed", *map(str, arguments)], **pipes)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("ending", ["npy", "jsonl", "parquet"])
def test_interrupt_leaves_the_old_output_and_nothing_else(tmp_path, ending, precision):
    target = tmp_path / f"out.{ending}"
    target.write_text("old")
    with start("--input", "-", "--output", target, "--precision", precision) as process:
        process.stdin.write(b"one\ntwo\nthree\n")
        process.stdin.flush()  # and never closed: the process waits for more
        wait_for(lambda: any(path.suffix == ".part" for path in tmp_path.iterdir()))
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read() == f"interrupted; {target} was not changed\n".encode()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(("ending", "precision"), [("npy", "float32"), ("jsonl", "int8"), ("parquet", "float32")])
def test_sigterm_leaves_the_old_output_and_nothing_else(tmp_path, ending, precision):
    target = tmp_path / f"out.{ending}"
    target.write_text("old")
    with start("--input", "-", "--output", target, "--precision", precision) as process:
        process.stdin.write(b"one\ntwo\nthree\n")
        process.stdin.flush()
        wait_for(lambda: any(path.suffix == ".part" for path in tmp_path.iterdir()))
        process.terminate()
        assert process.wait(20) == 143
        assert process.stderr.read() == b""
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def wait_for(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.01)


def test_reader_that_leaves_early_ends_the_work_quietly(tmp_path):
    (tmp_path / "in.txt").write_text("some text\n" * 20_000)
    with start("--input", tmp_path / "in.txt") as process:
        assert json.loads(process.stdout.readline())["text"] == "some text"
        process.stdout.close()
        assert process.wait(20) == 0
        assert process.stderr.read() == b""


def test_exit_codes_of_the_process(tmp_path):
    for arguments, code in [(["hello"], 0), (["--input", tmp_path / "none.txt"], 1), (["--threads", "x"], 2)]:
        with start("--model", "m", *arguments) as process:
            process.communicate()
        assert process.returncode == code


def test_progress_bar_stands_on_a_terminal_only(tmp_path):
    pty = pytest.importorskip("pty")
    (tmp_path / "in.txt").write_text("some text\n" * 500)
    ours, theirs = pty.openpty()
    streams = {"stdout": theirs, "stderr": theirs, "env": {**os.environ, "TERM": "xterm"}}
    with start("--input", tmp_path / "in.txt", "--output", tmp_path / "o.npy", **streams) as process:
        os.close(theirs)
        seen = read_to_end(ours)
    assert process.returncode == 0
    assert "tokens/s" in seen and "━" in seen
    assert "500 texts, 1,000 tokens" in seen


def read_to_end(terminal: int) -> str:
    seen = b""
    with open(terminal, "rb", buffering=0) as file:
        try:
            while block := file.read(65536):
                seen += block
        except OSError:  # how Linux tells that the other end is closed
            pass
    return seen.decode()


def test_more_signals_do_not_disturb_the_end(tmp_path):
    with start("--input", "-", "--output", tmp_path / "out.npy") as process:
        process.stdin.write(b"one\ntwo\nthree\n")
        process.stdin.flush()
        wait_for(lambda: any(tmp_path.iterdir()))
        for _ in range(20):
            process.send_signal(signal.SIGINT)
            time.sleep(0.001)
        assert process.wait(20) == 130
        assert process.stderr.read().endswith(b"out.npy was not changed\n")
    assert list(tmp_path.iterdir()) == []


def run_with_closed(stream: str, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    """Run with a standard stream closed, as a shell does for >&-."""
    command = ["sh", "-c", f'exec "$0" "$@" {stream}', sys.executable, str(STAND_IN), "embed", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=20)


def test_closed_standard_streams_are_no_fault(tmp_path):
    done = run_with_closed(">&-", "hello")
    assert (done.returncode, done.stderr) == (
        1,
        b"error: standard output is closed; open it, or write to a file with --output FILE\n",
    )
    assert run_with_closed(">&-", "hello", "--output", tmp_path / "o.npy").returncode == 0
    assert run_with_closed("2>&-", "hello").returncode == 0
    done = run_with_closed("<&-", "--input", "-")
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"standard input is closed" in done.stderr


def test_pipe_with_a_name_is_read_as_format_says():
    ours, theirs = os.pipe()
    os.write(theirs, b"id\ttext\n1\thello\n")
    os.close(theirs)
    with start("--input", f"/dev/fd/{ours}", "--format", "tsv", pass_fds=[ours]) as process:
        out, _ = process.communicate(timeout=20)
    os.close(ours)
    assert json.loads(out)["text"] == "hello"
