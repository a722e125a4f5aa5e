import asyncio
import contextlib

import pytest

from mediaserver.kernel.tasks import TaskScope, keep_cancellation


async def test_a_scope_ends_its_tasks() -> None:
    ended = []

    async def work(number: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(number)

    async with TaskScope("t") as scope:
        for number in range(3):
            scope.spawn(f"work-{number}", work(number))
        await asyncio.sleep(0)
        assert len(scope) == 3
    assert sorted(ended) == [0, 1, 2]
    assert len(scope) == 0
    assert scope.closed


async def test_a_failure_is_told_with_the_tasks_name_and_the_others_go_on() -> None:
    failures: list[tuple[str, BaseException]] = []
    scope = TaskScope("t", on_failure=lambda name, error: failures.append((name, error)))

    async def fail() -> None:
        raise ValueError("no")

    other = scope.spawn("other", asyncio.sleep(60))
    scope.spawn("bad", fail())
    await asyncio.sleep(0.01)
    assert [(name, str(error)) for name, error in failures] == [("t.bad", "no")]
    assert not other.done()
    await scope.aclose()


async def test_a_task_may_close_its_own_scope() -> None:
    scope = TaskScope("t")
    other = scope.spawn("other", asyncio.sleep(60))

    async def close() -> None:
        await scope.aclose()

    async with asyncio.timeout(15):
        await scope.spawn("closer", close())
    assert other.cancelled()


async def test_a_closed_scope_starts_nothing() -> None:
    scope = TaskScope("t")
    await scope.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        scope.spawn("late", asyncio.sleep(0))


async def test_a_task_that_will_not_end_does_not_hold_up_the_stop() -> None:
    scope = TaskScope("t")
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    task = scope.spawn("stubborn", stubborn())
    await asyncio.sleep(0)
    async with asyncio.timeout(15):
        await scope.aclose(timeout_s=0.05)
    assert not task.done()
    release.set()
    await task


@pytest.mark.parametrize("outcome", ["returns", "raises"])
async def test_a_cancellation_that_a_library_loses_is_kept(outcome: str) -> None:
    waiting = asyncio.Event()

    async def library() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            waiting.set()
            await asyncio.sleep(60)
        if outcome == "raises":
            raise ConnectionError

    async def work() -> None:
        while True:
            with contextlib.suppress(ConnectionError), keep_cancellation():
                await library()

    task = asyncio.create_task(work())
    await waiting.wait()
    task.cancel()
    async with asyncio.timeout(15):
        await asyncio.wait([task])
    assert task.cancelled()


async def test_what_a_cancelled_task_still_does_at_its_end_is_done() -> None:
    done: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            with keep_cancellation():
                await asyncio.sleep(0)
            done.append("tidied up")

    async with TaskScope("t") as scope:
        scope.spawn("work", work())
        await asyncio.sleep(0)
    assert done == ["tidied up"]
