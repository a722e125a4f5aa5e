"""What must not work: links without a ticket, too much of anything, watching without a grant."""

import asyncio
from collections.abc import Iterator

import aiohttp
import pytest

from mediaserver.relay.links import PATH
from mediaserver.relay.tickets import TICKET_HEADER, LinkTickets
from mediaserver.rtc.sdp import MAX_SDP_BYTES
from mediaserver.stores.redis import RedisStore
from tests.integration.relay_client import LINKS_OUT, Screen, becomes, camera, screen, shows
from tests.integration.room_client import RoomMember, party
from tests.integration.room_servers import Servers, run_servers
from tests.valkey import ValkeyProcess

pytestmark = pytest.mark.leaves_behind("aiortc leaves its codecs' threads to the interpreter")
KEY = "k" * 32


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, valkey_server: ValkeyProcess
) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("relay-hostile")
    with run_servers(folder, valkey_server, 2, api_key=KEY) as servers:
        yield servers


async def link(
    session: aiohttp.ClientSession, url: str, room: str, member_id: str, ticket: str | None
) -> int:
    """Try to open a link; return the HTTP status (101 where it opened)."""
    headers = {} if ticket is None else {TICKET_HEADER: ticket}
    path = PATH.format(room=room, member_id=member_id)
    try:
        async with session.ws_connect(f"{url}{path}", headers=headers) as socket:
            assert (await socket.receive()).type is aiohttp.WSMsgType.TEXT
            return 101
    except aiohttp.WSServerHandshakeError as error:
        return error.status


async def test_a_link_takes_a_ticket_of_its_own_once(
    servers: Servers, valkey_server: ValkeyProcess
) -> None:
    async with (
        RedisStore(valkey_server.url) as redis,
        party(servers, "tickets", "Ada") as (ada,),
        camera(ada),
    ):
        await shows(ada, ada.id)
        tickets, url, session = LinkTickets(redis), servers[0].url, ada._session
        for wrong in (None, "", "x" * 43, "ü" * 43, "x" * 5000, KEY):
            assert await link(session, url, "tickets", ada.id, wrong) == 401
        async with session.get(
            url + PATH.format(room="tickets", member_id=ada.id), headers={"X-API-Key": KEY}
        ) as response:
            assert response.status == 401
        good = await tickets.issue("tickets", ada.id)
        assert await link(session, url, "tickets", ada.id, good) == 101
        assert await link(session, url, "tickets", ada.id, good) == 401
        for room, member_id in (("other", ada.id), ("tickets", "m_other")):
            foreign = await tickets.issue(room, member_id)
            assert await link(session, url, "tickets", ada.id, foreign) == 401
            assert await link(session, url, room, member_id, foreign) == 401  # it is used up
        nobody = await tickets.issue("tickets", "m_nobody")
        assert await link(session, url, "tickets", "m_nobody", nobody) == 404
        await becomes(servers[0], LINKS_OUT, 0)


async def refused(member: RoomMember, code: str, count: int = 1) -> None:
    """Wait until so many errors of this kind were told."""
    await member.until(
        lambda m: sum(e["problem"]["code"] == code for e in m.told("error")) >= count, 30.0
    )


async def test_floods_are_refused_and_hurt_nobody(servers: Servers) -> None:
    async with (
        party(servers, "flood", "Ada", "Bob", "Mallory") as (ada, bob, mallory),
        camera(ada),
        screen(bob) as shown,
    ):
        await shows(bob, ada.id)
        await shown.watch()
        await shown.sees_and_hears()
        await mallory.send("watch.offer", sdp="v=0\r\n" + "a=x\r\n" * (MAX_SDP_BYTES // 5))
        await refused(mallory, "sdp_too_large")
        for text in ("", "v=0", "v=0\r\nm=audio", "\x00", "v=0\r\ns=-\r\n"):
            await mallory.send("watch.offer", sdp=text)
        await refused(mallory, "bad_sdp")
        hostile = Screen(mallory)
        sdp = await hostile.offer()
        for _ in range(20):
            await mallory.send("watch.offer", sdp=sdp, member_id=ada.id)
        await refused(mallory, "too_many_requests", 10)
        async with asyncio.timeout(30):
            while (answer := await hostile.ask(ada.id))["type"] == "error":
                await asyncio.sleep(answer["problem"]["retry_after_s"])
        for number in range(150):
            candidate = f"candidate:1 1 udp 2130706431 192.0.2.1 {50000 + number} typ host"
            await mallory.send("watch.candidate", candidate=candidate)
            await mallory.send("watch.candidate", candidate="nonsense")
        await refused(mallory, "bad_candidate", 150)
        await hostile.off()
        for _ in range(5):
            await mallory.send("watch.stop")
        await shown.sees_and_hears()
        assert not bob.told("watch.ended")
        await becomes(servers[1], "mediaserver_viewers", 1)


async def test_who_may_not_subscribe_may_not_watch(servers: Servers) -> None:
    async with party(servers, "deaf", "Ada") as (ada,), camera(ada):
        await shows(ada, ada.id)
        body = {
            "subject": "deaf",
            "role": "member",
            "grants": {"room_join": True, "can_chat": True},
            "expires_in_s": 60,
        }
        status, minted = await asyncio.to_thread(
            servers.ask, 1, "POST", "/api/v1/rooms/deaf/tokens", body, KEY
        )
        assert status < 300, minted
        headers = {"Authorization": f"Bearer {minted['token']}"}
        url = f"{servers[1].ws_url}/ws?room=deaf"
        async with ada._session.ws_connect(url, headers=headers) as socket:
            welcome = await socket.receive_json(timeout=20)
            assert welcome["grants"]["can_subscribe"] is False
            sdp = await Screen(ada).offer()
            offer = {"type": "watch.offer", "sdp": sdp, "member_id": ada.id, "id": "w"}
            await socket.send_json(offer)
            answer = await socket.receive_json(timeout=20)
            assert (answer["type"], answer["in_reply_to"]) == ("error", "w")
            assert answer["problem"]["code"] == "not_granted"
