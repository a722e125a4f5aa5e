"""One WebRTC connection, from its offer to its end: what publishers and viewers have in common.

Everything that can take for ever in aiortc has a limit here: gathering, connecting, being silent,
closing. All of a connection's own tasks end with it.
"""

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable

from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCIceCandidate,
    RTCPeerConnection,
    RTCSessionDescription,
)

from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import Conflict, MediaServerError, Unavailable, Unprocessable
from mediaserver.kernel.logging import bind, get_logger
from mediaserver.kernel.tasks import TaskScope
from mediaserver.rtc import internals
from mediaserver.rtc.candidates import MAX_CANDIDATES, parse_candidate
from mediaserver.rtc.config import RtcConfig
from mediaserver.rtc.listener import CloseReason
from mediaserver.rtc.sdp import Offer, Rules, check_offer, finish_answer
from mediaserver.rtc.stats import PeerStats, StreamCounters
from mediaserver.rtc.watch import Watch

log = get_logger(__name__)

_NEGOTIATION_MARGIN_S = 3.0


class Connection(ABC):
    """See the module's docstring. What is sent and received is up to the subclass."""

    def __init__(self, peer_id: str, config: RtcConfig, clock: Clock) -> None:
        self.id = peer_id
        self._config = config
        self._clock = clock
        self._scope = TaskScope(f"peer {peer_id}", on_failure=self._broken)
        self._connection = RTCPeerConnection(
            RTCConfiguration(
                iceServers=config.rtc_ice_servers(), bundlePolicy=RTCBundlePolicy.MAX_BUNDLE
            )
        )
        self._connection.on("connectionstatechange", self._state_changed)
        self._negotiating = asyncio.Lock()
        self._offer: Offer | None = None
        self._early_candidates: list[RTCIceCandidate] = []
        self._candidates = 0
        self._watch: Watch | None = None
        loop = asyncio.get_running_loop()
        self._connected: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[tuple[CloseReason, str]] = loop.create_future()
        self._gone = asyncio.Event()

    # ---- what a subclass does -----------------------------------------------------------------

    @abstractmethod
    def _adopt(self, offer: Offer) -> None:
        """aiortc knows the offer, and is not answering it yet."""

    @abstractmethod
    async def _answered(self, offer: Offer) -> None:
        """An answer was made; media may begin as soon as it is connected."""

    @abstractmethod
    def _begin(self) -> None:
        """It is connected."""

    @abstractmethod
    def _counters(self) -> list[StreamCounters]:
        """Return what was counted, a media section each."""

    @abstractmethod
    async def _end_media(self) -> None:
        """It is ending; has `close_timeout_s`."""

    @abstractmethod
    def _over(self, reason: CloseReason, detail: str) -> None:
        """It is gone."""

    # ---- negotiation --------------------------------------------------------------------------

    async def _accept(
        self, sdp: str, rules: Rules, check: Callable[[Offer], None] | None = None
    ) -> str:
        """Answer an offer: the first one, or a renegotiation. The answer holds all candidates.

        Raises TooLarge, BadInput or Unprocessable for the offer, or what `check` raises (the peer
        goes on as it was), Conflict for a peer that is closed, Unavailable where there is no
        address to listen on.
        """
        async with self._negotiating:
            if self.closed:
                raise Conflict("the connection is closed; open a new one", code="peer_closed")
            offer = check_offer(sdp, rules, self._offer)
            if check is not None:
                check(offer)
            try:
                async with asyncio.timeout(self._config.gather_timeout_s + _NEGOTIATION_MARGIN_S):
                    return await self._negotiate(offer)
            except MediaServerError as error:
                self._end("failed", error.detail)
                raise
            except Exception as error:  # whatever aiortc ran into with this offer
                log.warning("peer.negotiation_failed", peer_id=self.id, exc_info=error)
                self._end("failed", "the offer could not be applied")
                raise Unprocessable(
                    f"the offer could not be applied ({type(error).__name__})", code="unusable"
                ) from error

    async def _negotiate(self, offer: Offer) -> str:
        connection, first = self._connection, self._offer is None
        await connection.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
        self._adopt(offer)
        transport = internals.transport_of(connection)
        assert transport is not None
        if first:
            internals.bind_ice(
                transport.transport, self._config.local_addresses(), self._config.gather_timeout_s
            )
        await connection.setLocalDescription(await connection.createAnswer())
        if not transport.transport.iceGatherer.getLocalCandidates():
            raise Unavailable(
                "the server has no address for media; its operator sets MEDIASERVER_ICE_INTERFACES",
                code="no_ice_address",
            )
        self._offer = offer
        await self._answered(offer)
        early, self._early_candidates = self._early_candidates, []
        for candidate in itertools.chain(offer.candidates, early):
            await self._apply_candidate(candidate)
        return finish_answer(connection.localDescription.sdp, offer)

    async def add_candidate(
        self, line: str | None, sdp_mid: str | None = None, sdp_mline_index: int | None = None
    ) -> None:
        """Take a trickled candidate (RFC 8838), also before the offer. Raises BadInput.

        End-of-candidates ("" or None) is taken note of, no more: told of it, aioice gives up as
        soon as the known candidates fail, though the peer's own checks may still reach us from an
        address that nobody named (RFC 8863). Here the connect timeout decides.
        """
        candidate = parse_candidate(line, sdp_mid, sdp_mline_index)
        if candidate is None or self.closed:
            return
        if self._offer is not None:
            await self._apply_candidate(candidate)
        elif len(self._early_candidates) < MAX_CANDIDATES:
            self._early_candidates.append(candidate)

    async def _apply_candidate(self, candidate: RTCIceCandidate) -> None:
        # All media share one transport, so it does not matter which section a candidate names.
        transport = internals.transport_of(self._connection)
        self._candidates += 1
        if transport is not None and self._candidates <= MAX_CANDIDATES:
            await transport.transport.addRemoteCandidate(candidate)

    # ---- while it lasts -----------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the peer is over, or ending."""
        return self._ended.done()

    @property
    def close_reason(self) -> CloseReason | None:
        """Why the connection is over, or ending; None while it is not."""
        return self._ended.result()[0] if self._ended.done() else None

    @property
    def credentials(self) -> tuple[str, str] | None:
        """The peer's ICE ufrag and password; None before its offer."""
        return (self._offer.ufrag, self._offer.pwd) if self._offer is not None else None

    def stats(self) -> PeerStats:
        """Return the figures of the last second."""
        return self._watch.stats if self._watch is not None else PeerStats()

    async def close(self, reason: CloseReason = "left", detail: str = "") -> None:
        """End the peer; returns when it is gone and the listener told, within a few seconds."""
        self._end(reason, detail)
        await self._gone.wait()

    # ---- its life -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Live until something ends it; `Peers` runs this as the peer's task."""
        reason: CloseReason = "failed"
        detail = "the server ended"
        try:
            with bind(peer_id=self.id):
                reason, detail = await self._live()
        finally:
            self._end(reason, detail)
            await self._tear_down()
            self._gone.set()
            log.info("peer.closed", peer_id=self.id, reason=reason, detail=detail)
            self._over(reason, detail)

    async def _live(self) -> tuple[CloseReason, str]:
        timeout_s = self._config.connect_timeout_s
        await asyncio.wait(
            (self._connected, self._ended),
            timeout=timeout_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if self._connected.done():
            log.info("peer.connected", peer_id=self.id)
            transport = internals.transport_of(self._connection)
            assert transport is not None
            self._watch = Watch(
                transport,
                self._config,
                self._clock,
                self._counters,
                lambda detail: self._end("lost", detail),
            )
            self._scope.spawn("watch", self._watch.run(self._scope))
            self._begin()
        else:
            self._end("timeout", f"not connected within {timeout_s:g} s: {self._obstacle()}")
        return await self._ended

    def _obstacle(self) -> str:
        if self._offer is None:
            return "there was no offer"
        if self._connection.iceConnectionState == "completed":
            return "the DTLS handshake did not end"
        return (
            f"no ICE check got through ({self._candidates} candidates were given); UDP between "
            "this client and the server must be possible, or a TURN server be configured"
        )

    async def _tear_down(self) -> None:
        try:
            async with asyncio.timeout(self._config.close_timeout_s):
                await self._end_media()
        except TimeoutError:
            log.error("peer.media_did_not_end", peer_id=self.id)
        await self._scope.aclose(timeout_s=self._config.close_timeout_s)
        closing = TaskScope(f"closing {self.id}")
        task = closing.spawn("connection", self._connection.close())
        _, late = await asyncio.wait((task,), timeout=self._config.close_timeout_s)
        transport = internals.transport_of(self._connection)
        if late and transport is not None:
            log.error("peer.close_timeout", peer_id=self.id)
            internals.abort(transport.transport)
        await closing.aclose(timeout_s=1.0)

    def _end(self, reason: CloseReason, detail: str) -> None:
        """The first call decides why the peer ends; it may come from anywhere."""
        if not self._ended.done():
            self._ended.set_result((reason, detail))

    # ---- what aiortc and the parts report -----------------------------------------------------

    def _state_changed(self) -> None:
        state = self._connection.connectionState
        if state == "connected" and not self._connected.done():
            self._connected.set_result(None)
        elif state == "closed":
            self._end("left", "the peer closed the connection")
        elif state == "failed" and self._connected.done():
            self._end("lost", "the connection broke")
        elif state == "failed":
            transport = internals.transport_of(self._connection)
            cause = internals.handshake_failure(transport) if transport else "unknown"
            log.warning("peer.connect_failed", peer_id=self.id, cause=cause)
            self._end("failed", cause)

    def _broken(self, task: str, error: BaseException) -> None:
        self._end("failed", f"the server failed ({task}: {type(error).__name__})")
