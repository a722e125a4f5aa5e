"""The channels of one ``/v1/listen`` connection: audio in, a track and a message writer each."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass

from mediaserver.captions.audio import SAMPLE_RATE_HZ, AudioChunk
from mediaserver.captions.events import TrackEvent
from mediaserver.kernel.errors import BadInput, TooManyRequests, Unavailable
from mediaserver.kernel.logging import get_logger
from mediaserver.protocol.deepgram import ResultsMetadata
from mediaserver.protocol.deepgram_query import ListenQuery
from mediaserver.rtc.audio import AudioDecoder, AudioFormat, Block, DecoderPool, make_decoder
from mediaserver.sessions.deepgram import ChannelMessage, ListenChannelWriter, ListenFeatures
from mediaserver.sessions.session import Session
from mediaserver.sessions.track import CaptionTrack
from mediaserver.web.listen_inbox import ListenLimits

log = get_logger(__name__)

MAX_UNANSWERED_FINALIZES = 32
_LOOK_AGAIN_S = 0.05

Tell = Callable[[list[ChannelMessage]], None]
Heard = Callable[[TrackEvent], None]


@dataclass(slots=True)
class _Channel:
    track: CaptionTrack
    writer: ListenChannelWriter
    unanswered: int = 0
    """How many `Finalize` wait for their answer."""


class ListenChannels:
    """Decodes what comes in and pushes it to one track a channel (or to one for all).

    `tell` is given the messages that come of it, `heard` every track event after its messages.
    """

    def __init__(
        self,
        session: Session,
        query: ListenQuery,
        pool: DecoderPool,
        metadata: ResultsMetadata,
        limits: ListenLimits,
        tell: Tell,
        heard: Heard,
    ) -> None:
        self._session = session
        self._query = query
        self._metadata = metadata
        self._limits = limits
        self._tell = tell
        self._heard = heard
        self._channels: list[_Channel] = []
        self._samples = 0
        self._digest = hashlib.sha256()
        self._decoder: AudioDecoder = make_decoder(_audio_format(query), pool)
        if not query.multichannel:
            self._open(1)  # before the upgrade, so that a refusal is plain HTTP

    def __len__(self) -> int:
        return len(self._channels)

    @property
    def duration_s(self) -> float:
        """Seconds of audio received."""
        return self._samples / SAMPLE_RATE_HZ

    @property
    def sha256(self) -> str:
        """Digest of all bytes received, in hex."""
        return self._digest.hexdigest()

    async def feed(self, data: bytes) -> None:
        """Decode a message and push it, as fast as it is transcribed.

        Raises BadInput or UnsupportedMedia for what is no audio, Overloaded or Unavailable.
        """
        self._digest.update(data)
        await self._push_all(self._decoder.feed(data))

    async def flush(self) -> None:
        """Push what the decoder still holds. Raises as `feed` does."""
        await self._push_all(self._decoder.flush())

    async def close(self) -> None:
        """Let go of the decoder; the tracks belong to the session."""
        await self._decoder.close()

    def configure(self, *, punctuated: bool) -> None:
        """Write with punctuation, or without, from now on."""
        for channel in self._channels:
            channel.writer.change(punctuated=punctuated)

    def note_gaps(self) -> None:
        """Tell `UtteranceEnd` where enough audio without words has been transcribed."""
        for channel in self._channels:
            self._tell(channel.writer.heard(channel.track.stats.processed_s))

    def note_end(self) -> None:
        """All audio is transcribed: tell `UtteranceEnd` where it ends with enough silence."""
        for channel in self._channels:
            self._tell(channel.writer.heard(self.duration_s))

    def finalize(self, index: int | None) -> Coroutine[None, None, None]:
        """Return what makes all audio so far final, on a channel or on all; each answers once.

        Raises BadInput for a channel that is not there, TooManyRequests.
        """
        if index is not None and index >= len(self._channels):
            raise BadInput(f"there is no channel {index}; there are {len(self._channels)}")
        chosen = self._channels if index is None else [self._channels[index]]
        if any(channel.unanswered >= MAX_UNANSWERED_FINALIZES for channel in chosen):
            raise TooManyRequests(f"{MAX_UNANSWERED_FINALIZES} Finalize wait for their answer")
        return self._finalize_all(chosen)

    async def _finalize_all(self, channels: list[_Channel]) -> None:
        await asyncio.gather(*(self._finalize(channel) for channel in channels))

    async def _finalize(self, channel: _Channel) -> None:
        request = channel.writer.finalize()
        channel.unanswered += 1
        try:
            await channel.track.finalize()
        except TimeoutError:
            log.warning("listen.finalize_timeout", track_id=channel.track.id)
        finally:
            channel.unanswered -= 1
        self._tell(channel.writer.finalized(request))

    async def _push_all(self, blocks: AsyncIterator[Block]) -> None:
        async for block in blocks:
            if not self._channels:
                self._open(len(block))
            await self._wait_for_worker()
            start_s = self.duration_s
            self._samples += len(block[0])
            for channel, samples in zip(self._channels, block, strict=True):
                channel.track.push(AudioChunk(samples, start_s))

    def _open(self, count: int) -> None:
        features = _features(self._query)
        for i in range(count):
            writer = ListenChannelWriter(i, count, features, self._metadata)
            track = self._session.open_track(self._query.caption_options(), self._listener(writer))
            self._channels.append(_Channel(track, writer))

    def _listener(self, writer: ListenChannelWriter) -> Callable[[TrackEvent], None]:
        def listen(event: TrackEvent) -> None:
            self._tell(writer.on(event))
            self._heard(event)

        return listen

    async def _wait_for_worker(self) -> None:
        """Wait while much audio is not transcribed. Raises Unavailable if nothing moves at all."""
        clock = asyncio.get_running_loop()
        least_s, moved_at = float("inf"), clock.time()
        while (waiting_s := self._waiting_s()) > self._limits.ahead_s:
            if waiting_s < least_s:
                least_s, moved_at = waiting_s, clock.time()
            elif clock.time() - moved_at > self._limits.stalled_s:
                raise Unavailable(
                    f"no speech worker took audio for {self._limits.stalled_s:.0f} s",
                    code="audio_backlog",
                )
            await asyncio.sleep(_LOOK_AGAIN_S)

    def _waiting_s(self) -> float:
        return max((channel.track.waiting_s for channel in self._channels), default=0.0)


def _audio_format(query: ListenQuery) -> AudioFormat:
    return AudioFormat(
        encoding=query.encoding or "container",
        sample_rate_hz=query.sample_rate_hz,
        channels=query.channels,
        split=query.multichannel,
    )


def _features(query: ListenQuery) -> ListenFeatures:
    gap_ms = query.utterance_end_ms
    return ListenFeatures(
        interim_results=query.interim_results,
        speech_final=query.endpointing is not None,
        vad_events=query.vad_events,
        utterance_end_s=None if gap_ms is None else gap_ms / 1000,
        punctuated=query.punctuated,
        detects_language=query.detects_language,
    )
