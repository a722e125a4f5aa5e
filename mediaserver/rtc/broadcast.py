"""What one publishing peer can be watched for: its audio and video as encoded frames.

    broadcast = peer.broadcast               # a MediaSource; as long as the peer lives
    with broadcast.open_tap() as tap:        # packets are put together from now on
        frame = await tap.get()

Of several sections of a kind the one that sent first is watched; another takes its place when that
one ends or has been silent for `TAKEOVER_S`. While nobody watches, a packet costs a look at the
time. Captions of the same audio go their own way (`ingest`): neither waits for the other.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtpPacket

from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.tasks import TaskScope
from mediaserver.rtc.encoded import EncodedFrame, Fanout, Tap
from mediaserver.rtc.mediaclock import MediaClock, SenderTime
from mediaserver.rtc.pictures import Picture
from mediaserver.rtc.stats import MediaKind
from mediaserver.rtc.timeline import ReorderBuffer
from mediaserver.rtc.video import VideoTrack

TAKEOVER_S = 2.0
"""For so long the section (or SSRC) that is watched may be silent before another takes over."""
END_HOLD_S = 1.0
"""A section that ended may begin again within this time, and nobody is told that it ended."""
TICK_S = 0.05

Changed = Callable[[bool, bool], None]


@dataclass(slots=True)
class _Lane:
    """The section of a kind that is watched."""

    mid: str | None = None
    codec: str = ""
    heard_s: float = 0.0
    track: VideoTrack | None = None


@dataclass(frozen=True, slots=True)
class _Packet:
    rtp: RtpPacket
    codec: str
    clock_hz: int
    arrived_s: float


class Broadcast:
    """See the module's docstring. `changed(audio, video)` is told what there is to watch."""

    def __init__(self, scope: TaskScope, clock: Clock, changed: Changed) -> None:
        self._scope = scope
        self._clock = clock
        self._changed = changed
        self._told = (False, False)
        self._closed = False
        self._lanes: dict[MediaKind, _Lane] = {"audio": _Lane(), "video": _Lane()}
        self._reports: dict[str, SenderTime] = {}
        self._fanout = Fanout(clock, self._watched_changed, self.request_keyframe)
        self._times = MediaClock()
        self._reorder: ReorderBuffer[_Packet] = ReorderBuffer()
        self._audio_ssrc: int | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None

    # ---- for who watches ----------------------------------------------------------------------

    @property
    def codecs(self) -> Mapping[MediaKind, str]:
        """What is sent now, of each kind; empty before anything came."""
        return {kind: lane.codec for kind, lane in self._lanes.items() if lane.mid is not None}

    @property
    def watched(self) -> bool:
        """Whether a tap is open."""
        return self._fanout.watched

    def open_tap(self) -> Tap:
        """Read from now on; video begins with a keyframe. After the peer's end: an ended tap."""
        return self._fanout.open()

    def request_keyframe(self) -> None:
        """Ask the sender for a keyframe; asking more often than it helps costs nothing."""
        track = self._lanes["video"].track
        if track is not None:
            track.request_keyframe()

    # ---- what the peer's sections tell --------------------------------------------------------

    def audio_heard(self, mid: str, packet: RtpPacket, codec: RTCRtpCodecParameters) -> None:
        """A packet of audio came."""
        now_s = self._clock.monotonic_s()
        lane = self._lanes["audio"]
        silent_s = now_s - lane.heard_s
        if not self._take("audio", mid, codec.name, now_s) or not self._fanout.watched:
            return
        if packet.ssrc != self._audio_ssrc:
            if self._audio_ssrc is not None and silent_s < TICK_S:
                return  # two sources at once
            self._deliver_audio(self._reorder.flush())
            self._reorder = ReorderBuffer()
            self._audio_ssrc = packet.ssrc
        item = _Packet(packet, codec.name, codec.clockRate, now_s)
        self._deliver_audio(self._reorder.push(packet.sequence_number, item, now_s))

    def video_heard(self, track: VideoTrack, codec: RTCRtpCodecParameters) -> None:
        """A packet of video came; whole pictures come to `_picture` while somebody watches."""
        lane = self._lanes["video"]
        if not self._take("video", track.mid, codec.name, self._clock.monotonic_s()):
            return
        if lane.track is not track:
            if lane.track is not None:
                lane.track.forward(None)
            lane.track = track
            self._forward()

    def reported(self, mid: str, report: SenderTime) -> None:
        """A sender report of a section came."""
        self._reports[mid] = report
        for kind, lane in self._lanes.items():
            if lane.mid == mid:
                self._times.report(kind, report)

    def ended(self, kind: MediaKind, mid: str) -> None:
        """A section sends no more."""
        lane = self._lanes[kind]
        if lane.mid != mid:
            return
        if lane.track is not None:
            lane.track.forward(None)
        lane.mid, lane.track = None, None
        if self._telling is None and not self._scope.closed:
            self._telling = self._scope.spawn("broadcast-ended", self._tell_later())

    def close(self) -> None:
        """The peer is ending: so do all taps. Packets that still come begin nothing."""
        self._closed = True
        for lane in self._lanes.values():
            if lane.track is not None:
                lane.track.forward(None)
            lane.mid, lane.track = None, None
        self._fanout.close()
        self._tell()

    # ---- which sections are watched -----------------------------------------------------------

    def _take(self, kind: MediaKind, mid: str, codec: str, now_s: float) -> bool:
        """Return whether this section is the one of its kind that is watched."""
        if self._closed:
            return False
        lane = self._lanes[kind]
        if lane.mid != mid:
            if lane.mid is not None and now_s - lane.heard_s < TAKEOVER_S:
                return False
            lane.mid = mid
            if mid in self._reports:
                self._times.report(kind, self._reports[mid])
        lane.heard_s, lane.codec = now_s, codec
        self._tell_begun(kind)
        return True

    def _tell_begun(self, kind: MediaKind) -> None:
        audio, video = self._told
        if not (audio if kind == "audio" else video):
            self._tell((audio or kind == "audio", video or kind == "video"))

    async def _tell_later(self) -> None:
        await asyncio.sleep(END_HOLD_S)
        self._telling = None
        self._tell()

    def _tell(self, state: tuple[bool, bool] | None = None) -> None:
        if state is None:
            state = (self._lanes["audio"].mid is not None, self._lanes["video"].mid is not None)
        if state != self._told:
            self._told = state
            self._changed(*state)

    # ---- while somebody watches ---------------------------------------------------------------

    def _watched_changed(self) -> None:
        self._forward()
        if self._fanout.watched and self._ticking is None and not self._scope.closed:
            self._ticking = self._scope.spawn("broadcast-tick", self._tick())
        elif not self._fanout.watched and self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None
            self._reorder = ReorderBuffer()
            self._audio_ssrc = None

    def _forward(self) -> None:
        track = self._lanes["video"].track
        if track is not None:
            track.forward(self._picture if self._fanout.watched else None)

    async def _tick(self) -> None:
        """Give up lost audio also while none comes."""
        while True:
            await asyncio.sleep(TICK_S)
            self._deliver_audio(self._reorder.expire(self._clock.monotonic_s()))

    def _deliver_audio(self, packets: list[_Packet]) -> None:
        for packet in packets:
            rtp = packet.rtp
            placed = self._times.place(
                "audio", rtp.ssrc, rtp.timestamp, packet.clock_hz, packet.arrived_s
            )
            self._fanout.deliver(
                EncodedFrame(
                    kind="audio",
                    codec=packet.codec,
                    timestamp=placed.timestamp,
                    clock_hz=packet.clock_hz,
                    keyframe=True,
                    data=rtp.payload,
                    captured_s=placed.captured_s,
                )
            )

    def _picture(self, picture: Picture) -> None:
        clock_hz = picture.codec.clockRate
        placed = self._times.place(
            "video", picture.ssrc, picture.rtp_time, clock_hz, picture.arrived_s
        )
        self._fanout.deliver(
            EncodedFrame(
                kind="video",
                codec=picture.codec.name,
                timestamp=placed.timestamp,
                clock_hz=clock_hz,
                keyframe=picture.keyframe,
                data=picture.data,
                captured_s=placed.captured_s,
            )
        )
