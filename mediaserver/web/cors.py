"""CORS for the origins of MEDIASERVER_CORS_ORIGINS (the Fetch standard, section 3.2)."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from mediaserver.settings import Settings

_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_HEADERS = ", ".join(
    (
        "Authorization, Content-Type, X-API-Key, Last-Event-ID, If-Match, If-None-Match",
        "Tus-Resumable, Upload-Length, Upload-Metadata, Upload-Offset, X-HTTP-Method-Override",
        "Range, If-Range",
    )
)
_EXPOSED = ", ".join(
    (
        "ETag, Link, Location, RateLimit, RateLimit-Policy, Retry-After, X-Request-ID",
        "Tus-Resumable, Tus-Version, Tus-Extension, Tus-Max-Size",
        "Upload-Expires, Upload-Length, Upload-Offset",
        "Accept-Ranges, Content-Length, Content-Range",
    )
)
_MAX_AGE_S = 600
_OWN_PREFLIGHT = "/whip/"
"""WHIP answers OPTIONS itself, for every origin."""


def answer_preflights(settings: Settings) -> Middleware:
    """Return the middleware that answers preflights of the listed origins."""
    origins = frozenset(settings.cors_origins)

    @web.middleware
    async def preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
        if (
            request.method != "OPTIONS"
            or "Access-Control-Request-Method" not in request.headers
            or request.headers.get("Origin", "").lower() not in origins
            or request.path.startswith(_OWN_PREFLIGHT)
        ):
            return await handler(request)
        return web.Response(
            status=204,
            headers={
                "Access-Control-Allow-Methods": _METHODS,
                "Access-Control-Allow-Headers": _HEADERS,
                "Access-Control-Max-Age": str(_MAX_AGE_S),
            },
        )

    return preflight


def add_cors(settings: Settings) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Return the `on_response_prepare` handler that lets pages of the listed origins read."""
    origins = frozenset(settings.cors_origins)

    async def add(request: web.Request, response: web.StreamResponse) -> None:
        if not origins:
            return
        response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin", "")
        if origin.lower() in origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Credentials"] = "true"
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED

    return add
