"""What clients send in a room: see `mediaserver.protocol.room_commands`.

A command with an `id` is answered by `ack`, or by `error` with the same id.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from mediaserver_client.room_types import PlaybackBase, QueueItemNew, RoomChange, RoomRole

Action = Literal["play", "pause", "seek", "rate", "next", "item"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatEdit:
    """Change a message of one's own, within ten minutes."""

    TYPE: ClassVar = "chat.edit"
    id: str | None = None
    message_id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatDelete:
    """Delete a message: one's own, or anybody's with `can_moderate`."""

    TYPE: ClassVar = "chat.delete"
    id: str | None = None
    message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatReact:
    """Put an emoji to a message, or take it back."""

    TYPE: ClassVar = "chat.react"
    id: str | None = None
    message_id: str
    emoji: str
    on: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Typing:
    """Whether one is writing; forgotten after 6 s."""

    TYPE: ClassVar = "typing"
    typing: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class React:
    """Let an emoji float over the player."""

    TYPE: ClassVar = "react"
    emoji: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockPing:
    """A clock exchange; answered at once by `ClockPong`."""

    TYPE: ClassVar = "clock.ping"
    t0: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomResume:
    """Something is missing: tell all that happened after `seq` again, over the WebSocket.

    Answered by `RoomResumed`, or `RoomSnapshot` where that is too long ago. Over the WebSocket
    alone, as here, nothing is ever missing; it is for who has data channels as well.
    """

    TYPE: ClassVar = "room.resume"
    log_id: str
    seq: int
    """The last event up to which nothing is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaybackCommand:
    """Control playback. Needs `can_control`."""

    TYPE: ClassVar = "playback.command"
    id: str | None = None
    action: Action
    base: PlaybackBase | None = None
    position_s: float | None = None
    rate: float | None = None
    item_id: str | None = None
    ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaybackReady:
    """This member's player has the item and can start at the state's position."""

    TYPE: ClassVar = "playback.ready"
    epoch: int
    ready: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaybackReport:
    """How well this member follows; at most once a second."""

    TYPE: ClassVar = "playback.report"
    drift_ms: float
    round_trip_ms: float
    buffering: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueAdd:
    """Put an item into the queue. Needs `can_control`."""

    TYPE: ClassVar = "queue.add"
    id: str | None = None
    item: QueueItemNew
    at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRemove:
    """Take an item out of the queue."""

    TYPE: ClassVar = "queue.remove"
    id: str | None = None
    item_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueMove:
    """Move an item to another place."""

    TYPE: ClassVar = "queue.move"
    id: str | None = None
    item_id: str
    to: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberUpdate:
    """Change what others see of oneself, and one's own choices; what is None stays."""

    TYPE: ClassVar = "member.update"
    id: str | None = None
    name: str | None = None
    caption_language: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRole:
    """Give a member another role. `host` hands the room over. Needs `room_admin`."""

    TYPE: ClassVar = "member.role"
    id: str | None = None
    member_id: str
    role: RoomRole


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberMute:
    """Take a member's chat, its audio and video, or both, or give them back."""

    TYPE: ClassVar = "member.mute"
    id: str | None = None
    member_id: str
    chat: bool | None = None
    publish: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberKick:
    """Send a member away; it may come back. Needs `can_moderate`."""

    TYPE: ClassVar = "member.kick"
    id: str | None = None
    member_id: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberBan:
    """Send a member away and keep it out. Needs `can_moderate`."""

    TYPE: ClassVar = "member.ban"
    id: str | None = None
    member_id: str
    reason: str = ""
    duration_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomUpdate:
    """Change the room's settings. Needs `room_admin`."""

    TYPE: ClassVar = "room.update"
    id: str | None = None
    change: RoomChange


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomCloseCommand:
    """Close the room for all. Needs `room_admin`."""

    TYPE: ClassVar = "room.close"
    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticate:
    """A newer token for this connection, before the old one expires."""

    TYPE: ClassVar = "auth"
    id: str | None = None
    token: str


RoomCommand = (
    ChatEdit
    | ChatDelete
    | ChatReact
    | PlaybackCommand
    | QueueAdd
    | QueueRemove
    | QueueMove
    | MemberUpdate
    | MemberRole
    | MemberMute
    | MemberKick
    | MemberBan
    | RoomUpdate
    | RoomCloseCommand
    | Authenticate
)
"""What is answered by `ack` or `error`."""
RoomClientMessage = (
    RoomCommand | Typing | React | ClockPing | PlaybackReady | PlaybackReport | RoomResume
)
