import asyncio
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from mediaserver.sessions.figures import Figures
from mediaserver.settings import Settings
from mediaserver.web.metrics import new_registry
from mediaserver.web.routing import Routes

from .conftest import Serve
from .test_auth import doors

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_requests_are_measured_by_route_not_by_path(serve: Serve) -> None:
    client = await serve(doors())
    for name in ("a", "b", "c"):
        await client.get(f"/open/{name}")
        await client.get(f"/missing/{name}")
    text = await (await client.get("/metrics")).text()
    found = samples(text)
    by_route = (("method", "GET"), ("route", "/open/{name}"), ("status", "200"))
    assert found["http_server_request_duration_seconds_count", by_route] == 3
    lost = (("method", "any"), ("route", "unmatched"), ("status", "404"))
    assert found["http_server_request_duration_seconds_count", lost] == 3
    assert "/missing/a" not in text


async def test_an_open_websocket_is_active_and_has_no_duration(serve: Serve) -> None:
    release = asyncio.Event()

    async def hold(request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await release.wait()
        return ws

    client = await serve(Routes("t").add("GET", "/ws", hold, summary="x"))
    ws = await client.ws_connect("/ws")
    text = await (await client.get("/metrics")).text()
    active = (("method", "GET"), ("route", "/ws"))
    assert samples(text)["http_server_active_requests", active] == 1
    release.set()
    await ws.close()
    found = samples(await (await client.get("/metrics")).text())
    assert found["http_server_active_requests", active] == 0
    assert not [
        k for k in found if k[0].endswith("duration_seconds_count") and ("route", "/ws") in k[1]
    ]


def test_figures_count_what_they_are_told() -> None:
    registry = CollectorRegistry()
    figures = Figures(registry)
    figures.stream_opened("whip")
    figures.stream_opened("ws")
    figures.stream_closed("ws")
    figures.audio_accepted(2.5)
    figures.word_final(0.8)
    figures.word_final(-0.1)
    figures.dropped("outbox", 3)
    figures.session_opened("ws")
    figures.session_closed("left")
    figures.worker_restarted()
    figures.refused("overloaded")

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("mediaserver_streams", kind="whip") == 1
    assert value("mediaserver_streams", kind="ws") == 0
    assert value("mediaserver_audio_seconds_total") == 2.5
    assert value("mediaserver_words_final_total") == 2
    assert value("mediaserver_caption_delay_seconds_bucket", le="1.0") == 2
    assert value("mediaserver_caption_delay_seconds_bucket", le="0.75") == 1
    assert value("mediaserver_drops_total", place="outbox") == 3
    assert value("mediaserver_sessions_opened_total", kind="ws") == 1
    assert value("mediaserver_sessions_closed_total", reason="left") == 1
    assert value("mediaserver_worker_restarts_total") == 1
    assert value("mediaserver_refused_total", code="overloaded") == 1


def test_two_applications_do_not_share_figures() -> None:
    one, two = new_registry(Settings()), new_registry(Settings())
    Figures(one).worker_restarted()
    Figures(two)
    assert two.get_sample_value("mediaserver_worker_restarts_total") == 0
