"""The socket that a server listens on: an address, or a unix socket that no other server has."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import Iterator

from bothways.errors import InputError
from bothways.server.settings import Settings

__all__ = ["BACKLOG", "leave", "listen", "listening"]

# How many connections wait to be accepted.
BACKLOG = 2048


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[tuple[socket.socket, str]]:
    """The socket to listen on, and its address in words."""
    if settings.uds is not None:
        with _alone_at(settings.uds), _unix_socket(settings.uds) as listener:
            own = _identity(settings.uds)
            try:
                yield listener, f"unix:{settings.uds}"
            finally:
                if _identity(settings.uds) == own:
                    os.unlink(settings.uds)
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


@contextlib.contextmanager
def _alone_at(path: str) -> Iterator[None]:
    """Keep other servers from a unix socket's path, by a lock on a file beside it.

    Until models are loaded nobody listens on the socket, and it looks as one that was left behind.
    """
    lock = f"{path}.lock"
    try:
        file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise InputError(f"can't listen on {path}: {error.strerror} ({lock}); give another --uds") from None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"another process listens on {path}; give another --uds") from None
        status = os.fstat(file)
        if _identity(lock) != (status.st_dev, status.st_ino):  # its owner has ended just now, and took it along
            raise InputError(f"another process has just left {path}; start again")
        try:
            yield
        finally:
            os.unlink(lock)
    finally:
        os.close(file)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


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


def listen(listener: socket.socket, address: str) -> None:
    """Let connections come. Until then several servers may have bound the same port."""
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        raise InputError(
            f"can't listen on {address}: {error.strerror or error}; choose another --host or --port, or --port 0 for "
            "a free one"
        ) from None


def leave(path: str | None) -> None:
    """Take away what a server that ends at once has in the file system."""
    if path is not None:
        for own in (path, f"{path}.lock"):
            with contextlib.suppress(OSError):
                os.unlink(own)
