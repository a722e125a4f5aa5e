"""Who is told what happens to a peer, and how the peer is kept from what goes wrong there."""

from collections.abc import Callable
from typing import Literal, Protocol

from mediaserver.captions.audio import AudioChunk
from mediaserver.kernel.errors import MediaServerError
from mediaserver.kernel.logging import get_logger
from mediaserver.rtc.sections import MediaListener

log = get_logger(__name__)

CloseReason = Literal["left", "lost", "failed", "timeout", "slow", "ended"]
"""`left`: either side said goodbye. `lost`: it fell silent. `failed`: it could not connect, or
broke the rules. `timeout`: it did not connect in time. `slow`: it does not read its messages.
`ended`: what a viewer watched is over."""

OnFailure = Callable[[str], None]


class PeerListener(MediaListener, Protocol):
    """Is told what happens to a peer. Called in the event loop; must not wait.

    Besides these: `audio_started(mid)`, `audio(mid, chunk)`, `audio_ended(mid)`. An error of
    `audio_started` ends the peer with it; one of `audio` (Overloaded) costs that chunk.
    """

    def connected(self) -> None:
        """ICE and DTLS are done. Data channels open a little later."""
        ...

    def channel_message(self, label: str, text: str) -> None:
        """A text message came. A MediaServerError is answered on the same channel."""
        ...

    def media_changed(self, audio: bool, video: bool) -> None:
        """What the peer's `broadcast` can be watched for now: told when it changes.

        A pause or a change of track is no change. Both False before `closed`, if not already so.
        """
        ...

    def closed(self, reason: CloseReason, detail: str) -> None:
        """The peer is gone; the last call, made exactly once. `detail` is for people."""
        ...


class ViewerListener(Protocol):
    """Is told what happens to a viewer's peer. Called in the event loop; must not wait."""

    def connected(self) -> None:
        """ICE and DTLS are done; media follows."""
        ...

    def closed(self, reason: CloseReason, detail: str) -> None:
        """The viewer is gone; the last call, made exactly once. `detail` is for people."""
        ...


class GuardedListener:
    """Passes all on to a listener; what that raises ends the peer at most (`on_failure`)."""

    def __init__(self, peer_id: str, listener: PeerListener, on_failure: OnFailure) -> None:
        self.dropped_audio = 0
        """Chunks that the listener had no room for."""
        self._peer_id = peer_id
        self._listener = listener
        self._on_failure = on_failure
        self._started: set[str] = set()
        self._muted = False

    def mute(self) -> None:
        """Begin no more tracks, and pass on no more messages: the peer is ending."""
        self._muted = True

    def connected(self) -> None:
        """Pass on."""
        self._tell(self._listener.connected)

    def channel_message(self, label: str, text: str) -> None:
        """Pass on. Raises MediaServerError, for the channel."""
        if self._muted:
            return
        try:
            self._listener.channel_message(label, text)
        except MediaServerError:
            raise
        except Exception as error:  # it must not reach aiortc
            log.error("peer.listener_failed", peer_id=self._peer_id, exc_info=error)
            self._on_failure("the server failed")

    def audio_started(self, mid: str) -> None:
        """Pass on; the audio of a section that was not taken is not passed on."""
        if self._muted:
            return
        try:
            self._listener.audio_started(mid)
            self._started.add(mid)
        except MediaServerError as error:
            self._on_failure(error.detail)

    def audio(self, mid: str, chunk: AudioChunk) -> None:
        """Pass on."""
        if mid not in self._started:
            return
        try:
            self._listener.audio(mid, chunk)
        except MediaServerError as error:
            if not self.dropped_audio:
                log.warning("peer.audio_dropped", peer_id=self._peer_id, code=error.specific_code)
            self.dropped_audio += 1

    def audio_ended(self, mid: str) -> None:
        """Pass on."""
        if mid in self._started:
            self._started.remove(mid)
            self._tell(self._listener.audio_ended, mid)

    def media_changed(self, audio: bool, video: bool) -> None:
        """Pass on."""
        self._tell(self._listener.media_changed, audio, video)

    def closed(self, reason: CloseReason, detail: str) -> None:
        """Pass on."""
        self._tell(self._listener.closed, reason, detail)

    def _tell(self, listener: Callable[..., None], *args: object) -> None:
        try:
            listener(*args)
        except Exception as error:  # the peer's end must not depend on who is told of it
            log.error("peer.listener_failed", peer_id=self._peer_id, exc_info=error)
            self._on_failure("the server failed")
