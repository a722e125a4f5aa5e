"""An instance's commits to one room: one at a time, several decisions in each.

What a member asks is tried once, and fails while Redis is away. What happened (words were said,
somebody left) waits, in order, until it is written; complete captions beyond a bound are dropped.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mediaserver.kernel.errors import Conflict, Gone, MediaServerError, Unavailable
from mediaserver.kernel.ids import new_id
from mediaserver.kernel.logging import get_logger
from mediaserver.protocol.chat import Chat
from mediaserver.rooms.decision import ChatChange, Context, Decision
from mediaserver.rooms.log import Committed, RoomLog
from mediaserver.rooms.replica import Replica
from mediaserver.rooms.state import RoomState

log = get_logger(__name__)

MAX_TOGETHER = 64
MAX_WAITING_FINALS = 500
"""Complete captions of a room that wait for Redis; beyond, the oldest are dropped and counted."""
MAX_WAITING_COMMANDS = 2000
RETRY_S = 0.25
_ATTEMPTS = 30

Decide = Callable[[RoomState, Context], Decision]


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a command."""

    decision: Decision
    seq: int | None
    """The last event that it caused; None if it changed nothing."""


@dataclass(slots=True)
class _Operation:
    decide: Decide
    asked: asyncio.Future[Done] | None
    """None: it waits for as long as it takes."""
    droppable: bool = False


class Commits:
    """See the module's docstring. `run` does the work."""

    def __init__(
        self,
        room_log: RoomLog,
        replica: Replica,
        now_s: Callable[[], float],
        round_trip_s: Callable[[], float],
        recover: Callable[[], Awaitable[None]],
        dropped: Callable[[str], None],
    ) -> None:
        self._log = room_log
        self._replica = replica
        self._now_s = now_s
        self._round_trip_s = round_trip_s
        self._recover = recover
        self._dropped = dropped
        self._waiting: deque[_Operation] = deque()
        self._in_hand: list[_Operation] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._finals = 0

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be written."""
        return not self._waiting and not self._in_hand

    async def drained(self) -> None:
        """Wait until nothing waits any more."""
        await self._idle.wait()

    async def submit(self, decide: Decide) -> Done:
        """Decide and commit. Raises what `decide` raises, and Unavailable (`redis_down`)."""
        if len(self._waiting) >= MAX_WAITING_COMMANDS:
            raise Unavailable("this room has more to do than it can; try again", retry_after_s=1.0)
        asked: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self._put(_Operation(decide, asked))
        return await asked

    def defer(self, decide: Decide, *, droppable: bool = False) -> None:
        """Commit it when that is possible, in this order."""
        if droppable:
            self._finals += 1
            if self._finals > MAX_WAITING_FINALS:
                self._drop_oldest()
        self._put(_Operation(decide, None, droppable))

    def _put(self, operation: _Operation) -> None:
        self._waiting.append(operation)
        self._idle.clear()
        self._wake.set()

    def _drop_oldest(self) -> None:
        for operation in self._waiting:
            if operation.droppable:
                self._waiting.remove(operation)
                self._finals -= 1
                self._dropped("room_final")
                return

    async def run(self) -> None:
        """Commit for ever what is asked."""
        try:
            await self._commit_for_ever()
        finally:
            self._in_hand = list(self._waiting)
            self._fail(Unavailable("this server is stopping", code="draining"))

    async def _commit_for_ever(self) -> None:
        while True:
            while not self._waiting:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
            count = min(MAX_TOGETHER, len(self._waiting))
            self._in_hand = [self._waiting.popleft() for _ in range(count)]
            self._finals -= sum(operation.droppable for operation in self._in_hand)
            try:
                await self._commit(self._in_hand)
            except Gone as error:  # nothing will ever be written to it again
                self._fail(error)
            except MediaServerError as error:
                self._put_back(error)
                await asyncio.sleep(RETRY_S)
            except Exception as error:  # the supervisor of all decisions
                log.error("rooms.commit_failed", room=self._log.room, exc_info=error)
                self._fail(Unavailable("the room failed at this; try again"))
            finally:
                self._fail(Unavailable("this server is stopping", code="draining"))
                self._in_hand = []

    def _put_back(self, error: MediaServerError) -> None:
        """Whoever asked is told, also behind what waits; that keeps its place in the order."""
        self._finals += sum(operation.droppable for operation in self._in_hand)
        if isinstance(error, Unavailable):
            self._in_hand += self._waiting
            self._waiting.clear()
        self._fail(error)
        kept = [operation for operation in self._in_hand if operation.asked is None]
        self._waiting.extendleft(reversed(kept))

    def _fail(self, error: MediaServerError) -> None:
        for operation in self._in_hand:
            if operation.asked is not None and not operation.asked.done():
                operation.asked.set_exception(error)

    async def _commit(self, operations: list[_Operation]) -> None:
        for _ in range(_ATTEMPTS):
            replica = self._replica
            if replica.stale:
                await self._refresh()
            before, version = replica.state, replica.version
            state, decided = self._decide_all(operations, before)
            writes = [
                (operation, decision)
                for operation, decision in decided
                if decision.events or decision.chat or decision.state is not before
            ]
            if not writes:
                for operation, decision in decided:
                    _tell(operation, Done(decision, None))
                return
            changed = state if state != before else None
            answer = await self._log.commit(
                replica.log_id,
                version if changed is not None else None,
                changed,
                [decision for _, decision in writes],
            )
            if answer.result == "ok":
                if changed is not None:
                    replica.keep_state(changed, answer.version)
                self._tell_all(decided, writes, answer)
                return
            await self._learn(answer)
        raise Conflict("too many change this room at once; try again", code="busy")

    async def _refresh(self) -> None:
        loaded = await self._log.load(after_seq=10**12, with_chat=False)
        if loaded is None or loaded.log_id != self._replica.log_id:
            await self._recover()
        else:
            self._replica.keep_state(loaded.state, loaded.version)
            self._replica.newest_version = max(self._replica.version, loaded.version)

    def _decide_all(
        self, operations: list[_Operation], state: RoomState
    ) -> tuple[RoomState, list[tuple[_Operation, Decision]]]:
        chat = dict(self._replica.chat)
        context = Context(
            now_s=self._now_s(),
            new_id=lambda prefix: new_id(prefix, 16),
            round_trip_s=self._round_trip_s(),
            chat=chat,
        )
        decided = []
        for operation in operations:
            try:
                decision = operation.decide(state, context)
            except MediaServerError as error:
                if operation.asked is None:
                    log.info("rooms.not_done", code=error.specific_code)
                elif not operation.asked.done():
                    operation.asked.set_exception(error)
                continue
            state = decision.state
            decided.append((operation, decision))
            if decision.chat is not None:
                _change(chat, decision.chat)
        return state, decided

    def _tell_all(
        self,
        decided: list[tuple[_Operation, Decision]],
        writes: list[tuple[_Operation, Decision]],
        answer: Committed,
    ) -> None:
        seqs = {id(operation): seq for (operation, _), seq in zip(writes, answer.seqs, strict=True)}
        for (_, decision), number in zip(writes, answer.seqs, strict=True):
            change = decision.chat
            if change is not None and change.before is None and change.after is not None:
                self._replica.foresee_chat(change.after, number)
        for operation, decision in decided:
            seq = seqs.get(id(operation))
            told = abs(seq) if seq is not None and decision.events else None
            _tell(operation, Done(decision, told))

    async def _learn(self, answer: Committed) -> None:
        replica = self._replica
        match answer.result:
            case "stale":
                assert answer.state is not None
                replica.keep_state(answer.state, answer.version)
            case "chat":
                replica.keep_chat(answer.message_id, answer.message)
            case _:
                if replica.view.closed is not None:
                    raise Gone("the room is closed", code="room_closed")
                await self._recover()


def _change(chat: dict[str, Chat], change: ChatChange) -> None:
    if change.after is None:
        chat.pop(change.message_id, None)
    else:
        chat[change.message_id] = change.after


def _tell(operation: _Operation, done: Done) -> None:
    if operation.asked is not None and not operation.asked.done():
        operation.asked.set_result(done)


async def commit_once(room_log: RoomLog, decide: Decide, now_s: float) -> Done | None:
    """Commit a decision on a room that nobody here is in; None where there is no such room.

    Raises what `decide` raises, and Unavailable.
    """
    for _ in range(_ATTEMPTS):
        loaded = await room_log.load(after_seq=10**12, with_chat=False)
        if loaded is None:
            return None
        decision = decide(loaded.state, Context(now_s, lambda prefix: new_id(prefix, 16)))
        if decision.state is loaded.state and not decision.events:
            return Done(decision, None)
        answer = await room_log.commit(loaded.log_id, loaded.version, decision.state, [decision])
        if answer.result == "ok":
            return Done(decision, answer.seqs[0])
    raise Conflict("too many change this room at once; try again", code="busy")
