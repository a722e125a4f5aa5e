"""Rooms as resources, and the types that messages share: see `mediaserver.protocol.rooms`."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypedDict

from mediaserver_client.sync import PlaybackState as PlaybackState

RoomRole = Literal["host", "cohost", "member", "listener"]
Visibility = Literal["public", "private"]
ItemKind = Literal["vod", "hls", "mp4", "live"]
MAX_CHAT_CHARACTERS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What a member may do in its room. Denied unless said otherwise."""

    room_join: bool = False
    room_admin: bool = False
    """Change, close and invite; moderate; hand roles out."""
    can_publish: bool = False
    can_subscribe: bool = False
    can_publish_data: bool = False
    can_control: bool = False
    """Playback and the queue."""
    can_chat: bool = False
    can_react: bool = False
    can_moderate: bool = False
    """Kick, ban, mute, delete others' chat."""
    hidden: bool = False
    """Not in the list of members."""


# ---- the room as a resource ----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomSettings:
    """What a room's host sets."""

    title: str
    visibility: Visibility
    """`private`: joined by invitation or room token only, and not listed."""
    persistent: bool
    """Stays when empty; others are gone ten minutes after the last member left."""
    slow_mode_s: float
    """Seconds between a member's chat messages; 0 is off. Hosts and co-hosts are exempt."""
    everyone_controls: bool
    """Whether members control playback and the queue, or hosts and co-hosts alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomChange:
    """What shall change of a room's settings; what is None stays."""

    title: str | None = None
    visibility: Visibility | None = None
    persistent: bool | None = None
    slow_mode_s: float | None = None
    everyone_controls: bool | None = None


class SettingChanges(TypedDict, total=False):
    """Those of `RoomSettings` that shall change."""

    title: str
    visibility: Visibility
    persistent: bool
    slow_mode_s: float
    everyone_controls: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomInfo:
    """A room as the list shows it."""

    room: str
    settings: RoomSettings
    created_at: float
    """Unix seconds."""
    members: int
    """Of those who are not hidden."""
    playing: str | None = None
    """Title of the current item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """An invitation to a room; `token` and `url` are shown when it is made, never again."""

    id: str
    room: str
    role: RoomRole
    expires_at: float
    """Unix seconds."""
    uses: int = 0
    max_uses: int | None = None
    token: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinTicket:
    """A way into a room, good once, for `expires_in_s`."""

    ticket: str
    path: str
    expires_in_s: float
    room: str
    role: RoomRole | None
    grants: Grants
    token: str | None = None
    """Of a guest that came with an invitation: a room token, to ask for further tickets with."""
    token_expires_at: float | None = None
    """Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomToken:
    """A room token for a user of one's own; see `Api.make_room_token`."""

    token: str
    id: str
    room: str
    subject: str
    expires_at: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomTokenInfo:
    """A room token that is good; the token itself is shown when it is made, never again."""

    id: str
    subject: str
    """A guest's made-up id, or the maker's id, a colon, and its own id of the user."""
    name: str
    role: RoomRole
    grants: Grants
    created_at: float
    """When it was made, or renewed last: Unix seconds, as the next."""
    expires_at: float
    invitation_id: str | None = None
    """The invitation that its guest came by; None for tokens that a server made."""
    members: tuple[str, ...] = ()
    """Ids of the room's members that are there by it now."""


# ---- what messages share -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BroadcastInfo:
    """What a member sends for the others to see and hear."""

    audio: bool
    video: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberInfo:
    """Somebody in the room."""

    member_id: str
    name: str
    role: RoomRole
    kind: Literal["user", "key", "guest", "local", "whip"]
    joined_at: float
    """Unix seconds."""
    chat_muted: bool = False
    publish_muted: bool = False
    caption_language: str = ""
    broadcast: BroadcastInfo | None = None
    """What can be watched; None while nothing is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueItem:
    """An item of the queue."""

    item_id: str
    kind: ItemKind
    url: str | None = None
    video_id: str | None = None
    member_id: str | None = None
    title: str
    duration_s: float | None = None
    added_by: str
    """Member id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueItemNew:
    """Something to watch together."""

    kind: ItemKind
    url: str | None = None
    """Of `hls` and `mp4`."""
    video_id: str | None = None
    """Of `vod`: a video of this server."""
    member_id: str | None = None
    """Of `live`: whose broadcast; None is whoever broadcasts."""
    title: str = ""
    duration_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaybackBase:
    """The state that a command was decided on; a newer one refuses the command (`stale`)."""

    epoch: int
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """Somebody said something. Show `name` and `text` as text, never as markup."""

    TYPE: ClassVar = "chat"
    seq: int
    id: str
    client_id: str | None = None
    member_id: str
    name: str
    text: str
    sent_at: float
    reply_to: str | None = None
    """Id of the message that this answers."""
    mentions: tuple[str, ...] = ()
    """Member ids."""
    edited_at: float | None = None
    reactions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Emoji to member ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPage:
    """Messages in their order."""

    messages: tuple[Chat, ...]
    more: bool
    """Whether there are older ones: ask with `before` the first one's id."""
