"""What a server has: its models, and what each can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from bothways.client.failures import unreadable
from bothways.client.replies import Unreadable, json_object
from bothways.client.target import Target
from bothways.client.wire import Reply, Request, asking
from bothways.errors import ModelNotFound

__all__ = ["Ask", "RemoteModel", "able", "ask_models", "chosen"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class RemoteModel:
    """A model of a server.

    Attributes:
        name: What it is called there.
        tasks: The methods that it can serve.
        family: The kind of network.
        max_tokens: The most tokens of a text.
        labels: The labels of each of its heads.
        prompts: Its prompts by name.
        similarity: How its embeddings are compared.
    """

    name: str
    tasks: tuple[str, ...]
    family: str = ""
    max_tokens: int | None = None
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)
    similarity: str = "cosine"


@dataclass(frozen=True)
class Ask(Generic[_T]):
    """A question to the server, besides the tasks."""

    target: Target
    path: str
    read: Callable[[Reply], _T]

    def request(self) -> Request:
        """What is sent."""
        return asking(self.path)

    def answered(self, request: Request, reply: Reply) -> _T:
        """Read the reply.

        Raises:
            ServerError: It is not what was asked for.
        """
        try:
            return self.read(reply)
        except Unreadable as error:
            raise unreadable(self.target, request, reply, str(error)) from None


def ask_models(target: Target) -> Ask[list[RemoteModel]]:
    """The question for all models."""
    return Ask(target, "/tasks", _models)


def _models(reply: Reply) -> list[RemoteModel]:
    try:
        return [_model(given) for given in json_object(reply)["models"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreadable(f"its models are of another form ({type(error).__name__}: {error})") from None


def _model(given: Any) -> RemoteModel:
    tokens = given.get("max_tokens")
    return RemoteModel(
        name=str(given["name"]),
        tasks=tuple(map(str, given["tasks"])),
        family=str(given.get("family", "")),
        max_tokens=None if tokens is None else int(tokens),
        labels={str(kind): tuple(map(str, labels)) for kind, labels in given.get("labels", {}).items()},
        prompts={str(name): str(prompt) for name, prompt in given.get("prompts", {}).items()},
        similarity=str(given.get("similarity", "cosine")),
    )


def chosen(models: list[RemoteModel], target: Target) -> list[RemoteModel]:
    """The models that may answer: the one of the target's name, or any where it has none. One alone has any name.

    Raises:
        ModelNotFound: There is none of that name.
    """
    if target.model is None or len(models) == 1:
        return models
    found = [model for model in models if model.name == target.model]
    if not found:
        names = ", ".join(model.name for model in models)
        raise ModelNotFound(f"there is no model {target.model!r} at {target.url}; use {names}")
    return found


def able(models: list[RemoteModel]) -> tuple[str, ...]:
    """What some models can do together."""
    return tuple(dict.fromkeys(task for model in models for task in model.tasks))
