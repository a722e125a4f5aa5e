"""The API key: who may use the server. Everything that is not `public` needs it once it is set."""

import hmac

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from mediaserver.kernel.errors import Unauthorized
from mediaserver.settings import Settings
from mediaserver.web import keys

KEY_SUBPROTOCOLS = ("token", "bearer")
"""A browser cannot set headers on a WebSocket; it offers ``["token", KEY]`` as subprotocols, and
the server must accept ``token``: give this to `web.WebSocketResponse(protocols=…)`."""
_SCHEMES = ("bearer", "token")


def credentials(request: web.Request) -> str | None:
    """Return the key that `request` carries in one of the accepted places."""
    if (key := request.headers.get("X-API-Key")) is not None:
        return key.strip()
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() in _SCHEMES:
        return value.strip()
    offered = [
        part.strip() for part in request.headers.get("Sec-WebSocket-Protocol", "").split(",")
    ]
    if len(offered) >= 2 and offered[0].lower() in KEY_SUBPROTOCOLS:
        return offered[1]
    return None


def is_key(candidate: str, key: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(candidate.encode("utf-8", "replace"), key.encode())


def require_key(settings: Settings) -> Middleware:
    """Return the middleware that refuses requests without the key."""
    secret = settings.api_key.get_secret_value() if settings.api_key is not None else None

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[keys.AUTHENTICATED] = False
        if secret is None:
            return await handler(request)
        given = credentials(request)
        if given is not None and is_key(given, secret):
            request[keys.AUTHENTICATED] = True
        elif not request.app[keys.ROUTES].is_public(request):
            raise Unauthorized(
                "the key is wrong"
                if given is not None
                else "a key is needed: send it as X-API-Key, "
                "as Authorization: Bearer KEY, or on a WebSocket as subprotocols token, KEY",
                code="wrong_key" if given is not None else "key_needed",
            )
        return await handler(request)

    return authenticate
