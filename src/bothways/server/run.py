"""Starting and stopping: the socket, one process or several, signals, and what the log says at the start."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import os
import shutil
import signal
import socket
import ssl
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from prometheus_client import multiprocess
from uvicorn.supervisors import Multiprocess

from bothways.errors import InputError
from bothways.server.logs import log, log_config
from bothways.server.models import Models, load_models
from bothways.server.protocol import Protocol
from bothways.server.settings import Settings

__all__ = ["serve"]

# How many connections wait to be accepted.
_BACKLOG = 2048

# A worker that does not answer its parent for so long is started anew; loading may hold Python's lock for a while.
_WORKER_SILENT = 30

# With this exit code uvicorn's parent takes a worker for one that can never start.
_UNABLE = 3

# A signal that comes again within so many seconds is the same one, sent to a process and to its group.
_SAME_SIGNAL = 0.3

# How often a worker looks whether its parent lives, in seconds.
_LOOK_FOR_PARENT = 1.0


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; then let requests under way end.

    Raises:
        InputError: A setting can't be used, or the address is taken.
        BothwaysError: A model can't be loaded.
    """
    # Tokenizers' own thread pool would hang in a forked child; without it, it works without Python's lock too.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _check(settings)
    # More than may wait could never be let in.
    most = min(settings.max_request_tokens, settings.max_queue_tokens)
    settings = dataclasses.replace(settings, max_request_tokens=most)
    with _listening(settings) as (listener, address):
        if settings.workers == 1:
            _run_alone(settings, listener, address)
        else:
            _run_workers(settings, listener, address)


def _check(settings: Settings) -> None:
    for origin in settings.cors_origins:
        if origin != "*" and not origin.startswith(("http://", "https://")):
            raise InputError(f"the CORS origin {origin!r} can never match; write it as https://example.com, or *")
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise InputError("TLS needs both --tls-cert and --tls-key; give both, or neither")
    for path in (settings.tls_cert, settings.tls_key):
        if path is not None and not Path(path).is_file():
            raise InputError(f"there is no file {path}; give the certificate and the key as PEM files")
    if settings.tls_cert is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(settings.tls_cert, settings.tls_key)
        except OSError as error:
            raise InputError(
                f"can't use the certificate {settings.tls_cert} with the key {settings.tls_key}: "
                f"{error.strerror or error}; both must be PEM files that belong together"
            ) from None


@contextlib.contextmanager
def _listening(settings: Settings) -> Iterator[tuple[socket.socket, str]]:
    """The socket to listen on, and its address in words."""
    if settings.uds is not None:
        listener = _unix_socket(settings.uds)
        try:
            yield listener, f"unix:{settings.uds}"
        finally:
            listener.close()
            Path(settings.uds).unlink(missing_ok=True)
        return
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as error:
            raise InputError(
                f"can't listen on {settings.host} port {settings.port}: {error.strerror or error}; choose another "
                "--host or --port, or --port 0 for a free one"
            ) from None
        host, port = listener.getsockname()[:2]
        scheme = "https" if settings.tls_cert else "http"
        yield listener, f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _unix_socket(path: str) -> socket.socket:
    if os.path.exists(path):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise InputError(f"{path} is there and is no socket; give another --uds")
        with socket.socket(socket.AF_UNIX) as other:
            if other.connect_ex(path) == 0:
                raise InputError(f"another process listens on {path}; give another --uds")
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise InputError(f"can't listen on {path}: {error.strerror or error}; give another --uds") from None
    return listener


def _listen(listener: socket.socket, address: str) -> None:
    """Let connections come. Until then several servers may have bound the same port."""
    try:
        listener.listen(_BACKLOG)
    except OSError as error:
        raise InputError(
            f"can't listen on {address}: {error.strerror or error}; choose another --host or --port, or --port 0 for "
            "a free one"
        ) from None


def _config(settings: Settings, app: Any, **more: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=True,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=log_config(settings),
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=max(1, round(settings.keep_alive)),
        timeout_graceful_shutdown=max(1, round(settings.shutdown_timeout)),
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        **more,
    )


def _run_alone(settings: Settings, listener: socket.socket, address: str) -> None:
    config = _config(settings, functools.partial(_make_app, settings, load_models(settings)))
    _listen(listener, address)
    server = _Server(config, address)
    try:
        server.run([listener])
    finally:
        gc.unfreeze()
    if not server.started:
        raise InputError("the server could not start; its log says why")


def _run_workers(settings: Settings, listener: socket.socket, address: str) -> None:
    folder = tempfile.mkdtemp(prefix="bothways-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    try:
        config = _config(
            settings,
            functools.partial(_make_app, settings, None),
            workers=settings.workers,
            timeout_worker_healthcheck=_WORKER_SILENT,
        )
        workers = _Workers(config, [listener], address, folder)
        workers.run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if any(process.exitcode == _UNABLE for process in workers.processes):
        raise InputError("a worker could not start; the log says why")


def _make_app(settings: Settings, models: Models | None) -> Any:
    """Make the application; in a worker, which starts from nothing, load the models first."""
    from bothways.server.app import make_app
    from bothways.server.metrics import Metrics
    from bothways.server.service import Service, version
    from bothways.server.tracing import make_tracer

    if models is None:
        # A terminal sends Ctrl-C to all its processes; the parent tells workers to stop by SIGTERM.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        try:
            models = load_models(settings)
        except Exception as error:
            log.error("%s", error)
            sys.exit(_UNABLE)
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    Protocol.head_timeout = settings.body_timeout
    metrics = Metrics()
    service = Service(settings, models, metrics, make_tracer(settings.otlp_endpoint, version()))
    for model in models:
        engine = model.encoder.engine
        metrics.build(service.version, model.name, engine.name, engine.level, engine.dtype)
        log.info("%s", _described(model))
    log.info("%s", _limits(settings))
    # What is loaded stays: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    return make_app(service)


def _end_with_parent(parent: int) -> None:
    """End this worker, too, when its parent was killed: nobody could stop it any more."""
    while os.getppid() == parent:
        time.sleep(_LOOK_FOR_PARENT)
    os.kill(os.getpid(), signal.SIGTERM)


def _described(model: Any) -> str:
    encoder, engine = model.encoder, model.encoder.engine
    revision = f"revision {encoder.revision}" if encoder.revision else "a local folder"
    threads = f"{engine.threads} thread{'s' if engine.threads > 1 else ''}"
    return (
        f"model {model.name}: {revision}, {encoder.spec.family}, {engine.name} engine, level {engine.level}, "
        f"{engine.dtype}, {threads}, texts up to {model.embed_limit} tokens, can {', '.join(encoder.tasks)}"
    )


def _limits(settings: Settings) -> str:
    return (
        f"limits: {settings.max_items} texts and {settings.max_request_tokens} tokens a request, "
        f"{settings.max_queue_requests} requests and {settings.max_queue_tokens} tokens under way, "
        f"{settings.request_timeout:g} s"
    )


class _Server(uvicorn.Server):
    """A server in this process, which exits with 0 when it was told to stop."""

    def __init__(self, config: uvicorn.Config, address: str) -> None:
        super().__init__(config)
        self._address = address
        self._told = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        log.info("listening on %s", self._address)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal, but do not raise it again afterwards, as uvicorn does: stopping when told is no failure."""
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self.should_exit and now - self._told > _SAME_SIGNAL:
            log.warning("stopping at once: requests under way are cut off")
            # Nothing that may wait: engine threads are in the middle of computing.
            os._exit(128 + number)
        if not self.should_exit:
            self._told = now
            log.info(
                "stopping: requests under way have %s s to end; stop again to cut them off",
                self.config.timeout_graceful_shutdown,
            )
        self.handle_exit(number, None)


class _Workers(Multiprocess):
    """Several processes behind one socket; one that dies is started again."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], address: str, metrics: str) -> None:
        super().__init__(config, sockets)
        self._address = address
        self._metrics = metrics

    def init_processes(self) -> None:
        for listener in self.sockets:
            _listen(listener, self._address)
            listener.set_inheritable(True)
        super().init_processes()
        while not all(process.is_ready(timeout=1) for process in self.processes):
            self.handle_signals()
            if self.should_exit.wait(0.1) or not all(process.process.is_alive() for process in self.processes):
                return
        log.info("%d workers, listening on %s", len(self.processes), self._address)

    def terminate_all(self) -> None:
        """Let the workers end what is under way."""
        log.info("stopping: requests under way have %s s to end", self.config.timeout_graceful_shutdown)
        super().terminate_all()

    def keep_subprocess_alive(self) -> None:
        """Start workers again that have died; what they measured last is no more."""
        before = list(self.processes)
        super().keep_subprocess_alive()
        for old, new in zip(before, self.processes, strict=True):
            if old is not new:
                log.error("worker %s died (exit code %s); %s takes its place", old.pid, old.exitcode, new.pid)
                multiprocess.mark_process_dead(old.pid, self._metrics)  # type: ignore[no-untyped-call]
