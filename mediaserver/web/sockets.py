"""A WebSocket to a client that may be hostile: read in turns, written and closed within bounds."""

import asyncio
import contextlib
import struct
from collections.abc import Callable

from aiohttp import WSMessage, WSMsgType, web

from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import TooManyRequests
from mediaserver.kernel.tasks import TaskScope
from mediaserver.web.floods import FloodGate

TAKEN_AT_ONCE = 32
"""So many messages are taken in a row before others have their turn."""
UNHEARD_BYTES = 16 * 1024 * 1024
"""More than this without a whole message is no message but a flood of fragments."""
_FLUSHED_EVERY_S = 0.05
_MAX_REASON_BYTES = 123
"""What a close frame holds (RFC 6455, section 5.5)."""
_OVER = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)
_BEATS = (WSMsgType.PING, WSMsgType.PONG)


class ClientSocket:
    """See the module's docstring. `response` was made with ``autoping=False``."""

    def __init__(
        self,
        request: web.Request,
        response: web.WebSocketResponse,
        gate: FloodGate,
        clock: Clock,
        on_flood: Callable[[TooManyRequests], None],
    ) -> None:
        """`on_flood` is told of each of the client's pings and pongs that was one too many."""
        self.response = response
        self._transport = request.transport
        self._gate = gate
        self._clock = clock
        self._on_flood = on_flood
        self._reading: asyncio.Task[object] | None = None
        self._receiving = False
        self._taken = 0
        self._closing = False
        self._cut_off = False
        self._line: _Line | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._cut_off or self.response.closed

    @property
    def close_code(self) -> int | None:
        """The code that the other side closed with."""
        return self.response.close_code

    # ---- in -----------------------------------------------------------------------------------

    async def receive(self, timeout_s: float | None = None) -> WSMessage | None:
        """Return the next message; None when the connection is over or is being closed by us.

        Pings are answered and counted on the way. One task receives, always the same. Raises
        TimeoutError where nothing but pings comes within `timeout_s`.
        """
        self._reading = asyncio.current_task()
        line = self._line or self._connect()
        async with asyncio.timeout(timeout_s):
            while not self._closing:
                self._taken += 1
                if self._taken % TAKEN_AT_ONCE == 0:
                    await asyncio.sleep(0)  # others have their turn
                self._receiving = True
                try:
                    message = await self.response.receive()
                finally:
                    self._receiving = False
                line.unheard_bytes = 0
                if message.type in _OVER:
                    return None
                if message.type not in _BEATS:
                    return message
                await self._beat(message)
        return None

    def _connect(self) -> "_Line":
        self._line = _Line(self._flooded)
        if self._transport is not None and not self._transport.is_closing():
            self._line.tap(self._transport)
        return self._line

    def _flooded(self) -> None:
        self._gate.over = True
        self._on_flood(TooManyRequests("too many fragments of messages"))

    async def _beat(self, message: WSMessage) -> None:
        try:
            self._gate.check_free()
        except TooManyRequests as error:
            self._on_flood(error)
            return
        if message.type is WSMsgType.PING:
            with contextlib.suppress(ConnectionError):  # the next receive says so
                await self.response.pong(message.data)

    # ---- out ----------------------------------------------------------------------------------

    async def send(self, text: str, timeout_s: float) -> None:
        """Send a message. Raises TimeoutError where it is not taken in time, ConnectionError."""
        if self._cut_off:
            raise ConnectionResetError("the client was sent away")
        try:
            # not wait_for: up to Python 3.11 that swallows a cancellation now and then
            async with asyncio.timeout(timeout_s):
                await self.response.send_str(text)
        except RuntimeError:
            if not self._cut_off:
                raise
            raise ConnectionResetError("the client was sent away meanwhile") from None

    async def close(self, code: int, reason: str, patience_s: float) -> None:
        """Close with as much of `reason` as fits; who does not read is cut off.

        Takes little more than twice `patience_s`.
        """
        self._closing = True
        message = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore").encode()
        await self._stop_reading(patience_s)
        if self._gate.over:
            await self._turn_away(code, message, patience_s)
            return
        # in a task of its own: after a send that was cancelled aiohttp cancels who drains next
        async with TaskScope("close") as scope:
            closing = scope.spawn("close", self.response.close(code=code, message=message))
            until_s = self._clock.monotonic_s() + patience_s
            await asyncio.wait([closing], timeout=patience_s)
        # what did not fit is on its way: who reads again now still learns why
        unsent = self._transport.get_write_buffer_size if self._transport is not None else int
        while unsent() and self._clock.monotonic_s() < until_s:  # noqa: ASYNC110
            await asyncio.sleep(_FLUSHED_EVERY_S)
        if unsent() and self._transport is not None:
            self._transport.abort()

    async def _stop_reading(self, patience_s: float) -> None:
        """Have nobody receive.

        aiohttp would cut the connection without awaiting the other side's close, and where that
        still sends, its network loses the reason (1006).
        """
        reading = self._reading
        if reading is None or reading.done() or reading is asyncio.current_task():
            return
        if not self._receiving:  # it ends after the message that it has in hand
            await asyncio.wait([reading], timeout=patience_s / 2)
        reading.cancel()
        await asyncio.wait([reading], timeout=patience_s / 2)

    async def _turn_away(self, code: int, message: bytes, patience_s: float) -> None:
        """Close without looking at what still comes: parsing a flood would delay others."""
        self._cut_off = True
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        line = self._line or self._connect()
        line.deaf = True
        transport.resume_reading()  # what is not read makes the network lose the reason
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(patience_s):
                frame = struct.pack("!H", code) + message
                await self.response.send_frame(frame, WSMsgType.CLOSE)
                if transport.can_write_eof():
                    transport.write_eof()
                await line.gone.wait()
        transport.abort()


class _Line(asyncio.Protocol):
    """Stands between a connection and aiohttp's protocol, which sees no more of a flood."""

    def __init__(self, on_flood: Callable[[], None]) -> None:
        self._on_flood = on_flood
        self._protocol: asyncio.Protocol | None = None
        self.unheard_bytes = 0
        """Received since the last message."""
        self.deaf = False
        """Whether what comes is dropped."""
        self.gone = asyncio.Event()

    def tap(self, transport: asyncio.Transport) -> None:
        """Begin to stand there."""
        protocol = transport.get_protocol()
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        """Hand it on, while that is sensible."""
        self.unheard_bytes += len(data)
        if self.deaf or self._protocol is None:
            return
        if self.unheard_bytes > UNHEARD_BYTES:
            self.deaf = True
            self._on_flood()
            return
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        """Hand it on."""
        return self._protocol.eof_received() if self._protocol is not None else None

    def pause_writing(self) -> None:
        """Hand it on."""
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Hand it on."""
        if self._protocol is not None:
            self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand it on."""
        self.gone.set()
        if self._protocol is not None:
            self._protocol.connection_lost(exc)
