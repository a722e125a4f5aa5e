"""Watches a connected peer: whether it lives, how far away it is, what it sends.

aiortc notices a dead peer after about 30 s. Here anything that comes counts as life, and every
`consent_interval_s` a STUN check asks for an answer, which a browser gives also for a page that is
muted, hidden or throttled; the answers' delays are the round trip. What does not answer (FFmpeg)
lives as long as its media comes, and has no round trip.
"""

import asyncio
import itertools
import random
from collections.abc import Callable

from aiortc.rtcdtlstransport import RTCDtlsTransport

from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.tasks import TaskScope
from mediaserver.rtc import internals
from mediaserver.rtc.config import RtcConfig
from mediaserver.rtc.liveness import Liveness, RoundTrip
from mediaserver.rtc.stats import PeerStats, StatsMeter, StreamCounters

_TICKS = 4
"""A consent interval: the finer, the sooner silence is noticed."""
_PROBES_AT_ONCE = 3


class Watch:
    """See the module's docstring. `on_lost` is called once, with what was noticed."""

    def __init__(
        self,
        transport: RTCDtlsTransport,
        config: RtcConfig,
        clock: Clock,
        counters: Callable[[], list[StreamCounters]],
        on_lost: Callable[[str], None],
    ) -> None:
        self.stats = PeerStats()
        """Of the last second."""
        self._transport = transport
        self._clock = clock
        self._counters = counters
        self._on_lost = on_lost
        self._tick_s = config.consent_interval_s / _TICKS
        self._round_trip = RoundTrip()
        self._liveness = Liveness(config.dead_after_s, self._tick_s, clock.monotonic_s())
        self._probes = 0

    async def run(self, scope: TaskScope) -> None:
        """Watch until the peer is lost; `scope` takes the checks."""
        internals.stop_consent_checks(self._transport.transport)
        await asyncio.sleep(random.random() * self._tick_s)  # noqa: S311 (spread, not secret)
        meter = StatsMeter(self._clock.monotonic_s())
        received = 0
        for tick in itertools.count():
            if tick % _TICKS == 0 and self._probes < _PROBES_AT_ONCE:
                scope.spawn("probe", self._probe())
            await asyncio.sleep(self._tick_s)
            now_s = self._clock.monotonic_s()
            before, received = received, internals.packets_received(self._transport)
            if before != received:
                self._liveness.heard(now_s)
            if not self._liveness.tick(now_s):
                self._on_lost(f"nothing was heard for {self._liveness.silence_s(now_s):.1f} s")
                return
            if tick % _TICKS == _TICKS - 1:
                self.stats = meter.measure(self._counters(), self._round_trip.seconds, now_s)

    async def _probe(self) -> None:
        self._probes += 1
        try:
            round_trip_s = await internals.stun_round_trip_s(self._transport.transport)
        except ConnectionError:
            return  # silence; `run` judges it
        finally:
            self._probes -= 1
        self._round_trip.add(round_trip_s)
        self._liveness.heard(self._clock.monotonic_s())
