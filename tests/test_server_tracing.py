"""Spans of requests, as an OpenTelemetry collector receives them."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import serve


class _Collector(http.server.BaseHTTPRequestHandler):
    received: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        self.received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    received: list[tuple[str, bytes]] = []
    handler = type("Collector", (_Collector,), {"received": received})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_request_is_a_span_of_its_callers_trace(minilm: Path, collector: tuple[str, list[tuple[str, bytes]]]) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    endpoint, received = collector
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with serve(minilm, otlp_endpoint=endpoint) as server:
        request = urllib.request.Request(
            f"{server.url}/v1/embeddings",
            json.dumps({"input": ["hello", "good bye"]}).encode(),
            {"content-type": "application/json", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"},
        )
        urllib.request.urlopen(request).read()
    [(path, body)] = received  # sent when the server ended
    assert path == "/v1/traces"
    sent = ExportTraceServiceRequest.FromString(body).resource_spans[0]
    spans = {span.name: span for span in sent.scope_spans[0].spans}
    assert set(spans) == {"POST /v1/embeddings", "tokenization", "queue", "inference"}
    assert {span.trace_id.hex() for span in spans.values()} == {trace}
    whole = spans.pop("POST /v1/embeddings")
    assert whole.parent_span_id.hex() == "00f067aa0ba902b7"
    for step in spans.values():
        assert step.parent_span_id == whole.span_id
        assert whole.start_time_unix_nano <= step.start_time_unix_nano <= step.end_time_unix_nano
        assert step.end_time_unix_nano <= whole.end_time_unix_nano
    attributes = {a.key: a.value.int_value or a.value.string_value for a in whole.attributes}
    assert attributes["http.response.status_code"] == 200
    assert attributes["bothways.texts"] == 2
    assert not any("hello" in str(value) for value in attributes.values())
