"""Everything that can be set about a server; the command line reads it from flags, the environment and a file."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """A server's settings. Sizes are in bytes, times in seconds; docs/server.md says what each is for.

    Attributes:
        model: The checkpoints to serve, by folder, hub name or "pkg:package/folder".
        served_model_name: What clients call them, in the same order; by default the hub name or the folder's own name.
        revision: The commit of hub names; one for all, or one for each model in the same order.
        ranges: Files of the ranges by which vectors are stored as int8 or uint8, as NAME=FILE where models are several.
        dtype: Of the weights and products.
        threads: How many threads compute; None for what the process may use, shared among workers.
        max_length: Tokens of a text where the request does not say; None for the checkpoint's own limits.
        truncation: Whether longer texts are cut where the request does not say; else they are an error.
        refuse_empty: Make an empty text an error, rather than embed it as any other.
        host: The address to listen on.
        port: The port; 0 takes a free one.
        uds: A unix socket to listen on instead.
        workers: Processes, each with models of its own, behind one address.
        api_keys: A request must carry one of these; empty lets everybody in.
        protect_metrics: Ask for a key at /metrics and /openapi.json too.
        cors_origins: Web pages of these origins may call; "*" for any.
        tls_cert: The certificate's file (PEM), and with it the server speaks https.
        tls_key: The private key's file.
        max_body_bytes: The most bytes of a request.
        max_items: The most texts, documents or labels of a request.
        max_text_chars: The most characters of one text.
        max_request_tokens: The most tokens of a request, after cutting.
        max_answer_bytes: The most bytes of an answer of vectors, labels or tokens, as far as they can be foretold.
        max_queue_requests: Requests under way at once; more are turned away with 429.
        max_queue_tokens: Tokens that wait or are computed at once; more are turned away with 429.
        max_queue_bytes: Bytes of bodies and answers that are held at once; more are turned away with 429.
        request_timeout: After so long a request is given up with 504.
        body_timeout: How long a client may take to send a request.
        keep_alive: How long an idle connection is kept.
        shutdown_timeout: How long requests under way may take when the server is told to stop.
        log_format: "text" or "json".
        log_level: "debug", "info", "warning" or "error".
        access_log: Write a line for every request, not only for those that fail.
        log_texts: Write request texts to the log, for debugging.
        otlp_endpoint: Where OpenTelemetry spans go (OTLP over HTTP); None sends none.
    """

    model: tuple[str, ...]
    served_model_name: tuple[str, ...] = ()
    revision: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()
    dtype: str = "float32"
    threads: int | None = None
    max_length: int | None = None
    truncation: bool = True
    refuse_empty: bool = False
    host: str = "127.0.0.1"
    port: int = 8080
    uds: str | None = None
    workers: int = 1
    api_keys: tuple[str, ...] = ()
    protect_metrics: bool = False
    cors_origins: tuple[str, ...] = ()
    tls_cert: str | None = None
    tls_key: str | None = None
    max_body_bytes: int = 8 << 20
    max_items: int = 16_384
    max_text_chars: int = 200_000
    max_request_tokens: int = 1_000_000
    max_answer_bytes: int = 256 << 20
    max_queue_requests: int = 1024
    max_queue_tokens: int = 1_000_000
    max_queue_bytes: int = 1 << 30
    request_timeout: float = 120.0
    body_timeout: float = 30.0
    keep_alive: int = 75
    shutdown_timeout: int = 30
    log_format: str = "text"
    log_level: str = "info"
    access_log: bool = False
    log_texts: bool = False
    otlp_endpoint: str | None = None
