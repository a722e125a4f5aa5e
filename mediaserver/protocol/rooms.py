"""Rooms as resources: what HTTP takes and gives, and the types that messages share."""

from typing import Annotated, Literal

from pydantic import Field

from mediaserver.protocol.base import Inbound, Wire
from mediaserver.protocol.languages import LANGUAGES

MAX_CHAT_CHARACTERS = 2000
MAX_NAME_CHARACTERS = 80
MAX_TITLE_CHARACTERS = 120
MAX_QUEUE_ITEMS = 200
MAX_MENTIONS = 20
MAX_EMOJI_CHARACTERS = 16
"""One emoji with its joiners and modifiers."""

RoomRole = Literal["host", "cohost", "member", "listener"]
Visibility = Literal["public", "private"]
RoomName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Id = Annotated[str, Field(min_length=1, max_length=64)]
Emoji = Annotated[str, Field(min_length=1, max_length=MAX_EMOJI_CHARACTERS)]
Title = Annotated[str, Field(max_length=MAX_TITLE_CHARACTERS)]
CaptionLanguage = Annotated[str, Field(json_schema_extra={"enum": sorted(LANGUAGES)})]


class Grants(Wire):
    """What a member may do in its room. Denied unless said otherwise."""

    room_join: bool = False
    room_admin: bool = False
    """Change, close and invite; moderate; hand roles out."""
    can_publish: bool = False
    """Send audio and video."""
    can_subscribe: bool = False
    """Receive captions, chat and events."""
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


class RoomSettings(Wire):
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


class RoomCreate(Inbound):
    """POST /api/v1/rooms."""

    name: RoomName | None = None
    """Its id in URLs; made up if null."""
    title: Title = ""
    visibility: Visibility = "public"
    persistent: bool = False
    slow_mode_s: Annotated[float, Field(ge=0, le=3600)] = 0.0
    everyone_controls: bool = True


class RoomChange(Inbound):
    """PATCH /api/v1/rooms/{room}; what is null stays."""

    title: Title | None = None
    visibility: Visibility | None = None
    persistent: bool | None = None
    slow_mode_s: Annotated[float, Field(ge=0, le=3600)] | None = None
    everyone_controls: bool | None = None


class RoomInfo(Wire):
    """A room as the list shows it."""

    room: str
    settings: RoomSettings
    created_at: float
    """Unix seconds."""
    members: int
    """Of those who are not hidden."""
    playing: str | None = None
    """Title of the current item."""


class RoomList(Wire):
    """GET /api/v1/rooms."""

    rooms: tuple[RoomInfo, ...]


class InvitationCreate(Inbound):
    """POST /api/v1/rooms/{room}/invitations."""

    role: Literal["cohost", "member", "listener"] = "member"
    expires_in_s: Annotated[int, Field(ge=60, le=30 * 86_400)] = 86_400
    max_uses: Annotated[int, Field(ge=1, le=10_000)] | None = None


class Invitation(Wire):
    """An invitation to a room; `token` is shown when it is made, never again."""

    id: str
    room: str
    role: RoomRole
    expires_at: float
    uses: int = 0
    max_uses: int | None = None
    token: str | None = None
    url: str | None = None
    """The page's address with the token behind `#`, where no server log sees it."""


class InvitationList(Wire):
    """GET /api/v1/rooms/{room}/invitations."""

    invitations: tuple[Invitation, ...]


class JoinRequest(Inbound):
    """POST /api/v1/rooms/{room}/join: a ticket for the WebSocket."""

    name: Annotated[str, Field(max_length=MAX_NAME_CHARACTERS)] = ""
    """Shown to others; a user's own name if empty."""
    invitation: Annotated[str, Field(max_length=4096)] | None = None


class JoinTicket(Wire):
    """Connect to `path` within `expires_in_s`; it works once."""

    ticket: str
    path: str
    expires_in_s: float
    room: str
    role: RoomRole | None
    """Null leaves it to the room: its owner, or who comes first, is host; others are members."""
    grants: Grants
    """The most that you may do; a role allows less."""
    token: str | None = None
    """Of a guest that came with an invitation: a room token (``Authorization: Bearer``), to ask
    for further tickets with."""
    token_expires_at: float | None = None
    """Unix seconds."""


# ---- what messages share -------------------------------------------------------------------


class BroadcastInfo(Wire):
    """What a member sends for the others to see and hear."""

    audio: bool
    video: bool


class MemberInfo(Wire):
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
    """What can be watched (`watch.offer`); null while nothing is sent."""


class MemberList(Wire):
    """GET /api/v1/rooms/{room}/members."""

    members: tuple[MemberInfo, ...]


class QueueItem(Wire):
    """An item of the queue."""

    item_id: str
    kind: Literal["vod", "hls", "mp4", "live"]
    url: str | None = None
    video_id: str | None = None
    member_id: str | None = None
    title: str
    duration_s: float | None = None
    added_by: str
    """Member id."""


class PlaybackState(Wire):
    """What is played. At shared time t, while playing: position_s + (t - anchor_s) x rate."""

    epoch: int
    """Rises with every change of the item or start over: what is ready is ready for an epoch."""
    seq: int
    """Rises with every change."""
    item_id: str | None
    playing: bool
    position_s: float
    rate: float
    anchor_s: float
    """Shared clock (`clock.pong`), Unix seconds. May lie a little ahead: all start together."""
    waiting_for: tuple[str, ...] = ()
    """Members that the start waits for."""
    wait_until_s: float | None = None
    """Shared clock: then it starts without them."""
