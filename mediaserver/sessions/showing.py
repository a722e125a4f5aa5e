"""What a member's peer sends, as its room sees it: who may watch it, and who is told of it."""

import asyncio

from mediaserver.protocol.rooms import BroadcastInfo
from mediaserver.protocol.watching import EndReason
from mediaserver.relay.broadcasts import Broadcasts, LocalBroadcast
from mediaserver.rooms.decision import Broadcasting
from mediaserver.rooms.presence import Joined
from mediaserver.rooms.room import Room
from mediaserver.rtc.encoded import MediaSource

TELL_INTERVAL_S = 0.5
"""Between two changes that the room is told; the newest is told in the end."""


class Showing:
    """Of one peer; `close` ends it. Nothing here waits or raises."""

    def __init__(
        self, broadcasts: Broadcasts, room: Room, joined: Joined, source: MediaSource
    ) -> None:
        self._broadcasts = broadcasts
        self._room = room
        self._joined = joined
        self._source = source
        self._sent: BroadcastInfo | None = None
        self._closed = self._leaving = False
        self._broadcast: LocalBroadcast | None = None
        self._wanted: BroadcastInfo | None = None
        self._told: BroadcastInfo | None = None
        self._certain = True
        """Whether the room shows what it was told: it forgets what a muted member broadcasts."""
        self._told_at_s = -TELL_INTERVAL_S
        self._timer: asyncio.TimerHandle | None = None

    def media_changed(self, audio: bool, video: bool) -> None:
        """The peer sends this now."""
        self._sent = BroadcastInfo(audio=audio, video=video) if audio or video else None
        self._settle("ended")

    def regranted(self) -> None:
        """What the member may do has changed."""
        self._certain = False
        self._settle("ended")

    def close(self, reason: EndReason) -> None:
        """The peer is over, or its member leaves (`left`, `lost`).

        Its leaving says all, so that the room is told of the broadcast only if that takes long.
        """
        self._closed, self._leaving = True, reason in ("left", "lost")
        self._settle(reason)

    def _settle(self, reason: EndReason) -> None:
        member = self._joined.member
        shown = self._sent is not None and member.grants.can_publish and not self._closed
        where = (self._room.name, member.record.member_id)
        if shown and self._broadcast is None:
            self._broadcast = self._broadcasts.begin(*where, self._source)
        elif not shown and self._broadcast is not None:
            self._broadcasts.end(*where, self._broadcast, reason)
            self._broadcast = None
        self._tell(self._sent if shown else None)

    def _tell(self, wanted: BroadcastInfo | None) -> None:
        """Tell the room, but not of every flicker."""
        self._wanted = wanted
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if not self._closed:
                return
            self._timer.cancel()
        wait_s = self._told_at_s + TELL_INTERVAL_S - loop.time()
        if self._closed:
            wait_s = TELL_INTERVAL_S if self._leaving else 0.0
        if wait_s > 0:
            self._timer = loop.call_later(wait_s, self._tell_now)
        else:
            self._tell_now()

    def _tell_now(self) -> None:
        self._timer = None
        member_id, connection = self._joined.member.record.member_id, self._joined.connection
        if self._wanted == self._told and self._certain:
            return
        if self._room.members.get(member_id) is not self._joined.member:
            return  # it left
        self._certain = True
        self._told, self._told_at_s = self._wanted, asyncio.get_running_loop().time()
        self._room.broadcasting(Broadcasting(member_id, connection, self._wanted))
