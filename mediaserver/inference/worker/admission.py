"""Whether a worker has room for another stream, learned from what decodes cost and wait. Pure.

Every stream that speaks is decoded once a round, and a round of all of them takes
`streams * job_s / slots`: steps stretch with it, and with them the delay of every word. A stream
is taken while the round with it stays under `ROUND_S`; that works before its load shows. What due
work really waits decides too, since the machine may have become slower than its cost was.
"""

from collections.abc import Iterable
from dataclasses import dataclass

ROUND_S = 1.0
"""Fitted: on two cores it takes 13 streams, of which 95 of 100 words are final within 2.4 s; with
16 it was 6.4 s (docs/speech-engine.md)."""
CLOSE_DELAY_S = 1.0
"""Due work that waits as long as a whole round closes the door,"""
OPEN_DELAY_S = 0.5
"""and it has to fall to this before the door opens again."""
WARM_UP_COST = 1.6
"""What a decode of speech costs, with all slots busy, of one of noise alone."""
QUIET_WEIGHT = 0.25
"""A stream without speech lately costs nothing now, but it may begin to speak."""
SMOOTHING = 0.1
RETRY_AFTER_S = 5.0
DELAY_HALF_LIFE_S = 2.0
"""A queue delay that nothing confirms (nothing was due) is forgotten like this."""
LEISURE_DELAY_S = 0.1
"""While due work waits less than this, decodes are thorough."""
THOROUGH_COST = 1.35
"""What a thorough decode costs of a quick one (docs/speech-engine.md); under load all are quick."""


class QueueDelay:
    """How long due work waits for the model, smoothed."""

    def __init__(self) -> None:
        self._delay_s = self._noted_at_s = 0.0

    def note(self, delay_s: float, now_s: float) -> None:
        """Work that waited so long is done now."""
        before_s = self.at(now_s)
        self.set(before_s + SMOOTHING * (delay_s - before_s), now_s)

    def set(self, delay_s: float, now_s: float) -> None:
        """Forget the past: this is the delay now."""
        self._delay_s, self._noted_at_s = delay_s, now_s

    def at(self, now_s: float) -> float:
        """The delay as far as it is known at `now_s`."""
        return float(self._delay_s * 0.5 ** ((now_s - self._noted_at_s) / DELAY_HALF_LIFE_S))


@dataclass(slots=True)
class Admission:
    """See the module's docstring."""

    slots: int
    job_s: float | None = None
    """What one stream's decode takes of a slot, batched as it was; None: not known yet."""
    closed: bool = False

    def decoded(self, jobs: int, took_s: float, *, thorough: bool = False) -> None:
        """A batch of so many jobs took so long."""
        each_s = took_s / jobs / (THOROUGH_COST if thorough else 1.0)
        if self.job_s is None:
            self.job_s = each_s
        self.job_s += SMOOTHING * (each_s - self.job_s)

    def warmed_up(self) -> None:
        """What was measured so far was noise on an idle machine."""
        if self.job_s is not None:
            self.job_s *= WARM_UP_COST

    def room(self, speaking: Iterable[bool], queue_delay_s: float) -> int:
        """How many more streams there is room for, given which of the present ones speak."""
        if queue_delay_s > CLOSE_DELAY_S:
            self.closed = True
        elif queue_delay_s < OPEN_DELAY_S:
            self.closed = False
        present = list(speaking)
        if self.closed:
            return 0
        if self.job_s is None:
            return self.slots
        load = sum(1.0 if speaks else QUIET_WEIGHT for speaks in present)
        room = int(self.slots * ROUND_S / self.job_s - load + 1e-6)
        return max(room, 0) if present else max(room, 1)  # a slow machine serves one at least
