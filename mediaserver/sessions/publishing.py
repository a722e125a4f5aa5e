"""How a member publishes: audio over its WebSocket, or a WebRTC peer."""

import asyncio
from collections.abc import Callable, Hashable

from mediaserver.captions.audio import SAMPLE_RATE_HZ, AudioChunk, Samples
from mediaserver.kernel.errors import MediaServerError, Unavailable
from mediaserver.kernel.logging import get_logger
from mediaserver.kernel.tasks import TaskScope
from mediaserver.protocol import messages as m
from mediaserver.protocol.watching import EndReason
from mediaserver.rtc.audio import AudioFormat, DecoderPool, make_decoder
from mediaserver.rtc.peer import CloseReason, Peers
from mediaserver.rtc.stats import PeerStats
from mediaserver.sessions.session import Session
from mediaserver.sessions.track import CaptionTrack

log = get_logger(__name__)

END_TIMEOUT_S = 30.0


class AudioPublisher:
    """Audio that comes as binary messages: decoded, and pushed to a track."""

    def __init__(self, session: Session, start: m.AudioStart, pool: DecoderPool) -> None:
        self._decoder = make_decoder(
            AudioFormat(start.encoding, start.sample_rate_hz, start.channels), pool
        )
        self.track: CaptionTrack = session.open_track(start.options)
        self._at_s = 0.0
        self._lock = asyncio.Lock()
        self._closed = False

    async def feed(self, data: bytes) -> None:
        """Decode and push a message. Raises BadInput, UnsupportedMedia or Overloaded."""
        async with self._lock:
            if self._closed:
                return
            async for block in self._decoder.feed(data):
                self._push(block[0])

    async def flush(self) -> None:
        """Wait until what was fed is with the track."""
        async with self._lock:
            return

    async def close(self, reason: str) -> None:
        """Decode the rest and end the track, with its pending finals."""
        async with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                async for block in self._decoder.flush():
                    self._push(block[0])
            except MediaServerError as error:
                log.info("audio.bad_end", track_id=self.track.id, code=error.specific_code)
            finally:
                await self._decoder.close()
        await self.track.end(reason)

    def _push(self, samples: Samples) -> None:
        chunk = AudioChunk(samples, self._at_s)
        self._at_s += len(samples) / SAMPLE_RATE_HZ
        self.track.push(chunk)


CHANNELS: dict[str, str] = {
    "caption": "captions",
    "speech.started": "captions",
    "track.started": "captions",
    "track.ended": "captions",
    "room.told": "captions",
    "finalized": "captions",
    "status": "captions",
    "chat": "chat",
    "chat.edited": "chat",
    "chat.deleted": "chat",
    "chat.reacted": "chat",
    "metrics": "metrics",
}
"""Which message goes over which data channel, where that is open."""


class PeerPublisher:
    """A member's WebRTC peer: its audio becomes tracks, its channels carry messages."""

    def __init__(
        self,
        peers: Peers,
        session: Session,
        options: m.CaptionOptions,
        on_text: Callable[[str, str], None],
        on_error: Callable[[MediaServerError], None],
    ) -> None:
        self._session = session
        self._options = options
        self._on_text = on_text
        self._on_error = on_error
        self._tracks: dict[str, CaptionTrack] = {}
        self._scope = TaskScope(f"publisher {session.member_id}")
        self._peer = peers.open(self)
        self._showing = session.showing(self._peer.broadcast)

    @property
    def over(self) -> bool:
        """Whether the peer is over; a new offer needs a new one."""
        return self._peer.closed

    @property
    def dropped(self) -> int:
        """Messages and audio chunks dropped for this peer."""
        return self._peer.dropped

    def configure(self, options: m.CaptionOptions) -> None:
        """How tracks that begin from now on are captioned."""
        self._options = options

    async def accept(self, sdp: str) -> str:
        """Answer an offer. Raises what `Peer.accept` raises."""
        return await self._peer.accept(sdp)

    async def add_candidate(self, line: str | None, mid: str | None, index: int | None) -> None:
        """Take a trickled candidate. Raises BadInput."""
        await self._peer.add_candidate(line, mid, index)

    def carries(self, message: m.ServerMessage) -> bool:
        """Whether the message has a data channel, and that is open."""
        label = CHANNELS.get(message.type)
        return label is not None and self._peer.channel_open(label)

    def send(self, message: m.ServerMessage, key: Hashable | None) -> bool:
        """Send over the message's data channel; False if it has none or that is not open."""
        label = CHANNELS.get(message.type)
        if label is None or not self._peer.channel_open(label):
            return False
        replaces = ("caption", message.caption_id) if isinstance(message, m.Caption) else None
        return self._peer.send(label, message.wire_text(), key, replaces if key is None else None)

    def stats(self) -> PeerStats:
        """The figures of the last second."""
        return self._peer.stats()

    def regranted(self) -> None:
        """What the member may do has changed."""
        if self._showing is not None:
            self._showing.regranted()

    def leave(self, reason: EndReason) -> None:
        """The member leaves: nobody watches it any more."""
        if self._showing is not None:
            self._showing.close(reason)

    async def stop_audio(self) -> None:
        """Take no more audio; finals that are pending still come."""
        if not self._peer.closed:
            await self._peer.stop_audio()

    async def close(self, reason: CloseReason) -> None:
        """End the peer, after it has got what was sent (bounded)."""
        if not self._peer.closed and reason == "left":
            await self._peer.flush(1.0)
        await self._peer.close(reason)
        await self._scope.aclose()

    # ---- PeerListener -------------------------------------------------------------------------

    def audio_started(self, mid: str) -> None:
        """A track began. Raises what `Session.open_track` raises."""
        self._tracks[mid] = self._session.open_track(self._options)

    def audio(self, mid: str, chunk: AudioChunk) -> None:
        """Audio came. Raises Overloaded."""
        self._tracks[mid].push(chunk)

    def audio_ended(self, mid: str) -> None:
        """A track ended."""
        track = self._tracks.pop(mid, None)
        if track is not None and not self._scope.closed:
            self._scope.spawn(f"end-{mid}", track.end("ended", END_TIMEOUT_S))

    def connected(self) -> None:
        """Media flows."""

    def channel_message(self, label: str, text: str) -> None:
        """A text message came over a data channel."""
        self._on_text(label, text)

    def media_changed(self, audio: bool, video: bool) -> None:
        """There is something else to watch."""
        if self._peer.closed:
            self.leave("ended")
        elif self._showing is not None:
            self._showing.media_changed(audio, video)

    def closed(self, reason: CloseReason, detail: str) -> None:
        """The peer is gone for a reason that its member should know."""
        self.leave("ended")
        if reason != "left":
            self._on_error(Unavailable(f"WebRTC: {detail}", code=f"peer_{reason}"))
