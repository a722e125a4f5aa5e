"""Leases: how instances know of each other, and notice that one is dead."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import MediaServerError
from mediaserver.kernel.logging import get_logger
from mediaserver.stores.redis import RedisStore

log = get_logger(__name__)

LEASE_S = 5.0
RENEW_S = 1.5
CERTAIN_S = 1.0
"""A lease has to be missing for so long, with Redis answering all the while, ..."""
SETTLE_S = 6.0
"""... and after Redis was away nobody is declared dead for so long: all have to renew first."""

_INSTANCES = "ms:instances"

Sweep = Callable[[str, str], Awaitable[None]]
"""Takes the members of an instance out of a room: (room, instance)."""


class Leases:
    """This instance's lease, and its eye on those of the others."""

    def __init__(self, store: RedisStore, instance: str, clock: Clock, sweep: Sweep) -> None:
        self._store = store
        self._instance = instance
        self._clock = clock
        self._sweep = sweep
        self._missing_since: dict[str, float] = {}
        self._trusted_from_s: float | None = 0.0
        """From when on a missing lease means something; None while Redis is away."""
        self._rooms: set[str] = set()
        self._address: str | None = None
        self._renewing = asyncio.Lock()
        """An older value must not come after a newer one over another connection."""

    @property
    def _rooms_key(self) -> str:
        return _rooms_key(self._instance)

    @property
    def _value(self) -> str:
        return json.dumps({"url": self._address})

    def advertise(self, url: str) -> None:
        """Say in the lease, from its next renewal on, where other instances reach this one."""
        self._address = url

    async def address_of(self, instance: str) -> str | None:
        """Return where an instance is reached; None where it is dead, or says nothing of it.

        Raises Unavailable.
        """
        with self._store.guard():
            value: Any = await self._store.client.get(_lease_key(instance))
        try:
            url = json.loads(value or b"null")["url"]
        except (ValueError, TypeError, KeyError):  # of another version of the server
            return None
        return url if isinstance(url, str) else None

    async def hold(self, room: str) -> None:
        """Note that this instance has members in `room`. Raises Unavailable."""
        self._rooms.add(room)
        with self._store.guard():
            await self._store.client.sadd(self._rooms_key, room)

    async def release(self, room: str) -> None:
        """Note that it has none any more. Raises Unavailable."""
        self._rooms.discard(room)
        with self._store.guard():
            await self._store.client.srem(self._rooms_key, room)

    async def renew(self) -> None:
        """Renew our lease. Raises Unavailable."""
        async with self._renewing:
            await self._renew()

    async def _renew(self) -> None:
        client = self._store.client
        try:
            with self._store.guard():
                await client.set(_lease_key(self._instance), self._value, px=int(LEASE_S * 1000))
                await client.zadd(_INSTANCES, {self._instance: self._clock.wall_s()})
                if self._rooms:
                    await client.sadd(self._rooms_key, *self._rooms)
        except MediaServerError:
            self._trusted_from_s = None
            self._missing_since.clear()
            raise
        if self._trusted_from_s is None:
            self._trusted_from_s = self._clock.monotonic_s() + SETTLE_S

    async def watch(self) -> None:
        """Sweep up after instances that are dead. Raises Unavailable."""
        now_s = self._clock.monotonic_s()
        if self._trusted_from_s is None or now_s < self._trusted_from_s:
            return
        with self._store.guard():
            known: Any = await self._store.client.zrange(_INSTANCES, 0, -1)
        for name in (raw.decode() for raw in known):
            if name == self._instance:
                continue
            with self._store.guard():
                alive = await self._store.client.exists(_lease_key(name))
            if alive:
                self._missing_since.pop(name, None)
            elif now_s - self._missing_since.setdefault(name, now_s) >= CERTAIN_S:
                await self._bury(name)
                self._missing_since.pop(name, None)

    async def _bury(self, name: str) -> None:
        log.warning("rooms.instance_lost", instance=name)
        with self._store.guard():
            rooms: Any = await self._store.client.smembers(_rooms_key(name))
        for room in (raw.decode() for raw in rooms):
            await self._sweep(room, name)
        with self._store.guard():
            await self._store.client.delete(_rooms_key(name))
            await self._store.client.zrem(_INSTANCES, name)

    async def end(self) -> None:
        """Give our lease back; nobody of ours is in any room any more."""
        with contextlib.suppress(MediaServerError), self._store.guard():
            await self._store.client.delete(_lease_key(self._instance))
            if not self._rooms:
                await self._store.client.delete(self._rooms_key)
                await self._store.client.zrem(_INSTANCES, self._instance)


def _lease_key(instance: str) -> str:
    return f"ms:instance:{instance}"


def _rooms_key(instance: str) -> str:
    return f"ms:instance:{instance}:rooms"
