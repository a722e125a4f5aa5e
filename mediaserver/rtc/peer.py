"""A WebRTC peer: one browser or publisher, from its offer to its end.

    peers = Peers(RtcConfig(...))             # one a server
    peer = peers.open(listener)               # listener: a PeerListener; told `closed` exactly once
    answer = await peer.accept(offer_sdp)     # again for each renegotiation
    await peer.add_candidate(line, mid, index)  # trickle, before or after the offer
    peer.send("captions", json, key=..., replaces=...)  # False: that channel is not open
    peer.broadcast                            # a MediaSource: what it sends, to be watched
    peer.stats()                              # PeerStats of the last second
    peer.videos["1"].open_viewer()            # newest frames; decoded only while somebody looks
    await peer.stop_audio()                   # what came is handed on, audio_ended is told
    await peer.flush(1.0)                     # wait until the peer has all messages
    await peer.close("left")                  # bounded, idempotent
    peers.open_viewer(peer.broadcast, listener)  # a ViewerPeer (see `viewing`)
    await peers.aclose()

What it has in common with other connections is in `connection`.
"""

import asyncio
from collections.abc import Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor

from mediaserver.kernel.clocks import Clock, SystemClock
from mediaserver.kernel.errors import BadInput, SlowConsumer, Unavailable
from mediaserver.kernel.ids import new_id
from mediaserver.kernel.logging import get_logger
from mediaserver.kernel.tasks import TaskScope
from mediaserver.rtc.broadcast import Broadcast
from mediaserver.rtc.config import RtcConfig
from mediaserver.rtc.connection import Connection
from mediaserver.rtc.datachannels import DataChannels
from mediaserver.rtc.encoded import MediaSource
from mediaserver.rtc.listener import CloseReason, GuardedListener, PeerListener, ViewerListener
from mediaserver.rtc.sdp import SESSION_RULES, Offer, Rules
from mediaserver.rtc.sections import Sections
from mediaserver.rtc.stats import PeerStats, StreamCounters
from mediaserver.rtc.video import VideoTrack
from mediaserver.rtc.viewing import ViewerPeer

__all__ = ["CloseReason", "Peer", "PeerListener", "PeerStats", "Peers", "RtcConfig"]

log = get_logger(__name__)


class Peer(Connection):
    """See the module's docstring. Made by `Peers.open`."""

    def __init__(
        self,
        peer_id: str,
        config: RtcConfig,
        listener: PeerListener,
        clock: Clock,
        executor: ThreadPoolExecutor,
    ) -> None:
        super().__init__(peer_id, config, clock)
        self._listener = GuardedListener(peer_id, listener, self._fail)
        self._sections = Sections(self._scope, clock, executor, self._listener)
        self._channels = DataChannels(self._scope, self._listener.channel_message, self._let_go)

    async def accept(self, sdp: str, rules: Rules = SESSION_RULES) -> str:
        """Answer an offer: the first one, or a renegotiation. The answer holds all candidates.

        Raises TooLarge, BadInput or Unprocessable for the offer (the peer goes on as it was),
        Conflict for a peer that is closed, Unavailable where there is no address to listen on.
        """
        return await self._accept(sdp, rules)

    @property
    def videos(self) -> Mapping[str, VideoTrack]:
        """The video tracks by their mid."""
        return self._sections.videos

    @property
    def broadcast(self) -> Broadcast:
        """What the peer sends, to be watched as it is; its end is the peer's."""
        return self._sections.broadcast

    @property
    def dropped(self) -> int:
        """Messages and audio chunks that were dropped for this peer."""
        return self._channels.dropped + self._listener.dropped_audio

    def channel_open(self, label: str) -> bool:
        """Whether `send` reaches the peer on this channel."""
        return not self.closed and self._channels.is_open(label)

    def send(
        self,
        label: str,
        text: str,
        key: Hashable | None = None,
        replaces: Hashable | None = None,
    ) -> bool:
        """Queue a message on `captions`, `chat` or `metrics`; False if that channel is not open.

        A newer message takes the place of an unsent one of the same `key` (a partial); without a
        key it is kept (a final), and a peer that leaves too many unread is closed as `slow`.
        `replaces` names the key of a partial that this final supersedes. Raises TooLarge.
        """
        return not self.closed and self._channels.send(label, text, key, replaces)

    async def stop_audio(self) -> None:
        """Take no more audio; what came is handed on, and `audio_ended` is told, before this ends.

        Data channels go on, for the finals that are still to come.
        """
        await self._sections.end_audio()

    async def flush(self, timeout_s: float) -> bool:
        """Wait until the peer has acknowledged all messages; False if it does not in time."""
        return self.closed or await self._channels.flush(timeout_s)

    # ---- what the connection tells ------------------------------------------------------------

    def _adopt(self, offer: Offer) -> None:
        self._sections.adopt(self._connection)
        if offer.has_data:
            self._channels.create(self._connection)

    async def _answered(self, offer: Offer) -> None:
        await self._sections.apply(offer)

    def _begin(self) -> None:
        self._listener.connected()

    def _counters(self) -> list[StreamCounters]:
        return self._sections.counters()

    async def _end_media(self) -> None:
        self._listener.mute()
        self._channels.close()
        self._sections.close()
        await self._sections.end_audio()

    def _over(self, reason: CloseReason, detail: str) -> None:
        self._listener.closed(reason, detail)

    def _let_go(self, error: SlowConsumer | BadInput) -> None:
        self._end("slow" if isinstance(error, SlowConsumer) else "failed", error.detail)

    def _fail(self, detail: str) -> None:
        self._end("failed", detail)


class Peers:
    """All peers of a server: it opens them, and none outlives it."""

    def __init__(self, config: RtcConfig, clock: Clock | None = None) -> None:
        self.config = config
        self._clock = clock or SystemClock()
        self._scope = TaskScope("peers")
        self._peers: set[Peer] = set()
        self._viewers: set[ViewerPeer] = set()
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="video-decoder")

    def __len__(self) -> int:
        return len(self._peers)

    @property
    def viewers(self) -> int:
        """How many viewers there are."""
        return len(self._viewers)

    def open(self, listener: PeerListener, peer_id: str | None = None) -> Peer:
        """Make a peer, which has `connect_timeout_s` to be connected. Raises Unavailable."""
        self._must_be_open()
        peer = Peer(peer_id or new_id("p", 12), self.config, listener, self._clock, self._executor)
        self._peers.add(peer)
        task = self._scope.spawn(peer.id, peer.run())
        task.add_done_callback(lambda _: self._peers.discard(peer))
        return peer

    def open_viewer(
        self, source: MediaSource, listener: ViewerListener, peer_id: str | None = None
    ) -> ViewerPeer:
        """Make a peer that watches `source`; as long to be connected. Raises Unavailable."""
        self._must_be_open()
        viewer = ViewerPeer(peer_id or new_id("v", 12), self.config, source, listener, self._clock)
        self._viewers.add(viewer)
        task = self._scope.spawn(viewer.id, viewer.run())
        task.add_done_callback(lambda _: self._viewers.discard(viewer))
        return viewer

    def _must_be_open(self) -> None:
        if self._scope.closed:
            raise Unavailable("this server is stopping", code="draining", retry_after_s=5.0)

    async def aclose(self) -> None:
        """Close all peers, at once and within a few seconds; no more can be opened."""
        closing = [
            peer.close("left", "the server is stopping")
            for peer in (*tuple(self._viewers), *tuple(self._peers))
        ]
        limit_s = 3 * self.config.close_timeout_s + 2.0
        try:
            async with asyncio.timeout(limit_s):
                await asyncio.gather(*closing)
        except TimeoutError:
            log.error("peers.did_not_close", timeout_s=limit_s)
        await self._scope.aclose(timeout_s=1.0)
        self._executor.shutdown(wait=False, cancel_futures=True)
