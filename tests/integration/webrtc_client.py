"""A WebRTC client for tests: a plain aiortc peer on loopback that sends real recorded speech."""

import asyncio
import contextlib
import fractions
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import av
import numpy as np
import numpy.typing as npt
import pytest
from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import is_rtcp

from mediaserver.captions.audio import SAMPLE_RATE_HZ, AudioChunk
from mediaserver.rtc import internals
from mediaserver.rtc.peer import CloseReason, Peer, Peers, RtcConfig
from mediaserver.rtc.resample import Resampler
from tests.speech import NoSuchClip, clip

Pcm = npt.NDArray[np.float32]
RATE_HZ = 48_000
FRAME = 960


def speech(seconds: float) -> Pcm:
    """Return the beginning of a recording at 48 kHz, mono float32."""
    try:
        recorded = clip("jfk").samples
    except NoSuchClip as error:
        pytest.skip(str(error))
    return at_48_khz(recorded[: int(seconds * SAMPLE_RATE_HZ)])


def at_48_khz(samples: Pcm) -> Pcm:
    """Resample 16 kHz samples."""
    pcm = (samples * 32767).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(pcm[None, :], format="s16", layout="mono")
    frame.sample_rate = SAMPLE_RATE_HZ
    resampler = av.AudioResampler("s16", "mono", RATE_HZ)
    out = [f.to_ndarray()[0] for f in (*resampler.resample(frame), *resampler.resample(None))]
    return np.asarray(np.concatenate(out) / 32768, np.float32)


class SpeechTrack(MediaStreamTrack):
    """Plays samples at 48 kHz in real time, then ends (or goes on with silence)."""

    kind = "audio"

    def __init__(self, samples: Pcm, *, then_silence: bool = False) -> None:
        super().__init__()
        self._samples = samples
        self._then_silence = then_silence
        self._at = 0
        self._started_s: float | None = None

    async def recv(self) -> av.AudioFrame:
        piece = self._samples[self._at : self._at + FRAME]
        if len(piece) < FRAME and not self._then_silence:
            self.stop()
            raise MediaStreamError
        pcm = np.zeros(FRAME, np.int16)
        pcm[: len(piece)] = np.clip(piece * 32767, -32768, 32767)
        frame = av.AudioFrame.from_ndarray(pcm[None, :], format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE_HZ, self._at
        frame.time_base = fractions.Fraction(1, RATE_HZ)
        self._started_s = self._started_s or time.monotonic()
        self._at += FRAME
        await asyncio.sleep(self._started_s + self._at / RATE_HZ - time.monotonic())
        return frame


class PictureTrack(MediaStreamTrack):
    """Moving pictures at `fps`."""

    kind = "video"

    def __init__(self, fps: int = 25, width: int = 320, height: int = 240) -> None:
        super().__init__()
        self._fps = fps
        self._size = (height, width)
        self.sent = 0
        self._started_s: float | None = None

    async def recv(self) -> av.VideoFrame:
        self._started_s = self._started_s or time.monotonic()
        self.sent += 1
        await asyncio.sleep(self._started_s + self.sent / self._fps - time.monotonic())
        height, width = self._size
        rows = (np.arange(height)[:, None] + self.sent * 3) % 256
        gray = np.broadcast_to(rows, (height, width)).astype(np.uint8)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(gray), format="gray")
        frame = frame.reformat(format="yuv420p")
        frame.pts, frame.time_base = (
            self.sent * (90_000 // self._fps),
            fractions.Fraction(1, 90_000),
        )
        return frame


class Recorder:
    """A `PeerListener` that keeps what it is told."""

    def __init__(self) -> None:
        self.chunks: dict[str, list[AudioChunk]] = {}
        self.started: list[str] = []
        self.ended: list[str] = []
        self.messages: list[tuple[str, str]] = []
        self.media: list[tuple[bool, bool]] = []
        self.is_connected = asyncio.Event()
        self.is_closed = asyncio.Event()
        self.closings: list[tuple[CloseReason, str]] = []
        self.closed_at_s = 0.0

    def connected(self) -> None:
        self.is_connected.set()

    def audio_started(self, mid: str) -> None:
        self.started.append(mid)
        self.chunks.setdefault(mid, [])

    def audio(self, mid: str, chunk: AudioChunk) -> None:
        self.chunks[mid].append(chunk)

    def audio_ended(self, mid: str) -> None:
        self.ended.append(mid)

    def channel_message(self, label: str, text: str) -> None:
        self.messages.append((label, text))

    def media_changed(self, audio: bool, video: bool) -> None:
        self.media.append((audio, video))

    def closed(self, reason: CloseReason, detail: str) -> None:
        self.closings.append((reason, detail))
        self.closed_at_s = time.monotonic()
        self.is_closed.set()

    def heard(self, mid: str) -> Pcm:
        """Return the audio of a section with its gaps as silence."""
        chunks = self.chunks.get(mid, [])
        if not chunks:
            return np.zeros(0, np.float32)
        out = np.zeros(round(chunks[-1].end_s * SAMPLE_RATE_HZ) + 1, np.float32)
        for chunk in chunks:
            at = round(chunk.start_s * SAMPLE_RATE_HZ)
            out[at : at + len(chunk.samples)] = chunk.samples
        return out

    def audio_s(self, mid: str) -> float:
        return sum(chunk.duration_s for chunk in self.chunks.get(mid, []))


@dataclass
class Client:
    """An aiortc peer with its data channels as the server opened them."""

    connection: RTCPeerConnection
    channels: dict[str, RTCDataChannel] = field(default_factory=dict)
    received: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def new(cls, *tracks: MediaStreamTrack, data: bool = True) -> "Client":
        connection = RTCPeerConnection(
            RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        )
        client = cls(connection)
        for track in tracks:
            connection.addTrack(track)
        if data:
            connection.createDataChannel("negotiate")
        connection.on("datachannel", client._channel)
        return client

    def _channel(self, channel: RTCDataChannel) -> None:
        self.channels[channel.label] = channel
        messages = self.received.setdefault(channel.label, [])
        channel.on("message", messages.append)

    async def offer(self) -> str:
        """Return an offer, with all candidates (on 127.0.0.1 only)."""
        description = await self.connection.createOffer()
        transport = internals.transport_of(self.connection)
        assert transport is not None
        internals.bind_ice(transport.transport, ["127.0.0.1"], 1.0)
        await self.connection.setLocalDescription(description)
        return str(self.connection.localDescription.sdp)

    async def reoffer(self) -> str:
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return str(self.connection.localDescription.sdp)

    async def answer(self, sdp: str) -> None:
        await self.connection.setRemoteDescription(RTCSessionDescription(sdp, "answer"))

    async def connect(self, peer: Peer) -> None:
        await self.answer(await peer.accept(await self.offer()))

    async def close(self) -> None:
        await self.connection.close()


CONFIG = RtcConfig(ice_interfaces=("127.0.0.1",))
QUICK = RtcConfig(ice_interfaces=("127.0.0.1",), dead_after_s=1.5, consent_interval_s=0.4)


@contextlib.asynccontextmanager
async def connected(
    *tracks: MediaStreamTrack, data: bool = True, config: RtcConfig = CONFIG
) -> AsyncIterator[tuple[Client, Peer, Recorder]]:
    """Connect a client to a peer; both are closed at the end."""
    peers = Peers(config)
    recorder = Recorder()
    client = Client.new(*tracks, data=data)
    try:
        peer = peers.open(recorder)
        await client.connect(peer)
        await soon(recorder.is_connected.wait())
        yield client, peer, recorder
    finally:
        await peers.aclose()
        await client.close()


async def until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


async def soon(awaitable: Awaitable[object], timeout_s: float = 20.0) -> None:
    """Wait for it, on however busy a machine."""
    async with asyncio.timeout(timeout_s):
        await awaitable


def delay_and_correlation(heard: Pcm, sent: Pcm, most_s: float = 0.5) -> tuple[float, float]:
    """Return by how many seconds `heard` is behind `sent`, and how well they then agree (to 1)."""
    size = min(len(heard), len(sent))
    spectrum = np.fft.rfft(heard[:size], 2 * size) * np.conj(np.fft.rfft(sent[:size], 2 * size))
    correlation = np.fft.irfft(spectrum)
    most = int(most_s * SAMPLE_RATE_HZ)
    lags = np.concatenate([np.arange(most), np.arange(-most, 0)])
    lag = int(lags[np.argmax(correlation[lags])])
    a, b = (
        (heard[lag:size], sent[: size - lag])
        if lag >= 0
        else (heard[: size + lag], sent[-lag:size])
    )
    return lag / SAMPLE_RATE_HZ, float(np.corrcoef(a, b)[0, 1])


def to_16_khz(samples: Pcm) -> Pcm:
    """Resample 48 kHz samples."""
    frame = av.AudioFrame.from_ndarray(
        (samples * 32767).astype(np.int16)[None, :], format="s16", layout="mono"
    )
    frame.sample_rate = RATE_HZ
    resampler = Resampler()
    return np.concatenate([c.samples for c in resampler.push(frame) + resampler.flush()])


def lose(
    client: Client | RTCPeerConnection, ratio: float, *, kinds: tuple[int, ...], seed: int = 1
) -> list[int]:
    """Drop that share of what it sends of these RTP payload types; count sent and dropped."""
    connection = client.connection if isinstance(client, Client) else client
    transport = internals.transport_of(connection)
    assert transport is not None
    dice, send, counts = random.Random(seed), transport.transport._send, [0, 0]

    async def lossy(data: bytes) -> None:
        if 127 < data[0] < 192 and not is_rtcp(data) and data[1] & 0x7F in kinds:
            counts[0] += 1
            if dice.random() < ratio:
                counts[1] += 1
                return
        await send(data)

    transport.transport._send = lossy
    return counts
