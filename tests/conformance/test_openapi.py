"""The OpenAPI document is valid, and the server keeps to it whatever is asked: schemathesis makes the requests."""

from __future__ import annotations

import copy
import json
import os
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the server's requirements are not installed")
pytest.importorskip("schemathesis", reason="schemathesis is for Python 3.11 and later")
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings, strategies
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from routes import ROUTES as KNOWN
from routes import Route
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from serving import Server

from bothways.server.fields import EXAMPLES, MEANINGS
from bothways.server.openapi import document
from bothways.server.routes import ROUTES

JSON = "application/json"

#: How many requests of each kind a route gets; `make fuzz` asks for more.
ROUNDS = 16 * int(os.environ.get("BOTHWAYS_FUZZ_ROUNDS", "1"))

DOCUMENT: dict[str, Any] = json.loads(json.dumps(document(ROUTES, "0")))


def operations() -> dict[str, Any]:
    """What schemathesis makes requests for, by method and path. It leaves out timeouts, most of which would be over."""
    asked = copy.deepcopy(DOCUMENT)
    for ways in asked["paths"].values():
        for operation in ways.values():
            operation["parameters"] = [each for each in operation["parameters"] if each["name"] != "x-request-timeout"]
    return {found.ok().label: found.ok() for found in schemathesis.openapi.from_dict(asked).get_all_operations()}


OPERATIONS = operations()

SETTINGS = settings(
    max_examples=ROUNDS,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)

CHECKS = [
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]


def test_the_document_is_valid() -> None:
    validate(DOCUMENT, cls=OpenAPIV31SpecValidator)


def test_the_document_is_what_the_server_gives(server: Server) -> None:
    found = server.get("/openapi.json").json()
    assert {**found, "info": None} == {**DOCUMENT, "info": None}


def test_examples_are_of_their_own_type() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        for field in schema.get("properties", {}).values():
            for example in field.get("examples", []):
                Draft202012Validator({**field, "components": DOCUMENT["components"]}).validate(example)


def test_every_field_of_a_request_is_explained() -> None:
    known = set()
    for title, schema in DOCUMENT["components"]["schemas"].items():
        for name, field in schema.get("properties", {}).items():
            if title.endswith(("Request", "Parameters", "Inputs", "Question")):
                known.add(name)
                assert {"description", "examples"} & set(field) or "$ref" in str(field), (title, name)
    assert set(MEANINGS) | set(EXAMPLES) <= known


@pytest.mark.parametrize("route", KNOWN, ids=str)
def test_answers_to_known_requests_are_as_the_document_says(server: Server, route: Route) -> None:
    operation = OPERATIONS[f"POST {route.path}"]
    assert ask(server, operation, operation.Case(body=route.body, media_type=JSON), route.model) == 200


@pytest.mark.parametrize("name", [name for name, each in OPERATIONS.items() if not each.body])
def test_answers_without_bodies_are_as_the_document_says(server: Server, name: str) -> None:
    operation = OPERATIONS[name]

    @SETTINGS
    @given(case=operation.as_strategy())
    def check(case: schemathesis.Case) -> None:
        assert ask(server, operation, case) in (200, 400, 404)

    check()


@pytest.mark.parametrize("name", [name for name, each in OPERATIONS.items() if each.body])
def test_answers_are_as_the_document_says(server: Server, name: str) -> None:
    operation = OPERATIONS[name]
    usual = [route for route in KNOWN if route.path == operation.path]
    model = usual[0].model if usual else "prompts"
    accepted = list(operation.definition.raw["responses"]["200"]["content"])

    @SETTINGS
    @given(
        case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
        accept=strategies.sampled_from(accepted),
        known=strategies.sampled_from([{}, *(route.body for route in usual)]),
    )
    def check(case: schemathesis.Case, accept: str, known: dict[str, Any]) -> None:
        case.body = joined(case.body, known)
        ask(server, operation, case, model, accept)

    check()


@pytest.mark.parametrize("name", [name for name, each in OPERATIONS.items() if each.body])
def test_wrong_requests_are_refused_as_the_document_says(server: Server, name: str) -> None:
    operation = OPERATIONS[name]

    @SETTINGS
    @given(case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def check(case: schemathesis.Case) -> None:
        ask(server, operation, case, "prompts")

    check()


def ask(server: Server, operation: Any, case: schemathesis.Case, model: str = "prompts", accept: str = "*/*") -> int:
    """Make a request, and check that its answer is no 5xx and in the document; the status."""
    base = server.url + ("" if "{" in operation.path else f"/models/{model}")
    reply = case.call(base_url=base, headers={"accept": accept})
    assert reply.status_code < 500, (case.as_curl_command(), reply.text)
    case.validate_response(reply, checks=CHECKS)
    return int(reply.status_code)


def joined(given: Any, known: dict[str, Any]) -> dict[str, Any]:
    """A body of random options with the texts of one that can be answered."""
    inner = known.get("parameters")
    if isinstance(inner, dict) and isinstance(given.get("parameters"), dict):
        return {**given, **known, "parameters": {**given["parameters"], **inner}}
    return {**given, **known}
