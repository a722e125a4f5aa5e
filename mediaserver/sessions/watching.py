"""How a member watches another one's broadcast: over a peer of its own, from here or elsewhere."""

import asyncio
from collections.abc import Callable, Coroutine

from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import (
    Conflict,
    MediaServerError,
    Overloaded,
    TooManyRequests,
)
from mediaserver.kernel.logging import get_logger
from mediaserver.kernel.tasks import TaskScope
from mediaserver.protocol.messages import ServerMessage
from mediaserver.protocol.room_events import MemberJoined, MemberLeft, MemberUpdated, RoomSnapshot
from mediaserver.protocol.rooms import Grants, MemberInfo
from mediaserver.protocol.watching import (
    EndReason,
    WatchAnswer,
    WatchCandidate,
    WatchClientMessage,
    WatchEnded,
    WatchOffer,
    WatchStop,
)
from mediaserver.relay.broadcasts import Broadcasts, Watchable
from mediaserver.relay.link import Link, no_broadcast
from mediaserver.relay.links import Links
from mediaserver.rooms.grants import check
from mediaserver.rooms.limits import TokenBucket
from mediaserver.rooms.presence import LocalMember
from mediaserver.rooms.room import Room
from mediaserver.rtc.peer import CloseReason, Peers
from mediaserver.rtc.viewing import ViewerPeer

log = get_logger(__name__)

Report = Callable[[MediaServerError, str], None]
"""Tells the member of an error, and what it answers."""

MAX_VIEWERS = 100
"""Viewers of an instance at once: each is sent, encrypted for it alone, all that it watches."""
OFFERS_HZ = 1.0
OFFERS_AT_ONCE = 5.0
MAX_EARLY_CANDIDATES = 50
_FULL_RETRY_S = 5.0
_DETAILS: dict[EndReason, str] = {
    "ended": "the member broadcasts no more",
    "left": "the member left the room",
    "lost": "the connection to the member is lost",
    "replaced": "the member broadcasts over another connection now",
    "failed": "the connection broke",
}
_RETRY_S: dict[EndReason, float] = {"lost": 2.0, "replaced": 0.5, "failed": 1.0}
"""Where trying again helps, though no event of the room announces it."""


class Watching:
    """What the watches of an instance share."""

    def __init__(
        self,
        peers: Peers,
        broadcasts: Broadcasts,
        links: Links,
        clock: Clock,
        most: int = MAX_VIEWERS,
    ) -> None:
        self.peers = peers
        self.clock = clock
        self.viewers = 0
        self._broadcasts = broadcasts
        self._links = links
        self._most = most

    def take_place(self) -> None:
        """Count a viewer. Raises Overloaded (`watch_full`)."""
        if self.viewers >= self._most:
            raise Overloaded(
                f"{self._most} viewers watch on this instance, its limit",
                code="watch_full",
                retry_after_s=_FULL_RETRY_S,
            )
        self.viewers += 1

    def give_place(self) -> None:
        """A viewer that was counted is gone."""
        self.viewers -= 1

    async def source(self, room: str, member_id: str) -> Watchable:
        """Return a broadcast to read; `release` it. Raises what `Links.hold` raises."""
        local = self._broadcasts.find(room, member_id)
        return local if local is not None else await self._links.hold(room, member_id)

    def release(self, source: Watchable) -> None:
        """Read it no more."""
        if isinstance(source, Link):
            self._links.release(source)


class _Watch:
    """One watch: what it holds, and the listener of its peer."""

    def __init__(
        self,
        shared: Watching,
        member_id: str,
        on_closed: Callable[["_Watch", CloseReason, str], None],
    ) -> None:
        """Raises Overloaded (`watch_full`)."""
        shared.take_place()
        self.member_id = member_id
        self.source: Watchable | None = None
        self.answered = self.over = False
        self.following: asyncio.Task[None] | None = None
        """Waits for the source's end."""
        self._shared = shared
        self._peer: ViewerPeer | None = None
        self._on_closed = on_closed
        self._closed = False

    async def begin(self, room: str, sdp: str) -> str:
        """Return the answer. Raises what `Links.hold` and `ViewerPeer.accept` raise."""
        self.source = await self._shared.source(room, self.member_id)
        self._peer = self._shared.peers.open_viewer(self.source, self)
        return await self._peer.accept(sdp)

    async def add_candidate(self, candidate: WatchCandidate) -> None:
        """Take a trickled candidate. Raises BadInput."""
        if self._peer is not None:
            await self._peer.add_candidate(
                candidate.candidate, candidate.sdp_mid, candidate.sdp_mline_index
            )

    async def close(self) -> None:
        """Close the peer, and give back what is held. Idempotent."""
        if self._closed:
            return
        self._closed = self.over = True
        if self.following is not None:
            self.following.cancel()
        try:
            if self._peer is not None:
                await self._peer.close()
        finally:
            if self.source is not None:
                self._shared.release(self.source)
            self._shared.give_place()

    # ---- ViewerListener -----------------------------------------------------------------------

    def connected(self) -> None:
        """Nothing to do: media follows."""

    def closed(self, reason: CloseReason, detail: str) -> None:
        """The peer is gone."""
        self._on_closed(self, reason, detail)


class MemberWatch:
    """What one session watches: one broadcast at a time."""

    def __init__(
        self,
        shared: Watching,
        room: Room,
        member: LocalMember,
        tell: Callable[[ServerMessage], None],
    ) -> None:
        self._shared = shared
        self._room = room
        self._member = member
        self._tell = tell
        self._offers = TokenBucket(OFFERS_HZ, OFFERS_AT_ONCE)
        self._beginning: asyncio.Task[None] | None = None
        self._early: list[WatchCandidate] = []
        self._watch: _Watch | None = None
        self._scope = TaskScope(f"watch {member.record.member_id}")

    # ---- what the member asks -----------------------------------------------------------------

    def take(self, message: WatchClientMessage, report: Report) -> None:
        """Take a message; an offer is answered later, its error given to `report`.

        Raises Forbidden, TooManyRequests, BadInput.
        """
        match message:
            case WatchOffer():
                check(self._member.grants, "can_subscribe", self._member.record)
                if not self._offers.take(self._shared.clock.monotonic_s()):
                    raise TooManyRequests(
                        "too many offers to watch; offer again later",
                        retry_after_s=round(self._offers.wait_s(), 3),
                    )
                self._early.clear()
                work = self._offer(message, report, self._beginning)
                self._beginning = self._spawn("offer", work)
            case WatchCandidate():
                if self._beginning is not None and not self._beginning.done():
                    self._early.append(message)
                    del self._early[MAX_EARLY_CANDIDATES:]
                elif self._watch is not None:
                    self._spawn("candidate", self._candidate(self._watch, message, report))
            case WatchStop():
                self._early.clear()
                self._beginning = self._spawn("stop", self._stop(self._beginning))

    async def _offer(
        self, message: WatchOffer, report: Report, before: asyncio.Task[None] | None
    ) -> None:
        try:
            await _call_off(before)
            await self._drop()
            await self._begin(message)
        except MediaServerError as error:
            report(error, message.id or message.type)
        except asyncio.CancelledError:
            newer = Conflict("a newer offer, or `watch.stop`, took its place", code="replaced")
            report(newer, message.id or message.type)
            raise
        while self._early and self._watch is not None:
            await self._candidate(self._watch, self._early.pop(0), report)

    async def _stop(self, before: asyncio.Task[None] | None) -> None:
        await _call_off(before)
        await self._drop()

    async def _begin(self, message: WatchOffer) -> None:
        """Raises NotFound, Overloaded, Unavailable, BadInput, Unprocessable, TooLarge, Conflict."""
        target = self._target(message.member_id)
        watch = self._watch = _Watch(self._shared, target, self._peer_closed)
        self._room.observers.add(self._observe)
        try:
            sdp = await watch.begin(self._room.name, message.sdp)
            if watch.over:
                raise no_broadcast()
        except BaseException:
            if self._watch is watch:
                self._watch = None
            await watch.close()
            raise
        watch.answered = True
        self._tell(WatchAnswer(sdp=sdp, member_id=target, in_reply_to=message.id))
        watch.following = self._spawn("follow", self._end_with_source(watch))

    async def _candidate(self, watch: _Watch, message: WatchCandidate, report: Report) -> None:
        try:
            await watch.add_candidate(message)
        except MediaServerError as error:
            report(error, message.type)

    def _target(self, member_id: str | None) -> str:
        """Whose broadcast is meant. Raises NotFound (`no_broadcast`)."""
        own = self._member.record.member_id
        found = [
            m
            for m in self._room.replica.view.members.values()
            if m.broadcast is not None and (m.member_id == member_id or member_id is None)
        ]
        found = [m for m in found if m.member_id != own or member_id is not None]
        if not found:
            raise no_broadcast()
        found.sort(key=lambda m: (not (m.broadcast and m.broadcast.video), m.joined_at))
        return found[0].member_id

    # ---- how it ends --------------------------------------------------------------------------

    def granted(self, grants: Grants) -> None:
        """End what may not be watched any more."""
        if not grants.can_subscribe and self._watch is not None:
            self._over(self._watch, "failed", "you may not watch any more", retry_after_s=None)

    async def close(self) -> None:
        """End it without a word: the session is over."""
        await self._scope.aclose()
        await self._drop()

    async def _end_with_source(self, watch: _Watch) -> None:
        assert watch.source is not None
        await watch.source.ended.wait()
        reason = watch.source.end_reason or "ended"
        self._over(watch, reason, retry_after_s=_RETRY_S.get(reason))

    def _peer_closed(self, watch: _Watch, why: CloseReason, detail: str) -> None:
        if why == "left" and not watch.over:  # the viewer closed it: it knows
            watch.over = True
            if self._watch is watch:
                self._watch = None
            self._spawn("close", watch.close())
            return
        source = watch.source
        own: EndReason = "ended" if why == "ended" else "failed"
        reason = (source.end_reason if source is not None else None) or own
        self._over(watch, reason, detail, retry_after_s=_RETRY_S.get(reason))

    def _observe(self, message: ServerMessage) -> None:
        """An event of the room: it may be the end, also where the other instance is dead."""
        watch = self._watch
        if watch is None:
            return
        match message:
            case MemberLeft(member_id=member_id, reason=why) if member_id == watch.member_id:
                self._over(watch, "lost" if why == "lost" else "left")
            case MemberUpdated(member=info) if _shows_nothing(info, watch):
                self._over(watch, "ended")
            case MemberJoined(member=info) if _shows_nothing(info, watch):
                self._over(watch, "replaced")
            case RoomSnapshot(members=members):
                if not any(m.member_id == watch.member_id and m.broadcast for m in members):
                    self._over(watch, "ended")
            case _:
                pass

    def _over(
        self, watch: _Watch, reason: EndReason, detail: str = "", retry_after_s: float | None = None
    ) -> None:
        """The first call tells why."""
        if watch.over:
            return
        watch.over = True
        if self._watch is watch and watch.answered:
            self._watch = None
            self._tell(
                WatchEnded(
                    member_id=watch.member_id,
                    reason=reason,
                    detail=detail or _DETAILS[reason],
                    retry_after_s=retry_after_s,
                )
            )
            self._spawn("close", watch.close())

    async def _drop(self) -> None:
        """End what is watched, without a word."""
        self._room.observers.discard(self._observe)
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.over = True
            await watch.close()

    def _spawn(self, name: str, work: Coroutine[None, None, None]) -> "asyncio.Task[None] | None":
        if self._scope.closed:
            work.close()
            return None
        return self._scope.spawn(name, work)


async def _call_off(beginning: asyncio.Task[None] | None) -> None:
    if beginning is not None and not beginning.done():
        beginning.cancel()
        await asyncio.wait((beginning,))


def _shows_nothing(info: MemberInfo, watch: _Watch) -> bool:
    return info.member_id == watch.member_id and info.broadcast is None
