"""``/api/v1/auth``: log in, refresh, log out, change a password; tickets; who am I; the JWKS."""

from urllib.parse import urlsplit

from aiohttp import web

from mediaserver.identity.accounts import Granted
from mediaserver.identity.addresses import client_address
from mediaserver.identity.rotation import IDLE_MS
from mediaserver.identity.tickets import TICKET_S
from mediaserver.kernel.errors import Forbidden, Unauthorized
from mediaserver.protocol.base import Wire
from mediaserver.protocol.identity import (
    MAX_TOKEN_CHARACTERS,
    JsonWebKeySet,
    LoginRequest,
    PasswordChange,
    PrincipalInfo,
    RefreshRequest,
    TicketAnswer,
    TicketRequest,
    TokenAnswer,
)
from mediaserver.web import keys
from mediaserver.web.auth import principal_of
from mediaserver.web.bodies import read_json
from mediaserver.web.limits import count_login
from mediaserver.web.routing import Content, Routes

COOKIE = "mediaserver_refresh"
COOKIE_PATH = "/api/v1/auth"
JWKS_MAX_AGE_S = 300
JSON = "application/json"


def answer(model: Wire, *, status: int = 200) -> web.Response:
    """Return `model` as JSON that no cache keeps."""
    return web.Response(
        status=status,
        body=model.model_dump_json().encode(),
        content_type=JSON,
        headers={"Cache-Control": "no-store"},
    )


# ---- the refresh token's cookie ------------------------------------------------------------


def over_tls(request: web.Request) -> bool:
    """Whether the browser came by https, as far as a trusted proxy or the settings tell."""
    public_url = request.app[keys.SETTINGS].public_url
    if request.secure or (public_url is not None and public_url.startswith("https:")):
        return True
    trusted = request.app[keys.IDENTITY].trusted_proxies
    marker = "192.0.2.1"  # of the documentation's network: shows whether the peer is believed
    by_proxy = client_address(request.remote, [marker], trusted) == marker
    return by_proxy and request.headers.get("X-Forwarded-Proto", "").lower() == "https"


def _respond(request: web.Request, granted: Granted, *, cookie: bool) -> web.Response:
    response = answer(granted.answer(in_body=not cookie))
    if cookie and granted.refresh_token is not None:
        response.set_cookie(
            COOKIE,
            granted.refresh_token,
            path=COOKIE_PATH,
            max_age=IDLE_MS // 1000,
            httponly=True,
            secure=over_tls(request),
            samesite="Strict",
        )
    return response


def _cookie(request: web.Request) -> str | None:
    """Return the cookie's refresh token, if our own page sends it. Raises Forbidden."""
    token = request.cookies.get(COOKIE)
    if not token:
        return None
    origin = request.headers.get("Origin")
    if origin is None:
        own = request.headers.get("Sec-Fetch-Site") == "same-origin"
    else:
        settings = request.app[keys.SETTINGS]
        try:
            host = urlsplit(origin)
        except ValueError:
            host = urlsplit("")
        own = (
            (host.netloc.lower() == request.headers.get("Host", "").lower() and host.netloc != "")
            or (host.hostname or "") in {name.lower() for name in settings.allowed_hosts}
            or origin.lower() in settings.cors_origins
        )
    if not own:
        raise Forbidden(
            "the cookie counts only in requests of our own pages; others send refresh_token",
            code="wrong_origin",
        )
    return token[:MAX_TOKEN_CHARACTERS]


# ---- the handlers --------------------------------------------------------------------------


async def _login(request: web.Request) -> web.StreamResponse:
    asked = await read_json(request, LoginRequest)
    identity = request.app[keys.IDENTITY]
    await count_login(request, identity, asked.name)
    granted = await identity.accounts.login(asked.name, asked.password)
    return _respond(request, granted, cookie=asked.cookie)


async def _refresh(request: web.Request) -> web.StreamResponse:
    asked = await read_json(request, RefreshRequest, may_be_empty=True)
    token = asked.refresh_token or _cookie(request)
    if token is None:
        raise Unauthorized("there is no refresh token; log in", code="invalid_grant")
    granted = await request.app[keys.IDENTITY].accounts.refresh(token)
    return _respond(request, granted, cookie=asked.refresh_token is None)


async def _logout(request: web.Request) -> web.StreamResponse:
    asked = await read_json(request, RefreshRequest, may_be_empty=True)
    principal = request.get(keys.PRINCIPAL)
    token = asked.refresh_token
    if token is None and not request[keys.AUTHENTICATED]:
        token = _cookie(request)
    await request.app[keys.IDENTITY].accounts.logout(principal, token)
    return _gone()


async def _logout_all(request: web.Request) -> web.StreamResponse:
    await request.app[keys.IDENTITY].accounts.logout_all(principal_of(request))
    return _gone()


def _gone() -> web.Response:
    response = web.Response(status=204, headers={"Cache-Control": "no-store"})
    response.del_cookie(COOKIE, path=COOKIE_PATH)
    return response


async def _password(request: web.Request) -> web.StreamResponse:
    asked = await read_json(request, PasswordChange)
    identity, principal = request.app[keys.IDENTITY], principal_of(request)
    await count_login(request, identity, principal.id)
    granted = await identity.accounts.change_password(principal, asked.current, asked.new)
    return _respond(request, granted, cookie=asked.cookie)


async def _me(request: web.Request) -> web.StreamResponse:
    return answer(principal_of(request).info)


async def _ticket(request: web.Request) -> web.StreamResponse:
    asked = await read_json(request, TicketRequest, may_be_empty=True)
    principal = principal_of(request)
    if asked.room is not None and principal.room is not None and asked.room != principal.room:
        raise Forbidden(f"these credentials are for the room {principal.room}", code="wrong_room")
    room = principal.room or asked.room
    ticket = await request.app[keys.IDENTITY].tickets.issue(
        principal.model_copy(update={"room": room})
    )
    return answer(TicketAnswer(ticket=ticket, expires_in_s=TICKET_S, room=room))


async def _jwks(request: web.Request) -> web.StreamResponse:
    response = answer(request.app[keys.IDENTITY].signing.jwks)
    response.headers["Cache-Control"] = f"public, max-age={JWKS_MAX_AGE_S}"
    return response


def routes() -> Routes:
    """Logging in and what goes with it."""
    granted = {200: Content("The tokens", JSON, TokenAnswer)}
    refresh_body = (Content("The refresh token; empty: the cookie's", JSON, RefreshRequest),)
    table = Routes("identity")
    table.add(
        "POST",
        "/api/v1/auth/login",
        _login,
        summary="Log in with name and password",
        description="Gives an access token for 15 minutes, and a refresh token that works once. "
        "While the password must be changed, the access token is good for that only.",
        public=True,
        limit="login",
        request=(Content("Name and password", JSON, LoginRequest),),
        responses=granted,
    )
    table.add(
        "POST",
        "/api/v1/auth/refresh",
        _refresh,
        summary="Exchange a refresh token for new tokens",
        description="The old refresh token is used up; using it again later ends the session.",
        public=True,
        request=refresh_body,
        responses=granted,
    )
    table.add(
        "POST",
        "/api/v1/auth/logout",
        _logout,
        summary="End this session",
        description="That of the access token, the refresh token in the body, or the cookie.",
        public=True,
        request=refresh_body,
        responses={204: Content("It is over")},
    )
    table.add(
        "POST",
        "/api/v1/auth/logout-all",
        _logout_all,
        summary="End all of one's sessions",
        scope="account",
        responses={204: Content("They are over")},
    )
    return _add_others(table)


def _add_others(table: Routes) -> Routes:
    table.add(
        "POST",
        "/api/v1/auth/password",
        _password,
        summary="Change one's password",
        description="Ends all other sessions; gives tokens of a new one.",
        scope="password",
        limit="login",
        request=(Content("The old and the new one", JSON, PasswordChange),),
        responses={200: Content("The tokens", JSON, TokenAnswer)},
    )
    table.add(
        "GET",
        "/api/v1/auth/me",
        _me,
        summary="As whom a request is made",
        description="Any valid credentials will do.",
        scope="any",
        responses={200: Content("Kind, name, scopes", JSON, PrincipalInfo)},
    )
    table.add(
        "POST",
        "/api/v1/auth/tickets",
        _ticket,
        summary="A ticket for a WebSocket",
        description="Open `/ws?ticket=…` within 30 s. It works once, for who asked for it.",
        scope="rooms",
        request=(Content("The room that it is for", JSON, TicketRequest),),
        responses={200: Content("The ticket", JSON, TicketAnswer)},
    )
    table.add(
        "GET",
        "/.well-known/jwks.json",
        _jwks,
        summary="The public keys of access and room tokens",
        public=True,
        responses={200: Content("A JSON Web Key Set (RFC 7517)", JSON, JsonWebKeySet)},
    )
    return table
