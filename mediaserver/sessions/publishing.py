"""How a member publishes: audio over its WebSocket, or a WebRTC peer."""

import asyncio

from mediaserver.captions.audio import SAMPLE_RATE_HZ, AudioChunk
from mediaserver.kernel.errors import MediaServerError
from mediaserver.kernel.logging import get_logger
from mediaserver.protocol import messages as m
from mediaserver.rtc.audio import AudioFormat, DecoderPool, make_decoder
from mediaserver.sessions.session import Session
from mediaserver.sessions.track import CaptionTrack

log = get_logger(__name__)


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

    def _push(self, samples: "object") -> None:
        chunk = AudioChunk(samples, self._at_s)  # type: ignore[arg-type]
        self._at_s += len(chunk.samples) / SAMPLE_RATE_HZ
        self.track.push(chunk)
