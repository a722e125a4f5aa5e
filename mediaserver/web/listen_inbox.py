"""What a ``/v1/listen`` client sent and what is not taken yet: bounded in bytes, in order."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ListenLimits:
    """What bounds a connection. The defaults suit live audio and files alike."""

    idle_s: float = 10.0
    """Without any message for so long the connection is closed (Deepgram's NET-0001)."""
    inbox_bytes: int = 4 * 1024 * 1024
    """Received and not decoded yet; beyond it the socket is not read (nor pings answered)."""
    ahead_s: float = 30.0
    """Decoded and not transcribed yet; beyond it nothing is decoded."""
    stalled_s: float = 120.0
    """Without any progress of the worker for so long the connection is closed."""
    outbox_messages: int = 256
    """Not sent yet, because the client does not read; beyond it the connection is closed."""
    send_s: float = 15.0
    """For one message to be sent."""
    drain_s: float = 90.0
    """For the last finals, once no more audio comes."""
    close_s: float = 3.0
    """For the client to answer the close."""


class Inbox(Generic[T]):
    """A FIFO that blocks the writer while items of `capacity_bytes` wait. One reader."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._items: deque[tuple[T, int]] = deque()
        self._waiting_bytes = 0
        self._closed = False
        self._changed = asyncio.Event()

    async def put(self, item: T, size_bytes: int = 0) -> None:
        """Add `item`, waiting for room if it has a size. After `close` it is ignored."""
        while size_bytes and self._waiting_bytes >= self._capacity_bytes and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        if self._closed:
            return
        self._items.append((item, size_bytes))
        self._waiting_bytes += size_bytes
        self._changed.set()

    async def get(self) -> T:
        """Return the oldest item, waiting for one."""
        while not self._items:
            self._changed.clear()
            await self._changed.wait()
        item, size_bytes = self._items.popleft()
        self._waiting_bytes -= size_bytes
        self._changed.set()
        return item

    def close(self) -> None:
        """Take no more; what is inside can still be read."""
        self._closed = True
        self._changed.set()
