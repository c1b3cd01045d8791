"""A server's models, asked like an `Encoder` in this process: `Client`, and `AsyncClient` for asyncio.

    client = bothways.Client("http://127.0.0.1:8080")
    client.embed(["a text", "another"])

What is asked of the server, and what its replies mean, is in call.py and the files of tasks beside it, which both
clients share; sending is in blocking.py and asynchronous.py.
"""

import importlib.util

if importlib.util.find_spec("httpx2") is None:
    raise ImportError('the client needs httpx2; run: pip install "bothways[client]"')

from bothways.client.asynchronous import AsyncClient
from bothways.client.blocking import Client
from bothways.client.encoded import RemoteEncoded
from bothways.client.models import RemoteModel

__all__ = ["AsyncClient", "Client", "RemoteEncoded", "RemoteModel"]
