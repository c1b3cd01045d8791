"""What a server counts, for Prometheus. The names that begin with te_ are those of Text Embeddings Inference."""

from __future__ import annotations

import os
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

from bothways.server.scheduler import Batch

__all__ = ["Metrics"]

_SECONDS = tuple(0.00025 * 2**k for k in range(20))
_SIZES = tuple(2.0**k for k in range(15))


class Metrics:
    """Counters, histograms and gauges of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.content_type = CONTENT_TYPE_LATEST
        several = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        if not several:
            ProcessCollector(registry=self._registry)
        # With several workers gauges are summed over those that live.
        mode: dict[str, Any] = {"multiprocess_mode": "livesum"} if several else {}
        own: dict[str, Any] = {"registry": self._registry}

        # Gauges that only grow: a Counter's name would end in _total, and dashboards made for TEI ask for these.
        grows: dict[str, Any] = {"multiprocess_mode": "sum"} if several else {}
        self._count = Gauge("te_request_count", "Requests of inference routes.", ["method"], **grows, **own)
        self._success = Gauge("te_request_success", "Requests that were answered.", ["method"], **grows, **own)
        self._failure = Gauge("te_request_failure", "Requests that failed, by the reason.", ["err"], **grows, **own)
        self._steps = {
            "total": Histogram("te_request_duration", "Seconds of a request.", buckets=_SECONDS, **own),
            "tokenization": Histogram(
                "te_request_tokenization_duration", "Seconds of tokenizing a request.", buckets=_SECONDS, **own
            ),
            "queue": Histogram(
                "te_request_queue_duration", "Seconds before a request's first batch.", buckets=_SECONDS, **own
            ),
            "inference": Histogram(
                "te_request_inference_duration", "Seconds of the batches of a request.", buckets=_SECONDS, **own
            ),
        }
        self._length = Histogram("te_request_input_length", "Tokens of a request.", buckets=_SIZES, **own)
        self._batch_size = Histogram("te_batch_next_size", "Sequences of a batch.", buckets=_SIZES, **own)
        self._batch_tokens = Histogram("te_batch_next_tokens", "Tokens of a batch.", buckets=_SIZES, **own)
        self.queue_size = Gauge("te_queue_size", "Requests under way.", **mode, **own)

        self._requests = Counter(
            "bothways_requests", "Requests by route, model and status.", ["route", "model", "status"], **own
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
        self.oldest = Gauge("bothways_queue_oldest_seconds", "How long the oldest request has waited.", **mode, **own)
        self._cancelled = Counter("bothways_cancelled", "Requests whose client went away.", **own)
        self.restarts = Counter("bothways_engine_restarts", "Engine threads that died and were started again.", **own)
        self._build = Gauge(
            "bothways_build_info", "What runs here.", ["version", "model", "engine", "level", "dtype"], **mode, **own
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
        self._tokens.labels(batch.lane[0]).inc(batch.tokens)  # type: ignore[index]

    def request(
        self, route: str, model: str, status: int, *, texts: int, tokens: int, times: dict[str, float], error: str
    ) -> None:
        """Count a request of an inference route that has ended; `error` is why it failed, as TEI names it."""
        method = "single" if texts <= 1 else "batch"
        self._requests.labels(route, model, str(status)).inc()
        self._count.labels(method).inc()
        if status == 499:
            self._cancelled.inc()
        if error:
            self._failure.labels(error).inc()
            return
        self._success.labels(method).inc()
        self._length.observe(tokens)
        for step, seconds in times.items():
            self._steps[step].observe(seconds)

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            from prometheus_client import multiprocess

            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
