"""A real application on a real socket, with the project's middlewares and a few routes."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from mediaserver.settings import Settings
from mediaserver.web import metrics
from mediaserver.web.application import new_application
from mediaserver.web.routing import Routes, mount

KEY = "0123456789abcdef0123"
Serve = Callable[..., Awaitable[TestClient[web.Request, web.Application]]]


@pytest.fixture
def serve(aiohttp_client: AiohttpClient) -> Serve:
    """Start an application with the given routes; keywords are settings."""

    async def start(*tables: Routes, **settings: Any) -> TestClient[web.Request, web.Application]:
        app = new_application(Settings(**settings))
        mount(app, [*tables, metrics.routes()])
        return await aiohttp_client(app)

    return start
