"""When audio and video of one sender were captured, on one clock. Pure: time comes in.

RTP gives each kind a clock of its own, with an arbitrary origin. A sender report (RFC 3550 section
6.4.1) says which time of the sender's wall clock an RTP time is, so reports of both kinds place
both on one clock. Until they have come, or where a sender sends none or nonsense, what arrived
with the least delay counts as captured on arrival.
"""

from dataclasses import dataclass

from mediaserver.rtc.stats import MediaKind
from mediaserver.rtc.timeline import signed_difference

MAX_DISAGREEMENT_S = 5.0
"""RTP time that is further from the time of arrival is a new beginning; and reports that put audio
and video further apart than they arrive are not believed."""
MAX_BACK_S = 0.3
"""RTP time that goes further back is a new beginning; less is the order of decoding."""
_APPROACH = 1 / 1000
"""How far, a packet, the estimate of the least delay follows a longer one: clocks drift."""


@dataclass(frozen=True, slots=True)
class SenderTime:
    """What a sender report says."""

    ssrc: int
    rtp_time: int
    """32 bits."""
    sender_s: float
    """The same moment on the sender's wall clock, in seconds."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a packet lies in time."""

    timestamp: int
    """Unwrapped RTP time; it does not go back."""
    captured_s: float


class _Line:
    """The RTP time of one kind."""

    def __init__(self) -> None:
        self._source: tuple[int, int] | None = None
        self._rtp_time = 0
        self._anchor = (0, 0.0)
        self._unwrapped = 0
        self.clock_hz = 1
        self.latest = 0
        self.arrival_offset_s = 0.0
        """To be added to unwrapped time in seconds."""
        self.sender_offset_s: float | None = None
        self._report: SenderTime | None = None

    def place(self, ssrc: int, rtp_time: int, clock_hz: int, now_s: float) -> int:
        """Return the unwrapped time of a packet that arrived at `now_s`."""
        if self._source != (ssrc, clock_hz):
            self._begin(ssrc, rtp_time, clock_hz, now_s)
        step = signed_difference(rtp_time, self._rtp_time, 32)
        at = self._unwrapped + step
        anchor, anchored_s = self._anchor
        disagreement_s = abs((at - anchor) / clock_hz - (now_s - anchored_s))
        back_s = (self.latest - at) / clock_hz
        if disagreement_s > MAX_DISAGREEMENT_S or back_s > MAX_BACK_S:
            self._begin(ssrc, rtp_time, clock_hz, now_s)
            at = self._unwrapped
        self._rtp_time, self._unwrapped = rtp_time, at
        delay_s = now_s - at / clock_hz
        if delay_s < self.arrival_offset_s:
            self.arrival_offset_s = delay_s
        else:
            self.arrival_offset_s += (delay_s - self.arrival_offset_s) * _APPROACH
        anchored_for_s = now_s - anchored_s
        if anchored_for_s > MAX_DISAGREEMENT_S:
            self._anchor = (at, now_s)
        if at > self.latest:
            self.latest = at
        elif step:  # of another moment, so it may not have the same time
            self.latest += 1
        return self.latest

    def report(self, report: SenderTime) -> None:
        """Take a sender report; also of a source that is still to come."""
        self._report = report
        self._apply_report()

    def _begin(self, ssrc: int, rtp_time: int, clock_hz: int, now_s: float) -> None:
        """A new source, or new times: they go on where the old ones would be now."""
        if self._source is None:
            at = 0
        else:
            _, anchored_s = self._anchor
            passed_s = max(now_s - max(anchored_s, self._arrived_s(self.latest)), 0.0)
            at = round(self.latest * clock_hz / self.clock_hz) + max(1, round(passed_s * clock_hz))
        restarted = self._source == (ssrc, clock_hz)
        self._source, self.clock_hz = (ssrc, clock_hz), clock_hz
        self._rtp_time, self._unwrapped, self.latest = rtp_time, at, at
        self._anchor = (at, now_s)
        self.arrival_offset_s = now_s - at / clock_hz
        self.sender_offset_s = None
        if restarted:
            self._report = None
        self._apply_report()

    def _arrived_s(self, at: int) -> float:
        return at / self.clock_hz + self.arrival_offset_s

    def _apply_report(self) -> None:
        report = self._report
        if report is not None and self._source is not None and report.ssrc == self._source[0]:
            at = self._unwrapped + signed_difference(report.rtp_time, self._rtp_time, 32)
            self.sender_offset_s = report.sender_s - at / self.clock_hz


class MediaClock:
    """See the module's docstring. Times are monotonic seconds, but for a report's."""

    def __init__(self) -> None:
        self._lines: dict[MediaKind, _Line] = {}
        self._base_s: float | None = None

    @property
    def synchronised(self) -> bool:
        """Whether reports say how audio and video lie to each other."""
        return self._base_s is not None

    def report(self, kind: MediaKind, report: SenderTime) -> None:
        """Take a sender report."""
        self._line(kind).report(report)

    def place(
        self, kind: MediaKind, ssrc: int, rtp_time: int, clock_hz: int, now_s: float
    ) -> Placed:
        """Place a packet; those of one kind come in order."""
        line = self._line(kind)
        at = line.place(ssrc, rtp_time, clock_hz, now_s)
        offset_s = self._sender_offset_s(line)
        if offset_s is None:
            offset_s = line.arrival_offset_s
        return Placed(at, at / clock_hz + offset_s)

    def _line(self, kind: MediaKind) -> _Line:
        return self._lines.setdefault(kind, _Line())

    def _sender_offset_s(self, line: _Line) -> float | None:
        """Return the offset by the sender's clock; None while that does not tell of both kinds."""
        audio, video = self._lines.get("audio"), self._lines.get("video")
        if (
            audio is None
            or video is None
            or audio.sender_offset_s is None
            or video.sender_offset_s is None
            or line.sender_offset_s is None
        ):
            self._base_s = None
            return None
        # From the sender's clock to ours, as each kind's arrival has it.
        by_audio_s = audio.arrival_offset_s - audio.sender_offset_s
        by_video_s = video.arrival_offset_s - video.sender_offset_s
        if abs(by_audio_s - by_video_s) > MAX_DISAGREEMENT_S:
            self._base_s = None
            return None
        if self._base_s is None or abs(self._base_s - by_audio_s) > MAX_DISAGREEMENT_S:
            self._base_s = by_audio_s
        return line.sender_offset_s + self._base_s
