"""Large bodies and large answers: what is read and written piece by piece is what would be at once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import orjson
import pytest

from bothways.server.problems import Problem
from bothways.server.replies import floats
from bothways.server.routes.openai import EmbeddingsRequest
from bothways.server.wire import decode


@pytest.mark.parametrize("separators", [(",", ":"), (" ,\n ", ": ")])
def test_a_long_list_of_numbers(separators: tuple[str, str]) -> None:
    for given in (list(range(300_000)), [[n, n + 1] for n in range(150_000)]):
        body = json.dumps({"model": "m", "input": given}, separators=separators).encode()
        read = asyncio.run(decode(body, EmbeddingsRequest))
        assert (read.model, read.input) == ("m", given)


@pytest.mark.parametrize("wrong", ["1.5", "-1", "null", "true", '"a'])
def test_a_long_list_in_which_one_is_no_id(wrong: str) -> None:
    body = b'{"input": [%s]}' % b",".join([*[b"7"] * 300_000, wrong.encode()])
    with pytest.raises(Problem) as caught:
        asyncio.run(decode(body, EmbeddingsRequest))
    assert caught.value.status == (400 if wrong == '"a' else 422)


@pytest.mark.parametrize("shape", [(0, 4), (3, 4), (100, 1000), (7, 30_000), (1, 1), (50_000,), (20_001, 1)])
def test_arrays_as_json(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(3).standard_normal(shape, np.float32)
    written = floats(values)
    assert written == orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)
    np.testing.assert_array_equal(np.array(json.loads(written), np.float32).reshape(shape), values)


#: Items in which ends of items seem to be where there are none.
TRICKY = ['",', '\\",', "],", "},[{", "a,b,", '\\\\",', "", ",", '"', "é🎉\n\t"]


@pytest.mark.parametrize("separators", [(",", ":"), (" ,\n ", ": ")])
@pytest.mark.parametrize("kind", ["strings", "lists", "objects", "mixed", "nested"])
def test_a_long_list_is_read_in_pieces(kind: str, separators: tuple[str, str]) -> None:
    draw = np.random.default_rng(5)
    texts = ["".join(draw.choice(TRICKY, 6)) + "x" * int(draw.integers(0, 200)) for _ in range(8000)]
    made: dict[str, list[Any]] = {
        "strings": texts,
        "lists": [[text, "b"] for text in texts],
        "objects": [{text: text} for text in texts],
        "mixed": [text if n % 3 else [text, text] for n, text in enumerate(texts)],
        "nested": [[[text], [[text, 1]]] for text in texts],
    }
    body = json.dumps({"a": made[kind], "b": 1}, separators=separators).encode()
    assert len(body) > 2 * 400_000

    async def read() -> tuple[Any, int]:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counting = asyncio.create_task(count())
        found = await decode(body, dict)
        counting.cancel()
        return found, turns

    found, turns = asyncio.run(read())
    assert found == {"a": made[kind], "b": 1}
    assert turns >= len(body) // 500_000, "others did not come to their turns meanwhile"
