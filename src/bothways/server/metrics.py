"""What a server counts, for Prometheus. The names that begin with te_ are those of Text Embeddings Inference."""

from __future__ import annotations

import os
import time
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from bothways.server.calls import Call
from bothways.server.jobs import Batch

__all__ = ["Metrics"]

_SECONDS = tuple(0.00025 * 2**k for k in range(20))
_SIZES = tuple(2.0**k for k in range(15))


class Metrics:
    """Counters, histograms and gauges of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._children: dict[Any, Any] = {}
        self.content_type = CONTENT_TYPE_LATEST
        several = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        if not several:
            ProcessCollector(registry=self._registry)
        # Of several workers those that live count: their gauges together, the oldest age, and what they are once.
        mode: dict[str, Any] = {"multiprocess_mode": "livesum"} if several else {}
        most: dict[str, Any] = {"multiprocess_mode": "livemax"} if several else {}
        own: dict[str, Any] = {"registry": self._registry}

        # Gauges that only grow: a Counter's name would end in _total, and dashboards made for TEI ask for these.
        grows: dict[str, Any] = {"multiprocess_mode": "sum"} if several else {}
        self._count = Gauge("te_request_count", "Requests of inference routes.", ["method"], **grows, **own)
        self._success = Gauge("te_request_success", "Requests that were answered.", ["method"], **grows, **own)
        self._failure = Gauge("te_request_failure", "Requests that failed, by the reason.", ["err"], **grows, **own)
        self._steps = _steps("request", "a request", own)
        # The same of requests that embed, and of those that classify or rerank, with their texts.
        self._kinds = {kind: _steps(kind, f"a request to {kind}", own) for kind in ("embed", "predict")}
        self._kind_count = {k: Gauge(f"te_{k}_count", f"Texts to {k}.", **grows, **own) for k in self._kinds}
        self._kind_success = {
            k: Gauge(f"te_{k}_success", f"Texts to {k} that were answered.", **grows, **own) for k in self._kinds
        }
        self._length = Histogram("te_request_input_length", "Tokens of a request.", buckets=_SIZES, **own)
        self._batch_size = Histogram("te_batch_next_size", "Sequences of a batch.", buckets=_SIZES, **own)
        self._batch_tokens = Histogram("te_batch_next_tokens", "Tokens of a batch.", buckets=_SIZES, **own)
        self.queue_size = Gauge("te_queue_size", "Requests under way.", **mode, **own)

        self._requests = Counter(
            "bothways_requests", "Requests by route, model and status.", ["route", "model", "status"], **own
        )
        self._request_seconds = Histogram(
            "bothways_request_seconds",
            "Seconds of a request that was answered.",
            ["route", "model"],
            buckets=_SECONDS,
            **own,
        )
        self._tokens = Counter("bothways_tokens", "Tokens computed.", ["model"], **own)
        self._batch_seconds = Histogram("bothways_batch_seconds", "Seconds of a batch.", buckets=_SECONDS, **own)
        self._queue_age = Histogram(
            "bothways_batch_queue_age_seconds",
            "Seconds that the request of a batch that waited longest had waited.",
            buckets=_SECONDS,
            **own,
        )
        self.queued_tokens = Gauge("bothways_queued_tokens", "Tokens of the requests under way.", **mode, **own)
        self.oldest = Gauge("bothways_queue_oldest_seconds", "How long the oldest request has waited.", **most, **own)
        self._truncated = Counter("bothways_truncated_texts", "Texts that were cut.", ["model"], **own)
        self._cancelled = Counter("bothways_cancelled", "Requests whose client went away.", **own)
        self.restarts = Counter("bothways_engine_restarts", "Engine threads that died and were started again.", **own)
        self._build = Gauge(
            "bothways_build_info", "What runs here.", ["version", "model", "engine", "level", "dtype"], **most, **own
        )

    def build(self, version: str, model: str, engine: str, level: str, dtype: str) -> None:
        """Tell what runs here."""
        self._build.labels(version, model, engine, level, dtype).set(1)

    def batch(self, batch: Batch) -> None:
        """Count a batch that was computed."""
        self._batch_size.observe(len(batch))
        self._batch_tokens.observe(batch.tokens)
        self._batch_seconds.observe(batch.seconds)
        self._queue_age.observe(batch.waited)
        self._of(self._tokens, batch.lane.model).inc(batch.tokens)

    def request(self, route: str, call: Call, status: int, error: str) -> None:
        """Count a request of an inference route that has ended; `error` is why it failed, as TEI names it."""
        method = "single" if call.texts <= 1 else "batch"
        self._of(self._requests, route, call.model, str(status)).inc()
        self._of(self._count, method).inc()
        kind = call.kind
        if kind:
            self._kind_count[kind].inc(max(call.texts, 1))
        if status == 499:
            self._cancelled.inc()
        if error:
            self._of(self._failure, error).inc()
            return
        self._of(self._success, method).inc()
        if call.truncated:
            self._of(self._truncated, call.model).inc(call.truncated)
        self._length.observe(call.tokens)
        times = {"total": time.perf_counter() - call.begun, **call.times}
        self._of(self._request_seconds, route, call.model).observe(times["total"])
        observed = [self._steps]
        if kind:
            self._kind_success[kind].inc(call.texts)
            observed.append(self._kinds[kind])
        for steps in observed:
            for step, seconds in times.items():
                steps[step].observe(seconds)

    def unknown(self, status: int) -> None:
        """Count a request to a path, model or method that is not there."""
        self._of(self._requests, "unknown", "", str(status)).inc()

    def _of(self, metric: Any, *labels: str) -> Any:
        """A metric's child of some labels, kept: to look one up takes longer than to count."""
        key = (metric, labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            from prometheus_client import multiprocess

            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def _steps(name: str, what: str, own: dict[str, Any]) -> dict[str, Histogram]:
    """How long requests take, in all and in each step."""
    meanings = {
        "total": ("duration", f"Seconds of {what}."),
        "tokenization": ("tokenization_duration", f"Seconds of tokenizing {what}."),
        "queue": ("queue_duration", f"Seconds before the first batch of {what}."),
        "inference": ("inference_duration", f"Seconds of the batches of {what}."),
    }
    return {
        step: Histogram(f"te_{name}_{end}", meaning, buckets=_SECONDS, **own)
        for step, (end, meaning) in meanings.items()
    }
