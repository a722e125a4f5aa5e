"""Rate limits of requests: by address before it is known who asks, by account or key after."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Handler

from mediaserver.identity.addresses import client_address, limited_as
from mediaserver.identity.gcra import Decision, Quota
from mediaserver.identity.limits import refusal
from mediaserver.identity.service import Identity
from mediaserver.web import keys

_KEY_QUOTA = "key"


def address_of(request: web.Request) -> str:
    """Return the client's address, from X-Forwarded-For only behind trusted proxies."""
    identity = request.app.get(keys.IDENTITY)
    return client_address(
        request.remote,
        request.headers.getall("X-Forwarded-For", []),
        identity.trusted_proxies if identity is not None else (),
    )


async def count(
    request: web.Request, ask: Callable[[Quota, str], Awaitable[Decision]], quota: Quota, who: str
) -> None:
    """Count a request. Raises TooManyRequests; Unavailable where `ask` does."""
    decided = await ask(quota, who)
    request.setdefault(keys.LIMITED, []).append(decided)
    if not decided.allowed:
        raise refusal(decided)


async def count_login(request: web.Request, identity: Identity, account: str) -> None:
    """Count an attempt at an account, wherever it comes from.

    Raises TooManyRequests; Unavailable while Redis is away: guesses could not be counted.
    """
    limits = identity.limits
    if limits.enabled:
        await count(request, limits.ask_redis, limits.account, account.lower())


@web.middleware
async def limit_addresses(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Limit every address; logins and the like more tightly."""
    identity = request.app.get(keys.IDENTITY)
    if identity is None or not _limited(request, identity):
        return await handler(request)
    limits = identity.limits
    who = f"address:{limited_as(address_of(request))}"
    await count(request, limits.ask, limits.default, who)
    route = request.app[keys.ROUTES].find(request)
    if route is not None and route.limit == "login":
        await count(request, limits.ask_redis, limits.login, who)
    return await handler(request)


@web.middleware
async def limit_keys(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Limit every key and account, from whatever addresses it is used."""
    identity = request.app.get(keys.IDENTITY)
    principal = request.get(keys.PRINCIPAL)
    if (
        identity is not None
        and principal is not None
        and request[keys.AUTHENTICATED]
        and _limited(request, identity)
    ):
        default = identity.limits.default
        quota = Quota(_KEY_QUOTA, default.requests, default.window_s)
        await count(request, identity.limits.ask, quota, f"{principal.kind}:{principal.id}")
    return await handler(request)


def _limited(request: web.Request, identity: Identity) -> bool:
    if not identity.limits.enabled or request.method == "OPTIONS":
        return False
    route = request.app[keys.ROUTES].find(request)
    return route is None or not (route.hidden or route.limit == "none")


async def add_limit_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Tell how much is left; an `on_response_prepare` signal handler."""
    decided = request.get(keys.LIMITED)
    if decided:
        response.headers["RateLimit-Policy"] = ", ".join(d.quota.policy for d in decided)
        response.headers["RateLimit"] = ", ".join(d.state for d in decided)
