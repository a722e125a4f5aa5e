"""The state of a room: what Redis keeps, and the view of it that members are shown. Pure data.

`RoomState` changes only by `decide.decide`; every change is also told by events (messages with a
`seq`), and `view.apply` makes the same change to a `RoomView` from them.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from mediaserver.protocol.rooms import (
    BroadcastInfo,
    Grants,
    MemberInfo,
    PlaybackState,
    QueueItem,
    RoomRole,
    RoomSettings,
)
from mediaserver.rooms.playback import Playback

MAX_MEMBERS = 200
MAX_PLACES = 400
"""Places kept for those who may come back; the oldest go first."""
MAX_BANS = 1000
PLACE_KEPT_S = 600.0
HOST_GRACE_S = 10.0
"""How long a host may be away before somebody else is host."""

MemberKind = Literal["user", "key", "guest", "local", "whip"]
LeaveReason = Literal["left", "lost", "kicked", "banned", "expired"]


class _Kept(BaseModel):
    """What is kept in Redis. Unknown fields, of a newer version, are ignored."""

    model_config = ConfigDict(frozen=True)


class MemberRecord(_Kept):
    """A member, with what others are not shown."""

    member_id: str
    name: str
    role: RoomRole
    kind: MemberKind
    subject: str
    """Who this is for bans and ownership: ``user:ID``, ``key:ID``, ``guest:ID``; "" is anybody."""
    joined_at: float
    grants: Grants
    """The most that the ticket allows, whatever the role."""
    instance: str
    connection: str
    """Names the connection, so that an old one's end does not remove who came back."""
    secret_hash: str
    """SHA-256 of the resume secret, hexadecimal."""
    chat_muted: bool = False
    publish_muted: bool = False
    caption_language: str = ""
    broadcast: BroadcastInfo | None = None
    watches: bool = False
    """It asked for the shared clock: it has a player that a start can wait for."""

    @property
    def info(self) -> MemberInfo:
        """What others see."""
        return MemberInfo(
            member_id=self.member_id,
            name=self.name,
            role=self.role,
            kind=self.kind,
            joined_at=self.joined_at,
            chat_muted=self.chat_muted,
            publish_muted=self.publish_muted,
            caption_language=self.caption_language,
            broadcast=self.broadcast,
        )


class Place(_Kept):
    """The place of somebody who went and may come back to it."""

    member: MemberRecord
    until: float
    """Unix seconds."""


class Ban(_Kept):
    """Who may not come in."""

    name: str
    until: float | None
    by: str


class TrackRecord(_Kept):
    """Somebody who is heard."""

    track_id: str
    member_id: str
    speaker: str


class RoomState(_Kept):
    """Everything of a room but its chat and its log. All instants are of the shared clock."""

    room: str
    created_at: float
    owner: str | None = None
    """The subject that made it."""
    settings: RoomSettings
    members: dict[str, MemberRecord] = {}
    places: dict[str, Place] = {}
    bans: dict[str, Ban] = {}
    """By subject."""
    tracks: dict[str, TrackRecord] = {}
    queue: tuple[QueueItem, ...] = ()
    playback: Playback
    said: dict[str, float] = {}
    """Slow mode: when who (subject, or member) last said something."""
    host_gone_at: float | None = None
    closed: str | None = None
    """Why it was closed."""

    @property
    def host(self) -> MemberRecord | None:
        """Who is host now."""
        return next((m for m in self.members.values() if m.role == "host"), None)


def new_state(room: str, settings: RoomSettings, owner: str | None, now_s: float) -> RoomState:
    """Return the state of a room that was just made."""
    playback = Playback(anchor_s=now_s)
    return RoomState(room=room, created_at=now_s, owner=owner, settings=settings, playback=playback)


def shown_playback(playback: Playback) -> PlaybackState:
    """Return the playback as members are told it."""
    return PlaybackState(
        epoch=playback.epoch,
        seq=playback.seq,
        item_id=playback.item_id,
        playing=playback.playing,
        position_s=playback.position_s,
        rate=playback.rate,
        anchor_s=playback.anchor_s,
        waiting_for=playback.waiting_for,
        wait_until_s=playback.wait_until_s,
    )


def ad_hoc_settings() -> RoomSettings:
    """Settings of a room that nobody made on purpose."""
    return RoomSettings(
        title="",
        visibility="public",
        persistent=False,
        slow_mode_s=0.0,
        everyone_controls=True,
    )
