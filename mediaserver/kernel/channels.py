"""Bounded channels between tasks of one event loop. Each says what it does when full.

`Channel` is a FIFO (block, drop oldest, or refuse). `Latest` holds one item, the newest. `Outbox`
is what a client is sent: a newer item replaces an unsent older one of the same key, and what has
no key is never lost: when it no longer fits, the consumer is declared too slow.
"""

import asyncio
import enum
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Hashable
from typing import Generic, TypeVar

from mediaserver.kernel.errors import SlowConsumer

T = TypeVar("T")


class ChannelClosed(Exception):
    """The channel is closed (and, for a read, empty)."""


class WhenFull(enum.Enum):
    """What `Channel.put_nowait` does when the channel is full."""

    DROP_OLDEST = "drop_oldest"
    REFUSE = "refuse"


class Channel(Generic[T]):
    """A bounded FIFO. `dropped` counts what was lost to the bound."""

    def __init__(self, capacity: int, when_full: WhenFull = WhenFull.REFUSE) -> None:
        if capacity < 1:
            raise ValueError("a channel's capacity is at least 1")
        self.capacity = capacity
        self.dropped = 0
        self._when_full = when_full
        self._items: deque[T] = deque(maxlen=capacity)
        self._closed = False
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def closed(self) -> bool:
        """Whether `close` was called; items may still be left to read."""
        return self._closed

    def put_nowait(self, item: T) -> bool:
        """Add `item`; False if it (REFUSE) or the oldest (DROP_OLDEST) was dropped for it.

        Raises ChannelClosed.
        """
        if self._closed:
            raise ChannelClosed
        kept = len(self._items) < self.capacity
        if not kept:
            self.dropped += 1
            if self._when_full is WhenFull.REFUSE:
                return False
        self._items.append(item)
        self._changed()
        return kept

    async def put(self, item: T) -> None:
        """Add `item`, waiting for room. Raises ChannelClosed."""
        while not self._closed and len(self._items) >= self.capacity:
            await self._writable.wait()
        if self._closed:
            raise ChannelClosed
        self._items.append(item)
        self._changed()

    async def get(self) -> T:
        """Return the oldest item, waiting for one. Raises ChannelClosed when closed and empty."""
        while not self._items:
            if self._closed:
                raise ChannelClosed
            await self._readable.wait()
        item = self._items.popleft()
        self._changed()
        return item

    def close(self) -> None:
        """Refuse further items; what is inside can still be read."""
        self._closed = True
        self._changed()

    def _changed(self) -> None:
        _set(self._readable, bool(self._items) or self._closed)
        _set(self._writable, len(self._items) < self.capacity or self._closed)

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            try:
                item = await self.get()
            except ChannelClosed:
                return
            yield item


def _set(event: asyncio.Event, on: bool) -> None:
    if on:
        event.set()
    else:
        event.clear()


class Latest(Generic[T]):
    """One slot that holds the newest item; `replaced` counts those nobody read."""

    def __init__(self) -> None:
        self.replaced = 0
        self._item: T | None = None
        self._fresh = asyncio.Event()
        self._closed = False

    def put(self, item: T) -> None:
        """Replace what is in the slot."""
        if self._fresh.is_set():
            self.replaced += 1
        self._item = item
        self._fresh.set()

    async def get(self) -> T:
        """Return the newest item not yet returned, waiting for one. Raises ChannelClosed."""
        await self._fresh.wait()
        if self._closed or self._item is None:
            raise ChannelClosed
        self._fresh.clear()
        return self._item

    def peek(self) -> T | None:
        """Return the newest item, read or not; None before the first."""
        return self._item

    def close(self) -> None:
        """Release the item and wake readers with ChannelClosed."""
        self._closed, self._item = True, None
        self._fresh.set()


class Outbox(Generic[T]):
    """What one client is still to be sent, in order, bounded by `capacity` items.

    An item put with a `key` (a partial) replaces an unsent item of the same key and is dropped
    when the box is full; an item without one (a final, an error) is kept, or `SlowConsumer` is
    raised and the owner has to let the client go.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.dropped = 0
        self._items: OrderedDict[Hashable, T] = OrderedDict()
        self._serial = 0
        self._closed = False
        self._readable = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T, key: Hashable | None = None) -> None:
        """Queue `item`. After `close` it is silently ignored. Raises SlowConsumer."""
        if self._closed:
            return
        if key is not None:
            if self._items.pop(key, None) is not None or len(self._items) >= self.capacity:
                self.dropped += 1
            if len(self._items) >= self.capacity:
                return
        else:
            if len(self._items) >= self.capacity and not self._drop_one_keyed():
                raise SlowConsumer(
                    f"{self.capacity} messages wait unread; read faster, or ask for finals only"
                )
            self._serial += 1
            key = _Serial(self._serial)
        self._items[key] = item
        self._readable.set()

    def discard(self, key: Hashable) -> None:
        """Forget an unsent item (a partial whose final is out)."""
        if self._items.pop(key, None) is not None:
            self.dropped += 1

    def _drop_one_keyed(self) -> bool:
        for key in self._items:
            if not isinstance(key, _Serial):
                del self._items[key]
                self.dropped += 1
                return True
        return False

    async def get(self) -> T:
        """Return the oldest item, waiting for one. Raises ChannelClosed when closed and empty."""
        while not self._items:
            if self._closed:
                raise ChannelClosed
            self._readable.clear()
            await self._readable.wait()
        return self._items.popitem(last=False)[1]

    def close(self) -> None:
        """Take no more; what is inside can still be read."""
        self._closed = True
        self._readable.set()


class _Serial:
    """The key of an item that must not be lost: equal to nothing else."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number
