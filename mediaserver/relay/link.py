"""The asking end of a link: another instance's broadcast, as a source for viewers here."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import ClientWebSocketResponse, WSMsgType

from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import BadInput, MediaServerError, NotFound
from mediaserver.kernel.logging import get_logger
from mediaserver.kernel.tasks import TaskScope
from mediaserver.protocol.watching import EndReason
from mediaserver.relay.wire import CLOSE_OVER, KEYFRAME, read_reason, read_sending, unpack
from mediaserver.rtc.encoded import Fanout, Tap
from mediaserver.rtc.stats import MediaKind

log = get_logger(__name__)

KEYFRAME_INTERVAL_S = 0.25
RECONNECT_S = 8.0
"""How long a broken link is tried again. By then the room knows of a dead instance."""
RETRY_S, RETRY_CAP_S = 0.1, 1.0
_SEND_TIMEOUT_S = 5.0

Socket = ClientWebSocketResponse[bool]
Dial = Callable[[], Awaitable[Any]]
"""Opens the WebSocket. Raises NotFound (no such broadcast), Unavailable, Overloaded."""


class Link:
    """See the module's docstring. A `Watchable`; `run` keeps it connected."""

    def __init__(self, dial: Dial, clock: Clock) -> None:
        self.ended = asyncio.Event()
        self.end_reason: EndReason | None = None
        self.users = 0
        """How many hold it; see `Links`."""
        self.running: asyncio.Task[None] | None = None
        self.lingering: asyncio.Task[None] | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once it is known what is sent; fails with what `Dial` raises."""
        self.ready.add_done_callback(_seen)
        self._dial = dial
        self._clock = clock
        self._codecs: Mapping[MediaKind, str] = {}
        self._broadcast_id: str | None = None
        self._keyframe = asyncio.Event()
        self._fanout = Fanout(clock, lambda: None, self.request_keyframe)

    @property
    def codecs(self) -> Mapping[MediaKind, str]:
        """What is sent now, of each kind."""
        return self._codecs

    def open_tap(self) -> Tap:
        """Read from now on; video begins with a keyframe."""
        return self._fanout.open()

    def request_keyframe(self) -> None:
        """Ask the other instance for a keyframe, soon."""
        self._keyframe.set()

    async def run(self) -> None:
        """Be connected until the broadcast is over, or the other instance is gone for too long."""
        reason: EndReason = "lost"
        try:
            reason = await self._follow()
        except MediaServerError as error:
            if not self.ready.done():
                self.ready.set_exception(error)
        finally:
            self.end(reason)

    def end(self, reason: EndReason) -> None:
        """It is over, for all who read. The first call's reason counts."""
        if self.end_reason is None:
            self.end_reason = reason
            self.ended.set()
            self._fanout.close()
        if not self.ready.done():
            self.ready.set_exception(no_broadcast())

    async def _follow(self) -> EndReason:
        """Raises what the first `Dial` raises."""
        socket = await self._dial()
        while True:
            try:
                reason = await self._pump(socket)
            finally:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_SEND_TIMEOUT_S):
                        await socket.close()
            if reason is not None:
                return reason
            log.info("link.broken", broadcast_id=self._broadcast_id)
            again = await self._again()
            if not isinstance(again, ClientWebSocketResponse):
                return again
            socket = again

    async def _again(self) -> "Socket | EndReason":
        until_s = self._clock.monotonic_s() + RECONNECT_S
        wait_s = RETRY_S
        while self._clock.monotonic_s() < until_s:
            try:
                socket: Socket = await self._dial()
                return socket
            except NotFound:
                return "ended"
            except MediaServerError:
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, RETRY_CAP_S)
        return "lost"

    async def _pump(self, socket: "Socket") -> EndReason | None:
        """Hand on what comes; return why the broadcast ended, None where the link broke."""
        async with TaskScope("link") as scope:
            scope.spawn("keyframes", self._ask_for_keyframes(socket))
            try:
                while True:
                    message = await socket.receive()
                    if message.type is WSMsgType.BINARY:
                        self._fanout.deliver(unpack(message.data))
                    elif message.type is WSMsgType.TEXT:
                        if not self._takes(message.data):
                            return "replaced"
                    elif message.type is WSMsgType.CLOSE and message.data == CLOSE_OVER:
                        return read_reason(str(message.extra))
                    else:
                        return None
            except BadInput as error:
                log.error("link.bad_message", detail=error.detail)
                return "failed"

    def _takes(self, text: str) -> bool:
        """Take over what is sent; False if it is another broadcast than before."""
        sending = read_sending(text)
        if self._broadcast_id not in (None, sending.broadcast_id):
            return False
        self._broadcast_id, self._codecs = sending.broadcast_id, sending.codecs
        if not self.ready.done():
            self.ready.set_result(None)
        return True

    async def _ask_for_keyframes(self, socket: "Socket") -> None:
        with contextlib.suppress(OSError, TimeoutError):  # the reader sees that it is broken
            while True:
                await self._keyframe.wait()
                self._keyframe.clear()
                async with asyncio.timeout(_SEND_TIMEOUT_S):
                    await socket.send_str(KEYFRAME)
                await asyncio.sleep(KEYFRAME_INTERVAL_S)


def no_broadcast() -> NotFound:
    """What is said where a member (or nobody) broadcasts."""
    return NotFound("nobody broadcasts that can be watched", code="no_broadcast")


def _seen(future: "asyncio.Future[None]") -> None:
    """Whoever waited may have given up: then nobody asks for the error."""
    if not future.cancelled():
        future.exception()
