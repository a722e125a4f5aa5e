"""Who asks: every request is recognised here, and may go on only where its scopes allow it."""

import hmac

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from mediaserver.identity.api_keys import looks_like_key
from mediaserver.identity.principal import LOCAL, STATIC, Principal
from mediaserver.identity.tokens import looks_like_token
from mediaserver.kernel.errors import Forbidden, Unauthorized, Unavailable
from mediaserver.settings import Settings
from mediaserver.web import keys
from mediaserver.web.routing import Route

KEY_SUBPROTOCOLS = ("token", "bearer")
"""A browser cannot set headers on a WebSocket; it offers ``["token", KEY]`` as subprotocols, and
the server must accept ``token``: give this to `web.WebSocketResponse(protocols=…)`."""
_SCHEMES = ("bearer", "token")


def credentials(request: web.Request) -> str | None:
    """Return the key or token that `request` carries in one of the accepted places."""
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


def principal_of(request: web.Request) -> Principal:
    """Return as whom a request is made. Raises Unauthorized where it was not recognised."""
    principal: Principal | None = request.get(keys.PRINCIPAL)
    if principal is None:
        raise _needed()
    return principal


def authenticate(settings: Settings) -> Middleware:
    """Return the middleware that recognises who asks, and refuses who may not."""
    secret = settings.api_key.get_secret_value() if settings.api_key is not None else None

    async def recognise(request: web.Request) -> Principal | None:
        """Raises Unauthorized and Unavailable."""
        identity = request.app.get(keys.IDENTITY)
        given = credentials(request)
        if given is None:
            ticket = _ticket(request)
            if ticket is None or identity is None:
                return None
            return await identity.take_ticket(ticket)
        if secret is not None and is_key(given, secret):
            principal = STATIC
        elif settings.open_access and not _ours(given):
            return None  # clients of other services' protocols always send some key
        elif identity is None:
            raise Unauthorized("the key is wrong", code="wrong_key")
        else:
            principal = await identity.verify_bearer(given)
        request[keys.AUTHENTICATED] = True
        return principal

    @web.middleware
    async def authentication(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[keys.AUTHENTICATED] = False
        routes = request.app[keys.ROUTES]
        public = routes.is_public(request)
        try:
            principal = await recognise(request)
        except (Unauthorized, Unavailable):
            if not public:
                raise
            principal = None
        if principal is None and settings.open_access:
            principal = LOCAL
        if principal is not None:
            request[keys.PRINCIPAL] = principal
        if not public:
            if principal is None:
                raise _needed()
            _check_scope(routes.find(request), principal)
        return await handler(request)

    return authentication


def _check_scope(route: Route | None, principal: Principal) -> None:
    if route is None or route.scope == "any":
        return  # there is nothing here (404), or the handler looks itself
    if route.scope is not None and not principal.may(route.scope):
        raise Forbidden(
            f"this needs the scope {route.scope}, which these credentials do not have",
            code="scope_missing",
        )
    if route.scope is None and principal.restricted:
        raise Forbidden(
            "a room token is good for its room only, and a login whose password must be changed "
            "for that only",
            code="scope_missing",
        )


def _ticket(request: web.Request) -> str | None:
    if request.headers.get("Upgrade", "").lower() != "websocket":
        return None
    return request.query.get("ticket")


def _ours(given: str) -> bool:
    """Whether it has the form of something that this server gives out."""
    return looks_like_key(given) or looks_like_token(given)


def _needed() -> Unauthorized:
    return Unauthorized(
        "credentials are needed: send a key or token as X-API-Key, as Authorization: Bearer, or on "
        "a WebSocket as subprotocols token, KEY, or as ?ticket=",
        code="key_needed",
    )
