"""A viewer: one browser that watches a broadcast by WebRTC.

    viewer = peers.open_viewer(source, listener)   # a MediaSource; listener: a ViewerListener
    answer = await viewer.accept(offer_sdp)        # recvonly sections, one of a kind at most
    await viewer.add_candidate(line, mid, index)
    viewer.stats()                                 # what it is sent
    await viewer.close("left")

It gets the source's frames as they are. As soon as it is connected it opens a tap, which asks the
sender for a keyframe. What it loses is sent again (`sender`); one that cannot take all of it in
time loses pictures up to the next keyframe (`encoded.Tap`), and nobody else does.
"""

import asyncio
import random
from collections.abc import Callable

from mediaserver.kernel.channels import ChannelClosed
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import Unprocessable
from mediaserver.kernel.logging import get_logger
from mediaserver.rtc import internals
from mediaserver.rtc.config import RtcConfig
from mediaserver.rtc.connection import Connection
from mediaserver.rtc.encoded import EncodedFrame, MediaSource, Tap
from mediaserver.rtc.listener import CloseReason, ViewerListener
from mediaserver.rtc.sdp import VIEWER_RULES, Offer
from mediaserver.rtc.sender import Sender
from mediaserver.rtc.stats import MediaKind, PeerStats, StreamCounters

log = get_logger(__name__)

MAX_UNSENT_BYTES = 256 * 1024
"""That may wait for the socket; more is left in the tap, which drops it."""
UNSENT_PAUSE_S = 0.02
KEYFRAME_INTERVAL_S = 0.5
"""At most so often a viewer's wish for a keyframe goes on to the source: each costs all viewers."""
START_TIMEOUT_S = 5.0
_NTP_EPOCH_S = 2_208_988_800
"""From 1900 to 1970."""


class ViewerPeer(Connection):
    """See the module's docstring. Made by `Peers.open_viewer`."""

    def __init__(
        self,
        peer_id: str,
        config: RtcConfig,
        source: MediaSource,
        listener: ViewerListener,
        clock: Clock,
    ) -> None:
        super().__init__(peer_id, config, clock)
        self._source = source
        self._listener = listener
        self._senders: dict[MediaKind, Sender] = {}
        self._keyframe_asked_s: float | None = None
        self._tap: Tap | None = None

    @property
    def dropped(self) -> int:
        """Frames that this viewer lost because it, or the way to it, was too slow."""
        return self._tap.dropped if self._tap is not None else 0

    def stats(self) -> PeerStats:
        """Return the figures of the last second: what was sent, and lost by the viewer's reports.

        The rates are of what was sent, with what was sent again.
        """
        return super().stats()

    async def accept(self, sdp: str) -> str:
        """Answer an offer: the first one, or a renegotiation. The answer holds all candidates.

        The codecs that the source sends now come first. Raises TooLarge, BadInput or Unprocessable
        for the offer (`codec_unsupported` if it does not have the source's codec; the peer goes on
        as it was), Conflict for a viewer that is closed, Unavailable where there is no address to
        listen on.
        """
        return await self._accept(sdp, VIEWER_RULES, self._check_codecs)

    def _check_codecs(self, offer: Offer) -> None:
        for section in offer.sections:
            codec = self._source.codecs.get("audio" if section.kind == "audio" else "video")
            if codec is not None and not section.stopped and codec not in section.codecs:
                raise Unprocessable(
                    f"the broadcast's {section.kind} is {codec}, and the offer has "
                    f"{', '.join(section.codecs)} of what is spoken here; offer {codec} too",
                    code="codec_unsupported",
                )

    # ---- what the connection tells ------------------------------------------------------------

    def _adopt(self, offer: Offer) -> None:
        for transceiver in self._connection.getTransceivers():
            if isinstance(transceiver.sender, Sender):
                continue
            kind: MediaKind = "audio" if transceiver.kind == "audio" else "video"
            sender = Sender(
                kind, transceiver.receiver.transport, self._clock, self._keyframe_wanted
            )
            internals.replace_sender(transceiver, sender)
            transceiver.direction = "sendonly"
            codec = self._source.codecs.get(kind)
            if codec is not None:
                internals.prefer_codec(transceiver, codec)
            self._senders[kind] = sender

    async def _answered(self, offer: Offer) -> None:
        """Media begins when it is connected."""

    def _begin(self) -> None:
        self._scope.spawn("media", self._send_media())
        self._scope.spawn("rtcp", self._report())
        self._tell(self._listener.connected)

    def _counters(self) -> list[StreamCounters]:
        return [sender.counters() for sender in self._senders.values()]

    async def _end_media(self) -> None:
        """The tasks end with the scope, and the tap with its task."""

    def _over(self, reason: CloseReason, detail: str) -> None:
        self._tell(self._listener.closed, reason, detail)

    def _tell(self, listener: Callable[..., None], *args: object) -> None:
        try:
            listener(*args)
        except Exception as error:  # the viewer's end must not depend on who is told of it
            log.error("peer.listener_failed", peer_id=self.id, exc_info=error)
            self._end("failed", "the server failed")

    # ---- media --------------------------------------------------------------------------------

    async def _send_media(self) -> None:
        async with asyncio.timeout(START_TIMEOUT_S):
            for transceiver in self._connection.getTransceivers():
                sender = transceiver.sender
                if isinstance(sender, Sender) and transceiver.currentDirection == "sendonly":
                    await sender.started.wait()
        with self._source.open_tap() as tap:
            self._tap = tap
            try:
                while True:
                    await self._send(await tap.get())
            except ChannelClosed:
                self._end("ended", "the broadcast is over")
            except Unprocessable as error:
                self._end("failed", error.detail)

    async def _send(self, frame: EncodedFrame) -> None:
        sender = self._senders.get(frame.kind)
        transport = internals.transport_of(self._connection)
        if sender is None or transport is None:
            return
        # asyncio tells nobody when a datagram transport has room again.
        while internals.unsent_bytes(transport.transport) > MAX_UNSENT_BYTES:  # noqa: ASYNC110
            await asyncio.sleep(UNSENT_PAUSE_S)
        await sender.send_frame(frame)

    def _keyframe_wanted(self) -> None:
        now_s = self._clock.monotonic_s()
        asked_s = self._keyframe_asked_s
        if asked_s is None or now_s - asked_s >= KEYFRAME_INTERVAL_S:
            self._keyframe_asked_s = now_s
            self._source.request_keyframe()

    async def _report(self) -> None:
        """Send the sender reports of all sections about every second, soon at first."""
        epoch_s = _NTP_EPOCH_S + self._clock.wall_s() - self._clock.monotonic_s()
        pause_s = 0.1
        while True:
            await asyncio.sleep(pause_s * (0.5 + random.random()))  # noqa: S311 (spread)
            pause_s = min(1.0, pause_s * 1.5)
            for sender in self._senders.values():
                await sender.report(epoch_s)
