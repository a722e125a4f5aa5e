"""Two hubs on a real valkey-server: commits, followers, leases."""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager

import pytest

from mediaserver.kernel.clocks import SystemClock
from mediaserver.kernel.errors import NotFound, Unavailable
from mediaserver.protocol.chat import ChatSend
from mediaserver.protocol.messages import Caption, Chat, ServerMessage, TrackStarted
from mediaserver.protocol.room_commands import QueueAdd
from mediaserver.protocol.rooms import Grants
from mediaserver.rooms import commits
from mediaserver.rooms.directory import LISTED_AT_ONCE
from mediaserver.rooms.grants import ALL
from mediaserver.rooms.hub import RoomHub
from mediaserver.rooms.log import LOG_LENGTH, Loaded
from mediaserver.rooms.presence import Joined, Newcomer, ResumePoint
from mediaserver.rooms.room import Room
from mediaserver.rooms.state import ad_hoc_settings
from mediaserver.stores.redis import RedisStore
from tests.unit.rooms.test_replica import caption
from tests.valkey import ValkeyProcess


class Seat:
    """A member's connection that remembers."""

    def __init__(self) -> None:
        self.messages: list[ServerMessage] = []
        self.sent_away: list[int] = []

    def deliver(self, message: ServerMessage, key: Hashable | None) -> None:
        self.messages.append(message)

    def granted(self, grants: Grants) -> None:
        pass

    def dismiss(self, code: int, reason: str) -> None:
        self.sent_away.append(code)

    async def until(self, look: Callable[[], bool]) -> None:
        async with asyncio.timeout(20.0):
            while not look():
                await asyncio.sleep(0.005)


@asynccontextmanager
async def run_hub(url: str, name: str, dropped: Callable[[str], None]) -> AsyncIterator[RoomHub]:
    async with RedisStore(url) as store:
        hub = RoomHub(store, SystemClock(), name, dropped)
        hub.start()
        try:
            yield hub
        finally:
            await hub.aclose()


@pytest.fixture
async def hubs(redis: RedisStore, valkey_server: ValkeyProcess) -> AsyncIterator[list[RoomHub]]:
    def ignore(_what: str) -> None:
        pass

    async with (
        run_hub(valkey_server.url, "a", ignore) as one,
        run_hub(valkey_server.url, "b", ignore) as other,
    ):
        yield [one, other]


def say(text: str, id_: str | None = None) -> ChatSend:
    return ChatSend(type="chat.send", text=text, id=id_)


async def come(hub: RoomHub, name: str = "x", **more: object) -> tuple[Room, Joined, Seat]:
    seat = Seat()
    newcomer = Newcomer(name, **more)  # type: ignore[arg-type] # fields of it
    room, joined = await hub.join("r", newcomer, seat)
    return room, joined, seat


async def test_joins_at_once_on_both_sides_are_all_there_and_one_is_host(
    hubs: list[RoomHub],
) -> None:
    came = await asyncio.gather(*(come(hubs[n % 2], str(n)) for n in range(60)))
    members = (await hubs[0].directory.load("r")).members
    assert len(members) == 60
    assert [m.role for m in members.values()].count("host") == 1
    for room, joined, _ in came:
        room.leave(joined.member.record.member_id, joined.connection, "left")
    await asyncio.gather(*(room.commits.drained() for room, _, _ in came))
    assert (await hubs[0].directory.load("r")).members == {}


async def test_both_sides_are_told_the_same_in_the_same_order(hubs: list[RoomHub]) -> None:
    (here, ann, one), (there, bob, other) = [await come(hub) for hub in hubs]
    await asyncio.gather(
        *(here.command(ann.member.record.member_id, say(f"a{n}")) for n in range(100)),
        *(there.command(bob.member.record.member_id, say(f"b{n}")) for n in range(100)),
    )

    def told(seat: Seat) -> list[str]:
        return [m.text for m in seat.messages if isinstance(m, Chat)]

    await one.until(lambda: len(told(one)) == 200)
    await other.until(lambda: len(told(other)) == 200)
    assert told(one) == told(other)
    assert [t for t in told(one) if t[0] == "a"] == [f"a{n}" for n in range(100)]


async def test_the_log_keeps_1000_events_and_who_was_away_longer_gets_a_snapshot(
    hubs: list[RoomHub], redis: RedisStore
) -> None:
    room, joined, _ = await come(hubs[0])
    member = joined.member.record.member_id
    for start in range(0, LOG_LENGTH + 10, 50):
        await asyncio.gather(*(room.command(member, say(str(n))) for n in range(start, start + 50)))
    assert await redis.client.xlen(room.log.keys[1]) == LOG_LENGTH
    last = await room.log.seq()
    assert last is not None
    for missed in (LOG_LENGTH, LOG_LENGTH + 1):
        resume = ResumePoint(joined.log_id, last - missed, member, joined.secret)
        _, again, _ = await come(hubs[1], resume=resume)
        kinds = {m.type for m in again.so_far}
        assert ("room.resumed" in kinds) == (missed <= LOG_LENGTH)
        assert ("room.snapshot" in kinds) == (missed > LOG_LENGTH)


async def test_what_is_said_twice_with_one_id_is_written_once(hubs: list[RoomHub]) -> None:
    room, joined, _ = await come(hubs[0])
    member = joined.member.record.member_id
    done = await asyncio.gather(*(room.command(member, say("hi", "same")) for _ in range(5)))
    assert len({d.seq for d in done}) == 1
    assert len(room.replica.chat) == 1


async def test_captions_reach_the_other_side_and_finals_get_their_numbers(
    hubs: list[RoomHub],
) -> None:
    (here, ann, one), (_, _, other) = [await come(hub) for hub in hubs]
    here.track_started(
        TrackStarted(track_id="t", member_id=ann.member.record.member_id, speaker="Ann")
    )
    partial = caption(0).model_copy(update={"final": False})
    here.caption(partial)
    here.caption(caption(0))
    assert [m.type for m in one.messages[-3:]] == ["track.started", "caption", "caption"]
    await other.until(lambda: any(isinstance(m, Caption) and m.final for m in other.messages))
    await here.commits.drained()
    await here.sync()
    for seat, numbered in ((one, [False, True]), (other, [True])):
        finals = [m for m in seat.messages if isinstance(m, Caption) and m.final]
        assert [f.seq is not None for f in finals] == numbered


async def test_finals_wait_for_redis_up_to_a_bound_and_come_once(
    tmp_path_factory: pytest.TempPathFactory, valkey_server: ValkeyProcess
) -> None:
    dropped: list[str] = []
    folder = tmp_path_factory.mktemp("own")
    own = ValkeyProcess(folder)
    own.start()
    try:
        async with run_hub(own.url, "a", dropped.append) as hub:
            room, joined, seat = await come(hub)
            own.kill()
            over = 7
            for number in range(commits.MAX_WAITING_FINALS + over):
                room.caption(caption(number))
            heard = [m for m in seat.messages if isinstance(m, Caption)]
            assert len(heard) == commits.MAX_WAITING_FINALS + over, "told here at once"
            with pytest.raises(Unavailable) as refused:
                await room.command(joined.member.record.member_id, say("hello"))
            assert refused.value.specific_code == "redis_down"
            with pytest.raises(Unavailable):
                await hub.join("other", Newcomer("x"), Seat())
            own.start()
            async with asyncio.timeout(20.0):
                await room.commits.drained()
            loaded = await room.log.load()
            assert loaded is not None
            assert len(loaded.entries) == 1 + commits.MAX_WAITING_FINALS
            assert set(dropped) == {"room_final"}
            assert len(dropped) <= over + commits.MAX_TOGETHER
    finally:
        own.kill()


async def test_events_that_come_while_the_log_is_asked_do_not_make_it_look_shorter(
    hubs: list[RoomHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    room, joined, seat = await come(hubs[0])
    load = room.log.load

    async def load_slowly(after_seq: int = -1, with_chat: bool = True) -> Loaded | None:
        loaded = await load(after_seq, with_chat)
        done = await room.command(joined.member.record.member_id, say("meanwhile"))
        await seat.until(lambda: room.replica.seq == done.seq)
        return loaded

    monkeypatch.setattr(room.log, "load", load_slowly)
    log_id = room.replica.log_id
    async with asyncio.timeout(20.0):
        await room.sync()
    found = await load()
    assert found is not None
    assert found.log_id == room.replica.log_id == log_id
    assert [entry.seq for entry in found.entries] == [1, 2]


async def test_a_room_that_is_not_there_is_made_only_by_who_may(hubs: list[RoomHub]) -> None:
    with pytest.raises(NotFound) as refused:
        await come(hubs[0], may_create=False)
    assert refused.value.specific_code == "no_room"
    await come(hubs[0])
    await come(hubs[1], may_create=False)


async def test_rooms_come_and_go_and_leave_nothing_in_the_hub(
    hubs: list[RoomHub], redis: RedisStore
) -> None:
    room, joined, seat = await come(hubs[0])
    assert await redis.client.pttl(room.log.keys[0]) == -1
    room.leave(joined.member.record.member_id, joined.connection, "left")
    await seat.until(lambda: len(hubs[0]) == 0)
    left_ms = await redis.client.pttl(room.log.keys[0])
    assert 590_000 < left_ms <= 600_000


async def test_the_list_shows_rooms_as_they_are_and_forgets_those_that_are_gone(
    hubs: list[RoomHub], redis: RedisStore
) -> None:
    directory = hubs[0].directory
    names = [f"room-{number}" for number in range(LISTED_AT_ONCE + 10)]
    for name in names:
        await directory.create(name, ad_hoc_settings(), None)
    room, joined, _ = await come(hubs[1])
    item = {"kind": "mp4", "url": "https://example.org/a.mp4", "title": "A film"}
    add = QueueAdd.model_validate({"type": "queue.add", "item": item})
    await room.command(joined.member.record.member_id, add)
    await hubs[1].join(
        "r", Newcomer("hidden", grants=ALL.model_copy(update={"hidden": True})), Seat()
    )
    await directory.close(names[0], "over")
    await redis.client.delete(directory.log_of(names[1]).keys[0])
    listed = await directory.list(lambda _state: True)
    # the two hubs' clocks may differ by more than the rooms' ages
    (shown,) = [info for info in listed if info.room == "r"]
    others = [info.room for info in listed if info.room != "r"]
    assert others == names[:1:-1], "the newest first"
    assert shown == (await directory.view("r")).info
    assert (shown.members, shown.playing) == (1, "A film")
    assert await redis.client.zscore("ms:rooms", names[1]) is None
    assert [i.room for i in await directory.list(lambda state: state.room == "r")] == ["r"]
