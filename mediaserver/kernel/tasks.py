"""Owned tasks: every task has an owner that sees it fail, and an end that is bounded in time."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from mediaserver.kernel.logging import get_logger

log = get_logger(__name__)


@contextmanager
def keep_cancellation() -> Iterator[None]:
    """Raise CancelledError at the end if the task was cancelled inside and does not know it.

    Up to Python 3.11 `asyncio.wait_for` loses a cancellation that comes just as what it waits for
    is done (python/cpython#86296); libraries that use it (redis-py) pass that on.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    try:
        yield
    except Exception:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError from None
        raise
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError


class TaskScope:
    """Owns background tasks whose lives end with the scope.

    Unlike `asyncio.TaskGroup` it needs no enclosing `async with` in one coroutine, so objects can
    own one. A task's failure is logged with its name and given to `on_failure`; by default the
    other tasks go on.
    """

    def __init__(
        self, name: str, *, on_failure: Callable[[str, BaseException], None] | None = None
    ) -> None:
        self.name = name
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._closed

    def spawn(self, name: str, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start `coroutine` as a task of this scope. Raises RuntimeError once closed."""
        if self._closed:
            coroutine.close()
            raise RuntimeError(f"task scope {self.name} is closed; {name} was not started")
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{self.name}.{name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        log.error("task.failed", task=task.get_name(), exc_info=error)
        if self._on_failure is not None:
            self._on_failure(task.get_name(), error)

    async def aclose(self, timeout_s: float = 5.0) -> None:
        """Cancel all tasks and wait for them at most `timeout_s`; what still runs is logged."""
        self._closed = True
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        _, pending = await asyncio.wait(tasks, timeout=timeout_s)
        for task in pending:
            log.error("task.did_not_end", task=task.get_name(), timeout_s=timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.aclose()
