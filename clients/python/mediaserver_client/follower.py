"""Watching with the room: any player is kept at the shared position."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Protocol, Self

from mediaserver_client.clock import ClockSync
from mediaserver_client.drift import PlayerState
from mediaserver_client.errors import ClientError, Refused, SessionClosed
from mediaserver_client.messages import ClientMessage, ServerMessage
from mediaserver_client.room import RoomSession
from mediaserver_client.room_commands import ClockPing, PlaybackReady, PlaybackReport
from mediaserver_client.room_events import ClockPong, PlaybackMessage, RoomSnapshot
from mediaserver_client.room_types import QueueItem
from mediaserver_client.sync import PlaybackFollower, PlaybackStep

log = logging.getLogger("mediaserver_client")

REPORT_S = 2.0
"""Between two reports of how well one follows."""
_RETRY_S = 1.0


class Player(Protocol):
    """What a `Follower` steers. All calls return at once; what takes time shows in `state`."""

    @property
    def state(self) -> PlayerState:
        """How the player is now."""
        ...

    def load(self, item: QueueItem) -> None:
        """Load an item, paused; `state.item_id` is its id from now on, `ready` once it is."""
        ...

    def play(self) -> None:
        """Play from here."""
        ...

    def pause(self) -> None:
        """Stand still."""
        ...

    def seek(self, position_s: float) -> None:
        """Go to another place."""
        ...

    def set_rate(self, rate: float) -> None:
        """Play at another speed."""
        ...


class TimePlayer:
    """A player that shows nothing and keeps the time: for bots that only have to know where it is.

    It ends where the item does, if its length is known.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._item: QueueItem | None = None
        self._from_s, self._at_s = 0.0, now_s()
        self._rate, self._paused = 1.0, True

    @property
    def item(self) -> QueueItem | None:
        """What is loaded."""
        return self._item

    @property
    def position_s(self) -> float:
        """Where it is, seconds of the item."""
        moved_s = 0.0 if self._paused else (self._now_s() - self._at_s) * self._rate
        end_s = self._item.duration_s if self._item is not None else None
        return self._from_s + moved_s if end_s is None else min(self._from_s + moved_s, end_s)

    @property
    def state(self) -> PlayerState:
        """See `Player`."""
        return PlayerState(
            item_id=self._item.item_id if self._item is not None else None,
            position_s=self.position_s,
            paused=self._paused,
            ready=self._item is not None,
            rate=self._rate,
            duration_s=self._item.duration_s if self._item is not None else None,
        )

    def load(self, item: QueueItem) -> None:
        """See `Player`."""
        self._item, self._paused = item, True
        self._move(0.0)

    def play(self) -> None:
        """See `Player`."""
        self._move(self.position_s)
        self._paused = False

    def pause(self) -> None:
        """See `Player`."""
        self._move(self.position_s)
        self._paused = True

    def seek(self, position_s: float) -> None:
        """See `Player`."""
        self._move(position_s)

    def set_rate(self, rate: float) -> None:
        """See `Player`."""
        self._move(self.position_s)
        self._rate = rate

    def _move(self, position_s: float) -> None:
        self._from_s, self._at_s = position_s, self._now_s()


class Follower:
    """Runs the clock exchange and keeps `player` with the room.

    ``async with Follower(room, TimePlayer()) as follower: …``. Call `look` when the player has
    loaded, sought, stalled or gone on; without it that is noticed within half a second. A live
    broadcast has no shared position: it is loaded and played, and not followed.
    """

    def __init__(self, room: RoomSession, player: Player) -> None:
        self._room, self._player = room, player
        self.clock = ClockSync()
        self._follower = PlaybackFollower(self.clock)
        self._changed = asyncio.Event()
        self._reports_at_s = 0.0
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._ending: asyncio.Task[None] | None = None
        self._unlisten: Callable[[], None] | None = None
        self._live: str | None = None

    async def __aenter__(self) -> Self:
        self._unlisten = self._room.listen(self._hear)
        if self._room.playback is not None:
            self._follower.update(self._room.playback, snapshot=True)
        self._tasks = (
            asyncio.create_task(self._run(self._keep_clock), name="mediaserver-client-clock"),
            asyncio.create_task(self._run(self._keep_player), name="mediaserver-client-follow"),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._unlisten is not None:
            self._unlisten()
        tasks = [*self._tasks, *([self._ending] if self._ending is not None else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5.0)

    @property
    def position_s(self) -> float | None:
        """The shared position now, seconds of the item; None while nothing is played."""
        return self._follower.position_s(time.monotonic())

    @property
    def drift_s(self) -> float | None:
        """Player less shared position; None unless the player plays."""
        return self._follower.drift_s

    @property
    def synchronised(self) -> bool:
        """Whether the shared clock is known well enough to start by it."""
        return self.clock.synchronised

    def resync(self) -> None:
        """Come in sync anew, as exactly as can be."""
        self._follower.resync()
        self.look()

    def look(self) -> None:
        """Look at the player now: something happened to it."""
        self._changed.set()

    # ---- the work --------------------------------------------------------------------------

    def _hear(self, message: ServerMessage) -> None:
        match message:
            case ClockPong():
                self.clock.pong(message.t0, message.t1, message.t2, time.monotonic())
            case PlaybackMessage():
                self._follower.update(message.state)
                self.look()
            case RoomSnapshot():
                self._follower.update(message.playback, snapshot=True)
                self.look()

    async def _run(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Work until the session is over."""
        with contextlib.suppress(ClientError):
            while self._room.over is None:
                try:
                    await work()
                except SessionClosed:
                    await asyncio.sleep(_RETRY_S)

    async def _keep_clock(self) -> None:
        connection = None
        while True:
            if (current := await self._room.connection()) is not connection:
                connection = current
                self.clock.restart(time.monotonic())
            now_s = time.monotonic()
            if now_s < self.clock.next_ping_s:
                await asyncio.sleep(min(self.clock.next_ping_s - now_s, _RETRY_S))
                continue
            with contextlib.suppress(SessionClosed):
                await connection.send(ClockPing(t0=self.clock.ping(time.monotonic())))

    async def _keep_player(self) -> None:
        while True:
            self._changed.clear()
            now_s = time.monotonic()
            player = self._player.state
            wake_s = now_s + _RETRY_S
            if not self._is_live():
                step = self._follower.step(now_s, player)
                await self._do(step)
                wake_s = step.wake_s
            await self._report(now_s, player)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, wake_s - time.monotonic())):
                    await self._changed.wait()

    def _item(self, item_id: str | None) -> QueueItem | None:
        return next((item for item in self._room.queue if item.item_id == item_id), None)

    def _is_live(self) -> bool:
        """Play a live broadcast, which is as late as its network makes it."""
        state = self._room.playback
        item = self._item(state.item_id) if state is not None else None
        if item is None or item.kind != "live" or state is None:
            self._live = None
            return False
        if self._live != item.item_id:
            self._live = item.item_id
            self._player.load(item)
        if state.playing == self._player.state.paused:
            (self._player.play if state.playing else self._player.pause)()
        return True

    async def _do(self, step: PlaybackStep) -> None:
        """Carry a step out, in its order."""
        if step.load is not None and (item := self._item(step.load)) is not None:
            self._player.load(item)
            self.look()
        if step.pause:
            self._player.pause()
        if step.seek_to_s is not None:
            self._player.seek(step.seek_to_s)
        if step.rate is not None:
            self._player.set_rate(step.rate)
        if step.play:
            self._player.play()
        if step.ready is not None:
            await self._send(PlaybackReady(epoch=step.ready))
        if step.ended is not None and self._room.grants.can_control:
            self._ending = asyncio.create_task(self._end(), name="mediaserver-client-ended")

    async def _end(self) -> None:
        state = self._follower.state
        if state is None:
            return
        try:
            await self._room.item_ended(state)
        except ClientError as error:  # somebody else said so first, or the room is away
            log.info("the item's end was not taken: %s", error)

    async def _report(self, now_s: float, player: PlayerState) -> None:
        drift_s = self._follower.drift_s
        if now_s < self._reports_at_s or drift_s is None:
            return
        self._reports_at_s = now_s + REPORT_S
        await self._send(
            PlaybackReport(
                drift_ms=round(drift_s * 1000, 1),
                round_trip_ms=round(max(0.0, self.clock.round_trip_s) * 1000, 1),
                buffering=not player.ready,
            )
        )

    async def _send(self, message: ClientMessage) -> None:
        """What is lost with a connection is said again by the next steps, or is no loss."""
        with contextlib.suppress(SessionClosed, Refused):
            await (await self._room.connection()).send(message)
