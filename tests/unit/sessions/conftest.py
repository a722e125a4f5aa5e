"""Tracks on scripted workers, and time to wait."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from tests.unit.sessions.scripted_worker import Stage

Until = Callable[[Callable[[], bool]], Awaitable[None]]
NewStage = Callable[..., Stage]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """One worker, started."""
    stage = Stage()
    await stage.start()
    yield stage
    await stage.aclose()


@pytest.fixture
async def new_stage() -> AsyncIterator[NewStage]:
    """Make stages that are not started yet, of so many workers; they are closed at the end."""
    async with AsyncExitStack() as stack:

        def make(count: int = 1) -> Stage:
            stage = Stage(count)
            stack.push_async_callback(stage.aclose)
            return stage

        yield make


@pytest.fixture
def until() -> Until:
    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20.0):
            while not condition():
                await asyncio.sleep(0.005)

    return wait
