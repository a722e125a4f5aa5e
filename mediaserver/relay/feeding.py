"""The answering end of a link: a broadcast of here is sent to the instance that asked for it."""

import asyncio
import contextlib
from collections.abc import Awaitable

from aiohttp import WSMsgType, web

from mediaserver.kernel.channels import ChannelClosed
from mediaserver.kernel.errors import Overloaded
from mediaserver.kernel.tasks import TaskScope
from mediaserver.relay.broadcasts import LocalBroadcast
from mediaserver.relay.wire import CLOSE_OVER, KEYFRAME, Sending, pack

MAX_FEEDS = 100
"""Links that an instance answers at once."""
HEARTBEAT_S = 3.0
"""A link whose other end answers no ping is broken half of this later."""
MAX_REQUEST_BYTES = 1024
SEND_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0
BUSY_RETRY_S = 5.0


class Feeds:
    """The links that this instance answers."""

    def __init__(self, most: int = MAX_FEEDS) -> None:
        self._most = most
        self._open = 0

    def __len__(self) -> int:
        return self._open

    async def answer(self, request: web.Request, broadcast: LocalBroadcast) -> web.StreamResponse:
        """Send a broadcast until it ends or nobody takes it. Raises Overloaded (`watch_full`)."""
        if self._open >= self._most:
            raise Overloaded(
                f"{self._most} links are open, the limit of this instance",
                code="watch_full",
                retry_after_s=BUSY_RETRY_S,
            )
        self._open += 1
        try:
            socket = web.WebSocketResponse(
                heartbeat=HEARTBEAT_S,
                max_msg_size=MAX_REQUEST_BYTES,
                compress=False,
                timeout=CLOSE_TIMEOUT_S,
            )
            await socket.prepare(request)
            await _serve(broadcast, socket)
            return socket
        finally:
            self._open -= 1


async def _serve(broadcast: LocalBroadcast, socket: web.WebSocketResponse) -> None:
    async with TaskScope(f"feed {broadcast.id}") as scope:
        sending = scope.spawn("send", _send(broadcast, socket))
        reading = scope.spawn("read", _read(broadcast, socket))
        await asyncio.wait((sending, reading), return_when=asyncio.FIRST_COMPLETED)
        reading.cancel()  # nobody may be receiving while the socket is closed
        await asyncio.wait((reading,), timeout=CLOSE_TIMEOUT_S)
        if sending.done():
            await asyncio.wait((scope.spawn("end", _ended(broadcast)),), timeout=CLOSE_TIMEOUT_S)
    if not socket.closed:
        reason = broadcast.end_reason
        code = CLOSE_OVER if reason is not None else 1001
        await socket.close(code=code, message=(reason or "").encode())


async def _ended(broadcast: LocalBroadcast) -> None:
    """The source may end a moment before it is said why."""
    await broadcast.ended.wait()


async def _send(broadcast: LocalBroadcast, socket: web.WebSocketResponse) -> None:
    """Send frames until the broadcast ends, or they are not taken."""
    told: Sending | None = None
    with broadcast.open_tap() as tap, contextlib.suppress(ChannelClosed, OSError, TimeoutError):
        while True:
            now = Sending(broadcast_id=broadcast.id, codecs=dict(broadcast.codecs))
            if now != told:
                told = now
                await _within(socket.send_str(now.model_dump_json()))
            message = pack(await tap.get())
            if message is not None:
                await _within(socket.send_bytes(message))


async def _within(sending: Awaitable[None]) -> None:
    async with asyncio.timeout(SEND_TIMEOUT_S):
        await sending


async def _read(broadcast: LocalBroadcast, socket: web.WebSocketResponse) -> None:
    """Take keyframe requests until the other end is gone."""
    while True:
        message = await socket.receive()
        if message.type is not WSMsgType.TEXT:
            return
        if message.data == KEYFRAME:
            broadcast.request_keyframe()
