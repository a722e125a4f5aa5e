"""Rooms as resources: made, listed, changed and closed from outside."""

from collections.abc import Callable
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
from mediaserver.rooms.view import RoomView, view_of
from mediaserver.stores.redis import RedisStore

MAX_LISTED = 500
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
        for name in (raw.decode() for raw in names):
            loaded = await self.log_of(name).load(after_seq=_NONE, with_chat=False)
            if loaded is None:
                with self._store.guard():
                    await self._store.client.zrem(_INDEX, name)
            elif loaded.state.closed is None and shown(loaded.state):
                found.append(view_of(loaded.state).info)
                if len(found) >= MAX_LISTED:
                    break
        return found

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
