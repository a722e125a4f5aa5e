"""What an instance knows of a room that it has members in: the log applied in order. No I/O."""

from collections import OrderedDict, deque

from pydantic import TypeAdapter, ValidationError

from mediaserver.kernel.logging import get_logger
from mediaserver.protocol.chat import Chat
from mediaserver.protocol.messages import Caption, ServerMessage, TrackStarted
from mediaserver.protocol.room_events import (
    ChatDeleted,
    ChatEdited,
    ChatReacted,
    RoomResumed,
    RoomSnapshot,
    RoomTold,
)
from mediaserver.rooms.chatting import KEPT_CHAT
from mediaserver.rooms.log import LOG_LENGTH, RESUME_WINDOW_S, Entry, Loaded
from mediaserver.rooms.playback import Playback
from mediaserver.rooms.state import MemberRecord, RoomState
from mediaserver.rooms.view import RoomView, apply, view_of

log = get_logger(__name__)

TOLD_FINALS = 50
TOLD_CHAT = 50
_events: TypeAdapter[ServerMessage] = TypeAdapter(ServerMessage)


def parse_event(text: str) -> ServerMessage:
    """Read a message that an instance wrote. Raises ValidationError."""
    return _events.validate_json(text).sent_as(text)


class Gap(Exception):
    """Events before this one are missing."""


class Replica:
    """See the module's docstring."""

    def __init__(self, loaded: Loaded) -> None:
        self.log_id = ""
        self.seq = 0
        self.version = 0
        """Of `state`."""
        self.newest_version = 0
        """That events told of."""
        self.state: RoomState = loaded.state
        self.view: RoomView = view_of(loaded.state)
        self.chat: OrderedDict[str, Chat] = OrderedDict()
        self.finals: OrderedDict[str, Caption] = OrderedDict()
        self._ring: deque[tuple[Entry, ServerMessage]] = deque(maxlen=LOG_LENGTH)
        self.reset(loaded)

    def reset(self, loaded: Loaded) -> None:
        """Begin anew from what Redis has."""
        self.log_id, self.seq = loaded.log_id, loaded.seq
        self.state, self.version = loaded.state, loaded.version
        self.newest_version = loaded.version
        self.view = view_of(loaded.state)
        self.chat = OrderedDict((m.id, m) for m in loaded.chat)
        self._ring.clear()
        for entry in loaded.entries:
            message = _read(entry)
            self._ring.append((entry, message))
            if isinstance(message, Caption):
                self.keep_final(message)

    def keep_state(self, state: RoomState, version: int) -> None:
        """Take over a state that was read or written."""
        if version >= self.version:
            self.state, self.version = state, version

    @property
    def stale(self) -> bool:
        """Whether `state` is known not to be the newest."""
        return self.newest_version > self.version

    def take(self, entry: Entry) -> ServerMessage | None:
        """Apply the next event and return its message; None if it is old.

        Raises Gap where events before it are missing.
        """
        if entry.seq <= self.seq:
            return None
        if entry.seq != self.seq + 1:
            raise Gap
        self.seq = entry.seq
        self.newest_version = max(self.newest_version, entry.version)
        message = _read(entry)
        self._ring.append((entry, message))
        self.view = apply(self.view, message)
        self._follow(message)
        return message

    def _follow(self, message: ServerMessage) -> None:
        match message:
            case Chat():
                self.chat[message.id] = message
                while len(self.chat) > KEPT_CHAT:
                    self.chat.popitem(last=False)
            case ChatEdited(message_id=id_, text=text, edited_at=at):
                self._change(id_, {"text": text, "edited_at": at})
            case ChatReacted(message_id=id_, reactions=reactions):
                self._change(id_, {"reactions": reactions})
            case ChatDeleted(message_id=id_):
                self.chat.pop(id_, None)
            case Caption():
                self.keep_final(message)
            case _:
                pass

    def _change(self, message_id: str, change: dict[str, object]) -> None:
        if (message := self.chat.get(message_id)) is not None:
            self.chat[message_id] = message.model_copy(update=change)

    def foresee_chat(self, message: Chat, seq: int) -> None:
        """Know a message that was just written: its author may change it before it is told."""
        if seq > self.seq:
            self.chat[message.id] = message.model_copy(update={"seq": seq})

    def keep_chat(self, message_id: str, message: Chat | None) -> None:
        """Take over a kept message as Redis has it."""
        if message is None:
            self.chat.pop(message_id, None)
        elif (known := self.chat.get(message_id)) is not None:
            self.chat[message_id] = message.model_copy(update={"seq": known.seq})

    def keep_final(self, caption: Caption) -> None:
        """Note a complete caption, for who comes later."""
        self.finals[caption.caption_id] = caption
        while len(self.finals) > TOLD_FINALS:
            self.finals.popitem(last=False)

    def missed(self, log_id: str, seq: int, now_s: float) -> list[ServerMessage] | None:
        """Return what happened after `seq`; None where that is not all known any more."""
        if log_id != self.log_id or not 0 <= seq <= self.seq:
            return None
        after = [(entry, message) for entry, message in self._ring if entry.seq > seq]
        if seq < self.seq and (not after or after[0][0].seq != seq + 1):
            return None
        if after and after[0][0].at_s < now_s - RESUME_WINDOW_S:
            return None
        return [message for _, message in after]

    def after(self, log_id: str, seq: int, now_s: float) -> list[ServerMessage]:
        """Return what to tell who knows all up to `seq`: what it missed, or how things stand."""
        missed = self.missed(log_id, seq, now_s)
        if missed is None:
            return self.snapshot()
        return [RoomResumed(seq=seq, count=len(missed)), *missed]

    def last_known(self, members: dict[str, MemberRecord]) -> RoomState:
        """Return the state as far as it is known here, with these members."""
        view, playback = self.view, self.state.playback
        if playback.seq != view.playback.seq:
            item = next((i for i in view.queue if i.item_id == view.playback.item_id), None)
            shown = view.playback.model_dump()
            playback = Playback(
                **shown,
                command_seq=view.playback.seq,
                duration_s=item.duration_s if item is not None else None,
            )
        update = {
            "members": members,
            "tracks": {},
            "settings": view.settings,
            "queue": view.queue,
            "playback": playback,
        }
        return self.state.model_copy(update=update)

    def snapshot(self) -> list[ServerMessage]:
        """Return how things stand: the state, live tracks, newest captions and chat."""
        view = self.view
        shown = RoomSnapshot(
            seq=self.seq,
            log_id=self.log_id,
            room=view.info,
            members=tuple(view.members.values()),
            queue=view.queue,
            playback=view.playback,
        )
        tracks: list[TrackStarted] = list(view.tracks.values())
        return [shown, *tracks, *self.finals.values(), *list(self.chat.values())[-TOLD_CHAT:]]


def _read(entry: Entry) -> ServerMessage:
    try:
        return parse_event(entry.text)
    except ValidationError:  # of a newer version of this server: nothing but its number is known
        log.warning("rooms.unknown_event", seq=entry.seq)
        return RoomTold(seq=entry.seq)
