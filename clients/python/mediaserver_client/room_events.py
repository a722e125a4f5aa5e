"""What the server sends in a room: see `mediaserver.protocol.room_events`.

What carries a `seq` is an event of the room's log, and comes in order and once, also over
reconnects; what carries none is of the moment.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from mediaserver_client.room_types import (
    Grants,
    MemberInfo,
    PlaybackState,
    QueueItem,
    RoomInfo,
    RoomRole,
    RoomSettings,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomSnapshot:
    """How things stand in the room at `seq`; chat and captions so far follow as messages."""

    TYPE: ClassVar = "room.snapshot"
    seq: int
    log_id: str
    room: RoomInfo
    members: tuple[MemberInfo, ...]
    queue: tuple[QueueItem, ...]
    playback: PlaybackState


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomResumed:
    """What was missed follows: `count` events."""

    TYPE: ClassVar = "room.resumed"
    seq: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomTold:
    """Event `seq` is what you were told before without its number."""

    TYPE: ClassVar = "room.told"
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomUpdated:
    """The room's settings changed."""

    TYPE: ClassVar = "room.updated"
    seq: int
    settings: RoomSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomClosed:
    """The room is closed, and this connection with it."""

    TYPE: ClassVar = "room.closed"
    seq: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomStatus:
    """Whether the room is connected to the server's other instances."""

    TYPE: ClassVar = "room.status"
    state: Literal["live", "away"]
    """`away`: captions go on among the members of this instance; all else waits."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberJoined:
    """Somebody came."""

    TYPE: ClassVar = "member.joined"
    seq: int
    member: MemberInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberUpdated:
    """Somebody's name, role or mutes changed."""

    TYPE: ClassVar = "member.updated"
    seq: int
    member: MemberInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberLeft:
    """Somebody went."""

    TYPE: ClassVar = "member.left"
    seq: int
    member_id: str
    reason: Literal["left", "lost", "kicked", "banned", "expired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What you may do from now on."""

    TYPE: ClassVar = "grants"
    role: RoomRole
    grants: Grants


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatEdited:
    """A message was changed."""

    TYPE: ClassVar = "chat.edited"
    seq: int
    message_id: str
    text: str
    edited_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatDeleted:
    """A message was deleted."""

    TYPE: ClassVar = "chat.deleted"
    seq: int
    message_id: str
    by: str
    """Member id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatReacted:
    """A message's reactions, all of them."""

    TYPE: ClassVar = "chat.reacted"
    seq: int
    message_id: str
    reactions: dict[str, tuple[str, ...]]
    """Emoji to member ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SomebodyTyping:
    """Somebody is writing, or stopped."""

    TYPE: ClassVar = "member.typing"
    member_id: str
    typing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """An emoji floats over the player."""

    TYPE: ClassVar = "reaction"
    member_id: str
    emoji: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaybackMessage:
    """Playback changed."""

    TYPE: ClassVar = "playback"
    seq: int
    state: PlaybackState
    by: str | None = None
    """Member id; None where the server did it (barrier, end of an item)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueMessage:
    """The queue as it is now."""

    TYPE: ClassVar = "queue"
    seq: int
    items: tuple[QueueItem, ...]
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockPong:
    """The answer to `ClockPing`: all in seconds."""

    TYPE: ClassVar = "clock.pong"
    t0: float
    t1: float
    """Shared clock when the ping came."""
    t2: float
    """Shared clock when this left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """A command was done."""

    TYPE: ClassVar = "ack"
    id: str
    seq: int | None = None
    """Of the event that it caused, if any."""


RoomServerMessage = (
    RoomSnapshot
    | RoomResumed
    | RoomTold
    | RoomUpdated
    | RoomClosed
    | RoomStatus
    | MemberJoined
    | MemberUpdated
    | MemberLeft
    | Granted
    | ChatEdited
    | ChatDeleted
    | ChatReacted
    | SomebodyTyping
    | Reaction
    | PlaybackMessage
    | QueueMessage
    | ClockPong
    | Ack
)
