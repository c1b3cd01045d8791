"""What a server does when its engine thread dies: it says that it is not ready, and goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from bothways import Encoder
from bothways.server.app import make_app
from bothways.server.metrics import Metrics
from bothways.server.models import Model, Models
from bothways.server.service import Service
from bothways.server.settings import Settings

PATIENCE = 200


def test_the_death_of_an_engine_thread_is_seen_and_mended(minilm: Path, monkeypatch: Any) -> None:
    encoder = Encoder.from_pretrained(minilm)
    wanted = encoder.embed(["hello"])
    encode = encoder.engine.encode
    deaths = iter([True])

    def dying(*args: Any, **options: Any) -> Any:
        if next(deaths, False):
            raise SystemExit("the end of a thread")
        return encode(*args, **options)

    monkeypatch.setattr(encoder.engine, "encode", dying)

    async def scenario() -> None:
        service = Service(Settings(model=("minilm",)), Models([Model("minilm", encoder)]), Metrics())
        service.start()
        transport = httpx2.ASGITransport(app=make_app(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://server") as client:
            request = asyncio.create_task(client.post("/embed", json={"inputs": ["hello"]}))
            statuses = []
            for _ in range(PATIENCE):
                reply = await client.get("/readyz")
                statuses.append(reply.status_code)
                if statuses[-1] == 503:
                    assert "started again" in reply.json()["error"]
                    assert (await client.get("/livez")).status_code == 200
                elif 503 in statuses:
                    break
                await asyncio.sleep(0.02)
            assert 503 in statuses and statuses[-1] == 200
            answer = await request  # tried once more by the new thread
            assert answer.status_code == 200
            np.testing.assert_array_equal(np.array(answer.json(), np.float32), wanted)
            assert "bothways_engine_restarts_total 1.0" in (await client.get("/metrics")).text
        await service.close()

    asyncio.run(scenario())
