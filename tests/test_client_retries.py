"""What clients do about failures: retries and waits, errors of servers and of what stands before them; settings."""

from __future__ import annotations

import asyncio
import copy
import pickle
import re
import ssl
import time
from email.utils import formatdate
from typing import Any

import httpx2
import numpy as np
import pytest
from client_fake import URL, FakeAsyncClient, FakeClient, Server, Way, both_ways, npy, refusal  # noqa: F401

from bothways import BothwaysError, InputError, InputTooLong, ModelNotFound, ServerError, TaskError
from bothways.client import AsyncClient, Client
from bothways.client.retry import retry_after

PAGE = "<html><head><title>502 Bad\n Gateway &amp; co</title></head><body>nginx</body></html>"


class Script:
    """Answers with one outcome after the other, an exception or a response, then as a server does."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.server = Server()
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is None:
            return self.server(request)
        # One of its own, as a response can be read once.
        return httpx2.Response(outcome.status_code, headers=outcome.headers, content=outcome.content)


def test_what_may_pass_is_sent_again_after_longer_and_longer_waits(way: Way) -> None:
    script = Script(refusal(503, "warming"), httpx2.ConnectError("refused"), httpx2.ReadError("reset"))
    assert way.ask(script, "embed", "a").tolist() == [[1, 97]]
    assert way.clock.waits == [0.5, 1.0, 2.0]
    assert len({request.headers["x-request-id"] for request in script.requests}) == 1
    assert len({request.content for request in script.requests}) == 1
    # The server is told how much time is left.
    assert [request.headers["x-request-timeout"] for request in script.requests] == [
        "60.000",
        "59.500",
        "58.500",
        "56.500",
    ]


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_retries_end(way: Way, status: int) -> None:
    script = Script(*[refusal(status, "no room") for _ in range(5)])
    told = rf"no room \(4 attempts in 3.5 s\); .* \(HTTP {status} from {URL}, request \w"
    with pytest.raises(ServerError, match=told):
        way.ask(script, "embed", "a")
    assert len(script.requests) == 4
    script = Script(refusal(status, "no room"))
    with pytest.raises(ServerError, match="no room; "):
        way.ask(script, "embed", "a", client={"retries": 0})
    assert way.clock.waits == []


@pytest.mark.parametrize(("status", "code"), [(503, "out_of_memory"), (504, "deadline_exceeded")])
def test_what_would_cost_as_much_again_is_not_sent_again(way: Way, status: int, code: str) -> None:
    script = Script(refusal(status, "too much", code))
    with pytest.raises(ServerError, match="too much; "):
        way.ask(script, "embed", "a")
    assert len(script.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 424, 500, 501])
def test_other_statuses_are_final(way: Way, status: int) -> None:
    script = Script(refusal(status, "never", retry_after="1"))
    with pytest.raises(BothwaysError, match="never"):
        way.ask(script, "embed", "a")
    assert len(script.requests) == 1


def test_waits_grow_to_eight_seconds_and_vary(way: Way) -> None:
    script = Script(*[refusal(503, "down") for _ in range(8)])
    way.ask(script, "embed", "a", client={"retries": 9})
    assert way.clock.waits == [0.5, 1, 2, 4, 8, 8, 8, 8]
    client = FakeClient(Script(*[refusal(503, "down") for _ in range(3)]))
    client._chance = lambda: 0.0
    client.embed("a")
    assert client.clock.waits == [0.25, 0.5, 1.0]


def test_the_servers_own_wait_is_kept(way: Way) -> None:
    at = formatdate(time.time() + 7, usegmt=True)
    script = Script(
        refusal(429, "busy", retry_after="3"),
        refusal(503, "busy", retry_after=at),
        refusal(503, "busy", retry_after="soon"),
    )
    way.ask(script, "embed", "a")
    first, second, third = way.clock.waits
    assert first == 3 + 0.25 * 0.5
    assert 5.5 < second < 7.5
    assert third == 2.0


def test_waits_never_go_past_the_timeout(way: Way) -> None:
    script = Script(refusal(429, "busy", retry_after="30"))
    with pytest.raises(ServerError, match="busy; it asks to wait 30 s, past the timeout of 20 s; try again"):
        way.ask(script, "embed", "a", client={"timeout": 20})
    assert way.clock.waits == []
    script = Script(*[refusal(503, "down") for _ in range(99)])
    with pytest.raises(ServerError, match=r"attempts in \d+.\d s\), past the timeout of 20 s"):
        way.ask(script, "embed", "a", client={"timeout": 20, "retries": 99})
    assert sum(way.clock.waits) < 20
    script = Script(refusal(429, "busy", retry_after="3000"))
    way.ask(script, "embed", "a", client={"timeout": None})
    assert way.clock.waits[0] >= 3000
    assert "x-request-timeout" not in script.requests[0].headers


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after("5", 0) == 5
    assert retry_after("0.5", 0) == 0.5
    assert retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 10) == 50
    assert retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 100) == 0
    assert retry_after("-5", 0) == 0
    for nothing in (None, "", "soon", "nan", "inf", "Thu, 99 Foo 1970"):
        assert retry_after(nothing, 0) is None


@pytest.mark.parametrize(
    ("response", "kind", "message"),
    [
        (refusal(400, "bad option"), InputError, f"bad option (HTTP 400 from {URL}, request r0)"),
        (refusal(413, "too much"), InputError, "too much (HTTP 413"),
        (refusal(422, "text 0 has 731 tokens"), InputError, "text 0 has 731 tokens (HTTP 422"),
        (refusal(422, "too long", "input_too_long"), InputTooLong, "too long (HTTP 422"),
        (refusal(424, "this checkpoint can't tag"), TaskError, "this checkpoint can't tag (HTTP 424"),
        (refusal(400, "can't", "task_not_supported"), TaskError, "can't (HTTP 400"),
        (refusal(404, "no model 'x'"), ModelNotFound, "no model 'x'; `Client.models()` says which it has (HTTP 404"),
        (refusal(404, "no route", "route_not_found"), ServerError, f"{URL} failed: no route"),
        (refusal(500, "broken"), ServerError, f"{URL} failed: broken; look for the request's id in its log (HTTP 500"),
        (refusal(401, "no key"), ServerError, f"{URL} refused a request without a key: no key; pass api_key=..."),
        (
            httpx2.Response(400, json={"error": {"message": "m", "code": "c"}, "request_id": "r"}),
            InputError,
            "m (HTTP 400",
        ),
        (httpx2.Response(404), ServerError, f"{URL} answered with an empty body (no content type), which is not from"),
        (httpx2.Response(404, json={"detail": 5}), ServerError, """with application/json: '{"detail":5}', which is"""),
        (httpx2.Response(413, html=PAGE), InputError, "a page: '502 Bad Gateway & co', which is not from a Bothways"),
        (httpx2.Response(401, text="who?"), ServerError, "text/plain: 'who?'"),
        (httpx2.Response(405, content=b"\0\1"), ServerError, "answered with no content type, which is not from"),
        (httpx2.Response(308, headers={"location": "https://x/"}), ServerError, "sends on to 'https://x/'"),
        (httpx2.Response(500, json={"error": 5}), ServerError, "which is not from a Bothways server"),
        (httpx2.Response(500, content=b"[" * 100_000), ServerError, "which is not from a Bothways server"),
        (httpx2.Response(200, html=PAGE), ServerError, "a page: '502 Bad Gateway & co', and it is no JSON; give the"),
        (httpx2.Response(204), ServerError, "which is not from a Bothways server"),
        (httpx2.Response(200, json=[1]), ServerError, "it is no JSON object"),
        (httpx2.Response(200, json={"results": 1}), ServerError, "it holds no list of results"),
        (httpx2.Response(200, json={"results": [1]}), ServerError, "its results are of another form (TypeError"),
        (httpx2.Response(200, json={"results": [[{"label": "a"}]]}), ServerError, "another form (KeyError: 'score')"),
        (httpx2.Response(200, json={"results": [[]]}), ServerError, "another form (KeyError: 'usage')"),
    ],
)
def test_every_refusal_is_an_error_of_its_kind(
    response: httpx2.Response, kind: type[Exception], message: str, way: Way
) -> None:
    response.headers["x-request-id"] = "r0"
    script = Script(response)
    with pytest.raises(kind, match=re.escape(message)) as caught:
        way.ask(script, "classify", "a")
    assert type(caught.value) is kind
    assert "request r0" in str(caught.value)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (npy([1.0, 2.0]), r"the array has the shape \(2,\), where \(1, any\) is due"),
        (npy([[1.0], [2.0]]), r"the array has the shape \(2, 1\)"),
        (npy([["a"]]), "it holds numbers of type <U1, where float32 is due"),
        (npy([[1.0]]), "of type float64"),
        (httpx2.Response(200, content=b"\x93NUMPY", headers={"content-type": "application/x-npy"}), "it can't be read"),
        (httpx2.Response(200, content=b"PK", headers={"content-type": "application/x-npy"}), "it can't be read"),
    ],
)
def test_arrays_are_not_trusted(response: httpx2.Response, message: str, way: Way) -> None:
    with pytest.raises(ServerError, match=message):
        way.ask(Script(response), "embed", "a")


def test_no_pickle_is_ever_loaded(way: Way) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return pytest.fail, ("unpickled",)

    array = np.array([[Trap()]], object)
    with pytest.raises(ServerError, match="it can't be read"):
        way.ask(Script(npy(array)), "embed", "a")


def test_a_proxys_page_is_told_after_the_last_attempt(way: Way) -> None:
    script = Script(*[httpx2.Response(502, html=PAGE) for _ in range(4)])
    told = r"a page: '502 Bad Gateway & co'.*\(4 attempts in 3.5 s\); look whether"
    with pytest.raises(ServerError, match=told) as caught:
        way.ask(script, "embed", "a")
    assert script.requests[0].headers["x-request-id"] in str(caught.value)


def test_texts_of_a_later_request_are_told(way: Way) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        response = server(request)
        return refusal(422, "text 3 has 731 tokens") if len(server.bodies[-1]["texts"]) < 256 else response

    server = Server()
    with pytest.raises(InputError, match=r"text 3 has 731 tokens \(.* with texts 256 to 299 of the call, numbered"):
        way.ask(handler, "classify", ["t"] * 300)


def test_the_first_failure_in_the_order_of_texts_is_told(way: Way) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        server(request)
        text = server.bodies[-1]["texts"][0]
        time.sleep(0.05 if text == "0" else 0)
        return refusal(400, f"not {text}")

    server = Server()
    with pytest.raises(InputError, match="not 0"):
        way.ask(handler, "classify", [str(n // 256) for n in range(1024)])


def test_keys_and_headers(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    def sent(**client: Any) -> httpx2.Headers:
        server = Server()
        way.ask(server, "classify", "a", client=client)
        return server.requests[0].headers

    monkeypatch.delenv("BOTHWAYS_API_KEY", raising=False)
    assert "authorization" not in sent()
    assert sent(api_key="k")["authorization"] == "Bearer k"
    monkeypatch.setenv("BOTHWAYS_API_KEY", "first, second\n")
    assert sent()["authorization"] == "Bearer first"
    assert sent(api_key="k")["authorization"] == "Bearer k"
    assert "authorization" not in sent(api_key="")
    given = sent(headers={"Authorization": "Basic x", "X-Team": "a"})
    assert (given["authorization"], given["x-team"]) == ("Basic x", "a")
    script = Script(refusal(401, "wrong"))
    with pytest.raises(ServerError, match="refused the key that was given: wrong") as caught:
        way.ask(script, "embed", "a")
    assert "first" not in str(caught.value)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"url": "localhost:8080"}, "url is 'localhost:8080'; give http://host:port, https://host or unix:"),
        ({"url": "ftp://x"}, "give http://"),
        ({"url": "http://"}, "give http://"),
        ({"url": "http://x:99999"}, "give http://"),
        ({"url": 5}, "url is 5"),
        ({"url": "unix:"}, "without the socket's path"),
        ({"url": "http://me:secret@x"}, "a name or a password in it; pass api_key"),
        ({"url": "http://x/?a=b"}, "leave out what follows"),
        ({"url": "http://a b"}, "give http://"),
        ({"model": 5}, "model is 5"),
        ({"api_key": "secret\n"}, "api_key is no string of one line in ASCII"),
        ({"api_key": b"secret"}, "api_key is no string"),
        ({"timeout": 0}, "timeout is 0; it must be a number of seconds above zero"),
        ({"timeout": float("inf")}, "timeout is inf"),
        ({"timeout": "5"}, "timeout is '5'"),
        ({"retries": -1}, "retries is -1"),
        ({"retries": None}, "retries is None"),
        ({"headers": {"x y": "a"}}, "headers has the name 'x y'"),
        ({"headers": {"x": "secret\r\nz: 1"}}, "headers has a value for 'x' that is no string of one line"),
        ({"headers": {"X-Request-ID": "a"}}, "which the client sets itself"),
        ({"headers": ["a"]}, "headers is of type list"),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_settings_are_checked(kind: type, args: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        kind(**{"url": URL, **args})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_copies_connect_by_themselves_and_nothing_shows_the_key(kind: type) -> None:
    client = kind("http://x:1/", model="m", api_key="secret", timeout=5, retries=1, headers={"X-A": "b"})
    assert repr(client) == f"{kind.__name__}('http://x:1', model='m')"
    assert "secret" not in repr(vars(client)["_target"])
    for again in (pickle.loads(pickle.dumps(client)), copy.deepcopy(client)):
        assert type(again) is kind
        assert again is not client
        assert (again.url, again.model, again._timeout, again._retries) == ("http://x:1", "m", 5.0, 1)
        assert again._target == client._target


def test_a_closed_client_says_so() -> None:
    client = FakeClient(Server())
    with client:
        client.embed("a")
        begun = client.classify(iter(["a"] * 2000))
        next(begun)
    calls = (lambda: client.embed("a"), lambda: client.tasks, lambda: client.classify(iter(["a"])), lambda: list(begun))
    for call in calls:
        with pytest.raises(BothwaysError, match="this FakeClient is closed; make a new one"):
            call()
    assert client._pools == {}
    other = FakeAsyncClient(Server())

    async def run() -> None:
        async with other:
            await other.embed("a")
        with pytest.raises(BothwaysError, match="this FakeAsyncClient is closed; make a new one"):
            await other.tasks

    asyncio.run(run())


def test_an_untrusted_certificate_is_no_reason_to_try_again(way: Way) -> None:
    trouble = httpx2.ConnectError("certificate verify failed")
    trouble.__cause__ = ssl.SSLCertVerificationError("self-signed")
    script = Script(trouble)
    with pytest.raises(ServerError, match="has a certificate that is not trusted: .*; set SSL_CERT_FILE"):
        way.ask(script, "embed", "a")
    assert len(script.requests) == 1
