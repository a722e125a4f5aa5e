"""A session's connection, kept alive: broken ones are replaced, with growing waits."""

import asyncio
import logging
import time
from collections.abc import Callable

import aiohttp

from mediaserver_client.backoff import Backoff
from mediaserver_client.connection import Closed, Connection, problems
from mediaserver_client.door import Door
from mediaserver_client.errors import (
    ClientError,
    Refused,
    SentAway,
    ServerUnreachable,
    SessionClosed,
    SessionLost,
)
from mediaserver_client.messages import Leave, ServerMessage

log = logging.getLogger("mediaserver_client")

LEAVE_TIMEOUT_S = 10.0
_SENT_AWAY = {4401: "expired", 4403: "sent away", 4409: "replaced", 4410: "closed"}


class Pulse:
    """Wakes everybody who waits; they look for themselves at what changed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def fire(self) -> None:
        """Something changed."""
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait(self, timeout_s: float | None = None) -> None:
        """Return at the next change, or after `timeout_s`."""
        if timeout_s is None:
            await self._event.wait()
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return

    async def until(self, ready: Callable[[], object]) -> None:
        """Return as soon as `ready()` is true; it is asked again at every change."""
        while not ready():
            await self._event.wait()


class Link:
    """The connection under a session. Everybody who waits for something waits on `pulse`."""

    def __init__(
        self,
        door: Door,
        *,
        reconnect_s: float,
        on_message: Callable[[ServerMessage], None],
    ) -> None:
        self.pulse = Pulse()
        self.connection: Connection | None = None
        """The open connection; None while there is none."""
        self.over: ClientError | None = None
        """Why there will be no connection any more."""
        self.reconnects = 0
        self.http: aiohttp.ClientSession | None = None
        self._door, self._reconnect_s = door, reconnect_s
        self._on_message = on_message
        self._leaving = False
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect for the first time. Raises ServerUnreachable, Refused, ProtocolError."""
        self.http = aiohttp.ClientSession(headers=self._door.headers, middlewares=(problems,))
        try:
            connection = await self._connect()
        except BaseException:
            await self.http.close()
            raise
        self._task = asyncio.create_task(self._keep(connection), name="mediaserver-client")

    async def close(self, *, in_good_order: bool) -> None:
        """End the session: with `leave` and the server's last words, or at once. Idempotent."""
        self._leaving = True
        try:
            if in_good_order and self.connection is not None and self._task is not None:
                await self._leave(self.connection, self._task)
        finally:
            if self._task is not None and not self._task.done():
                self._task.cancel()
                await asyncio.wait([self._task], timeout=LEAVE_TIMEOUT_S)
            if self.http is not None:
                await self.http.close()
            self.over = self.over or SessionClosed("the session was closed")
            self.pulse.fire()

    async def _leave(self, connection: Connection, task: asyncio.Task[None]) -> None:
        try:
            await connection.send(Leave())
        except SessionClosed:
            return
        await asyncio.wait([task], timeout=LEAVE_TIMEOUT_S)

    async def current(self) -> Connection:
        """Return the open connection, waiting for one. Raises why there will be none."""
        await self.pulse.until(lambda: self.over or self._usable())
        if self.over is not None:
            raise self.over
        connection = self.connection
        assert connection is not None
        return connection

    def _usable(self) -> bool:
        return self.connection is not None and not self.connection.closed

    async def _connect(self) -> Connection:
        assert self.http is not None
        return await self._door.enter(self.http)

    async def _keep(self, connection: Connection) -> None:
        try:
            while True:
                self.connection = connection
                self.pulse.fire()
                try:
                    closed = await connection.serve(self._received)
                finally:
                    self.connection = None
                if self._leaving:
                    raise SessionClosed("the session was closed")
                if self._door.final(closed):
                    raise _ending(closed)
                log.warning("connection lost: %s; reconnecting", closed.describe())
                self.pulse.fire()
                connection = await self._reconnect(closed)
                self.reconnects += 1
        except ClientError as error:
            self.over = error
        except Exception as error:  # a bug must end the session, not hang it
            log.exception("session failed")
            self.over = SessionClosed(f"the session failed: {error!r}")
        finally:
            self.pulse.fire()

    def _received(self, message: ServerMessage) -> None:
        self._on_message(message)
        self.pulse.fire()

    async def _reconnect(self, closed: Closed) -> Connection:
        give_up_at_s = time.monotonic() + self._reconnect_s
        backoff = Backoff()
        retry_after_s, why = closed.retry_after_s, closed.describe()
        while True:
            wait_s = backoff.next_s(retry_after_s)
            if time.monotonic() + wait_s > give_up_at_s:
                raise SessionLost(
                    f"the connection was lost and did not come back in {self._reconnect_s:g} s: "
                    f"{why}"
                )
            await asyncio.sleep(wait_s)
            try:
                return await self._connect()
            except ServerUnreachable as error:
                retry_after_s, why = None, str(error)
            except Refused as error:
                if not error.retryable:
                    raise
                retry_after_s, why = error.problem.retry_after_s, str(error)


def _ending(closed: Closed) -> ClientError:
    if closed.code in _SENT_AWAY and closed.problem is None:
        return SentAway(_SENT_AWAY[closed.code], closed.reason)
    if closed.problem is not None:
        return Refused(closed.problem)
    if closed.code == 1000:
        return SessionClosed("the server ended the session")
    return SessionClosed(f"the server ended the session: {closed.describe()}")
