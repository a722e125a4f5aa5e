"""All rooms of this instance: attached while somebody is in them, kept in step with the others."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Hashable

from pydantic import ValidationError

from mediaserver.kernel.channels import Outbox
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import MediaServerError, NotFound, SlowConsumer, Unavailable
from mediaserver.kernel.ids import new_id
from mediaserver.kernel.logging import get_logger
from mediaserver.kernel.tasks import TaskScope
from mediaserver.protocol.messages import Caption, ServerMessage, SpeechStarted
from mediaserver.protocol.room_events import Reaction, RoomStatus, SomebodyTyping
from mediaserver.rooms.clock import SharedClock
from mediaserver.rooms.commits import commit_once
from mediaserver.rooms.decide import decide_for_server
from mediaserver.rooms.decision import Context, Decision, SweepInstance, Tick
from mediaserver.rooms.directory import RoomDirectory
from mediaserver.rooms.feed import Feed
from mediaserver.rooms.leases import RENEW_S, Leases
from mediaserver.rooms.log import channel_of, parse_published
from mediaserver.rooms.presence import Attendee, Joined, Newcomer
from mediaserver.rooms.replica import Gap, parse_event
from mediaserver.rooms.room import Room
from mediaserver.rooms.state import HOST_GRACE_S, RoomState, ad_hoc_settings
from mediaserver.rooms.videos import NoVideos, Videos
from mediaserver.stores.redis import RedisStore

log = get_logger(__name__)

OF_THE_MOMENT = 500
"""Messages of the moment that wait to be published; beyond, they are dropped."""
TIMER_S = 0.5
ROUND_TRIPS_S = 5.0
STOP_S = 3.0


class RoomHub:
    """See the module's docstring."""

    def __init__(
        self,
        store: RedisStore,
        clock: Clock,
        instance: str,
        dropped: Callable[[str], None] = lambda _what: None,
        videos: Videos | None = None,
    ) -> None:
        self.instance = f"{instance}.{new_id('p', 6)}"
        self.videos: Videos = videos or NoVideos()
        self.clock = SharedClock(store, clock)
        self.directory = RoomDirectory(store, self.clock)
        self._store = store
        self._dropped = dropped
        self._rooms: dict[str, Room] = {}
        self._attaching: dict[str, asyncio.Lock] = {}
        self._feed = Feed(store, self.instance, self._published, self._subscribed)
        self._leases = Leases(store, self.instance, clock, self._sweep)
        self._moment: Outbox[tuple[str, bytes]] = Outbox(OF_THE_MOMENT)
        self._scope = TaskScope("rooms")
        self._monotonic_s = clock.monotonic_s
        self._hosts_missing: dict[str, float] = {}
        self.connected = True
        """Whether Redis answers, as far as is known."""

    def __len__(self) -> int:
        return len(self._rooms)

    @property
    def members(self) -> int:
        """How many members are connected to this instance."""
        return sum(len(room.members) for room in self._rooms.values())

    def start(self) -> None:
        """Begin to follow the other instances."""
        self._scope.spawn("clock", self.clock.run())
        self._scope.spawn("feed", self._feed.run())
        self._scope.spawn("leases", self._keep_lease())
        self._scope.spawn("moment", self._publish())
        self._scope.spawn("timers", self._tick())

    async def advertise(self, url: str) -> None:
        """Tell the other instances where this one is reached."""
        self._leases.advertise(url)
        with contextlib.suppress(Unavailable):  # the next renewal says it
            await self._leases.renew()

    async def address_of(self, room: str, member_id: str) -> str | None:
        """Return where the instance that a member is connected to is reached, if it is known.

        Raises NotFound (`no_room`), Unavailable.
        """
        member = (await self.directory.load(room)).members.get(member_id)
        return await self._leases.address_of(member.instance) if member is not None else None

    async def aclose(self) -> None:
        """Write what is pending (bounded), give the lease back, stop."""
        rooms = list(self._rooms.values())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await asyncio.gather(*(room.commits.drained() for room in rooms))
                for room in rooms:
                    if not room.needed:
                        await self._leases.release(room.name)
                await self._leases.end()
        await self._scope.aclose()
        await asyncio.gather(*(room.aclose() for room in rooms))
        self._rooms.clear()

    # ---- what rooms need ----------------------------------------------------------------------

    def now_s(self) -> float:
        """Shared clock, Unix seconds."""
        return self.clock.now_s()

    def publish(self, room: str, message: ServerMessage, key: Hashable) -> None:
        """Tell the other instances something of the moment."""
        self._put(room, message.wire_text(), (room, key))

    def taken_over(self, room: str, member_id: str, connection: str) -> None:
        """Tell the other instances that a member is connected here now."""
        told = {"member_id": member_id, "connection": connection}
        self._put(room, json.dumps({"taken": told}), None)

    def _put(self, room: str, text: str, key: Hashable | None) -> None:
        payload = f"P {self.instance} {text}".encode()
        with contextlib.suppress(SlowConsumer):
            self._moment.put((channel_of(room), payload), key)

    # ---- coming -------------------------------------------------------------------------------

    async def join(self, name: str, newcomer: Newcomer, attendee: Attendee) -> tuple[Room, Joined]:
        """Let somebody into a room.

        Raises NotFound (`no_room`), Unavailable (`redis_down`), and what `Room.join` raises.
        """
        for _ in range(3):
            room = await self._attached(name, newcomer)
            room.joining += 1
            try:
                if self._rooms.get(name) is room:
                    return room, await room.join(newcomer, attendee)
            finally:
                room.joining -= 1
        raise Unavailable("the room was closed while you came; try again", retry_after_s=0.5)

    def find(self, name: str) -> Room | None:
        """Return a room that somebody here is in."""
        return self._rooms.get(name)

    async def _attached(self, name: str, newcomer: Newcomer) -> Room:
        lock = self._attaching.setdefault(name, asyncio.Lock())
        try:
            async with lock:
                room = self._rooms.get(name)
                if room is None:
                    room = await self._attach(name, newcomer)
                return room
        finally:
            if not lock.locked():
                self._attaching.pop(name, None)

    async def _attach(self, name: str, newcomer: Newcomer) -> Room:
        room_log = self.directory.log_of(name)
        await self._feed.subscribe(room_log.channel)
        try:
            loaded = await room_log.load()
            if loaded is None:
                if not newcomer.may_create:
                    raise NotFound(f"there is no room {name}", code="no_room")
                await self.directory.create(name, ad_hoc_settings(), None)
                loaded = await room_log.load()
                if loaded is None:
                    raise Unavailable("the room is gone again; try again", code="redis_down")
            await self._leases.hold(name)
        except BaseException:
            await self._feed.unsubscribe(room_log.channel)
            raise
        room = Room(room_log, loaded, self, self._dropped)
        self._rooms[name] = room
        room.start()
        # what was said between the subscription and now was not for this room yet
        await room.try_sync()
        return room

    async def _detach(self, room: Room) -> None:
        async with self._attaching.setdefault(room.name, asyncio.Lock()):
            if not room.needed and self._rooms.get(room.name) is room:
                del self._rooms[room.name]
                self._hosts_missing.pop(room.name, None)
                await self._feed.unsubscribe(room.log.channel)
                with contextlib.suppress(MediaServerError):
                    await self._leases.release(room.name)
                await room.aclose()
        self._attaching.pop(room.name, None)

    # ---- what comes in ------------------------------------------------------------------------

    def _subscribed(self, channel: str) -> None:
        room = self._room_of(channel)
        if room is not None:
            self._scope.spawn(f"sync {room.name}", room.try_sync())

    def _room_of(self, channel: str) -> Room | None:
        return self._rooms.get(channel.partition("{")[2].partition("}")[0])

    def _published(self, channel: str, payload: bytes) -> None:
        room = self._room_of(channel)
        if room is None:
            return
        entry = parse_published(payload)
        if entry is None:
            self._take_moment(room, payload)
            return
        try:
            room.take(entry)
        except Gap:
            self._scope.spawn(f"sync {room.name}", room.try_sync())

    def _take_moment(self, room: Room, payload: bytes) -> None:
        _, instance, text = payload.decode().split(" ", 2)
        if instance == self.instance:
            return
        if text.startswith('{"taken"'):
            room.taken(**json.loads(text)["taken"])
        elif text.startswith('{"round_trip_s"'):
            room.remote_round_trip_s = float(json.loads(text)["round_trip_s"])
        else:
            try:
                message = parse_event(text)
            except ValidationError:
                return  # of a newer version
            room.hear(message, _key_of(message))

    # ---- tasks --------------------------------------------------------------------------------

    async def _publish(self) -> None:
        """Send what is of the moment; what cannot be sent is lost."""
        while True:
            channel, payload = await self._moment.get()
            with contextlib.suppress(MediaServerError), self._store.guard():
                await self._store.client.publish(channel, payload)

    async def _keep_lease(self) -> None:
        while True:
            try:
                await self._leases.renew()
                self._now_connected(self._feed.connected)
                await self._leases.watch()
                await self._check_rooms()
            except Unavailable:
                self._now_connected(False)
            except MediaServerError as error:
                log.warning("rooms.lease_failed", code=error.specific_code)
            await asyncio.sleep(RENEW_S if self.connected else RENEW_S / 3)

    def _now_connected(self, connected: bool) -> None:
        if connected == self.connected:
            return
        self.connected = connected
        log.warning("rooms.redis", connected=connected)
        detail = "" if connected else "chat, playback and joining wait until Redis is back"
        told = RoomStatus(state="live" if connected else "away", detail=detail)
        for room in self._rooms.values():
            room.notify(told)

    async def _check_rooms(self) -> None:
        """Fetch what got lost on the way; let go of rooms that nobody is in."""
        for room in list(self._rooms.values()):
            if not room.needed:
                await self._detach(room)
            elif await room.log.seq() != room.replica.seq:
                await room.reached(room.replica.seq + 1)

    async def _sweep(self, name: str, instance: str) -> None:
        def decide(state: RoomState, context: Context) -> Decision:
            return decide_for_server(state, SweepInstance(instance), context)

        await commit_once(self.directory.log_of(name), decide, self.now_s())

    async def _tick(self) -> None:
        """Find a host where there is none; end barriers; tell round trips."""
        told_s = 0.0
        while True:
            await asyncio.sleep(TIMER_S)
            now_s = self._monotonic_s()
            for room in list(self._rooms.values()):
                if self._due(room, now_s):
                    room.defer(Tick())
            if now_s - told_s >= ROUND_TRIPS_S:
                told_s = now_s
                for room in self._rooms.values():
                    text = json.dumps({"round_trip_s": room.local_round_trip_s})
                    self._put(room.name, text, ("round trip", room.name))

    def _due(self, room: Room, now_s: float) -> bool:
        view = room.replica.view
        wait_until_s = view.playback.wait_until_s
        if wait_until_s is not None and self.now_s() >= wait_until_s:
            return room.commits.idle
        if not view.host_missing:
            self._hosts_missing.pop(room.name, None)
            return False
        since_s = self._hosts_missing.setdefault(room.name, now_s)
        if now_s < since_s + HOST_GRACE_S:
            return False
        self._hosts_missing[room.name] = now_s - HOST_GRACE_S + 2.0  # look again in 2 s
        return True


def _key_of(message: ServerMessage) -> Hashable:
    """What replaces what among messages of the moment."""
    match message:
        case Caption(caption_id=caption_id):
            return ("caption", caption_id)
        case SpeechStarted(track_id=track_id):
            return ("speech.started", track_id)
        case SomebodyTyping(member_id=member_id):
            return ("typing", member_id)
        case Reaction():
            return ("reaction", id(message))
        case _:
            return message.type
