from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner

from bothways.cli import main

COMMANDS = ("encode", "embed", "similarity", "doctor")


def test_help_lists_every_command_with_one_line():
    lines = CliRunner().invoke(main, ["--help"]).stdout.splitlines()
    for command in COMMANDS:
        (line,) = [line for line in lines if line.strip().startswith(f"{command} ")]
        assert line.rstrip().endswith(".")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_starts_like_its_line_in_the_list(command):
    shown = CliRunner().invoke(main, [command, "--help"])
    assert shown.exit_code == 0
    listed = CliRunner().invoke(main, ["--help"]).stdout
    first = shown.stdout.split("\n\n")[1].strip().split(".")[0].replace("\n", " ")
    assert first.split(",")[0] in listed


def test_unknown_command_is_bad_usage():
    result = CliRunner().invoke(main, ["embedd"])
    assert result.exit_code == 2
    assert "embedd" in result.stderr


def test_version_names_the_program():
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("bothways ")


def test_python_dash_m_is_the_same_program():
    done = subprocess.run([sys.executable, "-m", "bothways", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: bothways [OPTIONS]")


def test_help_loads_no_command_and_nothing_heavy():
    code = (
        "import sys; from click.testing import CliRunner; from bothways.cli import main; "
        "CliRunner().invoke(main, ['--help']); "
        "heavy = {'torch', 'transformers', 'huggingface_hub', 'pyarrow', 'rich', 'bothways.cli.embed'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_interrupt_exits_with_130_without_a_traceback(monkeypatch):
    from bothways.cli import doctor

    def interrupted(_: object) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "_examine_native", interrupted)
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 130
    assert result.output == "interrupted\n"


def test_signals_are_handled_only_while_a_command_runs():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    CliRunner().invoke(main, ["doctor", "--json"])
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_command_runs_in_any_thread():
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(CliRunner().invoke, main, ["doctor", "--help"]).result().exit_code == 0
