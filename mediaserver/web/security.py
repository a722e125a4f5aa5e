"""What keeps other web pages out: Host and Origin checks, security headers, size limits.

Without a key the server trusts whoever reaches it, and a browser on this machine can be made to
reach it by any page. Two checks stop that: `Host` must name this machine (DNS rebinding), and
what changes something, or opens a WebSocket, must come from our own page (`Origin`). A request
that shows a right key or token in a header has proved itself and may come from anywhere; tickets
and cookies prove nothing about the page.
"""

import ipaddress
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from mediaserver.kernel.errors import Forbidden
from mediaserver.settings import Settings
from mediaserver.web import keys

MAX_REQUEST_BODY_BYTES = 1024 * 1024
"""`client_max_size` of the application; a route that takes more reads its body as a stream."""
MAX_HEADER_BYTES = 16 * 1024
"""`max_line_size` and `max_field_size` of the server."""

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_CONTENT_POLICY = "; ".join(
    (
        "default-src 'self'",
        # A room's queue may hold an HLS or MP4 address of any host, and a page's policy is fixed
        # before anybody adds one: what fetches and plays media may ask every host, by HTTP only.
        # `'self'` covers the page's own WebSockets, too. Scripts, workers, styles and frames come
        # from here alone, so that nothing foreign runs that could use it.
        "connect-src 'self' http: https:",
        # blob: is what hls.js feeds to the element (Media Source Extensions)
        "media-src 'self' blob: http: https:",
        "img-src 'self' data: blob:",
        "worker-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
SECURITY_HEADERS = {
    "Content-Security-Policy": _CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": (
        "camera=(self), microphone=(self), display-capture=(self), fullscreen=(self), "
        "geolocation=(), payment=(), usb=()"
    ),
}


def host_name(authority: str) -> str:
    """Return the host of ``host:port`` in lower case, without brackets and port."""
    try:
        return (urlsplit(f"//{authority}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_loopback_name(host: str) -> bool:
    """Whether `host` can only mean this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_host(settings: Settings) -> Middleware:
    """Return the middleware that refuses foreign `Host` names where nothing else protects."""
    allowed = {host.lower() for host in settings.allowed_hosts}
    needed = settings.open_access

    @web.middleware
    async def host_check(request: web.Request, handler: Handler) -> web.StreamResponse:
        authority = request.headers.get("Host")
        if needed and authority is not None:
            host = host_name(authority)
            if not is_loopback_name(host) and host not in allowed:
                raise Forbidden(
                    "this server answers only under this machine's own names; behind a proxy set "
                    "MEDIASERVER_ALLOWED_HOSTS to the public name, and a key",
                    code="wrong_host",
                )
        return await handler(request)

    return host_check


def check_origin(settings: Settings) -> Middleware:
    """Return the middleware that refuses WebSockets and changes from other sites' pages."""
    allowed = {host.lower() for host in settings.allowed_hosts}
    origins = frozenset(settings.cors_origins)

    @web.middleware
    async def origin_check(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
        risky = upgrade or request.method not in _SAFE_METHODS
        trusted = request.get(keys.AUTHENTICATED, False)
        authority = request.headers.get("Host", "")
        if (
            origin is not None
            and risky
            and not trusted
            and origin.lower() not in origins
            and not _same_site(origin, authority, allowed)
        ):
            raise Forbidden(
                "a page of another site sent this; use the server's own page, send the key, "
                "or name the site in MEDIASERVER_ALLOWED_HOSTS",
                code="wrong_origin",
            )
        return await handler(request)

    return origin_check


def _same_site(origin: str, authority: str, allowed: set[str]) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return False  # "null": sandboxed frames and files
    return parts.netloc.lower() == authority.lower() or parts.hostname in allowed


async def add_security_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add the security headers to every response; an `on_response_prepare` signal handler."""
    request[keys.STARTED] = True
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
