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
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from prometheus_client import multiprocess
from uvicorn.supervisors import Multiprocess

from bothways.errors import BothwaysError, InputError
from bothways.server.listening import BACKLOG, leave, listen, listening
from bothways.server.logs import log, log_config
from bothways.server.models import Models, load_models
from bothways.server.protocol import Protocol
from bothways.server.settings import Settings

__all__ = ["serve"]

# A worker that does not answer its parent for so long is started anew; loading may hold Python's lock for a while.
_WORKER_SILENT = 30

# With this exit code uvicorn's parent takes a worker for one that can never start.
_UNABLE = 3

# A signal that comes again within so many seconds is the same one, sent to a process and to its group.
_SAME_SIGNAL = 0.3

# How many seconds after --shutdown-timeout threads may still end what they do: a batch, or the last spans.
_LAST = 0.5

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
    with listening(settings) as (listener, address):
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
        backlog=BACKLOG,
        timeout_keep_alive=settings.keep_alive,
        timeout_graceful_shutdown=settings.shutdown_timeout,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        **more,
    )


def _run_alone(settings: Settings, listener: socket.socket, address: str) -> None:
    config = _config(settings, functools.partial(_make_app, settings, load_models(settings)))
    listen(listener, address)
    server = _Server(config, address, functools.partial(leave, settings.uds))
    try:
        server.run([listener])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
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
        workers = _Workers(config, [listener], address, folder, functools.partial(leave, settings.uds))
        workers.run()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        shutil.rmtree(folder, ignore_errors=True)
    if any(process.exitcode == _UNABLE for process in workers.processes):
        raise InputError("a worker could not start; the log says why")


def _make_app(settings: Settings, models: Models | None) -> Any:
    """Make the application; in a worker, which starts from nothing, load the models first."""
    if models is not None:
        return _app(settings, models)
    # A terminal sends Ctrl-C to all its processes; the parent tells workers to stop by SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        app = _app(settings, load_models(settings))
    except Exception as error:
        log.error("%s", error or repr(error), exc_info=not isinstance(error, BothwaysError))
        sys.exit(_UNABLE)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    _end_in_time(settings)
    return app


def _app(settings: Settings, models: Models) -> Any:
    from bothways.server.app import make_app
    from bothways.server.metrics import Metrics
    from bothways.server.service import Service, version
    from bothways.server.tracing import make_tracer

    Protocol.head_timeout = settings.body_timeout
    metrics = Metrics()
    tracer = make_tracer(settings.otlp_endpoint, version())
    service = Service(settings, models, metrics, tracer)
    for model in models:
        engine = model.encoder.engine
        metrics.build(service.version, model.name, engine.name, engine.level, engine.dtype)
        log.info("%s", _described(model))
    log.info("%s", _limits(settings))
    metrics.text()  # the first time takes ten times as long
    # What is loaded stays: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    return make_app(service)


def _end_in_time(settings: Settings) -> None:
    """Let a worker's SIGTERM, beside what it does already, set the time when the worker has ended whatever it does."""
    stop: Any = signal.getsignal(signal.SIGTERM)

    def told(number: int, frame: FrameType | None) -> None:
        _end_after(settings.shutdown_timeout)
        stop(number, frame)

    signal.signal(signal.SIGTERM, told)


def _end_after(seconds: float, leave: Callable[[], None] = lambda: None) -> None:
    """End this process so long after it was told to stop, where a thread or a collector of spans keeps it."""

    def end(*_: object) -> None:
        log.warning("stopped, though not all is done: a thread is busy, or spans could not be sent")
        leave()
        # Python would wait for them.
        os._exit(0)

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds + _LAST)


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

    def __init__(self, config: uvicorn.Config, address: str, leave: Callable[[], None]) -> None:
        super().__init__(config)
        self._address = address
        self._leave = leave
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
            self._leave()
            # Nothing that may wait: engine threads are in the middle of computing.
            os._exit(128 + number)
        if not self.should_exit:
            self._told = now
            log.info(
                "stopping: requests under way have %s s to end; stop again to cut them off",
                self.config.timeout_graceful_shutdown,
            )
            _end_after(self.config.timeout_graceful_shutdown or 0, self._leave)
        self.handle_exit(number, None)


class _Workers(Multiprocess):
    """Several processes behind one socket; one that dies is started again."""

    def __init__(
        self,
        config: uvicorn.Config,
        sockets: list[socket.socket],
        address: str,
        metrics: str,
        leave: Callable[[], None],
    ) -> None:
        super().__init__(config, sockets)
        self._address = address
        self._metrics = metrics
        self._leave = leave

    def init_processes(self) -> None:
        for listener in self.sockets:
            listen(listener, self._address)
            listener.set_inheritable(True)
        super().init_processes()
        while not all(process.is_ready(timeout=1) for process in self.processes):
            self.handle_signals()
            if self.should_exit.wait(0.1) or not all(process.process.is_alive() for process in self.processes):
                return
        log.info("%d workers, listening on %s", len(self.processes), self._address)

    def terminate_all(self) -> None:
        """Let the workers end what is under way."""
        seconds = self.config.timeout_graceful_shutdown or 0
        log.info("stopping: requests under way have %s s to end; stop again to cut them off", seconds)
        told = time.monotonic()

        def again(number: int, _: FrameType | None) -> None:
            if time.monotonic() - told > _SAME_SIGNAL:
                log.warning("stopping at once: requests under way are cut off")
                self._kill()
                os._exit(128 + number)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, again)
        # Workers end by themselves, a moment earlier; but one that still loads its models does not.
        _end_after(seconds + _LAST, self._kill)
        super().terminate_all()

    def _kill(self) -> None:
        for process in self.processes:
            process.process.kill()
        self._leave()
        shutil.rmtree(self._metrics, ignore_errors=True)

    def keep_subprocess_alive(self) -> None:
        """Start workers again that have died; what they measured last is no more."""
        before = list(self.processes)
        super().keep_subprocess_alive()
        for old, new in zip(before, self.processes, strict=True):
            if old is not new:
                log.error("worker %s died (exit code %s); %s takes its place", old.pid, old.exitcode, new.pid)
                multiprocess.mark_process_dead(old.pid, self._metrics)  # type: ignore[no-untyped-call]
