import asyncio
from collections.abc import Mapping

import pytest
from aiohttp.test_utils import TestClient
from pydantic import SecretStr
from pytest_aiohttp.plugin import AiohttpClient

from mediaserver import __version__
from mediaserver.protocol.health import PartState
from mediaserver.settings import Settings
from mediaserver.web import health, keys, metrics
from mediaserver.web.application import new_application
from mediaserver.web.health import Readiness
from mediaserver.web.routing import mount


@pytest.fixture
def probe(aiohttp_client: AiohttpClient):  # type: ignore[no-untyped-def]
    async def start(readiness: Readiness) -> TestClient:  # type: ignore[type-arg]
        app = new_application(Settings(instance_id="i_test", api_key=SecretStr("k" * 20)))
        app[keys.READINESS] = readiness
        mount(app, [health.routes(), metrics.routes()])
        return await aiohttp_client(app)

    return start


async def test_healthz_says_that_the_process_lives(probe) -> None:  # type: ignore[no-untyped-def]
    async def broken() -> Mapping[str, PartState]:
        raise RuntimeError("Redis is away")

    client = await probe(broken)
    response = await client.get("/healthz")
    assert response.status == 200
    assert await response.json() == {"status": "ok", "version": __version__, "instance": "i_test"}


async def test_readyz_is_503_while_a_part_is_not_ready(probe) -> None:  # type: ignore[no-untyped-def]
    state = {"speech": PartState(ready=False, detail="the model loads")}

    async def readiness() -> Mapping[str, PartState]:
        return {**state, "rooms": PartState(ready=True)}

    client = await probe(readiness)
    response = await client.get("/readyz")
    assert response.status == 503
    assert int(response.headers["Retry-After"]) > 0
    body = await response.json()
    assert body["ready"] is False
    assert body["parts"]["speech"] == {"ready": False, "detail": "the model loads"}
    assert body["parts"]["rooms"]["ready"] is True
    state["speech"] = PartState(ready=True)
    response = await client.get("/readyz")
    assert (response.status, (await response.json())["ready"]) == (200, True)


async def test_a_check_that_fails_or_hangs_means_not_ready() -> None:
    async def fails() -> Mapping[str, PartState]:
        raise RuntimeError("secret inside")

    async def hangs() -> Mapping[str, PartState]:
        await asyncio.sleep(60)
        return {}

    for readiness in (fails, hangs):
        answer = await health.report(readiness, timeout_s=0.05)
        assert not answer.ready
        assert "secret" not in answer.model_dump_json()
