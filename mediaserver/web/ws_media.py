"""What one member publishes over its WebSocket session: binary audio, or a WebRTC peer."""

import asyncio
from collections.abc import Callable

from mediaserver.kernel.errors import BadInput, MediaServerError, TooLarge
from mediaserver.kernel.tasks import TaskScope
from mediaserver.protocol import messages as m
from mediaserver.protocol.rooms import Grants
from mediaserver.rtc.audio import DecoderPool
from mediaserver.rtc.peer import Peers
from mediaserver.rtc.stats import PeerStats
from mediaserver.sessions.publishing import AudioPublisher, PeerPublisher
from mediaserver.sessions.session import Session
from mediaserver.sessions.watching import MemberWatch

MAX_EARLY_CANDIDATES = 50


class MemberMedia:
    """The audio and the peer of one session."""

    def __init__(
        self,
        session: Session,
        peers: Peers,
        decoders: DecoderPool,
        watch: MemberWatch,
        scope: TaskScope,
        on_text: Callable[[str, str], None],
        on_error: Callable[[MediaServerError], None],
    ) -> None:
        self._session = session
        self._peers = peers
        self._decoders = decoders
        self.watch = watch
        """What the member watches."""
        self._scope = scope
        self._on_text = on_text
        self._on_error = on_error
        self._audio: AudioPublisher | None = None
        self._stopping: set[asyncio.Task[None]] = set()
        """Audio that was stopped and whose finals are pending."""
        self._peer: PeerPublisher | None = None
        self._early_candidates: list[m.Candidate] = []
        self._begun = asyncio.Event()
        """Set where something began to be published."""

    # ---- out ----------------------------------------------------------------------------------

    def way_of(self, message: m.ServerMessage) -> PeerPublisher | None:
        """The peer, if the message has a data channel that is open there."""
        peer = self._peer
        return peer if peer is not None and peer.carries(message) else None

    def stats(self) -> PeerStats | None:
        """The peer's figures of the last second."""
        return self._peer.stats() if self._peer is not None else None

    @property
    def dropped(self) -> int:
        """Messages and audio chunks dropped for the peer."""
        return self._peer.dropped if self._peer is not None else 0

    async def publishing(self) -> None:
        """Return when the member publishes; at once if it does."""
        if not self._publishes:
            self._begun.clear()
            await self._begun.wait()

    @property
    def _publishes(self) -> bool:
        peer = self._peer
        return (
            bool(self._session.tracks) or self._audio is not None or not (peer is None or peer.over)
        )

    # ---- in -----------------------------------------------------------------------------------

    async def offer(self, message: m.Offer) -> m.Answer:
        """Answer an offer. Raises what `Peer.accept` raises."""
        if self._peer is not None and not self._peer.over:
            return m.Answer(sdp=await self._peer.accept(message.sdp))
        self._peer = PeerPublisher(
            self._peers, self._session, message.options, self._on_text, self._on_error
        )
        self._begun.set()
        early, self._early_candidates = self._early_candidates, []
        answer = await self._peer.accept(message.sdp)
        for candidate in early:
            await self.candidate(candidate)
        return m.Answer(sdp=answer)

    async def candidate(self, message: m.Candidate) -> None:
        """Take a trickled candidate, also before the offer. Raises BadInput."""
        if self._peer is None:
            if len(self._early_candidates) >= MAX_EARLY_CANDIDATES:
                raise BadInput(f"{MAX_EARLY_CANDIDATES} candidates came before any offer")
            self._early_candidates.append(message)
            return
        await self._peer.add_candidate(message.candidate, message.sdp_mid, message.sdp_mline_index)

    def audio_start(self, message: m.AudioStart) -> m.AudioStarted:
        """Begin to take binary messages. Raises what `Session.open_track` raises."""
        self._stop_audio("ended")
        self._audio = AudioPublisher(self._session, message, self._decoders)
        self._begun.set()
        return m.AudioStarted(track_id=self._audio.track.id)

    async def audio(self, data: bytes) -> None:
        """Take a binary message. Raises TooLarge, BadInput, UnsupportedMedia or Overloaded."""
        if len(data) > m.MAX_AUDIO_MESSAGE_BYTES:
            raise TooLarge(
                f"a binary message of {len(data)} bytes; the limit is {m.MAX_AUDIO_MESSAGE_BYTES}"
            )
        if self._audio is None:
            raise BadInput("a binary message before `audio.start`; send that first")
        try:
            await self._audio.feed(data)
        except MediaServerError as error:
            if not error.retryable:
                self._stop_audio("failed")
            raise

    def audio_stop(self) -> None:
        """End the audio. Raises BadInput."""
        if self._audio is None:
            raise BadInput("`audio.stop` without `audio.start`")
        self._stop_audio("ended")

    def _stop_audio(self, reason: str) -> None:
        """End the audio, if any. Its finals may take a while; the member is served meanwhile."""
        audio, self._audio = self._audio, None
        if audio is not None:
            task = self._scope.spawn("audio-stop", audio.close(reason))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    def configure(self, options: m.CaptionOptions) -> None:
        """How what is said is captioned from the next utterance on."""
        if self._peer is not None:
            self._peer.configure(options)
        for track in self._session.tracks:
            track.configure(options)

    async def finalize(self) -> m.Finalized:
        """Turn all audio received so far into finals."""
        tracks = self._session.tracks
        if self._audio is not None:
            await self._audio.flush()
        await asyncio.gather(*(track.finalize() for track in tracks))
        return m.Finalized(track_id=tracks[0].id if len(tracks) == 1 else None)

    # ---- the end ------------------------------------------------------------------------------

    def regranted(self, grants: Grants) -> None:
        """What the member may do has changed: end what it may not any more."""
        if not grants.can_publish:
            self.silence()
        if self._peer is not None:
            self._peer.regranted()
        self.watch.granted(grants)

    def silence(self) -> None:
        """The member may not be heard any more: end what it publishes."""
        self._stop_audio("ended")
        if self._peer is not None and not self._peer.over:
            self._scope.spawn("silence", self._peer.stop_audio())

    async def stop(self, reason: str, timeout_s: float) -> None:
        """Take no more audio; wait for what was stopped, at most `timeout_s`."""
        if self._peer is not None:
            self._peer.leave("lost" if reason == "lost" else "left")
            await self._peer.stop_audio()
        self._stop_audio(reason)
        if self._stopping:
            await asyncio.wait(self._stopping, timeout=timeout_s)

    async def close(self, lost: bool) -> None:
        """End the peers."""
        await self.watch.close()
        if self._peer is not None:
            await self._peer.close("lost" if lost else "left")
