"""What is asked of a room, besides the messages of its members, and what comes of it. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mediaserver.protocol.messages import Chat, ServerMessage, TrackEnded, TrackStarted
from mediaserver.protocol.rooms import BroadcastInfo, Grants, RoomChange, RoomRole
from mediaserver.rooms.state import LeaveReason, MemberKind, MemberRecord, RoomState


@dataclass(frozen=True, slots=True)
class Resume:
    """Somebody wants its place back."""

    member_id: str
    secret_hash: str


@dataclass(frozen=True, slots=True)
class Join:
    """Somebody comes in."""

    member_id: str
    """Of somebody new."""
    name: str
    kind: MemberKind
    subject: str
    grants: Grants
    """The most that the ticket allows."""
    role: RoomRole | None
    """What the ticket says; None leaves it to the room."""
    invited: bool
    """Whether a ticket or invitation names this room: a private one lets nobody else in."""
    instance: str
    connection: str
    secret_hash: str
    resume: Resume | None = None


@dataclass(frozen=True, slots=True)
class Depart:
    """A connection is over; it counts if the member has no newer one."""

    member_id: str
    connection: str
    reason: LeaveReason


@dataclass(frozen=True, slots=True)
class SweepInstance:
    """An instance is dead: its members are lost."""

    instance: str


@dataclass(frozen=True, slots=True)
class Restore:
    """Members that this instance has, and that the room may have forgotten."""

    members: tuple[MemberRecord, ...]


@dataclass(frozen=True, slots=True)
class StartTrack:
    """Somebody is heard from now on."""

    track: TrackStarted


@dataclass(frozen=True, slots=True)
class EndTrack:
    """A track is over."""

    track: TrackEnded


@dataclass(frozen=True, slots=True)
class Watch:
    """A member asked for the shared clock."""

    member_id: str


@dataclass(frozen=True, slots=True)
class Broadcasting:
    """What a member's connection sends for others to see and hear is this now."""

    member_id: str
    connection: str
    broadcast: BroadcastInfo | None


@dataclass(frozen=True, slots=True)
class Limit:
    """A member showed newer credentials, that allow this at most."""

    member_id: str
    grants: Grants


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went by: do what is due."""


@dataclass(frozen=True, slots=True)
class ChangeSettings:
    """The owner changes the settings from outside."""

    change: RoomChange


@dataclass(frozen=True, slots=True)
class CloseRoom:
    """The room is closed from outside."""

    reason: str


@dataclass(frozen=True, slots=True)
class Expel:
    """Whoever came as one of these subjects may not be here any more."""

    subjects: frozenset[str]


ServerCommand = (
    Join
    | Depart
    | SweepInstance
    | Restore
    | StartTrack
    | EndTrack
    | Watch
    | Broadcasting
    | Limit
    | Tick
    | ChangeSettings
    | CloseRoom
    | Expel
)


@dataclass(frozen=True, slots=True)
class Context:
    """What a decision depends on besides the state."""

    now_s: float
    """Shared clock."""
    new_id: Callable[[str], str]
    """Makes an unguessable id with a prefix."""
    round_trip_s: float = 0.0
    """The largest of the room's members."""
    chat: Mapping[str, Chat] = field(default_factory=dict)
    """Messages that are kept, by id."""


@dataclass(frozen=True, slots=True)
class ChatChange:
    """A kept message becomes another; `before` None is a new one, `after` None deletes it."""

    message_id: str
    before: Chat | None
    after: Chat | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What comes of a command: it is committed as a whole, or not at all."""

    state: RoomState
    """The same object where the state does not change."""
    events: tuple[ServerMessage, ...] = ()
    """With `seq` 0: the log gives them their numbers."""
    chat: ChatChange | None = None
    once: str | None = None
    """Names what must not be done twice within ten minutes, whoever tries it again."""
    member: MemberRecord | None = None
    """Who joined."""
    removed: tuple[MemberRecord, ...] = ()
    """Who had to leave."""
