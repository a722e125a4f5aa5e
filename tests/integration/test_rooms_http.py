"""Rooms over HTTP: made, listed, private, invited to, joined with a ticket, closed."""

import asyncio
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from tests.integration.room_client import RoomMember, party
from tests.integration.room_servers import Servers, run_servers
from tests.valkey import ValkeyProcess

KEY = "k" * 32


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, valkey_server: ValkeyProcess
) -> Iterator[Servers]:
    """Two instances where everybody needs credentials."""
    folder = tmp_path_factory.mktemp("guarded")
    with run_servers(folder, valkey_server, 2, api_key=KEY) as servers:
        yield servers


class Api:
    """Requests to one of the servers in turn, with the key or another."""

    def __init__(self, servers: Servers) -> None:
        self.servers = servers
        self._turn = 0

    async def __call__(
        self, method: str, path: str, body: object = None, key: str | None = KEY
    ) -> tuple[int, Any]:
        self._turn += 1
        return await asyncio.to_thread(
            self.servers.ask, self._turn % 2, method, f"/api/v1/rooms{path}", body, key
        )


@pytest.fixture
def api(guarded: Servers) -> Api:
    return Api(guarded)


async def token_for(api: Api, room: str, subject: str, role: str = "member", **grants: bool) -> str:
    given = {"room_join": True, "can_subscribe": True, "can_chat": True, **grants}
    status, minted = await api(
        "POST", f"/{room}/tokens", {"subject": subject, "role": role, "grants": given}
    )
    assert status == 201, minted
    return str(minted["token"])


async def enter(
    session: aiohttp.ClientSession, api: Api, room: str, name: str, token: str | None, **body: Any
) -> RoomMember:
    """Join with a ticket."""
    status, ticket = await api("POST", f"/{room}/join", {"name": name, **body}, key=token)
    assert status == 200, ticket
    member = RoomMember(list(api.servers), room, name, ticket=ticket["ticket"])
    for server in member.servers:
        server.key = None
    member.reconnects = False
    await member.start(session)
    return member


async def test_a_room_is_made_changed_listed_and_closed(api: Api) -> None:
    status, room = await api("POST", "", {"name": "seen-by-http", "title": "Film <night>"})
    assert (status, room["settings"]["title"]) == (201, "Film <night>")
    assert (await api("POST", "", {"name": "seen-by-http"}))[0] == 409
    status, changed = await api("PATCH", "/seen-by-http", {"persistent": True})
    assert (status, changed["settings"]["persistent"]) == (200, True)
    assert changed["settings"]["title"] == "Film <night>"
    _, listed = await api("GET", "")
    assert "seen-by-http" in [info["room"] for info in listed["rooms"]]
    assert (await api("DELETE", "/seen-by-http"))[0] == 204
    status, problem = await api("GET", "/seen-by-http")
    assert (status, problem["code"]) == (404, "no_room")
    _, listed = await api("GET", "")
    assert "seen-by-http" not in [info["room"] for info in listed["rooms"]]


async def test_without_credentials_there_is_nothing_but_an_invitation(api: Api) -> None:
    await api("POST", "", {"name": "club", "visibility": "private"})
    for method, path in (("GET", ""), ("GET", "/club"), ("POST", "/club/join"), ("POST", "")):
        assert (await api(method, path, {} if method == "POST" else None, key=None))[0] == 401
    status, made = await api("POST", "/club/invitations", {"role": "cohost", "max_uses": 1})
    assert status == 201
    assert made["url"].endswith(f"#room=club&invitation={made['token']}")
    async with aiohttp.ClientSession() as session:
        guest = await enter(session, api, "club", "Gus", None, invitation=made["token"])
        assert guest.welcomes[0]["role"] == "cohost"
        assert guest.welcomes[0]["name"] == "Gus"
        status, problem = await api("POST", "/club/join", {"invitation": made["token"]}, key=None)
        assert (status, problem["code"]) == (403, "invitation_used_up")
        _, members = await api("GET", "/club/members")
        assert [m["kind"] for m in members["members"]] == ["guest"]
        await guest.stop()
    _, invitations = await api("GET", "/club/invitations")
    (kept,) = invitations["invitations"]
    assert kept["token"] is None
    assert (await api("DELETE", f"/club/invitations/{kept['id']}"))[0] == 204


async def test_a_guest_comes_back_with_its_token_to_its_place(api: Api) -> None:
    await api("POST", "", {"name": "inn", "visibility": "private"})
    _, made = await api("POST", "/inn/invitations", {"max_uses": 1})
    _, first = await api(
        "POST", "/inn/join", {"name": "Gus", "invitation": made["token"]}, key=None
    )
    async with aiohttp.ClientSession() as session:
        guest = RoomMember(list(api.servers), "inn", "", ticket=first["ticket"])
        guest.reconnects = False
        await guest.start(session)
        await guest.drop()
        await guest.wait(lambda: guest.close_codes)
        status, second = await api("POST", "/inn/join", {}, key=first["token"])
        assert status == 200
        again = RoomMember(list(api.servers), "inn", "", ticket=second["ticket"])
        again.reconnects = False
        again.welcomes, again.log_id, again._seq = guest.welcomes, guest.log_id, guest._seq
        await again.start(session)
        await again.wait(lambda: len(again.welcomes) == 2)
        assert again.id == guest.welcomes[0]["member_id"]
        assert again.welcomes[1]["name"] == "Gus"
        await again.stop()


async def test_a_ticket_works_once_and_for_its_room(api: Api) -> None:
    _, ticket = await api("POST", "/once/join", {"name": "Ann"})
    url = api.servers[0].ws_url
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{url}/ws?ticket={ticket['ticket']}&room=other")
        assert refused.value.status == 403
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{url}/ws?ticket={ticket['ticket']}&room=once")
        assert refused.value.status == 401, "it was used"


async def test_a_token_gives_its_grants_and_no_more(api: Api) -> None:
    async with aiohttp.ClientSession() as session:
        token = await token_for(api, "bots", "bot-1", role="host", can_chat=False)
        await api("POST", "", {"name": "bots"})
        bot = await enter(session, api, "bots", "", token)
        assert bot.welcomes[0]["role"] == "host"
        assert bot.welcomes[0]["expires_at"] is not None
        assert not bot.welcomes[0]["grants"]["room_admin"]
        assert await bot.refused("chat.send", text="hi") == "not_granted"
        wider = await token_for(api, "bots", "bot-1", role="host")
        await bot.do("auth", token=wider)
        await bot.wait_for("grants", lambda m: m["grants"]["can_chat"])
        await bot.do("chat.send", text="hi")
        stranger = await token_for(api, "bots", "bot-2")
        assert await bot.refused("auth", token=stranger) == "wrong_subject"
        await bot.stop()


async def test_who_is_banned_stays_out_on_every_instance(api: Api) -> None:
    await api("POST", "", {"name": "bans"})
    async with aiohttp.ClientSession() as session:
        grants = {"room_admin": True, "can_moderate": True}
        host = await enter(
            session, api, "bans", "", await token_for(api, "bans", "h", "host", **grants)
        )
        token = await token_for(api, "bans", "troll")
        troll = await enter(session, api, "bans", "Troll", token)
        await host.wait_for("member.joined", lambda m: m["member"]["member_id"] == troll.id)
        await host.do("member.ban", member_id=troll.id)
        await troll.wait(lambda: troll.close_codes == [4403])
        for _ in range(2):
            status, problem = await api("POST", "/bans/join", {"name": "Angel"}, key=token)
            assert (status, problem["code"]) == (403, "banned")
        await host.stop()


async def test_a_page_is_told_why_it_may_not_come_in(api: Api) -> None:
    await api("POST", "", {"name": "secret", "visibility": "private"})
    token = await token_for(api, "elsewhere", "x")
    async with aiohttp.ClientSession() as session:
        socket = await session.ws_connect(
            f"{api.servers[0].ws_url}/ws?room=secret&refuse=close",
            headers={"Authorization": f"Bearer {token}"},
        )
        told = await socket.receive_json(timeout=20.0)
        assert told["problem"]["code"] == "wrong_room"
        await socket.receive(timeout=20.0)
        assert socket.close_code == 4403


async def test_closing_by_http_sends_all_members_away(api: Api) -> None:
    await api("POST", "", {"name": "shut"})
    for server in api.servers:
        server.key = KEY
    async with party(api.servers, "shut", "Ann", "Bob") as (ann, bob):
        ann.reconnects = bob.reconnects = False
        assert (await api("DELETE", "/shut"))[0] == 204
        await ann.wait(lambda: ann.close_codes == [4410])
        await bob.wait(lambda: bob.close_codes == [4410])
