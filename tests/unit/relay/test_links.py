"""Links between two applications, by real WebSockets on loopback and a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from mediaserver.kernel.channels import ChannelClosed
from mediaserver.kernel.clocks import SystemClock
from mediaserver.kernel.errors import NotFound, Overloaded, Unavailable
from mediaserver.relay import link as link_module
from mediaserver.relay import links as links_module
from mediaserver.relay.broadcasts import Broadcasts, LocalBroadcast
from mediaserver.relay.feeding import Feeds
from mediaserver.relay.links import PATH, Links
from mediaserver.relay.tickets import TICKET_HEADER, LinkTickets
from mediaserver.stores.redis import RedisStore
from tests.unit.relay.sources import WrittenSource, picture

ROOM, MEMBER = "studio", "m_ada"


class Answering:
    """The instance that has the broadcasts."""

    def __init__(self, redis: RedisStore) -> None:
        self.tickets = LinkTickets(redis)
        self.broadcasts = Broadcasts()
        self.feeds = Feeds(most=2)
        self.transports: set[asyncio.Transport] = set()
        app = web.Application()
        app.router.add_get(PATH, self._answer)
        self.server = TestServer(app)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        room, member_id = request.match_info["room"], request.match_info["member_id"]
        await self.tickets.take(request.headers[TICKET_HEADER], room, member_id)
        broadcast = self.broadcasts.find(room, member_id)
        if broadcast is None:
            raise web.HTTPNotFound
        assert request.transport is not None
        self.transports.add(request.transport)
        try:
            return await self.feeds.answer(request, broadcast)
        except Overloaded:
            raise web.HTTPServiceUnavailable from None

    def cut(self) -> None:
        """Break all connections, as a network does."""
        while self.transports:
            self.transports.pop().abort()


@pytest.fixture
async def there(redis: RedisStore) -> AsyncIterator[Answering]:
    answering = Answering(redis)
    await answering.server.start_server()
    yield answering
    await answering.server.close()


@pytest.fixture
async def here(there: Answering) -> AsyncIterator[Links]:
    async def locate(room: str, member_id: str) -> str | None:
        if room == "nowhere":
            return None
        if room == "gone":
            raise NotFound("there is no such room")
        if room == "dead":
            return "http://127.0.0.1:1"
        return str(there.server.make_url(""))

    links = Links(locate, there.tickets, SystemClock(), most=3)
    yield links
    await links.aclose()


def begin(there: Answering, member_id: str = MEMBER) -> tuple[WrittenSource, LocalBroadcast]:
    source = WrittenSource(audio="opus", video="VP8")
    return source, there.broadcasts.begin(ROOM, member_id, source)


async def got(tap: Any) -> Any:
    async with asyncio.timeout(20):
        return await tap.get()


async def until(look: Any, timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not look():
            await asyncio.sleep(0.01)


async def test_frames_come_over_one_link_to_all_taps(there: Answering, here: Links) -> None:
    source, _ = begin(there)
    one, other = await here.hold(ROOM, MEMBER), await here.hold(ROOM, MEMBER)
    assert one is other
    assert dict(one.codecs) == {"audio": "opus", "video": "VP8"}
    with one.open_tap() as first, one.open_tap() as second:
        await until(lambda: source.keyframes_asked >= 2)  # of the feed's tap, and of these
        frames = [picture(0, keyframe=True), picture(1), picture(2)]
        for frame in frames:
            source.fanout.deliver(frame)
        for tap in (first, second):
            assert [await got(tap) for _ in frames] == frames
    assert len(here) == len(there.feeds) == 1


async def test_a_link_is_closed_some_time_after_its_last_user(
    there: Answering, here: Links, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links_module, "LINGER_S", 0.2)
    source, _ = begin(there)
    link = await here.hold(ROOM, MEMBER)
    here.release(link)
    assert await here.hold(ROOM, MEMBER) is link  # it was kept
    await asyncio.sleep(0.4)
    assert link.end_reason is None
    here.release(link)
    await until(lambda: not len(here) and not len(there.feeds))
    assert not source.fanout.watched


async def test_the_end_and_its_reason_reach_the_other_side(there: Answering, here: Links) -> None:
    for reason in ("ended", "left", "lost"):
        _, broadcast = begin(there)
        link = await here.hold(ROOM, MEMBER)
        with link.open_tap() as tap:
            there.broadcasts.end(ROOM, MEMBER, broadcast, reason)
            with pytest.raises(ChannelClosed):
                await got(tap)
        assert link.end_reason == reason
        with pytest.raises(NotFound):
            await here.hold(ROOM, MEMBER)
    await until(lambda: not len(here))


async def test_a_broken_link_is_made_anew_and_goes_on(there: Answering, here: Links) -> None:
    source, _ = begin(there)
    link = await here.hold(ROOM, MEMBER)
    with link.open_tap() as tap:
        source.fanout.deliver(picture(0, keyframe=True))
        assert await got(tap) == picture(0, keyframe=True)
        there.cut()
        await until(lambda: there.transports)
        number = 0
        while not len(tap):
            number += 1
            source.fanout.deliver(picture(number, keyframe=True))
            await asyncio.sleep(0.02)
            assert number < 1000
        assert (await got(tap)).keyframe
    assert link.end_reason is None


async def test_another_broadcast_after_a_break_is_another_one(
    there: Answering, here: Links
) -> None:
    _, before = begin(there)
    link = await here.hold(ROOM, MEMBER)
    there.broadcasts._broadcasts.clear()  # its end is not heard of: the instance is a new one
    begin(there)
    there.cut()
    async with asyncio.timeout(20):
        await link.ended.wait()
    assert link.end_reason == "replaced"
    assert before.end_reason is None


async def test_a_link_that_stays_broken_is_lost(
    there: Answering, here: Links, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "RECONNECT_S", 0.5)
    begin(there)
    link = await here.hold(ROOM, MEMBER)
    await there.server.close()
    async with asyncio.timeout(20):
        await link.ended.wait()
    assert link.end_reason == "lost"


async def test_what_cannot_be_reached_is_said_so(there: Answering, here: Links) -> None:
    for room in ("nowhere", "dead"):
        with pytest.raises(Unavailable) as refused:
            await here.hold(room, MEMBER)
        assert refused.value.specific_code == "relay_unreachable"
    with pytest.raises(NotFound) as none:
        await here.hold("gone", MEMBER)
    assert none.value.specific_code == "no_broadcast"
    await until(lambda: not len(here))


async def test_both_sides_have_limits(there: Answering, here: Links) -> None:
    for number in range(4):
        begin(there, f"m_{number}")
    held = [await here.hold(ROOM, f"m_{number}") for number in range(2)]
    with pytest.raises(Overloaded) as theirs:
        await here.hold(ROOM, "m_2")  # the other instance answers two
    assert theirs.value.specific_code == "watch_full"
    here._most = 2
    await until(lambda: len(here) == 2)
    with pytest.raises(Overloaded) as ours:
        await here.hold(ROOM, "m_3")
    assert ours.value.specific_code == "watch_full"
    assert all(link.end_reason is None for link in held)


async def test_a_broadcast_that_is_taken_away_ends_for_all_though_its_source_goes_on() -> None:
    source = WrittenSource(video="VP8")
    broadcasts = Broadcasts()
    broadcast = broadcasts.begin(ROOM, MEMBER, source)
    tap = broadcast.open_tap()
    source.fanout.deliver(picture(0, keyframe=True))
    again = broadcasts.begin(ROOM, MEMBER, source)
    assert broadcast.end_reason == "replaced"
    with pytest.raises(ChannelClosed):
        await tap.get()
    assert not source.fanout.watched
    with pytest.raises(ChannelClosed):
        await broadcast.open_tap().get()
    broadcasts.end(ROOM, MEMBER, broadcast, "left")  # of the old one: the new one stays
    assert broadcasts.find(ROOM, MEMBER) is again
    assert broadcast.end_reason == "replaced"
