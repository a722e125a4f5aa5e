"""What members that are connected here broadcast: found by who watches, here and elsewhere."""

import asyncio
import weakref
from collections.abc import Mapping
from typing import Protocol

from mediaserver.kernel.ids import new_id
from mediaserver.kernel.logging import get_logger
from mediaserver.protocol.watching import EndReason
from mediaserver.rtc.encoded import MediaSource, Tap
from mediaserver.rtc.stats import MediaKind

log = get_logger(__name__)


class Watchable(MediaSource, Protocol):
    """A broadcast, of here or of another instance."""

    ended: asyncio.Event
    """Set when it is over."""
    end_reason: EndReason | None
    """Why it is over; None while it is not."""


class LocalBroadcast:
    """A member's broadcast, from its beginning to its end. A `Watchable`."""

    def __init__(self, source: MediaSource) -> None:
        self.id = new_id("b", 12)
        self.ended = asyncio.Event()
        self.end_reason: EndReason | None = None
        self._source = source
        self._taps: weakref.WeakSet[Tap] = weakref.WeakSet()

    @property
    def codecs(self) -> Mapping[MediaKind, str]:
        """What is sent now, of each kind."""
        return self._source.codecs

    def open_tap(self) -> Tap:
        """Read from now on; after the end: an ended tap."""
        tap = self._source.open_tap()
        if self.end_reason is not None:
            tap.close()
        else:
            self._taps.add(tap)
        return tap

    def request_keyframe(self) -> None:
        """Ask the sender for a keyframe."""
        self._source.request_keyframe()

    def end(self, reason: EndReason) -> None:
        """End it for all who watch, though its source may go on. The first call's reason counts."""
        if self.end_reason is None:
            self.end_reason = reason
            self.ended.set()
            for tap in tuple(self._taps):
                tap.close()


class Broadcasts:
    """All broadcasts of members that are connected here, by room and member."""

    def __init__(self) -> None:
        self._broadcasts: dict[tuple[str, str], LocalBroadcast] = {}

    def __len__(self) -> int:
        return len(self._broadcasts)

    def begin(self, room: str, member_id: str, source: MediaSource) -> LocalBroadcast:
        """Let a member's media be watched; what it broadcast before is replaced."""
        before = self._broadcasts.get((room, member_id))
        if before is not None:
            before.end("replaced")
        broadcast = self._broadcasts[room, member_id] = LocalBroadcast(source)
        log.info("broadcast.began", broadcast_id=broadcast.id, member_id=member_id)
        return broadcast

    def end(self, room: str, member_id: str, broadcast: LocalBroadcast, reason: EndReason) -> None:
        """End a broadcast; also one that was replaced."""
        if self._broadcasts.get((room, member_id)) is broadcast:
            del self._broadcasts[room, member_id]
        broadcast.end(reason)
        log.info("broadcast.ended", broadcast_id=broadcast.id, reason=broadcast.end_reason)

    def find(self, room: str, member_id: str) -> LocalBroadcast | None:
        """Return what a member that is connected here broadcasts."""
        return self._broadcasts.get((room, member_id))
