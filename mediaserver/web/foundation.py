"""What everything else of an application stands on: Redis, SQL, identity, and the library."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

from aiohttp import web

from mediaserver.identity.accounts import FIRST_ADMIN
from mediaserver.identity.service import Identity
from mediaserver.kernel.errors import Unavailable
from mediaserver.library.service import Library
from mediaserver.protocol.health import PartState
from mediaserver.settings import Settings
from mediaserver.stores.database import Database
from mediaserver.stores.opening import embedded_valkey, redis_store, sql_database
from mediaserver.stores.redis import RedisStore
from mediaserver.web import keys

READINESS_TIMEOUT_S = 3.0


def add_stores(app: web.Application, settings: Settings) -> None:
    """Add Redis and SQL. They start before what is added later, and end after it."""
    valkey = embedded_valkey(settings)
    redis = app[keys.REDIS] = redis_store(settings, valkey)
    database = app[keys.DATABASE] = sql_database(settings)

    async def run(_app: web.Application) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            if valkey is not None:
                await stack.enter_async_context(valkey)
            stack.push_async_callback(redis.aclose)
            stack.push_async_callback(database.aclose)
            await database.migrate()
            yield

    app.cleanup_ctx.append(run)


def add_identity(app: web.Application, settings: Settings, announce: Callable[[str], None]) -> None:
    """Add identity; `announce` shows the first admin's one-time password to whoever starts it."""
    identity = Identity(settings, app[keys.REDIS], app[keys.DATABASE], app[keys.CLOCK])
    app[keys.IDENTITY] = identity

    async def run(_app: web.Application) -> AsyncIterator[None]:
        first_password = await identity.start()
        if first_password is not None:
            announce(
                f"first start: log in as {FIRST_ADMIN!r} with the one-time password "
                f"{first_password} (it must be changed then)"
            )
        yield
        await identity.aclose()

    app.cleanup_ctx.append(run)


def add_library(app: web.Application, settings: Settings) -> None:
    """Add the library of videos, which signs with the secret of `add_identity`'s keys."""
    signing = app[keys.IDENTITY].signing
    library = Library(settings, app[keys.DATABASE], app[keys.CLOCK], lambda: signing.secret)
    app[keys.LIBRARY] = library

    async def run(_app: web.Application) -> AsyncIterator[None]:
        await library.start()
        yield
        await library.aclose()

    app.cleanup_ctx.append(run)


async def stores_readiness(app: web.Application) -> Mapping[str, PartState]:
    """Say whether the stores answer, and the videos' folder where there is a library."""
    asked: dict[str, tuple[str, RedisStore | Database | Library]] = {
        "redis": ("Redis", app[keys.REDIS]),
        "database": ("the database", app[keys.DATABASE]),
    }
    if keys.LIBRARY in app:
        asked["storage"] = ("the folder of videos", app[keys.LIBRARY])
    told = await asyncio.gather(*(_answers(name, part) for name, part in asked.values()))
    return dict(zip(asked, told, strict=True))


async def _answers(name: str, store: RedisStore | Database | Library) -> PartState:
    try:
        async with asyncio.timeout(READINESS_TIMEOUT_S):
            await store.ping()
    except (Unavailable, TimeoutError):
        return PartState(ready=False, detail=f"{name} does not answer")
    return PartState(ready=True, detail="")
