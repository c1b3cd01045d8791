"""OpenTelemetry spans, where an endpoint for them is given: one for each request, with its steps as children."""

from __future__ import annotations

import time
from typing import Any, Protocol

from bothways.errors import InputError
from bothways.server.calls import Call

__all__ = ["NoTracer", "Tracer", "make_tracer"]

_NANOSECONDS = 1_000_000_000


class Tracer(Protocol):
    """What is told of every request that has ended."""

    def record(self, call: Call, route: str, status: int) -> None:
        """Tell of a request."""

    def close(self) -> None:
        """Send what was not sent yet."""


class NoTracer:
    """Where nobody asked for spans."""

    def record(self, call: Call, route: str, status: int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class _OtlpTracer:
    """Sends spans by OTLP over HTTP, from a thread of its own."""

    def __init__(self, endpoint: str, version: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        resource = Resource.create({"service.name": "bothways", "service.version": version})
        url = endpoint.rstrip("/")
        exporter = OTLPSpanExporter(endpoint=url if url.endswith("/v1/traces") else f"{url}/v1/traces")
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("bothways.server", version)
        self._propagator = TraceContextTextMapPropagator()
        self._kind, self._within = SpanKind.SERVER, set_span_in_context
        self._failed = Status(StatusCode.ERROR)

    def record(self, call: Call, route: str, status: int) -> None:
        """Tell of a request: its span belongs to the trace that its `traceparent` header names, if any."""
        carrier = {
            name: call.headers[name.encode()].decode("latin-1")
            for name in ("traceparent", "tracestate")
            if name.encode() in call.headers
        }
        end = time.time_ns()
        begin = end - round((time.perf_counter() - call.begun) * _NANOSECONDS)
        attributes: dict[str, Any] = {
            "http.request.method": call.method,
            "http.route": route,
            "http.response.status_code": status,
            "bothways.request_id": call.id,
            "bothways.model": call.model,
            "bothways.texts": call.texts,
            "bothways.tokens": call.tokens,
        }
        span = self._tracer.start_span(
            f"{call.method} {route}", self._propagator.extract(carrier), self._kind, attributes, start_time=begin
        )
        if status >= 500:
            span.set_status(self._failed)
        inside = self._within(span)
        for step, seconds in call.times.items():
            # Steps follow each other; what lies between them is reading and writing.
            child = self._tracer.start_span(step, inside, start_time=begin)
            begin += round(seconds * _NANOSECONDS)
            child.end(begin)
        span.end(end)

    def close(self) -> None:
        """Send what was not sent yet."""
        self._provider.shutdown()


def make_tracer(endpoint: str | None, version: str) -> Tracer:
    """What is told of requests; nothing without an endpoint.

    Raises:
        InputError: OpenTelemetry is not installed.
    """
    if endpoint is None:
        return NoTracer()
    try:
        return _OtlpTracer(endpoint, version)
    except ModuleNotFoundError as error:
        raise InputError(
            f"spans need {error.name}; pip install 'bothways[otel]', or leave --otlp-endpoint out"
        ) from None
