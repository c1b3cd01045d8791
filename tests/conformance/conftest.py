"""Fixtures: small models of every task in one folder, the libraries that they come from, and servers of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import checkpoints
import pytest
from serving import Server, serve

#: What would lead a client elsewhere than to loopback, or give it an account.
FOREIGN = ("PROXY", "HF_TOKEN", "HUGGING", "OPENAI", "CO_API", "COHERE", "LANGSMITH", "LANGCHAIN")


@pytest.fixture(scope="session", autouse=True)
def own_environment() -> Iterator[None]:
    """Clients of other services find none of their settings here."""
    patch = pytest.MonkeyPatch()
    for name in os.environ:
        if any(word in name.upper() for word in FOREIGN):
            patch.delenv(name)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def folders(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The models' folders by served names."""
    return checkpoints.make(tmp_path_factory.mktemp("models"), minilm)


@pytest.fixture(scope="session")
def oracles(folders: dict[str, Path]) -> checkpoints.Oracles:
    """The libraries that the models come from."""
    return checkpoints.Oracles(folders)


@pytest.fixture(scope="module")
def server(folders: dict[str, Path]) -> Iterator[Server]:
    """A server of all models."""
    with serve(*folders.values(), served_model_name=list(folders)) as server:
        yield server


@pytest.fixture(scope="module")
def alone(folders: dict[str, Path]) -> Iterator[Any]:
    """Starts servers of one model each, as they are asked for: alone("masks")."""
    from contextlib import ExitStack

    started: dict[str, Server] = {}
    with ExitStack() as stack:

        def start(name: str) -> Server:
            if name not in started:
                started[name] = stack.enter_context(serve(folders[name], served_model_name=name))
            return started[name]

        yield start
