"""Members on this instance: how they are reached, and what they come with."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Protocol

from mediaserver.protocol.messages import ServerMessage
from mediaserver.protocol.rooms import Grants, MemberInfo, RoomRole, RoomSettings
from mediaserver.rooms.grants import ALL, both, grants_of
from mediaserver.rooms.state import MemberKind, MemberRecord
from mediaserver.rooms.videos import Videos

Deliver = Callable[[ServerMessage, Hashable | None], None]
"""Takes a message for one member and, for a partial, its coalescing key. Never raises or waits."""


class Attendee(Protocol):
    """A member's connection, as the room reaches it. Nothing here raises or waits."""

    def deliver(self, message: ServerMessage, key: Hashable | None) -> None:
        """Send a message; with a `key` a newer one may replace it unsent."""
        ...

    def granted(self, grants: Grants) -> None:
        """What the member may do has changed."""
        ...

    def dismiss(self, code: int, reason: str) -> None:
        """Send the member away, with a WebSocket close code."""
        ...


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where somebody left off, and the proof that it was them."""

    log_id: str
    seq: int
    member_id: str
    secret: str


@dataclass(frozen=True, slots=True)
class Newcomer:
    """Somebody at the door."""

    name: str
    kind: MemberKind = "local"
    subject: str = ""
    """See `MemberRecord.subject`."""
    grants: Grants = field(default_factory=lambda: ALL)
    """The most that the ticket allows."""
    role: RoomRole | None = None
    invited: bool = False
    may_create: bool = True
    """Whether a room that is not there is made."""
    resume: ResumePoint | None = None


@dataclass(slots=True)
class LocalMember:
    """A member that is connected here."""

    record: MemberRecord
    attendee: Attendee
    grants: Grants

    def follow(self, info: MemberInfo, settings: RoomSettings) -> bool:
        """Take over what others are told of it; whether its grants changed."""
        self.record = self.record.model_copy(
            update={
                "name": info.name,
                "role": info.role,
                "chat_muted": info.chat_muted,
                "publish_muted": info.publish_muted,
                "caption_language": info.caption_language,
                "broadcast": info.broadcast,
            }
        )
        return self.regrant(settings)

    def regrant(self, settings: RoomSettings) -> bool:
        """Work its grants out anew; whether they changed."""
        before, self.grants = self.grants, grants_of(self.record, settings)
        return self.grants != before

    def limit(self, grants: Grants, settings: RoomSettings) -> bool:
        """Newer credentials allow less (or more); whether its grants changed."""
        self.record = self.record.model_copy(update={"grants": both(ALL, grants)})
        return self.regrant(settings)


@dataclass(frozen=True, slots=True)
class Joined:
    """How a member came in."""

    member: LocalMember
    connection: str
    secret: str
    """The resume secret."""
    log_id: str
    seq: int
    so_far: tuple[ServerMessage, ...]
    """What it is told after `welcome`."""


class Outside(Protocol):
    """What a room needs of its hub."""

    @property
    def instance(self) -> str:
        """Names this process, also after a restart with the same settings."""
        ...

    @property
    def videos(self) -> Videos:
        """The library of this server's videos."""
        ...

    def now_s(self) -> float:
        """Shared clock."""
        ...

    def publish(self, room: str, message: ServerMessage, key: Hashable) -> None:
        """Tell the other instances something of the moment; it may get lost."""
        ...

    def taken_over(self, room: str, member_id: str, connection: str) -> None:
        """Tell the other instances that a member is connected here now."""
        ...
