"""Tracks on scripted workers, and time to wait."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.unit.sessions.scripted_worker import Stage

Until = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """One worker, started."""
    stage = Stage()
    await stage.start()
    yield stage
    await stage.aclose()


@pytest.fixture
def until() -> Until:
    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10.0):
            while not condition():
                await asyncio.sleep(0.005)

    return wait
