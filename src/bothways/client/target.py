"""Where requests go: the server's address, and what every request to it says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from bothways.errors import InputError
from bothways.tasks.inputs import shown

__all__ = ["Target", "read_seconds", "read_target"]

#: What the client says itself; it can't be given from outside.
_OWN_HEADERS = frozenset(
    ("accept", "content-length", "content-type", "transfer-encoding", "x-request-id", "x-request-timeout")
)

_SOCKET_HOST = "http://localhost"


@dataclass(frozen=True)
class Target:
    """A server, and the model asked for.

    Attributes:
        url: The address as messages show it.
        base: What routes are appended to.
        socket: The unix socket to connect to, or None.
        model: Which of the server's models; None leaves it to the server.
        headers: What every request says; a key is in here, so they are never shown.
    """

    url: str
    base: str
    socket: str | None
    model: str | None
    headers: Mapping[str, str] = field(repr=False)

    @property
    def secure(self) -> bool:
        """Whether the server speaks TLS."""
        return self.base.startswith("https:")


def read_target(url: Any, model: Any, api_key: Any, headers: Any) -> Target:
    """Check what a client was given. Without a key, in `headers` neither, BOTHWAYS_API_KEY may hold one.

    Raises:
        InputError: Something is not of its form; a key is never quoted.
    """
    if not isinstance(model, str | None):
        raise InputError(f"model is {shown(model)}; it must be a string, or None")
    address = url.rstrip("/") if isinstance(url, str) else ""
    base, socket = _read_url(address, url)
    own = _read_headers(headers)
    if api_key is not None or "authorization" not in own:
        own |= _authorization(api_key)
    return Target(address, base, socket, model, own)


def _read_url(address: str, given: Any) -> tuple[str, str | None]:
    """What routes are appended to, and the unix socket."""
    allowed = "give http://host:port, https://host or unix:/path/to.sock"
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        path = "/" + path.lstrip("/") if path.startswith("//") else path
        if not path:
            raise InputError(f"url is {shown(given)}, without the socket's path; {allowed}")
        return _SOCKET_HOST, path
    try:
        parts = urlsplit(address)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        known = known and address.isprintable() and " " not in address
    except ValueError:
        known = False
    if not known:
        raise InputError(f"url is {shown(given)}; {allowed}")
    if parts.username is not None or parts.password is not None:
        raise InputError("url has a name or a password in it; pass api_key=..., or headers={'authorization': ...}")
    if parts.query or parts.fragment:
        raise InputError(f"url is {shown(given)}; leave out what follows ? or #")
    return address, None


def _read_headers(given: Any) -> dict[str, str]:
    headers: dict[str, str] = {}
    if not isinstance(given, Mapping | None):
        raise InputError(f"headers is of type {type(given).__name__}; pass a dict of strings, or None")
    for name, value in (given or {}).items():
        if not isinstance(name, str) or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            raise InputError(f"headers has the name {shown(name)}; it must be letters, digits and hyphens")
        if name.lower() in _OWN_HEADERS:
            raise InputError(f"headers has {name!r}, which the client sets itself; leave it out")
        if not isinstance(value, str) or not _is_field(value):
            raise InputError(f"headers has a value for {name!r} that is no string of one line in ASCII")
        headers[name.lower()] = value
    return headers


def _authorization(api_key: Any) -> dict[str, str]:
    """The header that holds the key; an empty key is none."""
    named = "api_key"
    if api_key is None:
        # A server reads several keys from this variable; so space around one is none of it.
        named, api_key = "BOTHWAYS_API_KEY", _first(os.environ.get("BOTHWAYS_API_KEY", ""))
    if not isinstance(api_key, str) or not _is_field(api_key):
        raise InputError(f"{named} is no string of one line in ASCII; look for a line break at its end")
    return {"authorization": f"Bearer {api_key}"} if api_key else {}


def _first(keys: str) -> str:
    """The first of several, with commas or spaces between them."""
    return next(iter(keys.replace(",", " ").split()), "")


def _is_field(value: str) -> bool:
    """Whether it can stand in a header as it is."""
    return value.isascii() and (value.isprintable() or not value) and value == value.strip()


def read_seconds(value: Any, name: str) -> float | None:
    """Read a time above zero, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InputError(f"{name} is {shown(value)}; it must be a number of seconds above zero, or None")
    return float(value)
