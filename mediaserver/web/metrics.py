"""HTTP figures, and `GET /metrics`. Each application has a registry of its own."""

import time

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.aiohttp import make_aiohttp_handler

from mediaserver import __version__
from mediaserver.kernel.logging import get_logger
from mediaserver.settings import Settings
from mediaserver.web import keys
from mediaserver.web.routing import Content, Routes

log = get_logger(__name__)

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def new_registry(settings: Settings) -> CollectorRegistry:
    """Return a registry with the figures of the process, to which the others are added."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    Info("mediaserver_build", "Version and instance", registry=registry).info(
        {"version": __version__, "instance": settings.instance_id}
    )
    return registry


class HttpMetrics:
    """What HTTP requests cost, by route template (never by path: paths hold ids)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._duration = Histogram(
            "http_server_request_duration_seconds",
            "Time to answer a request; WebSockets and other upgrades are not in it",
            ("method", "route", "status"),
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._active = Gauge(
            "http_server_active_requests",
            "Requests being answered now, open WebSockets among them",
            ("method", "route"),
            registry=registry,
        )

    async def observe(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Measure one request."""
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "unmatched"
        method = request.method if resource is not None else "any"
        active = self._active.labels(method, route)
        active.inc()
        start_s = time.perf_counter()
        status = 499  # the client left before an answer began
        try:
            response = await handler(request)
            status = response.status
            return response
        except web.HTTPException as redirect:
            status = redirect.status
            raise
        finally:
            active.dec()
            duration_s = time.perf_counter() - start_s
            if status != 101:
                self._duration.labels(method, route, str(status)).observe(duration_s)
            log.debug("http.request", method=method, route=route, status=status, s=duration_s)


@web.middleware
async def measure(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Measure every request with the application's `HttpMetrics`."""
    return await request.app[keys.HTTP_METRICS].observe(request, handler)


async def _metrics(request: web.Request) -> web.StreamResponse:
    return await make_aiohttp_handler(request.app[keys.METRICS])(request)


def routes() -> Routes:
    """`GET /metrics`; it needs the key, for it tells how much is going on."""
    return Routes("health").add(
        "GET",
        "/metrics",
        _metrics,
        summary="Figures for Prometheus",
        scope="metrics",
        limit="none",
        description="In the Prometheus or OpenMetrics text format, as `Accept` asks.",
        responses={200: Content("All figures", "text/plain")},
    )
