"""A room in Redis: its state by compare-and-set, and its log of events. Knows nothing of rules."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mediaserver.kernel.ids import new_id
from mediaserver.protocol.messages import Chat
from mediaserver.rooms import scripts
from mediaserver.rooms.chatting import KEPT_CHAT
from mediaserver.rooms.decision import Decision
from mediaserver.rooms.state import RoomState
from mediaserver.stores.redis import RedisStore

LOG_LENGTH = 1000
RESUME_WINDOW_S = 600.0
EMPTY_KEPT_S = 600.0
"""How long a room that is not persistent is kept after the last member left."""
CLOSED_KEPT_S = 10.0
_SEQ = '"seq":0'


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of the log."""

    seq: int
    at_s: float
    """Shared clock."""
    version: int
    """Of the state after it."""
    text: str
    """The message's JSON, with its `seq`."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A room as Redis has it at one moment."""

    log_id: str
    version: int
    seq: int
    state: RoomState
    entries: tuple[Entry, ...]
    chat: tuple[Chat, ...]


@dataclass(frozen=True, slots=True)
class Committed:
    """The answer to a commit."""

    result: Literal["ok", "none", "moved", "stale", "chat"]
    version: int = 0
    seqs: tuple[int, ...] = ()
    """Of `ok`: the last event of each decision; negative where it had been done before."""
    state: RoomState | None = None
    """Of `stale`."""
    message_id: str = ""
    message: Chat | None = None
    """Of `chat`: the message is not as it was thought to be."""


class RoomScripts:
    """The scripts, registered once for a store."""

    def __init__(self, store: RedisStore) -> None:
        self.store = store
        self.commit = store.script(scripts.COMMIT)
        self.create = store.script(scripts.CREATE)
        self.load = store.script(scripts.LOAD)
        self.relog = store.script(scripts.RELOG)


def channel_of(room: str) -> str:
    """The Pub/Sub channel of a room."""
    return f"ms:room:{{{room}}}:live"


class RoomLog:
    """One room's keys. Every method raises Unavailable (`redis_down`)."""

    def __init__(self, room_scripts: RoomScripts, room: str) -> None:
        self.room = room
        self.channel = channel_of(room)
        self._scripts = room_scripts
        parts = ("state", "log", "chat", "chats")
        self.keys = tuple(f"ms:room:{{{room}}}:{part}" for part in parts)

    async def create(self, state: RoomState) -> bool:
        """Make the room; False if it is there already."""
        made = await self._scripts.create(
            self.keys, [new_id("log", 12), state.model_dump_json(), _ttl_ms(state)]
        )
        return bool(made)

    async def load(self, after_seq: int = -1, with_chat: bool = True) -> Loaded | None:
        """Return the room and the events after `after_seq`, or None where there is no room."""
        found = await self._scripts.load(self.keys, [after_seq, int(with_chat)])
        if found is None:
            return None
        log_id, version, seq, state, log, chat = found
        entries = tuple(_entry(id_, fields) for id_, fields in log)
        messages = tuple(
            Chat.model_validate_json(chat[k + 1]).model_copy(update={"seq": int(float(chat[k]))})
            for k in range(0, len(chat), 2)
        )
        return Loaded(
            log_id.decode(),
            int(version),
            int(seq),
            RoomState.model_validate_json(state),
            entries,
            messages,
        )

    async def seq(self) -> int | None:
        """Return the number of the last event, or None where there is no room."""
        with self._scripts.store.guard():
            found: Any = await self._scripts.store.client.hget(self.keys[0], "seq")
        return int(found) if found is not None else None

    async def relog(self, old_log_id: str) -> None:
        """Give the log another id, unless somebody did."""
        await self._scripts.relog(self.keys, [old_log_id, new_id("log", 12)])

    async def commit(
        self,
        log_id: str,
        version: int | None,
        state: RoomState | None,
        decisions: Sequence[Decision],
    ) -> Committed:
        """Write decisions, all or none: `state` if it is given, and their events and messages.

        `version` is the one that they were decided on; None commits on any.
        """
        once = [f"ms:room:{{{self.room}}}:once:{d.once}" for d in decisions if d.once]
        arguments: list[str | int] = [
            self.channel,
            log_id,
            "" if version is None else version,
            "" if state is None else state.model_dump_json(),
            "" if state is None else _ttl_ms(state),
            LOG_LENGTH,
            KEPT_CHAT,
            int(RESUME_WINDOW_S * 1000),
        ]
        index = len(self.keys)
        for decision in decisions:
            index += 1 if decision.once else 0
            arguments.append(index if decision.once else 0)
            change = decision.chat
            arguments.append(change.message_id if change else "")
            arguments.append(_kept_text(change.before) if change else "")
            arguments.append(_kept_text(change.after) if change else "")
            arguments.append(len(decision.events))
            arguments += [event.model_dump_json() for event in decision.events]
        answer = await self._scripts.commit([*self.keys, *once], arguments)
        return _committed(answer)


def _committed(answer: Any) -> Committed:
    match answer[0]:
        case b"ok":
            return Committed("ok", int(answer[1]), seqs=tuple(int(n) for n in answer[3]))
        case b"stale":
            state = RoomState.model_validate_json(answer[2])
            return Committed("stale", int(answer[1]), state=state)
        case b"chat":
            message = Chat.model_validate_json(answer[2]) if answer[2] else None
            return Committed("chat", message_id=answer[1].decode(), message=message)
        case b"moved":
            return Committed("moved")
        case _:
            return Committed("none")


def _kept_text(message: Chat | None) -> str:
    """A message as it is kept: always the same text, so that it can be compared."""
    if message is None:
        return ""
    return message.model_copy(update={"seq": 0}).model_dump_json()


def _ttl_ms(state: RoomState) -> int:
    if state.closed is not None:
        return int(CLOSED_KEPT_S * 1000)
    if state.settings.persistent or state.members:
        return -1
    return int(EMPTY_KEPT_S * 1000)


def numbered(text: str, seq: int) -> str:
    """Put its number into an event's text: `seq` comes right after `type`."""
    return text.replace(_SEQ, f'"seq":{seq}', 1)


def _entry(id_: bytes, fields: Any) -> Entry:
    """Read a stream entry as a script returns it."""
    seq = int(id_.split(b"-")[0])
    found = dict(zip(fields[::2], fields[1::2], strict=True))
    return Entry(
        seq,
        int(found[b"t"]) / 1000,
        int(found[b"v"]),
        numbered(found[b"e"].decode(), seq),
    )


def parse_published(payload: bytes) -> Entry | None:
    """Read what a commit published; None for anything else."""
    if not payload.startswith(b"E "):
        return None
    _, seq, at, version, text = payload.split(b" ", 4)
    return Entry(int(seq), int(at) / 1000, int(version), numbered(text.decode(), int(seq)))
