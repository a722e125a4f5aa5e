"""A room on this instance: its members and what everybody there is told, in one order.

Captions and chat get rising sequence numbers. Who joins gets the tracks that are live and the
newest finals, so a page that was away for a moment shows what was said.
"""

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from mediaserver.kernel.errors import Overloaded
from mediaserver.protocol.messages import (
    Caption,
    Chat,
    ServerMessage,
    TrackEnded,
    TrackStarted,
)

MAX_MEMBERS = 200
KEPT_FINALS = 50
KEPT_CHAT = 50

Deliver = Callable[[ServerMessage, Hashable | None], None]
"""Takes a message for one member and, for a partial, its coalescing key. Never raises or waits."""


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody in a room; without `deliver` a mere publisher (WHIP)."""

    id: str
    name: str
    deliver: Deliver | None


class Room:
    """See the module's docstring."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._members: dict[str, Member] = {}
        self._tracks: dict[str, TrackStarted] = {}
        self._finals: deque[Caption] = deque(maxlen=KEPT_FINALS)
        self._chat: deque[Chat] = deque(maxlen=KEPT_CHAT)
        self._seq = 0

    def __len__(self) -> int:
        return len(self._members)

    def next_seq(self) -> int:
        """The number of the next event."""
        self._seq += 1
        return self._seq

    def join(self, member: Member) -> None:
        """Add a member and tell it how things stand. Raises Overloaded."""
        if len(self._members) >= MAX_MEMBERS:
            raise Overloaded(
                f"room {self.name} has {MAX_MEMBERS} members, its limit",
                code="room_full",
                retry_after_s=10.0,
            )
        self._members[member.id] = member
        if member.deliver is not None:
            so_far: list[ServerMessage] = [*self._tracks.values(), *self._finals, *self._chat]
            for message in so_far:
                member.deliver(message, None)

    def leave(self, member_id: str) -> None:
        """Remove a member."""
        self._members.pop(member_id, None)

    def track_started(self, message: TrackStarted) -> None:
        """Tell everybody of a new track."""
        self._tracks[message.track_id] = message
        self._tell(message)

    def track_ended(self, message: TrackEnded) -> None:
        """Tell everybody that a track is over."""
        self._tracks.pop(message.track_id, None)
        self._tell(message)

    def caption(self, message: Caption) -> None:
        """Tell everybody what is said.

        A caption holds the whole utterance, so an unsent one gives way to a newer one of the same
        utterance; the complete one is never dropped.
        """
        if message.final:
            self._finals.append(message)
        self._tell(message, None if message.final else ("caption", message.caption_id))

    def chat(self, message: Chat) -> None:
        """Tell everybody what somebody wrote."""
        self._chat.append(message)
        self._tell(message)

    def tell(self, message: ServerMessage, key: Hashable | None = None) -> None:
        """Tell everybody something else."""
        self._tell(message, key)

    def _tell(self, message: ServerMessage, key: Hashable | None = None) -> None:
        for member in list(self._members.values()):
            if member.deliver is not None:
                member.deliver(message, key)


class Rooms:
    """The rooms of this instance that somebody is in."""

    def __init__(self) -> None:
        self._rooms: dict[str, Room] = {}

    def __len__(self) -> int:
        return len(self._rooms)

    def enter(self, name: str, member: Member) -> Room:
        """Join the room, which is made if need be. Raises Overloaded."""
        room = self._rooms.get(name) or Room(name)
        room.join(member)
        self._rooms[name] = room
        return room

    def exit(self, room: Room, member_id: str) -> None:
        """Leave the room; the last one's leaving ends it."""
        room.leave(member_id)
        if not len(room) and self._rooms.get(room.name) is room:
            del self._rooms[room.name]
