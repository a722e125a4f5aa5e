"""The shared clock, from exchanges with the server. Pure: the local time comes in as an argument.

A `clock.ping` leaves at local time t0; the server's clock says t1 when it comes and t2 when the
`clock.pong` leaves; that arrives at local time t3. A message takes no less than no time, so what
the shared clock is ahead of the local one lies between t2 - t3 and t1 - t0, whatever the delays
were, and however different there and back. The intervals of many exchanges all hold the truth, so
their intersection does (Marzullo): it shrinks with every fast message in either direction, while
the sample with the least round trip stays as wrong as its two ways differ. An older interval is
widened by what the two clocks may have drifted since. clients/js/clock.js does the same.
"""

from collections import deque
from dataclasses import dataclass

SAMPLES = 64
"""Newest exchanges that are kept."""
BURST = 24
"""Exchanges at the start, or after a clock jumped."""
BURST_INTERVAL_S = 0.08
INTERVAL_S = 2.0
"""Between exchanges later on."""
CALM_INTERVAL_S = 5.0
"""The same while the uncertainty is below CALM_UNCERTAINTY_S."""
CALM_UNCERTAINTY_S = 0.005
ENOUGH = 8
"""From so many exchanges on the clock is good for starting playback."""
DRIFT = 100e-6
"""How much two clocks may drift apart, seconds a second."""
JUMP_S = 0.01
"""Intervals that miss each other by more tell of a clock that was set, not of noise."""
LOST_S = 10.0
"""A pong later than that is of no use."""


@dataclass(frozen=True, slots=True)
class _Sample:
    at_s: float
    """Local time when it began: from then on the clocks may have drifted."""
    low_s: float
    high_s: float
    round_trip_s: float


class ClockSync:
    """How far the shared clock is ahead of a local one (seconds, any origin, e.g. monotonic).

    `ping` whenever the local time reaches `next_ping_s`; `pong` with each answer.
    """

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque(maxlen=SAMPLES)
        self._asked: deque[float] = deque(maxlen=SAMPLES)
        self._burst = BURST
        self._next_s = float("-inf")
        self._offset_s = 0.0
        self._uncertainty_s = float("inf")

    @property
    def synchronised(self) -> bool:
        """Whether playback may be started by this clock."""
        return len(self._samples) >= ENOUGH

    @property
    def offset_s(self) -> float:
        """Shared less local time; 0 before the first exchange."""
        return self._offset_s

    @property
    def uncertainty_s(self) -> float:
        """The offset is off by no more than this; infinite before the first exchange."""
        return self._uncertainty_s

    @property
    def round_trip_s(self) -> float:
        """The longest round trip of the newest ENOUGH exchanges: what a start has to allow for."""
        newest = list(self._samples)[-ENOUGH:]
        return max((sample.round_trip_s for sample in newest), default=0.0)

    @property
    def next_ping_s(self) -> float:
        """Local time when the next ping is due."""
        return self._next_s

    def shared_s(self, local_s: float) -> float:
        """The shared clock at a local time."""
        return local_s + self._offset_s

    def local_s(self, shared_s: float) -> float:
        """The local time at which the shared clock shows `shared_s`."""
        return shared_s - self._offset_s

    def ping(self, now_s: float) -> float:
        """Note that a ping leaves now; returns its t0."""
        self._asked.append(now_s)
        if self._burst > 0:
            self._burst -= 1
        if self._burst > 0:
            self._next_s = now_s + BURST_INTERVAL_S
        elif self._uncertainty_s <= CALM_UNCERTAINTY_S:
            self._next_s = now_s + CALM_INTERVAL_S
        else:
            self._next_s = now_s + INTERVAL_S
        return now_s

    def pong(self, t0: float, t1: float, t2: float, t3: float) -> bool:
        """Take an answer that arrived at local time t3; False if it is of no use.

        Of no use is what was not asked for, came twice or too late, or contradicts itself.
        """
        if t0 not in self._asked:
            return False
        self._asked.remove(t0)
        if not (t0 <= t3 <= t0 + LOST_S and t2 >= t1):
            return False
        sample = _Sample(t0, t2 - t3, t1 - t0, (t3 - t0) - (t2 - t1))
        if sample.low_s > sample.high_s + JUMP_S:
            return False  # a clock was set between t0 and t3
        self._samples.append(sample)
        low_s, high_s = self._bounds(t3)
        if low_s > high_s + JUMP_S:
            self._samples.clear()
            self._samples.append(sample)
            low_s, high_s = sample.low_s, sample.high_s
            self._burst = BURST
            self._next_s = t3
        self._offset_s = (low_s + high_s) / 2
        self._uncertainty_s = abs(high_s - low_s) / 2
        return True

    def restart(self, now_s: float) -> None:
        """Ask quickly again: after a reconnect, or when the machine slept. Keeps what is known."""
        self._asked.clear()
        self._burst = BURST
        self._next_s = now_s

    def _bounds(self, now_s: float) -> tuple[float, float]:
        low_s, high_s = float("-inf"), float("inf")
        for sample in self._samples:
            slack_s = DRIFT * (now_s - sample.at_s)
            low_s = max(low_s, sample.low_s - slack_s)
            high_s = min(high_s, sample.high_s + slack_s)
        return low_s, high_s
