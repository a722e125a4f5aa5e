"""Audio of one track: packets in, `AudioChunk`s at their media time out.

`AudioIngest` does the work and is pure but for the decoder: packets are put in order, placed in
media time, decoded once, resampled once. Lost packets and pauses leave gaps in time (`start_s`
jumps), they never shift what follows. `AudioTrack` is the task around it, one a track, with a
bounded inbox.

Decoding stays on the event loop: a 20 ms Opus packet takes 40 µs to decode and 11 µs to resample,
less than handing it to a thread and back. So there is no decoder thread that could keep a closing
peer or the process waiting.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import av
import numpy as np
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtpPacket

from mediaserver.captions.audio import SAMPLE_RATE_HZ, AudioChunk
from mediaserver.kernel.channels import Channel, ChannelClosed, WhenFull
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.tasks import TaskScope
from mediaserver.rtc.resample import Resampler
from mediaserver.rtc.timeline import ReorderBuffer, Timeline

CHUNK_S = 0.06
"""Audio is handed on in pieces of about this length: three Opus packets."""
TICK_S = 0.1
IDLE_AFTER_S = 1.0
"""No packet for this long: time goes on, so silence is handed on in its place …"""
IDLE_SILENCE_S = 6.0
"""… for this long, which is more than any endpointing waits; after that the gap is just a gap."""
TAKEOVER_S = 0.1
"""A new SSRC is a new source only once the old one has been silent for this long."""
INBOX_PACKETS = 512
"""Ten seconds of 20 ms packets, held only while the event loop is held up."""

AudioSink = Callable[[AudioChunk], None]

_DECODERS = {
    "opus": ("libopus", 48_000),
    "g722": ("g722", 16_000),
    "pcmu": ("pcm_mulaw", 8_000),
    "pcma": ("pcm_alaw", 8_000),
}
"""FFmpeg's decoder and its sample rate. libopus mixes stereo down to one channel itself."""


@dataclass(frozen=True, slots=True)
class AudioPacket:
    """One RTP packet of audio."""

    ssrc: int
    sequence_number: int
    timestamp: int
    """In units of `clock_hz`."""
    payload: bytes
    codec: str
    """Name in lower case."""
    clock_hz: int


class AudioIngest:
    """See the module's docstring. Times are monotonic seconds."""

    def __init__(self, sink: AudioSink) -> None:
        self.undecodable = 0
        """Packets that are no audio of their codec; their time is a gap."""
        self.foreign = 0
        """Packets of a second source that sent while the first one did."""
        self._sink = sink
        self._reorder: ReorderBuffer[tuple[AudioPacket, float]] = ReorderBuffer()
        self._timeline = Timeline()
        self._resampler = Resampler()
        self._codec: str | None = None
        self._decoder: av.AudioCodecContext | None = None
        self._ssrc: int | None = None
        self._pending: list[AudioChunk] = []
        self._arrived_s: float | None = None
        self._idle_s = 0.0

    @property
    def late(self) -> int:
        """Packets that came twice, or too late to be of use."""
        return self._reorder.late

    @property
    def idle(self) -> bool:
        """Whether nothing will happen before the next packet."""
        return self._arrived_s is None or self._idle_s >= IDLE_SILENCE_S

    def receive(self, packet: AudioPacket, now_s: float) -> None:
        """Take a packet that arrived at `now_s`."""
        if packet.ssrc != self._ssrc:
            if self._arrived_s is not None and now_s - self._arrived_s < TAKEOVER_S:
                self.foreign += 1
                return
            self._decode_all(self._reorder.flush())
            self._reorder = ReorderBuffer()
            self._ssrc = packet.ssrc
        self._arrived_s, self._idle_s = now_s, 0.0
        self._decode_all(self._reorder.push(packet.sequence_number, (packet, now_s), now_s))

    def tick(self, now_s: float) -> None:
        """No packet came for a while: give up what is missing, hand on what waits, and silence."""
        self._decode_all(self._reorder.expire(now_s))
        self._emit()
        if self._arrived_s is None or now_s - self._arrived_s < IDLE_AFTER_S or self.idle:
            return
        # Late packets may still come; what is silent already stays so.
        until_s = self._timeline.arrival_media_s(now_s) - TICK_S
        missing_s = min(until_s - self._timeline.end_s, IDLE_SILENCE_S - self._idle_s)
        count = int(missing_s * SAMPLE_RATE_HZ)
        if count > 0:
            self._end_run()
            self._put(AudioChunk(np.zeros(count, np.float32), self._timeline.end_s))
            self._timeline.end_s += count / SAMPLE_RATE_HZ
            self._idle_s += count / SAMPLE_RATE_HZ
            self._emit()
        else:
            self._idle_s += TICK_S

    def end(self) -> None:
        """Hand on all that is left."""
        self._decode_all(self._reorder.flush())
        self._end_run()
        self._emit()

    # ---- from packets to chunks ---------------------------------------------------------------

    def _decode_all(self, packets: list[tuple[AudioPacket, float]]) -> None:
        for packet, now_s in packets:
            self._decode(packet, now_s)

    def _decode(self, packet: AudioPacket, now_s: float) -> None:
        start_s: float | None = self._timeline.place(
            packet.ssrc, packet.timestamp, packet.clock_hz, now_s
        )
        try:
            frames = self._decoder_for(packet.codec).decode(av.Packet(packet.payload))
            for frame in frames:
                for chunk in self._resampler.push(frame, start_s):
                    self._put(chunk)
                start_s = None
        except av.FFmpegError:
            self.undecodable += 1
        self._timeline.end_s = max(self._timeline.end_s, self._resampler.end_s)

    def _decoder_for(self, codec: str) -> av.AudioCodecContext:
        if self._decoder is None or codec != self._codec:
            name, rate_hz = _DECODERS[codec]
            decoder = av.CodecContext.create(name, "r")
            assert isinstance(decoder, av.AudioCodecContext)
            decoder.sample_rate = rate_hz
            decoder.layout = "mono"
            self._decoder, self._codec = decoder, codec
        return self._decoder

    def _end_run(self) -> None:
        for chunk in self._resampler.flush():
            self._put(chunk)

    def _put(self, chunk: AudioChunk) -> None:
        """Collect contiguous audio until there is `CHUNK_S` of it."""
        if self._pending and abs(chunk.start_s - self._pending[-1].end_s) > 1e-3:
            self._emit()
        self._pending.append(chunk)
        if chunk.end_s - self._pending[0].start_s >= CHUNK_S - 1e-3:
            self._emit()

    def _emit(self) -> None:
        pending, self._pending = self._pending, []
        if len(pending) == 1:
            self._sink(pending[0])
        elif pending:
            samples = np.concatenate([chunk.samples for chunk in pending])
            self._sink(AudioChunk(samples, pending[0].start_s))


class AudioTrack:
    """The task that feeds an `AudioIngest` with the packets of one media section."""

    def __init__(self, mid: str, scope: TaskScope, clock: Clock, sink: AudioSink) -> None:
        self.mid = mid
        self.ingest = AudioIngest(sink)
        self._clock = clock
        self._inbox: Channel[AudioPacket] = Channel(INBOX_PACKETS, WhenFull.DROP_OLDEST)
        self._task = scope.spawn(f"audio-{mid}", self._run())

    @property
    def dropped(self) -> int:
        """Packets that the inbox had no room for."""
        return self._inbox.dropped

    def rtp(self, packet: RtpPacket, codec: RTCRtpCodecParameters) -> None:
        """Take a packet."""
        if not self._inbox.closed:
            self._inbox.put_nowait(
                AudioPacket(
                    ssrc=packet.ssrc,
                    sequence_number=packet.sequence_number,
                    timestamp=packet.timestamp,
                    payload=packet.payload,
                    codec=codec.name.lower(),
                    clock_hz=codec.clockRate,
                )
            )

    def wanted_bps(self) -> None:
        """Audio is never throttled."""

    async def end(self) -> None:
        """Take no more packets; return when what came has been handed on."""
        self._inbox.close()
        await asyncio.wait([self._task], timeout=1.0)

    async def _run(self) -> None:
        while True:
            try:
                if self.ingest.idle:
                    packet = await self._inbox.get()
                else:
                    async with asyncio.timeout(TICK_S):
                        packet = await self._inbox.get()
            except TimeoutError:
                self.ingest.tick(self._clock.monotonic_s())
            except ChannelClosed:
                break
            else:
                self.ingest.receive(packet, self._clock.monotonic_s())
        self.ingest.end()
