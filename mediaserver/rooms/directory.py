"""Rooms as resources: made, listed, changed and closed from outside."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mediaserver.kernel.errors import Conflict, NotFound
from mediaserver.protocol.chat import Chat
from mediaserver.protocol.rooms import RoomChange, RoomInfo, RoomSettings
from mediaserver.rooms.clock import SharedClock
from mediaserver.rooms.commits import Done, commit_once
from mediaserver.rooms.decide import decide_for_server
from mediaserver.rooms.decision import ChangeSettings, CloseRoom, Context, Decision, Expel
from mediaserver.rooms.log import Loaded, RoomLog, RoomScripts
from mediaserver.rooms.state import RoomState, new_state
from mediaserver.rooms.view import RoomView, info_of, view_of
from mediaserver.stores.redis import RedisStore

MAX_LISTED = 500
LISTED_AT_ONCE = 50
"""So many rooms are read with one round trip."""
READ_AT_ONCE_BYTES = 50_000
"""So much JSON, some milliseconds of work, is read before others have their turn."""
_INDEX = "ms:rooms"
_NONE = 10**12
"""After this event there is none."""


class RoomDirectory:
    """See the module's docstring. Every method raises Unavailable (`redis_down`)."""

    def __init__(self, store: RedisStore, clock: SharedClock) -> None:
        self._store = store
        self._clock = clock
        self.scripts = RoomScripts(store)

    def log_of(self, room: str) -> RoomLog:
        """Return a room's keys, whether it is there or not."""
        return RoomLog(self.scripts, room)

    async def create(self, room: str, settings: RoomSettings, owner: str | None) -> bool:
        """Make a room; False if it is there already."""
        now_s = self._clock.now_s()
        made = await self.log_of(room).create(new_state(room, settings, owner, now_s))
        with self._store.guard():
            await self._store.client.zadd(_INDEX, {room: now_s})
        return made

    async def load(self, room: str) -> RoomState:
        """Return a room's state. Raises NotFound (`no_room`)."""
        loaded = await self.log_of(room).load(after_seq=_NONE, with_chat=False)
        return _found(room, loaded).state

    async def chat(self, room: str) -> tuple[Chat, ...]:
        """Return the messages that are kept, the oldest first. Raises NotFound (`no_room`)."""
        loaded = await self.log_of(room).load(after_seq=_NONE)
        return _found(room, loaded).chat

    async def list(self, shown: Callable[[RoomState], bool]) -> list[RoomInfo]:
        """Return the newest rooms of those `shown`; forgets those that are gone."""
        with self._store.guard():
            names: Any = await self._store.client.zrevrange(_INDEX, 0, -1)
        found: list[RoomInfo] = []
        for at in range(0, len(names), LISTED_AT_ONCE):
            some = [raw.decode() for raw in names[at : at + LISTED_AT_ONCE]]
            texts = await self._texts(some)
            if gone := [name for name in some if name not in texts]:
                with self._store.guard():
                    await self._store.client.zrem(_INDEX, *gone)
            states = await _read(texts.values())
            found += [info_of(state) for state in states if state.closed is None and shown(state)]
            if len(found) >= MAX_LISTED:
                break
        return found[:MAX_LISTED]

    async def _texts(self, names: Sequence[str]) -> dict[str, bytes]:
        """Return the states of those rooms that are there, as JSON."""
        with self._store.guard():
            pipeline = self._store.client.pipeline(transaction=False)
            for name in names:
                pipeline.hget(self.log_of(name).keys[0], "state")
            texts: Any = await pipeline.execute()
        return {name: text for name, text in zip(names, texts, strict=True) if text is not None}

    async def view(self, room: str) -> RoomView:
        """Return what members see of a room. Raises NotFound (`no_room`)."""
        return view_of(await self.load(room))

    async def change(self, room: str, change: RoomChange) -> RoomInfo:
        """Change a room's settings. Raises NotFound (`no_room`)."""
        done = await self._commit(room, ChangeSettings(change))
        return view_of(done.decision.state).info

    async def close(self, room: str, reason: str) -> None:
        """Close a room. Raises NotFound (`no_room`)."""
        await self._commit(room, CloseRoom(reason))
        with self._store.guard():
            await self._store.client.zrem(_INDEX, room)

    async def expel(self, room: str, subjects: frozenset[str]) -> None:
        """Send members away by who they are. Raises NotFound (`no_room`)."""
        await self._commit(room, Expel(subjects))

    async def _commit(self, room: str, command: ChangeSettings | CloseRoom | Expel) -> Done:
        def decide(state: RoomState, context: Context) -> Decision:
            if state.closed is not None:
                raise Conflict(f"room {room} is being closed", code="room_closed")
            return decide_for_server(state, command, context)

        done = await commit_once(self.log_of(room), decide, self._clock.now_s())
        if done is None:
            raise _no_room(room)
        return done


def _found(room: str, loaded: Loaded | None) -> Loaded:
    if loaded is None or loaded.state.closed is not None:
        raise _no_room(room)
    return loaded


def _no_room(room: str) -> NotFound:
    return NotFound(f"there is no room {room} (any more)", code="no_room")


async def _read(texts: Iterable[bytes]) -> list[RoomState]:
    """Read states of rooms, and let others have their turn now and then."""
    states: list[RoomState] = []
    read_bytes = 0
    for text in texts:
        states.append(RoomState.model_validate_json(text))
        read_bytes += len(text)
        if read_bytes > READ_AT_ONCE_BYTES:
            read_bytes = 0
            await asyncio.sleep(0)
    return states
