"""What a route is, and what the handlers of several families share."""

from __future__ import annotations

import base64
import functools
import io
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from bothways.arrays import FloatArray
from bothways.precision import quantize
from bothways.server.calls import Call
from bothways.server.models import Model
from bothways.server.problems import Envelope, Problem
from bothways.server.replies import Parts, Reply, check_finite, floats
from bothways.server.results import Results, counted, unique
from bothways.server.service import Service
from bothways.tasks.similarity import similarities as compare
from bothways.tokens import Sequence

__all__ = [
    "Body",
    "Direction",
    "EmbedFields",
    "Handler",
    "Input",
    "Precision",
    "Route",
    "check_fills",
    "cut_advice",
    "embed",
    "embed_options",
    "encoded",
    "given",
    "npy_reply",
    "npy_row",
    "prompt_of",
    "ranges_of",
    "read_input",
    "similarities",
    "stored",
    "truncation_of",
    "vectors",
]

#: Answers a request whose body, if the route has one, was read.
Handler: TypeAlias = Callable[[Service, Call, Any], Awaitable[Reply]]

#: A token's id.
Id: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]

#: One text, one text's token ids, or a list of either.
Input: TypeAlias = str | list[str | Id | list[Id]]

#: In how many bits a value is stored.
Precision: TypeAlias = Literal["float32", "int8", "uint8", "binary", "ubinary"]

Direction: TypeAlias = Literal["left", "Left", "right", "Right"]


class Body(msgspec.Struct):
    """A request: a JSON object, in which null stands for what is left out, and unknown fields are passed over."""


class EmbedFields(Body):
    """How texts are embedded, on the routes that embed as other APIs do."""

    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    truncate: bool | None = None
    truncation_direction: Direction | None = None
    prompt: str | None = None
    prompt_name: str | None = None
    input_type: str | None = None
    normalize: bool | None = None
    precision: Precision | None = None


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
        other_envelope: A field whose presence makes them look the other way, as the route speaks two dialects.
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
    other_envelope: str = ""
    family: str = ""
    method: str = "POST"
    inference: bool = True
    open: bool = False
    protectable: bool = False
    requests: tuple[type[Body], ...] = ()


def read_input(service: Service, value: Any, name: str) -> tuple[list[Any], bool]:
    """Read texts and token ids as a list, each a str or a tuple of ids; whether it was one alone.

    Raises:
        Problem: There is nothing, too much, or a mixture.
    """
    if isinstance(value, str):
        items: list[Any] = [value]
        alone = True
    elif value and isinstance(value[0], int):
        service.limits.check_tokens(len(value))
        items, alone = [tuple(value)], True
    else:
        service.limits.check_items(len(value))
        service.limits.check_tokens(sum(len(item) for item in value if isinstance(item, list)))
        items, alone = [tuple(item) if isinstance(item, list) else item for item in value], False
    if not items:
        raise Problem(400, f"`{name}` is an empty list; give at least one text", "empty_input", param=name)
    mixed = f"`{name}` mixes token ids with texts; give all of one kind"
    for number, item in enumerate(items):
        if isinstance(item, int) or (
            number == 0 and isinstance(item, tuple) and not all(isinstance(i, int) for i in item)
        ):
            raise Problem(422, mixed, "invalid_field", param=name)
        if not item and (service.settings.refuse_empty or isinstance(item, tuple)):
            raise Problem(400, f"`{name}` is empty at {number}; leave it out", "empty_input", param=name)
    return items, alone


@functools.cache
def cut_advice(kind: type[msgspec.Struct]) -> str:
    """What a request of a kind may say so that a text that is too long is cut."""
    fields = {field.name: get_args(field.type) for field in msgspec.structs.fields(kind)}
    if "truncate" in fields:
        wanted = "true" if bool in fields["truncate"] else '"END"'
        return f"send `truncate`: {wanted} to cut it"
    for parameters in fields.get("parameters", ()):
        if "truncate" in getattr(parameters, "__struct_fields__", ()):
            return "send `truncate`: true in `parameters` to cut it"
    return "send less of it"


def truncation_of(service: Service, truncate: bool | None, direction: str | None) -> dict[str, Any]:
    """The options of a plan that say how long texts are taken."""
    cut = service.settings.truncation if truncate is None else truncate
    return {"truncation": "left" if cut and direction is not None and direction.lower() == "left" else cut}


def given(**options: Any) -> dict[str, Any]:
    """The options that a request says something about."""
    return {name: value for name, value in options.items() if value is not None}


#: What other APIs call the uses of a vector, and the names of the prompts for them.
_SIDES = {
    "query": "query",
    "document": "document",
    "passage": "document",
    "search_query": "query",
    "search_document": "document",
    "classification": "classification",
    "clustering": "clustering",
}


def prompt_of(model: Model, prompt: str | None, name: str | None, side: str | None) -> dict[str, Any]:
    """The options of a plan that say what is put in front of texts.

    A side that the checkpoint has no prompt for asks for none; a prompt's name must be known.
    """
    if prompt is not None or name is not None or side is None:
        return given(prompt=prompt, prompt_name=name)
    prompts = model.encoder.spec.embed.prompts
    wanted = _SIDES.get(side, side)
    if wanted in prompts:
        return {"prompt_name": wanted}
    if side not in _SIDES:
        allowed = ", ".join(sorted({*_SIDES, *prompts}))
        raise Problem(400, f"input_type {side!r} is unknown; use {allowed}", "invalid_value", param="input_type")
    return {}


def embed_options(service: Service, model: Model, request: EmbedFields) -> dict[str, Any]:
    """The options of a plan that a request asks for; vectors have length 1 unless it says otherwise."""
    return {
        "normalize": True if request.normalize is None else request.normalize,
        **truncation_of(service, request.truncate, request.truncation_direction),
        **given(dimensions=request.dimensions),
        **prompt_of(model, request.prompt, request.prompt_name, request.input_type),
    }


async def embed(
    service: Service, call: Call, model: Model, items: list[Any], render: Callable[[Any], Any], **options: Any
) -> Results:
    """Embed texts and token ids, each a str or a tuple of ids; what `render` makes of each vector."""
    if not any(map(_is_ids, items)):
        return await service.run(call, model, service.plan(model, "embed", **options), items, render)
    if options.get("prompt") or options.get("prompt_name"):
        raise Problem(400, "a prompt can't be put in front of token ids; give texts", "invalid_value")
    # Not the checkpoint's default prompt either: ids are taken as they are, and texts beside them alike.
    plan = service.plan(model, "embed", **{**options, "prompt": ""})
    call.characters += service.limits.check_texts(items)
    count = sum(len(item) if _is_ids(item) else 1 for item in items)
    each, places = await call.somewhere(count, lambda: unique(items, _key))
    texts = iter(await service.tokenize(call, plan, [item for item in each if not _is_ids(item)]))
    truncation = options.get("truncation", True)

    def read() -> list[list[Sequence]]:
        return [
            [_of_ids(model, item, n, truncation)] if _is_ids(item) else next(texts)
            for n, item in enumerate(each)
        ]

    groups = await call.somewhere(count, read)
    service.limits.reserve(call, sum(len(group[0]) for item, group in zip(each, groups, strict=True) if _is_ids(item)))
    results = await service.compute(call, model, plan, each, groups, render)
    return counted(call, results.at(places))


def _is_ids(item: Any) -> bool:
    return isinstance(item, tuple)


def _key(item: Any) -> Any:
    """What to look an item up by: anybody can make many tuples of ids with the same hash."""
    return array("i", item).tobytes() if _is_ids(item) else item


def _of_ids(model: Model, ids: tuple[int, ...], number: int, truncation: Any) -> Sequence:
    size = model.encoder.spec.vocab_size
    highest = max(ids)
    if highest >= size:
        raise Problem(
            400,
            f"text {number} has the token id {highest}, and this model's vocabulary of {size} has none such; give the "
            "text itself, or ids of this model's own tokenizer (LangChain's OpenAIEmbeddings sends OpenAI's ids unless "
            "check_embedding_ctx_length=False)",
            "unknown_token",
            param="input",
        )
    return model.encoder.tokenizer.from_ids(ids, max_length=model.embed_limit, truncation=truncation, number=number)


def vectors(encoding: str | None) -> Callable[[npt.NDArray[Any]], bytes]:
    """How a response writes a vector: as a JSON list, or as base64 of its bytes, little-endian."""
    return encoded if encoding == "base64" else floats


def ranges_of(model: Model, precision: str | None, dimensions: int | None, param: str) -> FloatArray | None:
    """The ranges by which vectors of so many dimensions become whole numbers; None where they need none.

    Raises:
        Problem: The server has none for this model, or none for vectors that are cut.
    """
    if precision not in ("int8", "uint8"):
        return None
    if model.ranges is None:
        raise Problem(
            400,
            f"{precision} needs the range of every value, and this server has none for {model.name} (server option "
            "--ranges); ask for binary or ubinary, which need none, or send `ranges` to /tasks/embed",
            "no_ranges",
            param=param,
        )
    size = model.ranges.shape[1]
    if dimensions is not None and dimensions < size:
        raise Problem(
            400,
            f"{precision} takes its ranges from vectors of all {size} dimensions, and they are others in vectors that "
            f"are cut to {dimensions}; leave out one of the two",
            "no_ranges",
            param=param,
        )
    return model.ranges


def stored(
    write: Callable[[npt.NDArray[Any]], Any], precision: str | None, ranges: Any = None
) -> Callable[[npt.NDArray[Any]], Any]:
    """How a response writes a vector that is stored in fewer bits; one of NaNs would look sound then, so look first."""
    if precision is None or precision == "float32":
        return write

    def render(vector: npt.NDArray[Any]) -> Any:
        check_finite(vector)
        return write(quantize(vector[None], precision, ranges)[0])

    return render


def encoded(values: npt.NDArray[Any]) -> bytes:
    """An array's bytes in base64, as a JSON string."""
    check_finite(values)
    return b'"' + base64.b64encode(np.ascontiguousarray(values).tobytes()) + b'"'


def check_fills(service: Service, model: Model, texts: list[str], top_k: int | None) -> None:
    """Refuse to fill more masks with more tokens, each with the text that it makes, than an answer may hold."""
    mask = model.encoder.tokenizer.vocabulary.mask
    size = model.encoder.spec.vocab_size
    count = size if top_k is None else min(top_k, size)
    if mask is not None:
        service.limits.check_answer(sum(text.count(mask[0]) * count * (len(text) + 100) for text in texts))


def npy_row(vector: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A vector as a row of a .npy file."""
    check_finite(vector)
    return np.ascontiguousarray(vector)


def npy_reply(
    rows: list[npt.NDArray[Any]],
    headers: list[tuple[bytes, bytes]] | None = None,
    none: npt.NDArray[Any] | None = None,
) -> Reply:
    """Vectors, each from `npy_row`, as a .npy file (B, D), which any NumPy reads; `none` is what there is without any.

    The rows are sent as they are: to put thousands of them into one array would stop the event loop.
    """
    first = rows[0] if rows else np.zeros((0, 0), np.float32) if none is None else none
    head = io.BytesIO()
    described = np.lib.format.header_data_from_array_1_0(first)
    np.lib.format.write_array_header_1_0(head, {**described, "shape": (len(rows), first.shape[-1])})
    parts: Parts = [head.getvalue(), *(row.data.cast("B") for row in rows)]
    return Reply(parts, content_type="application/x-npy", headers=headers or [])


async def similarities(
    call: Call, model: Model, a: list[npt.NDArray[Any]], b: list[npt.NDArray[Any]], measure: str
) -> npt.NDArray[np.float32]:
    """Compare every vector of a with every one of b, outside the event loop: (len a, len b)."""

    def work() -> npt.NDArray[np.float32]:
        for vector in (*a, *b):
            check_finite(vector)
        return compare(np.stack(a), np.stack(b), measure, model.encoder.engine.threads)

    return await call.outside(None, work)
