"""What both clients are, besides the way they send."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Mapping, MutableMapping
from typing import Any

import httpx2

from bothways.client.retry import Attempts
from bothways.client.target import read_seconds, read_target
from bothways.errors import BothwaysError, InputError
from bothways.tasks.inputs import natural, shown

__all__ = ["ClientBase", "time_limits"]

#: Seconds that a connection may take to be made; a server that is there answers at once.
_CONNECT = 10.0

# As many connections as there are requests under way. Idle ones are kept for less time than servers keep them (75 s).
_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=60.0)


class ClientBase:
    """A server's address, and how patient its client is; see `Client`."""

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        timeout: float | None = 60.0,
        retries: int = 3,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Check the settings; nothing is sent yet.

        Args:
            url: Where the server is: http://host:port, https://host or unix:/path/to.sock.
            model: Which of the server's models; None leaves the choice to it.
            api_key: What it lets in; None takes the environment's BOTHWAYS_API_KEY.
            timeout: Seconds that a request may take with all its retries; None waits as long as it takes.
            retries: How often a request is sent again that found no connection, or a server that can't take it now.
            headers: What else every request says.
        """
        self._target = read_target(url, model, api_key, headers)
        self._timeout = read_seconds(timeout, "timeout")
        self._retries = _read_retries(retries)
        self._given: dict[str, Any] = {
            "model": model,
            "api_key": api_key,
            "timeout": timeout,
            "retries": retries,
            "headers": None if headers is None else dict(headers),
        }
        self._closed = False
        self._clock = time.monotonic
        self._chance = random.random
        self._pools = self._no_pools()
        try:
            httpx2.URL(self._target.base)
        except httpx2.InvalidURL as error:
            raise InputError(f"url is {shown(url)}, which can't be read ({error})") from None

    @property
    def url(self) -> str:
        """The server's address as given."""
        return self._target.url

    @property
    def model(self) -> str | None:
        """The model's name as given."""
        return self._target.model

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what it was made with, a given key included: a copy connects by itself."""
        return _remade, (type(self), self._target.url, self._given)

    def __repr__(self) -> str:
        """The address and the model, never the key."""
        model = "" if self.model is None else f", model={self.model!r}"
        return f"{type(self).__name__}({self.url!r}{model})"

    def _no_pools(self) -> MutableMapping[Any, Any]:
        """Where connections are kept, by what may not share them."""
        return {}

    def _attempts(self) -> Attempts:
        return Attempts(self._timeout, self._retries, self._clock, self._chance)

    def _check_open(self) -> None:
        if self._closed:
            raise BothwaysError(f"this {type(self).__name__} is closed; make a new one")

    def _pool_options(self) -> dict[str, Any]:
        """What both kinds of pool are made with."""
        # Certificates take a tenth of a second to load. Without them nothing is trusted, and plain http needs none.
        verify = True if self._target.secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return {"verify": verify, "limits": _LIMITS}


def time_limits(seconds: float | None) -> httpx2.Timeout:
    """The limits of an attempt that may take so many seconds."""
    if seconds is None:
        return httpx2.Timeout(None, connect=_CONNECT)
    left = max(seconds, 0.001)
    return httpx2.Timeout(left, connect=min(left, _CONNECT))


def _read_retries(value: Any) -> int:
    retries = natural(value, "retries")
    if retries is None:
        raise InputError("retries is None; it must be a whole number, 0 for none")
    return retries


def _remade(kind: type[ClientBase], url: str, given: dict[str, Any]) -> ClientBase:
    return kind(url, **given)
