"""A peer's figures of the last second, from counters that only rise. Pure: time comes in."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

MediaKind = Literal["audio", "video"]


@dataclass(frozen=True, slots=True)
class StreamCounters:
    """What one receiver has counted since it started (retransmissions left out)."""

    kind: MediaKind
    packets_expected: int
    packets_lost: int
    payload_bytes: int
    jitter_s: float
    """Interarrival jitter (RFC 3550 section 6.4.1)."""


@dataclass(frozen=True, slots=True)
class PeerStats:
    """Measured over the last second, unless a field says otherwise."""

    audio_kbps: float = 0.0
    """RTP payload."""
    video_kbps: float = 0.0
    jitter_ms: float = 0.0
    """Of the audio; of the video where there is no audio."""
    packets_lost: int = 0
    """Since the start, audio and video."""
    loss_ratio: float = 0.0
    """0 to 1."""
    round_trip_ms: float | None = None
    """Of STUN checks; None before the first answer."""


class StatsMeter:
    """Turns counters into rates."""

    def __init__(self, now_s: float) -> None:
        self._measured_s = now_s
        self._bytes: dict[MediaKind, int] = {"audio": 0, "video": 0}
        self._expected = 0
        self._lost = 0

    def measure(
        self, streams: Iterable[StreamCounters], round_trip_s: float | None, now_s: float
    ) -> PeerStats:
        """Return the figures since the last call."""
        streams = list(streams)
        elapsed_s = max(now_s - self._measured_s, 1e-3)
        kbps = {kind: self._kbps(kind, streams, elapsed_s) for kind in self._bytes}
        expected = sum(stream.packets_expected for stream in streams)
        lost = max(0, sum(stream.packets_lost for stream in streams))
        newly_expected = expected - self._expected
        newly_lost = lost - self._lost
        self._measured_s, self._expected, self._lost = now_s, expected, lost
        return PeerStats(
            audio_kbps=kbps["audio"],
            video_kbps=kbps["video"],
            jitter_ms=round(_jitter_s(streams) * 1000, 1),
            packets_lost=lost,
            loss_ratio=(
                round(min(1.0, max(0.0, newly_lost / newly_expected)), 4)
                if newly_expected > 0
                else 0.0
            ),
            round_trip_ms=None if round_trip_s is None else round(round_trip_s * 1000, 1),
        )

    def _kbps(self, kind: MediaKind, streams: list[StreamCounters], elapsed_s: float) -> float:
        total = sum(stream.payload_bytes for stream in streams if stream.kind == kind)
        newly, self._bytes[kind] = total - self._bytes[kind], total
        return round(max(0, newly) * 8 / 1000 / elapsed_s, 1)


def _jitter_s(streams: list[StreamCounters]) -> float:
    for kind in ("audio", "video"):
        jitters = [stream.jitter_s for stream in streams if stream.kind == kind]
        if jitters:
            return max(jitters)
    return 0.0
