"""The media sections of one peer: which publish, where their packets go, what they have counted."""

from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Protocol

from aiortc import RTCPeerConnection
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtpPacket

from mediaserver.captions.audio import AudioChunk
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.tasks import TaskScope
from mediaserver.rtc import internals
from mediaserver.rtc.broadcast import Broadcast
from mediaserver.rtc.ingest import AudioTrack
from mediaserver.rtc.mediaclock import SenderTime
from mediaserver.rtc.receiver import Receiver
from mediaserver.rtc.sdp import Offer
from mediaserver.rtc.stats import StreamCounters
from mediaserver.rtc.video import VideoTrack


class AudioListener(Protocol):
    """Is told of the audio of all sections."""

    def audio_started(self, mid: str) -> None:
        """The first audio of a section came."""
        ...

    def audio(self, mid: str, chunk: AudioChunk) -> None:
        """More audio came."""
        ...

    def audio_ended(self, mid: str) -> None:
        """The section publishes no more (it may start again)."""
        ...


class MediaListener(AudioListener, Protocol):
    """Is told of the audio of all sections, and of what there is to watch."""

    def media_changed(self, audio: bool, video: bool) -> None:
        """What there is to watch changed."""
        ...


class AudioSection:
    """One audio section: from its first packet to its end it has a track; then perhaps another."""

    def __init__(
        self,
        mid: str,
        scope: TaskScope,
        clock: Clock,
        listener: AudioListener,
        broadcast: Broadcast,
    ) -> None:
        self.mid = mid
        self._broadcast = broadcast
        self._scope = scope
        self._clock = clock
        self._listener = listener
        self._track: AudioTrack | None = None
        self._publishing = False
        self._told = False

    def begin(self) -> None:
        """Take packets from now on."""
        self._publishing = True

    async def end(self) -> None:
        """Take no more packets; what came is handed on, then the listener is told."""
        self._publishing = False
        self._broadcast.ended("audio", self.mid)
        track, self._track = self._track, None
        if track is not None:
            await track.end()
        if self._told:
            self._told = False
            self._listener.audio_ended(self.mid)

    def rtp(self, packet: RtpPacket, codec: RTCRtpCodecParameters) -> None:
        """Take a packet."""
        if not self._publishing or self._scope.closed:
            return
        if self._track is None:
            self._track = AudioTrack(self.mid, self._scope, self._clock, self._chunk)
        self._track.rtp(packet, codec)
        self._broadcast.audio_heard(self.mid, packet, codec)

    def report(self, report: SenderTime) -> None:
        """Take what the sender says of its clock."""
        self._broadcast.reported(self.mid, report)

    def wanted_bps(self) -> None:
        """Audio is never throttled."""

    def _chunk(self, chunk: AudioChunk) -> None:
        if not self._told:
            self._told = True
            self._listener.audio_started(self.mid)
        self._listener.audio(self.mid, chunk)


class Sections:
    """All media sections of one peer."""

    def __init__(
        self, scope: TaskScope, clock: Clock, executor: Executor, listener: MediaListener
    ) -> None:
        self.broadcast = Broadcast(scope, clock, listener.media_changed)
        """What the peer can be watched for."""
        self._scope = scope
        self._clock = clock
        self._executor = executor
        self._listener = listener
        self._audio: dict[str, AudioSection] = {}
        self._videos: dict[str, VideoTrack] = {}
        self._receivers: list[Receiver] = []

    @property
    def videos(self) -> Mapping[str, VideoTrack]:
        """The video tracks by their mid."""
        return self._videos

    def adopt(self, connection: RTCPeerConnection) -> None:
        """Put our receivers in place; right after a remote offer, before anything has started."""
        for transceiver in connection.getTransceivers():
            if isinstance(transceiver.receiver, Receiver):
                continue
            mid = transceiver.mid or ""
            transport = transceiver.receiver.transport
            if transceiver.kind == "audio":
                audio = self._audio[mid] = AudioSection(
                    mid, self._scope, self._clock, self._listener, self.broadcast
                )
                receiver = Receiver("audio", transport, self._scope, audio)
            else:
                video = self._videos[mid] = VideoTrack(
                    mid, self._scope, self._clock, self._executor
                )
                receiver = Receiver("video", transport, self._scope, video)
                video.feedback, video.observer = receiver, self.broadcast
            internals.replace_receiver(transceiver, receiver)
            self._receivers.append(receiver)

    async def apply(self, offer: Offer) -> None:
        """Begin and end tracks as an offer says that was just answered."""
        for section in offer.sections:
            audio = self._audio.get(section.mid)
            if section.sends:
                if audio is not None:
                    audio.begin()
            elif audio is not None:
                await audio.end()
            elif section.mid in self._videos:
                self.broadcast.ended("video", section.mid)

    async def end_audio(self) -> None:
        """End all audio; what came is handed on first."""
        for audio in self._audio.values():
            await audio.end()

    def close(self) -> None:
        """Let go of all viewers."""
        self.broadcast.close()
        for video in self._videos.values():
            video.close()

    def counters(self) -> list[StreamCounters]:
        """Return what was counted, a section each."""
        return [receiver.counters() for receiver in self._receivers]
