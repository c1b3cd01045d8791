"""Tokens without the network: the tokens of a text, and the text of ids, as Text Embeddings Inference has them."""

from __future__ import annotations

import functools

import msgspec

from bothways.server.calls import Call
from bothways.server.models import Model
from bothways.server.problems import Problem
from bothways.server.replies import Reply, listed
from bothways.server.routes.base import Body, Route, read_input
from bothways.server.service import Service
from bothways.tasks.prompts import choose_prompt

__all__ = ["ROUTES"]


class TokenizeRequest(Body):
    """Texts whose tokens are wanted, all of them: nothing is cut."""

    inputs: str | list[str]
    model: str | None = None
    add_special_tokens: bool | None = None
    prompt_name: str | None = None


class Token(msgspec.Struct):
    """A token; `start` and `stop` are its place in the text's UTF-8 bytes, null for special tokens."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class DecodeRequest(Body):
    """Ids that spell a text, or lists of ids."""

    ids: list[int | list[int]]
    model: str | None = None
    skip_special_tokens: bool | None = None


async def tokenize(service: Service, call: Call, request: TokenizeRequest) -> Reply:
    """Answer POST /tokenize."""
    model = service.find(call, request.model)
    texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
    if not texts:
        raise Problem(400, "`inputs` is an empty list; give at least one text", "empty_input", param="inputs")
    prompt = choose_prompt(model.encoder.spec.embed, None, request.prompt_name) if request.prompt_name else ""
    call.characters += service.limits.check_texts(texts)
    special = request.add_special_tokens is not False
    found: list[bytes] = []
    total = 0
    for text in texts:
        count, tokens = await call.outside(None, functools.partial(_tokens, model, prompt + text, special))
        found.append(tokens)
        total += count
        service.limits.check_tokens(total)
    return Reply(listed(b"", found, b""))


def _tokens(model: Model, text: str, special: bool) -> tuple[int, bytes]:
    """How many tokens a text has, and they as JSON."""
    tokenizer = model.encoder.tokenizer
    sequence = tokenizer.whole(text, special=special)
    bytes_before = [0]
    for character in text:
        bytes_before.append(bytes_before[-1] + len(character.encode()))
    tokens = []
    rows = zip(sequence.ids.tolist(), sequence.tokens, sequence.offsets.tolist(), sequence.parts.tolist(), strict=True)
    for id, token, (start, end), part in rows:
        around = part < 0
        tokens.append(
            Token(
                id,
                token if around else text[start:end],
                around,
                None if around else bytes_before[start],
                None if around else bytes_before[end],
            )
        )
    return len(tokens), msgspec.json.encode(tokens)


async def decode(service: Service, call: Call, request: DecodeRequest) -> Reply:
    """Answer POST /decode."""
    model = service.find(call, request.model)
    texts, _ = read_input(service, request.ids, "ids")
    return Reply(await call.outside(None, lambda: _decoded(model, texts, request.skip_special_tokens is False)))


def _decoded(model: Model, texts: list[tuple[int, ...]], keep: bool) -> bytes:
    size = model.encoder.spec.vocab_size
    for number in (id for each in texts for id in each):
        if not 0 <= number < size:
            raise Problem(
                400, f"the id {number} is not in this model's vocabulary of {size}", "unknown_token", param="ids"
            )
    return msgspec.json.encode(model.encoder.tokenizer.vocabulary.texts(texts, special=keep))


ROUTES = (
    Route(
        ("/tokenize",),
        tokenize,
        "The tokens of texts.",
        TokenizeRequest,
        list[list[Token]],
        family="Text Embeddings Inference",
    ),
    Route(("/decode",), decode, "The texts of ids.", DecodeRequest, list[str], family="Text Embeddings Inference"),
)
