"""What other instances tell: one Pub/Sub connection for all rooms of this instance.

Pub/Sub may lose messages when a connection breaks, so every confirmed subscription, the first one
and those after a reconnect, makes the room fetch what it missed from its log. (One connection for
all rooms is why this is not XREAD BLOCK: that holds a connection for each reader, in a cluster one
for each room, and does not learn of a further room while it blocks.)
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from mediaserver.kernel.errors import Unavailable
from mediaserver.kernel.logging import get_logger
from mediaserver.kernel.tasks import keep_cancellation
from mediaserver.stores.redis import RedisStore

log = get_logger(__name__)

POLL_S = 5.0
RECONNECT_S = 0.2
CONFIRMED_WITHIN_S = 2.0

OnMessage = Callable[[str, bytes], None]
OnSubscribed = Callable[[str], None]


class Feed:
    """Subscribes to channels; `run` reads them for ever."""

    def __init__(
        self,
        store: RedisStore,
        instance: str,
        on_message: OnMessage,
        on_subscribed: OnSubscribed,
    ) -> None:
        self._store = store
        self._on_message = on_message
        self._on_subscribed = on_subscribed
        self._own = f"ms:instance:{instance}:live"
        """Always subscribed to, so that there is something to wait for."""
        self._channels: set[str] = set()
        self._confirmed: dict[str, asyncio.Event] = {}
        self._pubsub: Any = None
        self.connected = False

    async def subscribe(self, channel: str) -> None:
        """Receive a channel from now on. Raises Unavailable."""
        self._channels.add(channel)
        confirmed = self._confirmed.setdefault(channel, asyncio.Event())
        try:
            async with asyncio.timeout(CONFIRMED_WITHIN_S):
                if self._pubsub is not None and self.connected:
                    with self._store.guard():
                        await self._pubsub.subscribe(channel)
                await confirmed.wait()
        except TimeoutError:
            raise Unavailable(
                "Redis does not answer, and this needs it; try again shortly",
                code="redis_down",
                retry_after_s=1.0,
            ) from None

    async def unsubscribe(self, channel: str) -> None:
        """Receive it no longer."""
        self._channels.discard(channel)
        self._confirmed.pop(channel, None)
        if self._pubsub is not None and self.connected:
            with contextlib.suppress(Unavailable):
                async with asyncio.timeout(CONFIRMED_WITHIN_S):
                    with self._store.guard():
                        await self._pubsub.unsubscribe(channel)

    async def run(self) -> None:
        """Read for ever, connecting again whenever the connection breaks."""
        while True:
            try:
                with self._store.guard():
                    await self._read()
            except (Unavailable, TimeoutError):
                pass
            finally:
                self.connected = False
            await asyncio.sleep(RECONNECT_S)

    async def _read(self) -> None:
        client = self._store.blocking_client()
        try:
            await client.initialize()  # Pub/Sub of a cluster has to know its nodes
            self._pubsub = client.pubsub()
            asked = set(self._channels)
            await self._pubsub.subscribe(self._own, *asked)
            self.connected = True
            if more := self._channels - asked:
                await self._pubsub.subscribe(*more)
            while True:
                with keep_cancellation():
                    message = await self._pubsub.get_message(timeout=POLL_S)
                if message is not None:
                    self._take(message)
        finally:
            self.connected = False
            pubsub, self._pubsub = self._pubsub, None
            with contextlib.suppress(Exception):
                if pubsub is not None:
                    await pubsub.aclose()
            with contextlib.suppress(Exception):
                await client.aclose()

    def _take(self, message: dict[str, Any]) -> None:
        channel = message["channel"].decode()
        if message["type"] == "message":
            self._on_message(channel, message["data"])
        elif message["type"] == "subscribe":
            if (confirmed := self._confirmed.get(channel)) is not None:
                confirmed.set()
            if channel != self._own:
                self._on_subscribed(channel)
