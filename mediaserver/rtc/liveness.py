"""Whether a peer still lives, and how far away it is. Pure: time comes in."""

import statistics
from collections import deque


class Liveness:
    """Notices a peer that has been silent for `dead_after_s`.

    Our own pauses do not count as the peer's silence: while this process did not run (a stalled
    event loop, a suspended machine) nothing could be heard, so a late tick moves the limit by as
    much as it is late.
    """

    def __init__(self, dead_after_s: float, tick_s: float, now_s: float) -> None:
        self._dead_after_s = dead_after_s
        self._tick_s = tick_s
        self._heard_s = now_s
        self._ticked_s = now_s

    def heard(self, now_s: float) -> None:
        """Something came from the peer: media, data, or the answer to a STUN check."""
        self._heard_s = max(self._heard_s, now_s)

    def tick(self, now_s: float) -> bool:
        """Return whether the peer is alive. To be called every `tick_s`."""
        late_s = now_s - self._ticked_s - self._tick_s
        if late_s > self._tick_s:
            self._heard_s += late_s
        self._ticked_s = now_s
        return now_s - self._heard_s < self._dead_after_s

    def silence_s(self, now_s: float) -> float:
        """Return for how long nothing was heard."""
        return now_s - self._heard_s


class RoundTrip:
    """The median of the last few round trips: a check that had to be repeated does not show."""

    def __init__(self, samples: int = 5) -> None:
        self._samples_s: deque[float] = deque(maxlen=samples)

    def add(self, round_trip_s: float) -> None:
        """Take a measurement."""
        self._samples_s.append(round_trip_s)

    @property
    def seconds(self) -> float | None:
        """The present estimate; None before the first measurement."""
        return statistics.median(self._samples_s) if self._samples_s else None
