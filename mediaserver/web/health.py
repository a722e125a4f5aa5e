"""Liveness and readiness. Liveness depends on nothing but the process (and so never on Redis)."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from mediaserver import __version__
from mediaserver.kernel.logging import get_logger
from mediaserver.protocol.health import Health, PartState, ReadinessReport
from mediaserver.web import keys
from mediaserver.web.routing import Content, Routes

log = get_logger(__name__)

Readiness = Callable[[], Awaitable[Mapping[str, PartState]]]
"""Asks every part for its state; `app.py` puts one in under `keys.READINESS`."""
READINESS_TIMEOUT_S = 2.0


async def report(readiness: Readiness, timeout_s: float = READINESS_TIMEOUT_S) -> ReadinessReport:
    """Ask all parts; one that fails or takes too long makes the server not ready."""
    try:
        async with asyncio.timeout(timeout_s):
            parts = dict(await readiness())
    except TimeoutError:
        parts = {"server": PartState(ready=False, detail=f"no answer within {timeout_s:g} s")}
    except Exception as error:  # whatever a part raises means that it is not ready
        log.error("readiness.failed", exc_info=error)
        parts = {"server": PartState(ready=False, detail="a check failed; see the log")}
    return ReadinessReport(ready=all(part.ready for part in parts.values()), parts=parts)


async def _healthz(request: web.Request) -> web.StreamResponse:
    settings = request.app[keys.SETTINGS]
    health = Health(version=__version__, instance=settings.instance_id)
    return _json(health.model_dump_json(), 200)


async def _readyz(request: web.Request) -> web.StreamResponse:
    answer = await report(request.app[keys.READINESS])
    return _json(answer.model_dump_json(), 200 if answer.ready else 503)


def _json(text: str, status: int) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    if status == 503:
        headers["Retry-After"] = "2"
    return web.Response(text=text, status=status, content_type="application/json", headers=headers)


def routes() -> Routes:
    """`GET /healthz` and `GET /readyz`, both without a key: probes have none."""
    return (
        Routes("health")
        .add(
            "GET",
            "/healthz",
            _healthz,
            summary="The process lives",
            limit="none",
            public=True,
            responses={200: Content("It lives", "application/json", Health)},
        )
        .add(
            "GET",
            "/readyz",
            _readyz,
            summary="The server can take work",
            limit="none",
            description="503 while a part is not ready (a model still loads, a worker is away), "
            "and while the server drains before a stop. `parts` says which and why.",
            public=True,
            responses={
                200: Content("All parts are ready", "application/json", ReadinessReport),
                503: Content("A part is not ready", "application/json", ReadinessReport),
            },
        )
    )
