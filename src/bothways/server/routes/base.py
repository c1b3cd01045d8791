"""What a route is, and what the handlers of several families share."""

from __future__ import annotations

import asyncio
import base64
import functools
import io
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from bothways.server.calls import Call
from bothways.server.models import Model
from bothways.server.problems import Envelope, Problem
from bothways.server.replies import Reply, floats
from bothways.server.service import Results, Service
from bothways.tasks.similarity import similarities as compare
from bothways.tokens import Sequence

__all__ = [
    "Body",
    "Direction",
    "Handler",
    "Input",
    "Route",
    "embed",
    "encoded",
    "given",
    "npy_reply",
    "prompt_of",
    "read_input",
    "similarities",
    "truncation_of",
    "vectors",
]

#: Answers a request whose body, if the route has one, was read.
Handler: TypeAlias = Callable[[Service, Call, Any], Awaitable[Reply]]

#: One text, one text's token ids, or a list of either.
Input: TypeAlias = str | list[str | int | list[int]]

Direction: TypeAlias = Literal["left", "Left", "right", "Right"]


class Body(msgspec.Struct):
    """A request: a JSON object, in which null stands for what is left out, and unknown fields are passed over."""


@dataclass(frozen=True)
class Route:
    """One way to ask.

    Attributes:
        paths: Where; the first is the name by which it is counted.
        handler: What answers.
        summary: What it is for, in a line.
        request: What bodies are read as; None where there are none.
        answers: What JSON responses hold, for the document: a type, or a tuple of several; None for other kinds.
        envelope: How its errors look.
        family: The clients that it is for, for the document.
        method: The HTTP method.
        inference: Whether it computes: it is queued, counted, and needs a key.
        open: Whether anybody may ask, without a key.
        protectable: Whether it needs one all the same where the server's settings say so.
        requests: For the document, the kinds of bodies where `request` reads several.
    """

    paths: tuple[str, ...]
    handler: Handler
    summary: str
    request: type[Body] | None = None
    answers: Any = None
    envelope: Envelope = "tei"
    family: str = ""
    method: str = "POST"
    inference: bool = True
    open: bool = False
    protectable: bool = False
    requests: tuple[type[Body], ...] = ()


def read_input(value: Any, name: str, *, refuse_empty: bool = False) -> tuple[list[Any], bool]:
    """Read texts and token ids as a list, each a str or a tuple of ids; whether it was one alone.

    Raises:
        Problem: There is nothing, or it is a mixture.
    """
    if isinstance(value, str):
        items: list[Any] = [value]
        alone = True
    elif value and all(isinstance(item, int) for item in value):
        items, alone = [tuple(value)], True
    else:
        items, alone = [tuple(item) if isinstance(item, list) else item for item in value], False
    if not items:
        raise Problem(400, f"`{name}` is an empty list; give at least one text", "empty_input", param=name)
    for number, item in enumerate(items):
        if isinstance(item, int):
            raise Problem(
                422,
                f"`{name}` mixes token ids with texts at {number}; give all of one kind",
                "invalid_field",
                param=name,
            )
        if not item and (refuse_empty or isinstance(item, tuple)):
            raise Problem(400, f"`{name}` is empty at {number}; leave it out", "empty_input", param=name)
    return items, alone


def truncation_of(service: Service, truncate: bool | None, direction: str | None) -> dict[str, Any]:
    """The options of a plan that say how long texts are taken."""
    cut = service.settings.truncation if truncate is None else truncate
    return {"truncation": "left" if cut and direction is not None and direction.lower() == "left" else cut}


def given(**options: Any) -> dict[str, Any]:
    """The options that a request says something about."""
    return {name: value for name, value in options.items() if value is not None}


#: What other APIs call the sides of a search, and the prompts' names.
_SIDES = {"search_query": "query", "search_document": "document"}


def prompt_of(model: Model, prompt: str | None, name: str | None, side: str | None) -> dict[str, Any]:
    """The options of a plan that say what is put in front of texts.

    A side that the checkpoint has no prompt for asks for none; a prompt's name must be known.
    """
    if prompt is not None or name is not None or side is None:
        return given(prompt=prompt, prompt_name=name)
    known = _SIDES.get(side, side)
    return {"prompt_name": known} if known in model.encoder.spec.embed.prompts else {}


async def embed(
    service: Service, call: Call, model: Model, items: list[Any], render: Callable[[Any], Any], **options: Any
) -> Results:
    """Embed texts and token ids, each a str or a tuple of ids; what `render` makes of each vector."""
    plan = model.plan("embed", **options)
    if not any(isinstance(item, tuple) for item in items):
        return await service.run(call, model, plan, items, render)
    if options.get("prompt") or options.get("prompt_name"):
        raise Problem(400, "a prompt can't be put in front of token ids; give texts", "invalid_value")
    groups = [_of_ids(service, model, item, n, options) for n, item in enumerate(items)]
    return await service.compute(call, model, plan, items, groups, render)


def _of_ids(service: Service, model: Model, item: Any, number: int, options: dict[str, Any]) -> list[Sequence]:
    if isinstance(item, str):
        raise Problem(422, "`input` mixes token ids with texts; give all of one kind", "invalid_field", param="input")
    tokenizer = model.encoder.tokenizer
    limit = options.get("max_length") or model.embed_limit
    sequence = tokenizer.from_ids(item, max_length=limit, truncation=options.get("truncation", True), number=number)
    return [sequence]


def vectors(encoding: str) -> Callable[[npt.NDArray[Any]], bytes]:
    """How a response writes a vector: as a JSON list, or as base64 of its bytes, little-endian."""
    return encoded if encoding == "base64" else floats


def encoded(values: npt.NDArray[Any]) -> bytes:
    """An array's bytes in base64, as a JSON string."""
    if values.dtype.kind == "f" and not math.isfinite(float(np.dot(values, values))):
        floats(values)  # says what is wrong
    return b'"' + base64.b64encode(np.ascontiguousarray(values).tobytes()) + b'"'


def npy_reply(rows: list[npt.NDArray[Any]], headers: list[tuple[bytes, bytes]] | None = None) -> Reply:
    """Vectors as a .npy file (B, D), which any NumPy reads."""
    array = np.stack(rows) if rows else np.zeros((0, 0), np.float32)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        floats(array)  # says what is wrong
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return Reply(file.getvalue(), content_type="application/x-npy", headers=headers or [])


async def similarities(
    model: Model, a: list[npt.NDArray[Any]], b: list[npt.NDArray[Any]], measure: str
) -> npt.NDArray[np.float32]:
    """Compare every vector of a with every one of b, outside the event loop: (len a, len b)."""
    work = functools.partial(compare, np.stack(a), np.stack(b), measure, model.encoder.engine.threads)
    return await asyncio.get_running_loop().run_in_executor(None, work)
