"""The clock that all instances share: that of Redis, followed by the exchange of least delay."""

import asyncio
import contextlib
from collections import deque

from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import Unavailable
from mediaserver.rooms import scripts
from mediaserver.stores.redis import RedisStore

KEPT = 8
INTERVAL_S = 2.0
_CLOCK_KEY = "ms:clock"
"""Never written. It has one place in a cluster, so that all ask the same node."""


class OffsetFilter:
    """Offsets of another clock to ours, of which the one with the least delay is right. Pure."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=KEPT)

    def add(self, sent_s: float, theirs_s: float, received_s: float) -> None:
        """Note an exchange: ours, theirs, ours, in seconds."""
        delay_s = received_s - sent_s
        self._samples.append((delay_s, theirs_s - (sent_s + received_s) / 2))

    @property
    def offset_s(self) -> float | None:
        """Theirs less ours; None before the first exchange."""
        return min(self._samples)[1] if self._samples else None


class SharedClock:
    """Tells the shared time; `run` keeps it right."""

    def __init__(self, store: RedisStore, clock: Clock) -> None:
        self._clock = clock
        self._filter = OffsetFilter()
        self._time = store.script(scripts.TIME)

    def now_s(self) -> float:
        """Unix seconds of the shared clock; of our own before the first exchange."""
        offset_s = self._filter.offset_s
        if offset_s is None:
            return float(self._clock.wall_s())
        return self._clock.monotonic_s() + offset_s

    async def measure(self) -> None:
        """Make one exchange. Raises Unavailable."""
        sent_s = self._clock.monotonic_s()
        seconds, microseconds = await self._time([_CLOCK_KEY], [])
        received_s = self._clock.monotonic_s()
        self._filter.add(sent_s, int(seconds) + int(microseconds) / 1e6, received_s)

    async def run(self) -> None:
        """Follow for ever."""
        while True:
            with contextlib.suppress(Unavailable):
                await self.measure()
            await asyncio.sleep(INTERVAL_S)
