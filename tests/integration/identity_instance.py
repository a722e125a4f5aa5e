"""Instances of the server's foundation (stores, identity, web) on real sockets, without speech."""

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from mediaserver.identity.service import Identity
from mediaserver.kernel.clocks import Clock, MonotonicTime, SystemClock, WallTime
from mediaserver.settings import Settings
from mediaserver.web import (
    accounts,
    health,
    keys,
    login,
    openapi,
    playback,
    room_tokens,
    uploads,
    videos,
)
from mediaserver.web.application import new_application
from mediaserver.web.foundation import add_identity, add_library, add_stores, stores_readiness
from mediaserver.web.routing import Routes, mount
from mediaserver.web.uploads import Patience

PASSWORD = "correct horse battery staple"


class ShiftedClock:
    """The machine's clock, moved."""

    def __init__(self, offset_s: float = 0.0) -> None:
        self.offset_s = offset_s
        self._clock = SystemClock()

    def monotonic_s(self) -> MonotonicTime:
        return MonotonicTime(self._clock.monotonic_s() + self.offset_s)

    def wall_s(self) -> WallTime:
        return WallTime(self._clock.wall_s() + self.offset_s)


@dataclass
class Answer:
    """A response, read."""

    status: int
    body: Any
    headers: Any
    cookies: Any


@dataclass
class Instance:
    """One running instance."""

    client: TestClient[web.Request, web.Application]
    announced: list[str] = field(default_factory=list)

    @property
    def identity(self) -> Identity:
        return self.client.app[keys.IDENTITY]

    @property
    def app(self) -> web.Application:
        return self.client.app

    @property
    def origin(self) -> str:
        return f"http://{self.client.host}:{self.client.port}"

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send a request; paths without a leading slash are under /api/v1/auth/."""
        if not path.startswith("/"):
            path = f"/api/v1/auth/{path}"
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        async with self.client.request(method, path, json=body, headers=sent) as response:
            text = await response.text()
            json = await response.json(content_type=None) if text else None
            return Answer(response.status, json, response.headers, response.cookies)

    async def post(self, path: str, body: Any = None, **more: Any) -> Answer:
        return await self.ask("POST", path, body, **more)

    async def get(self, path: str, **more: Any) -> Answer:
        return await self.ask("GET", path, **more)

    async def user(self, name: str = "anna", role: str = "member") -> dict[str, Any]:
        """Add a user straight in the database, log in, return the tokens."""
        stored = await self.identity.passwords.hash(PASSWORD)
        await self.identity.users.add(
            name,
            role,  # type: ignore[arg-type] # tests say it as a plain word
            stored,
            display_name="",
            must_change=False,
        )
        return await self.login(name)

    async def login(self, name: str = "anna", password: str = PASSWORD) -> dict[str, Any]:
        answer = await self.post("login", {"name": name, "password": password})
        assert answer.status == 200, answer.body
        tokens: dict[str, Any] = answer.body
        return tokens


class Instances:
    """Starts instances that share their stores; all end together."""

    def __init__(self, redis_url: str, database_url: str, folder: Path) -> None:
        self._redis_url = redis_url
        self._database_url = database_url
        self._folder = folder
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    async def start(
        self,
        *tables: Routes,
        clock: Clock | None = None,
        library: Patience | None = None,
        **settings: Any,
    ) -> Instance:
        """Start one; without other settings it is guarded and has no rate limit.

        With `library` it has videos, too.
        """
        chosen = {
            "access": "guarded",
            "rate_limit": 0,
            "data_dir": self._folder,
            "redis_url": self._redis_url,
            "database_url": self._database_url,
            **settings,
        }
        announced: list[str] = []
        app = new_application(Settings(**chosen))
        app[keys.CLOCK] = clock or SystemClock()
        add_stores(app, app[keys.SETTINGS])
        add_identity(app, app[keys.SETTINGS], announced.append)
        if library is not None:
            add_library(app, app[keys.SETTINGS])
            app.on_response_prepare.append(uploads.add_tus_headers)
            tables = (*tables, videos.routes(), uploads.routes(library), playback.routes())
        app[keys.READINESS] = lambda: stores_readiness(app)
        own = (login, accounts, room_tokens, health, openapi)
        mount(app, [*(module.routes() for module in own), *tables])
        client = TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar())
        await self._stack.enter_async_context(client)
        return Instance(client, announced)
