"""What clients send in a room, besides `messages`: chat, playback, the queue, moderation.

A command with an `id` is answered by `ack` or by `error` with the same id.
"""

from typing import Annotated, Literal

from pydantic import AnyHttpUrl, Field, model_validator

from mediaserver.protocol.base import Inbound
from mediaserver.protocol.rooms import (
    MAX_CHAT_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MAX_QUEUE_ITEMS,
    CaptionLanguage,
    Emoji,
    Id,
    RoomChange,
    RoomRole,
    Title,
)


class Command(Inbound):
    """A client message that is answered by `ack` (or `error`) with the same `id`, if it has one."""

    id: Id | None = None


class ChatEdit(Command):
    """Change a message of one's own, within ten minutes."""

    type: Literal["chat.edit"]
    message_id: Id
    text: Annotated[str, Field(min_length=1, max_length=MAX_CHAT_CHARACTERS)]


class ChatDelete(Command):
    """Delete a message: one's own, or anybody's with `can_moderate`."""

    type: Literal["chat.delete"]
    message_id: Id


class ChatReact(Command):
    """Put an emoji to a message, or take it back."""

    type: Literal["chat.react"]
    message_id: Id
    emoji: Emoji
    on: bool = True


class Typing(Inbound):
    """Whether one is writing; forgotten after 6 s."""

    type: Literal["typing"]
    typing: bool = True


class React(Inbound):
    """Let an emoji float over the player."""

    type: Literal["react"]
    emoji: Emoji


class ClockPing(Inbound):
    """A clock exchange; answered at once by `clock.pong`."""

    type: Literal["clock.ping"]
    t0: Annotated[float, Field(allow_inf_nan=False)]
    """The client's own clock, seconds, any origin."""


class PlaybackBase(Inbound):
    """The state that a command was decided on; a newer one refuses the command (`stale`)."""

    epoch: Annotated[int, Field(ge=0)]
    seq: Annotated[int, Field(ge=0)]


class PlaybackCommand(Command):
    """Control playback. Needs `can_control`."""

    type: Literal["playback.command"]
    action: Literal["play", "pause", "seek", "rate", "next", "item"]
    base: PlaybackBase | None = None
    """Null: whatever the state is."""
    position_s: Annotated[float, Field(ge=0, le=10_000_000)] | None = None
    """For `seek`, and where `play` and `pause` happened at the sender; else computed."""
    rate: Annotated[float, Field(ge=0.25, le=4.0)] | None = None
    item_id: Id | None = None
    ended: bool = False
    """Of `next`: the item came to its end (ignored if it did so already)."""

    @model_validator(mode="after")
    def _complete(self) -> "PlaybackCommand":
        if self.action == "seek" and self.position_s is None:
            raise ValueError("`seek` needs position_s")
        if self.action == "rate" and self.rate is None:
            raise ValueError("`rate` needs rate")
        if self.action == "item" and self.item_id is None:
            raise ValueError("`item` needs item_id")
        return self


class PlaybackReady(Inbound):
    """This member's player has the item and can start at the state's position."""

    type: Literal["playback.ready"]
    epoch: Annotated[int, Field(ge=0)]
    ready: bool = True


class PlaybackReport(Inbound):
    """How well this member follows; at most once a second."""

    type: Literal["playback.report"]
    drift_ms: Annotated[float, Field(ge=-1e9, le=1e9)]
    """Player less shared position."""
    round_trip_ms: Annotated[float, Field(ge=0, le=1e6)]
    buffering: bool = False


class QueueItemNew(Inbound):
    """Something to watch together."""

    kind: Literal["vod", "hls", "mp4", "live"]
    url: AnyHttpUrl | None = None
    """Of `hls` and `mp4`."""
    video_id: Id | None = None
    """Of `vod`: a video of this server."""
    member_id: Id | None = None
    """Of `live`: whose broadcast; null is whoever broadcasts."""
    title: Title = ""
    duration_s: Annotated[float, Field(gt=0, le=1_000_000)] | None = None

    @model_validator(mode="after")
    def _complete(self) -> "QueueItemNew":
        if self.kind in ("hls", "mp4") and self.url is None:
            raise ValueError(f"an item of kind {self.kind} needs url")
        if self.kind == "vod" and self.video_id is None:
            raise ValueError("an item of kind vod needs video_id")
        return self


class QueueAdd(Command):
    """Put an item into the queue. Needs `can_control`."""

    type: Literal["queue.add"]
    item: QueueItemNew
    at: Annotated[int, Field(ge=0, le=MAX_QUEUE_ITEMS)] | None = None
    """Place; null is the end."""


class QueueRemove(Command):
    """Take an item out of the queue."""

    type: Literal["queue.remove"]
    item_id: Id


class QueueMove(Command):
    """Move an item to another place."""

    type: Literal["queue.move"]
    item_id: Id
    to: Annotated[int, Field(ge=0, le=MAX_QUEUE_ITEMS)]


class MemberUpdate(Command):
    """Change what others see of oneself, and one's own choices; what is null stays."""

    type: Literal["member.update"]
    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARACTERS)] | None = None
    caption_language: CaptionLanguage | Literal[""] | None = None
    """Captions are wanted in this language where they can be had; "" is as spoken."""


class MemberRole(Command):
    """Give a member another role. `host` hands the room over. Needs `room_admin`."""

    type: Literal["member.role"]
    member_id: Id
    role: RoomRole


class MemberMute(Command):
    """Take a member's chat, its audio and video, or both, or give them back. `can_moderate`."""

    type: Literal["member.mute"]
    member_id: Id
    chat: bool | None = None
    publish: bool | None = None


class MemberKick(Command):
    """Send a member away; it may come back. Needs `can_moderate`."""

    type: Literal["member.kick"]
    member_id: Id
    reason: Annotated[str, Field(max_length=100)] = ""


class MemberBan(Command):
    """Send a member away and keep its account, key or guest token out. Needs `can_moderate`."""

    type: Literal["member.ban"]
    member_id: Id
    reason: Annotated[str, Field(max_length=100)] = ""
    duration_s: Annotated[int, Field(ge=60, le=365 * 86_400)] | None = None
    """Null: for as long as the room is there."""


class RoomUpdate(Command):
    """Change the room's settings. Needs `room_admin`."""

    type: Literal["room.update"]
    change: RoomChange


class RoomCloseCommand(Command):
    """Close the room for all. Needs `room_admin`."""

    type: Literal["room.close"]


class RoomResume(Inbound):
    """Something is missing: tell all that happened after `seq` again, over the WebSocket.

    Answered by `room.resumed`, or `room.snapshot` where that is too long ago.
    """

    type: Literal["room.resume"]
    log_id: Annotated[str, Field(max_length=64)]
    seq: Annotated[int, Field(ge=0)]
    """The last event up to which nothing is missing."""


class Authenticate(Command):
    """A newer token for this connection, before the old one expires (close code 4401)."""

    type: Literal["auth"]
    token: Annotated[str, Field(max_length=8192)]


RoomClientMessage = (
    ChatEdit
    | ChatDelete
    | ChatReact
    | Typing
    | React
    | ClockPing
    | PlaybackCommand
    | PlaybackReady
    | PlaybackReport
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
    | RoomResume
    | Authenticate
)
