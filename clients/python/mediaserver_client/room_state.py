"""A room as a client knows it, kept by the room's messages. Pure.

Events of the log carry `seq`. After a loss the client says the last one that it applied, and is
sent what followed: `apply` takes each event once, whatever is sent twice.
"""

import dataclasses
from collections import OrderedDict, deque

from mediaserver_client.messages import (
    Caption,
    Chat,
    ServerMessage,
    TrackEnded,
    TrackStarted,
    Welcome,
)
from mediaserver_client.room_events import (
    Ack,
    ChatDeleted,
    ChatEdited,
    ChatReacted,
    Granted,
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    PlaybackMessage,
    QueueMessage,
    RoomClosed,
    RoomResumed,
    RoomSnapshot,
    RoomStatus,
    RoomUpdated,
)
from mediaserver_client.room_types import (
    Grants,
    MemberInfo,
    PlaybackState,
    QueueItem,
    RoomInfo,
    RoomRole,
    RoomSettings,
)

MOST_CHAT = 200
"""Newest messages that are kept, as on the server."""
_MOST_SEEN = 2000


class RoomState:
    """Members, queue, playback, chat, and what one may do oneself."""

    def __init__(self) -> None:
        self.member_id = ""
        self.name = ""
        self.role: RoomRole = "listener"
        self.grants = Grants()
        self.room: RoomInfo | None = None
        self.members: dict[str, MemberInfo] = {}
        self.queue: tuple[QueueItem, ...] = ()
        self.playback: PlaybackState | None = None
        self.chat: OrderedDict[str, Chat] = OrderedDict()
        """By id, oldest first."""
        self.tracks: dict[str, TrackStarted] = {}
        """Who is being heard."""
        self.away = False
        """The server's instances do not reach one another: chat and playback wait."""
        self.closed: str | None = None
        """Why the room was closed."""
        self.left: str | None = None
        """Why one is not in the room any more: `kicked`, `banned`, …"""
        self.log_id = ""
        self.seq = -1
        """The last event that was applied."""
        self._secret = ""
        self._first_seq: int | None = None
        self._chat_seen: deque[str] = deque(maxlen=_MOST_SEEN)

    @property
    def settings(self) -> RoomSettings | None:
        """What the host set."""
        return self.room.settings if self.room is not None else None

    def resume(self) -> dict[str, str]:
        """Parameters of a connection that goes on where the last one ended."""
        if not self._secret:
            return {}
        return {
            "resume": f"{self.log_id}:{self.seq}",
            "member": self.member_id,
            "secret": self._secret,
        }

    def welcomed(self, welcome: Welcome) -> None:
        """A connection was opened."""
        self.member_id, self.name = welcome.member_id, welcome.name
        self.role, self.grants = welcome.role, welcome.grants
        self._secret = welcome.resume_secret
        self.away, self.left = False, None

    def apply(self, message: ServerMessage) -> bool:
        """Take in a message; False if it was known already."""
        match message:
            case RoomSnapshot():
                self._stand(message)
            case RoomResumed() | Ack():
                pass  # an ack names an event that may still be on its way
            case Chat():
                return self._said(message)
            case Caption() | TrackStarted() | TrackEnded():
                # Also told at once, without seq, and again to who comes back.
                self._heard(message)
            case Granted():
                self.role, self.grants = message.role, message.grants
            case RoomStatus():
                self.away = message.state == "away"
            case _:
                seq = getattr(message, "seq", None)
                if seq is None:
                    return True
                if seq <= self.seq:
                    return False
                self.seq = seq
                self._happened(message)
        return True

    def is_history(self, chat: Chat) -> bool:
        """Whether a message was there before one came for the first time."""
        return self._first_seq is not None and chat.seq <= self._first_seq

    def _stand(self, message: RoomSnapshot) -> None:
        if self._first_seq is None:
            self._first_seq = message.seq
        elif message.log_id != self.log_id:
            self._first_seq = -1
        self.seq, self.log_id = message.seq, message.log_id
        self.room, self.queue, self.playback = message.room, message.queue, message.playback
        self.members = {member.member_id: member for member in message.members}
        self.chat.clear()
        self.tracks.clear()

    def _said(self, message: Chat) -> bool:
        self.seq = max(self.seq, message.seq)
        if message.id in self.chat:
            return False
        self.chat[message.id] = message
        while len(self.chat) > MOST_CHAT:
            self.chat.popitem(last=False)
        if message.id in self._chat_seen:
            return False
        self._chat_seen.append(message.id)
        return True

    def _heard(self, message: Caption | TrackStarted | TrackEnded) -> None:
        if message.seq is not None:
            self.seq = max(self.seq, message.seq)
        if isinstance(message, TrackStarted):
            self.tracks[message.track_id] = message
        elif isinstance(message, TrackEnded):
            self.tracks.pop(message.track_id, None)

    def _happened(self, message: ServerMessage) -> None:
        match message:
            case MemberJoined(member=member) | MemberUpdated(member=member):
                self.members[member.member_id] = member
                if member.member_id == self.member_id:
                    self.name, self.role, self.left = member.name, member.role, None
            case MemberLeft():
                self.members.pop(message.member_id, None)
                if message.member_id == self.member_id:
                    self.left = message.reason
            case QueueMessage():
                self.queue = message.items
            case PlaybackMessage():
                self.playback = message.state
            case RoomUpdated() if self.room is not None:
                self.room = dataclasses.replace(self.room, settings=message.settings)
            case RoomClosed():
                self.closed = message.reason
            case ChatEdited():
                self._change(message.message_id, text=message.text, edited_at=message.edited_at)
            case ChatReacted():
                self._change(message.message_id, reactions=message.reactions)
            case ChatDeleted():
                self.chat.pop(message.message_id, None)
            case _:
                pass

    def _change(self, message_id: str, **changes: object) -> None:
        if (message := self.chat.get(message_id)) is not None:
            self.chat[message_id] = dataclasses.replace(message, **changes)  # type: ignore[arg-type]
