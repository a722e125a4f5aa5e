"""Media time from RTP timestamps, and packets in their order. Pure: time comes in.

RTP timestamps say where a packet lies in its source's time, through loss and silence, but a source
may restart them, stop them while it is paused, or make them up. So media time follows them as long
as they agree with the clock on arrival, and is put right where they do not: it never goes back,
and a track cannot claim hours in a second.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_AHEAD_S = 5.0
"""How far media time may run ahead of arrival; beyond it timestamps are not believed."""
MAX_BEHIND_S = 3.0
"""How far it may fall behind; beyond it the source was paused and its timestamps stood still."""
_TOLERANCE_S = 0.02


def signed_difference(later: int, earlier: int, bits: int) -> int:
    """Return `later` - `earlier` of wrapping counters: -2**(bits-1) to 2**(bits-1) - 1."""
    half = 1 << (bits - 1)
    return ((later - earlier + half) % (1 << bits)) - half


class Timeline:
    """Places the packets of one track in media time."""

    def __init__(self) -> None:
        self.end_s = 0.0
        """Media time up to which there is audio; nothing is placed before it."""
        self._first_arrival_s: float | None = None
        self._source: tuple[int, int] | None = None
        self._timestamp = 0
        self._anchor_s = 0.0
        self._since_anchor = 0

    def arrival_media_s(self, now_s: float) -> float:
        """Return where `now_s` (monotonic) lies in media time by the clock on arrival."""
        return now_s - self._first_arrival_s if self._first_arrival_s is not None else 0.0

    def place(self, ssrc: int, timestamp: int, clock_hz: int, now_s: float) -> float:
        """Return the media time, in seconds, of a packet that arrived at `now_s` (monotonic)."""
        if self._first_arrival_s is None:
            self._first_arrival_s = now_s
        arrival_s = self.arrival_media_s(now_s)
        if self._source != (ssrc, clock_hz):
            start_s = max(self.end_s, arrival_s)
            self._source = (ssrc, clock_hz)
            return self._anchor(timestamp, start_s)
        self._since_anchor += signed_difference(timestamp, self._timestamp, 32)
        self._timestamp = timestamp
        media_s = self._anchor_s + self._since_anchor / clock_hz
        if not arrival_s - MAX_BEHIND_S <= media_s <= arrival_s + MAX_AHEAD_S:
            return self._anchor(timestamp, max(self.end_s, arrival_s))
        if media_s < self.end_s - _TOLERANCE_S:
            return self._anchor(timestamp, self.end_s)
        return media_s

    def _anchor(self, timestamp: int, media_s: float) -> float:
        self._timestamp, self._anchor_s, self._since_anchor = timestamp, media_s, 0
        return media_s


@dataclass(slots=True)
class _Held(Generic[T]):
    item: T
    since_s: float


class ReorderBuffer(Generic[T]):
    """Gives the packets of one source in order, at once as long as none is missing.

    Nothing is played out here, so there is no playout delay: packets only wait when an earlier one
    is missing, for at most `hold_s` or until `capacity` wait; then it is given up as lost.
    """

    _RESTART = 3000
    """A jump of the sequence number by more than this is a new sequence (RFC 3550 A.1)."""

    def __init__(self, hold_s: float = 0.08, capacity: int = 32) -> None:
        self.late = 0
        """Packets that came twice, or after they were given up."""
        self._hold_s = hold_s
        self._capacity = capacity
        self._next: int | None = None
        self._held: dict[int, _Held[T]] = {}

    def push(self, sequence_number: int, item: T, now_s: float) -> list[T]:
        """Return what is in order now that `item` came (16-bit `sequence_number`)."""
        ready: list[T] = []
        if self._next is None:
            self._next = sequence_number
        ahead = signed_difference(sequence_number, self._next, 16)
        if abs(ahead) > self._RESTART:
            ready = self.flush()
            self._next, ahead = sequence_number, 0
        if ahead < 0 or sequence_number in self._held:
            self.late += 1
            return ready
        self._held[sequence_number] = _Held(item, now_s)
        return ready + self._take() + self.expire(now_s)

    def expire(self, now_s: float) -> list[T]:
        """Return what has waited long enough for a packet that is lost."""
        ready: list[T] = []
        while self._held and (
            len(self._held) > self._capacity
            or now_s - min(held.since_s for held in self._held.values()) >= self._hold_s
        ):
            assert self._next is not None
            origin = self._next
            self._next = min(self._held, key=lambda n: signed_difference(n, origin, 16))
            ready += self._take()
        return ready

    def flush(self) -> list[T]:
        """Return all that waits, in order; what is missing is given up."""
        ready: list[T] = []
        while self._held:
            assert self._next is not None
            origin = self._next
            self._next = min(self._held, key=lambda n: signed_difference(n, origin, 16))
            ready += self._take()
        return ready

    @property
    def waiting(self) -> int:
        """Packets that wait for an earlier one."""
        return len(self._held)

    def _take(self) -> list[T]:
        ready: list[T] = []
        while self._next in self._held:
            assert self._next is not None
            ready.append(self._held.pop(self._next).item)
            self._next = (self._next + 1) % 65536
        return ready
