"""What the server sends in a room, besides `messages`.

Every event of a room carries `seq`, rising by one within the room's log (`Welcome.log_id` names
it). A client that comes back connects with ``resume=LOG_ID:SEQ`` and gets `room.resumed` and what
it missed, in order, once; or `room.snapshot`, where that is too long ago. Messages without a `seq`
are of the moment: typing, floating reactions, clock exchanges.
"""

from typing import Literal

from mediaserver.protocol.base import Wire
from mediaserver.protocol.rooms import (
    Grants,
    MemberInfo,
    PlaybackState,
    QueueItem,
    RoomInfo,
    RoomRole,
    RoomSettings,
)


class RoomSnapshot(Wire):
    """How things stand in the room at `seq`; chat and captions so far follow as messages."""

    type: Literal["room.snapshot"] = "room.snapshot"
    seq: int
    log_id: str
    """The log that `seq` counts in; a new one where the old one was lost."""
    room: RoomInfo
    members: tuple[MemberInfo, ...]
    queue: tuple[QueueItem, ...]
    playback: PlaybackState


class RoomResumed(Wire):
    """What was missed follows over the WebSocket: `count` events."""

    type: Literal["room.resumed"] = "room.resumed"
    seq: int
    """The last event that the client said it saw."""
    count: int


class RoomTold(Wire):
    """Event `seq` is what you were told before without its number."""

    type: Literal["room.told"] = "room.told"
    seq: int


class RoomUpdated(Wire):
    """The room's settings changed."""

    type: Literal["room.updated"] = "room.updated"
    seq: int
    settings: RoomSettings


class RoomClosed(Wire):
    """The room is closed; the server closes the connection with 4410."""

    type: Literal["room.closed"] = "room.closed"
    seq: int
    reason: str


class RoomStatus(Wire):
    """Whether the room is connected to the other instances."""

    type: Literal["room.status"] = "room.status"
    state: Literal["live", "away"]
    """`away`: Redis is not there. Captions go on among the members of this instance; chat,
    playback and joining wait."""
    detail: str = ""


class MemberJoined(Wire):
    """Somebody came."""

    type: Literal["member.joined"] = "member.joined"
    seq: int
    member: MemberInfo


class MemberUpdated(Wire):
    """Somebody's name, role, mutes, caption language or broadcast changed."""

    type: Literal["member.updated"] = "member.updated"
    seq: int
    member: MemberInfo


class MemberLeft(Wire):
    """Somebody went."""

    type: Literal["member.left"] = "member.left"
    seq: int
    member_id: str
    reason: Literal["left", "lost", "kicked", "banned", "expired"]


class Granted(Wire):
    """What you may do from now on."""

    type: Literal["grants"] = "grants"
    role: RoomRole
    grants: Grants


class ChatEdited(Wire):
    """A message was changed."""

    type: Literal["chat.edited"] = "chat.edited"
    seq: int
    message_id: str
    text: str
    edited_at: float


class ChatDeleted(Wire):
    """A message was deleted."""

    type: Literal["chat.deleted"] = "chat.deleted"
    seq: int
    message_id: str
    by: str
    """Member id."""


class ChatReacted(Wire):
    """A message's reactions, all of them."""

    type: Literal["chat.reacted"] = "chat.reacted"
    seq: int
    message_id: str
    reactions: dict[str, tuple[str, ...]]
    """Emoji to member ids."""


class SomebodyTyping(Wire):
    """Somebody is writing, or stopped."""

    type: Literal["member.typing"] = "member.typing"
    member_id: str
    typing: bool


class Reaction(Wire):
    """An emoji floats over the player."""

    type: Literal["reaction"] = "reaction"
    member_id: str
    emoji: str


class PlaybackMessage(Wire):
    """Playback changed, or is told to who joined."""

    type: Literal["playback"] = "playback"
    seq: int
    state: PlaybackState
    by: str | None = None
    """Member id; null where the server did it (barrier, end of an item)."""


class QueueMessage(Wire):
    """The queue as it is now."""

    type: Literal["queue"] = "queue"
    seq: int
    items: tuple[QueueItem, ...]
    by: str | None = None


class ClockPong(Wire):
    """The answer to `clock.ping`: all in seconds."""

    type: Literal["clock.pong"] = "clock.pong"
    t0: float
    t1: float
    """Shared clock when the ping came."""
    t2: float
    """Shared clock when this left."""


class Ack(Wire):
    """A command was done."""

    type: Literal["ack"] = "ack"
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
