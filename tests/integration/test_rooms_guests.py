"""Guests of two instances: what ends them, who may end them, and how they stay for long."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import aiohttp
import pytest

from mediaserver.identity.room_tokens import RoomTokens
from mediaserver.identity.signing import SigningKeys
from mediaserver.identity.tokens import DEFAULT_ISSUER, Tokens
from mediaserver.kernel.clocks import SystemClock
from mediaserver.rooms.grants import ALL
from mediaserver.stores.database import Database
from tests.integration.room_client import RoomMember
from tests.integration.room_servers import Servers, run_servers
from tests.valkey import ValkeyProcess

KEY = "k" * 32
PASSWORD = "correct horse battery staple"
SOON_S = 2.0
"""Within which whoever came by an invitation is gone with it."""
BUSY_S = 3.0
"""What a busy machine may add to that."""


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, valkey_server: ValkeyProcess
) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("guests")
    with run_servers(folder, valkey_server, 2, api_key=KEY) as servers:
        yield servers


@pytest.fixture(scope="module")
def unguarded(
    tmp_path_factory: pytest.TempPathFactory, valkey_server: ValkeyProcess
) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("unguarded")
    with run_servers(folder, valkey_server, 2) as servers:
        yield servers


class Party:
    """A private room, and ways into it on either server."""

    def __init__(self, servers: Servers, http: aiohttp.ClientSession) -> None:
        self.servers = servers
        self.http = http
        self.room = ""
        self.members: list[RoomMember] = []
        self.tokens: dict[str, str] = {}

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        key: str | None = KEY,
        *,
        at: int = 1,
    ) -> tuple[int, Any]:
        """Ask one of the servers; a path without a slash is under the room's."""
        if not path.startswith("/"):
            path = f"/api/v1/rooms/{self.room}/{path}".rstrip("/")
        return await asyncio.to_thread(self.servers.ask, at, method, path, body, key)

    async def have(self, method: str, path: str, body: object = None, key: str | None = KEY) -> Any:
        """As `ask`; it has to work. Returns the answer."""
        status, answer = await self.ask(method, path, body, key)
        assert status < 300, answer
        return answer

    async def make(self, room: str) -> None:
        self.room = room
        await self.have("POST", "/api/v1/rooms", {"name": room, "visibility": "private"})

    async def invite(self, **asked: Any) -> dict[str, Any]:
        made: dict[str, Any] = await self.have("POST", "invitations", asked)
        return made

    async def guest(self, name: str, invitation: Any, *, at: int = 0) -> RoomMember:
        """Somebody without credentials comes by an invitation."""
        asked = {"name": name, "invitation": invitation["token"]}
        ticket = await self.have("POST", "join", asked, None)
        if ticket["token"] is not None:
            self.tokens[name] = ticket["token"]
        return await self.enter(ticket, at=at)

    async def minted(self, subject: str, role: str = "member", *, at: int = 0) -> RoomMember:
        """A user of somebody's own server comes by a room token."""
        body = {"subject": subject, "role": role, "grants": ALL.model_dump()}
        token = (await self.have("POST", "tokens", body))["token"]
        self.tokens[subject] = token
        return await self.enter(await self.have("POST", "join", {}, token), at=at)

    async def enter(self, ticket: Any, *, at: int = 0) -> RoomMember:
        server = self.servers[at]
        server.key = None  # the ticket is what counts
        member = RoomMember([server], self.room, "", ticket=ticket["ticket"])
        member.reconnects = False
        self.members.append(member)
        await member.start(self.http)
        return member

    async def code(self, name: str, *, at: int = 1) -> str | None:
        """What a guest's token is refused for; None where it is good."""
        status, answer = await self.ask("GET", "/api/v1/auth/me", None, self.tokens[name], at=at)
        return None if status == 200 else str(answer["code"])

    async def refused_everywhere(self, name: str) -> None:
        """A guest's token is refused, by each server within a second: what it knows is so old."""
        async with asyncio.timeout(SOON_S + BUSY_S):
            for at in (0, 1):
                while (refused := await self.code(name, at=at)) is None:
                    await asyncio.sleep(0.05)
                assert refused == "revoked"
                assert (await self.ask("POST", "join", {}, self.tokens[name], at=at))[0] == 401


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def party(guarded: Servers, http: aiohttp.ClientSession) -> AsyncIterator[Party]:
    made = Party(guarded, http)
    yield made
    await asyncio.gather(*(member.stop() for member in made.members))


async def gone(*members: RoomMember) -> None:
    """All are sent away, soon."""
    async with asyncio.timeout(SOON_S + BUSY_S):
        for member in members:
            await member.until(lambda m: m.close_codes)
    assert [member.close_codes for member in members] == [[4403]] * len(members)


def ids(members: Sequence[RoomMember]) -> set[str]:
    return {member.id for member in members}


async def still_there(*members: RoomMember) -> None:
    for member in members:
        assert member.close_codes == []
        await member.do("chat.send", text="still here")


# ---- invitations


async def test_whoever_came_by_an_invitation_ends_with_it_on_every_instance(party: Party) -> None:
    await party.make("revoked")
    one, other = await party.invite(), await party.invite()
    host = await party.minted("host", "host")
    guests = [await party.guest("Gus", one, at=0), await party.guest("Gina", one, at=1)]
    staying = await party.guest("Gert", other)
    await party.have("POST", "/api/v1/auth/users", {"name": "ulla", "password": PASSWORD})
    user = await party.have("POST", "/api/v1/auth/login", {"name": "ulla", "password": PASSWORD})
    asked = {"invitation": one["token"]}
    account = await party.enter(await party.have("POST", "join", asked, user["access_token"]))
    late = await party.have("POST", "join", {"name": "Late", "invitation": one["token"]}, None)

    assert await party.ask("DELETE", f"invitations/{one['id']}") == (204, None)
    await gone(*guests, account)
    await host.wait(lambda: {m["member_id"] for m in host.told("member.left")} >= ids(guests))
    assert {m["reason"] for m in host.told("member.left")} == {"kicked"}
    for name in ("Gus", "Gina"):
        await party.refused_everywhere(name)
    url = f"{party.servers[0].ws_url}/ws?ticket={late['ticket']}"
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await party.http.ws_connect(url)
    assert refused.value.status == 401, "who was on the way in"
    status, problem = await party.ask("POST", "join", {}, user["access_token"])
    assert (status, problem["code"]) == (403, "invitation_needed"), "no place is kept"
    await still_there(host, staying)
    assert await party.code("Gert") is None
    status, problem = await party.ask("DELETE", f"invitations/{one['id']}")
    assert (status, problem["code"]) == (404, "no_such_invitation")


async def test_guests_may_be_kept_when_their_invitation_is_taken_back(party: Party) -> None:
    await party.make("kept")
    made = await party.invite()
    guest = await party.guest("Gus", made)
    status, problem = await party.ask("DELETE", f"invitations/{made['id']}?keep_guests=perhaps")
    assert (status, problem["code"]) == (400, "bad_query")
    await party.have("DELETE", f"invitations/{made['id']}?keep_guests=true")
    status, problem = await party.ask("POST", "join", {"invitation": made["token"]}, None)
    assert (status, problem["code"]) == (403, "invitation_revoked")
    await asyncio.sleep(SOON_S)
    await still_there(guest)
    status, problem = await party.ask("POST", "tokens/renew", None, party.tokens["Gus"])
    assert (status, problem["code"]) == (403, "invitation_revoked"), "until its token ends"
    assert await party.code("Gus") is None


async def test_on_an_open_server_those_who_came_invited_end_too(
    unguarded: Servers, http: aiohttp.ClientSession
) -> None:
    party = Party(unguarded, http)
    await party.make("unguarded")
    made = await party.invite()
    invited = await party.guest("Gus", made, at=0)
    assert party.tokens == {}, "nobody is told from others here"
    owner = await party.enter(await party.have("POST", "join", {"name": "Own"}, None), at=1)
    await party.have("DELETE", f"invitations/{made['id']}")
    await gone(invited)
    await still_there(owner)
    await owner.stop()
    await invited.stop()


# ---- one by one


async def test_hosts_and_cohosts_list_and_revoke_tokens_one_by_one(party: Party) -> None:
    await party.make("onebyone")
    members, cohosts = await party.invite(), await party.invite(role="cohost")
    host = await party.minted("host", "host")
    gus, gina = [await party.guest(n, members, at=at) for at, n in enumerate(("Gus", "Gina"))]
    coco, cora = [await party.guest(name, cohosts) for name in ("Coco", "Cora")]

    listed = (await party.have("GET", "tokens", None, party.tokens["Coco"]))["tokens"]
    known = {info["name"]: info for info in listed}
    assert set(known) == {"host", "Gus", "Gina", "Coco", "Cora"}
    assert known["Gus"]["invitation_id"] == members["id"]
    assert known["Gus"]["members"] == [gus.id]
    assert known["host"]["invitation_id"] is None
    assert known["host"]["subject"] == "static:host"
    assert not {"token", "key"} & set(known["Gus"])

    async def revoke(who: str, by: str) -> tuple[int, str | None]:
        path = f"tokens/{known[who]['id']}"
        status, answer = await party.ask("DELETE", path, None, party.tokens[by])
        return status, answer and answer["code"]

    assert (await party.ask("GET", "tokens", None, party.tokens["Gus"]))[0] == 403
    assert await revoke("Gina", "Gus") == (403, "not_granted")
    assert await revoke("Cora", "Coco") == (403, "not_granted"), "another co-host"
    assert await revoke("host", "Coco") == (403, "not_granted")
    assert await revoke("Gina", "Coco") == (204, None)
    await gone(gina)
    await party.refused_everywhere("Gina")
    await host.do("member.role", member_id=gus.id, role="cohost")
    await gus.wait_for("grants", lambda m: m["role"] == "cohost")
    assert await revoke("Gus", "Coco") == (403, "not_granted"), "it has risen since"
    assert await revoke("Cora", "host") == (204, None)
    await gone(cora)
    assert await revoke("Coco", "Coco") == (204, None), "one's own"
    await gone(coco)
    status, problem = await party.ask("DELETE", "tokens/rt_none", None, party.tokens["host"])
    assert (status, problem["code"]) == (404, "no_such_token")
    await still_there(host, gus)
    left = (await party.have("GET", "tokens", None, party.tokens["host"]))["tokens"]
    assert {info["name"] for info in left} == {"host", "Gus"}


async def test_a_server_lists_and_revokes_what_it_made_without_being_there(party: Party) -> None:
    party.room = "not-made-yet"
    asked = {"name": "shop", "scopes": ["rooms:tokens"]}
    key = (await party.have("POST", "/api/v1/auth/keys", asked))["key"]
    body = {"subject": "c-1", "name": "Bob", "grants": {"room_join": True}}
    minted = await party.have("POST", "tokens", body, key)
    (info,) = (await party.have("GET", "tokens", None, key))["tokens"]
    assert (info["id"], info["name"], info["members"]) == (minted["id"], "Bob", [])
    await party.have("DELETE", f"tokens/{minted['id']}", None, key)
    party.tokens["Bob"] = minted["token"]
    assert await party.code("Bob") == "revoked"
    assert (await party.have("GET", "tokens", None, key))["tokens"] == []
    elsewhere = await party.have(
        "POST", "/api/v1/rooms/elsewhere/tokens", {**body, "role": "host"}, key
    )
    status, problem = await party.ask("GET", "tokens", None, elsewhere["token"])
    assert (status, problem["code"]) == (403, "wrong_room")


# ---- kicked and banned


async def test_a_kick_ends_the_token_and_the_invitation_lets_in_again(party: Party) -> None:
    await party.make("kicks")
    made = await party.invite()
    host = await party.minted("host", "host", at=1)
    gus, gina = [await party.guest(name, made) for name in ("Gus", "Gina")]
    await host.do("member.kick", member_id=gus.id)
    await gone(gus)
    await party.refused_everywhere("Gus")
    again = await party.guest("Gus", made)
    assert again.id != gus.id
    await still_there(gina, again)


async def test_a_ban_keeps_a_guest_out_and_takes_its_invitation_back(party: Party) -> None:
    await party.make("bans-of-guests")
    made = await party.invite()
    host = await party.minted("host", "host", at=1)
    gus, gina = [await party.guest(name, made) for name in ("Gus", "Gina")]
    await host.do("member.ban", member_id=gus.id)
    await gone(gus)
    for method, path in (("POST", "join"), ("GET", "chat"), ("GET", ""), ("POST", "tokens/renew")):
        status, problem = await party.ask(
            method, path, {} if path == "join" else None, party.tokens["Gus"]
        )
        assert (status, problem["code"]) == (403, "banned"), path
    asked = {"name": "Angel", "invitation": made["token"]}
    status, problem = await party.ask("POST", "join", asked, None)
    assert (status, problem["code"]) == (403, "invitation_revoked")
    await still_there(gina, host)
    assert await party.code("Gina") is None


@pytest.mark.parametrize("how", ["by HTTP", "in the room"])
async def test_a_closed_rooms_tokens_and_invitations_do_not_wait_for_the_next_of_its_name(
    party: Party, how: str
) -> None:
    await party.make(f"closed-{how.replace(' ', '-')}")
    made = await party.invite()
    host = await party.minted("host", "host")
    guest = await party.guest("Gus", made)
    if how == "by HTTP":
        await party.have("DELETE", "")
    else:
        await host.do("room.close")
    await guest.wait(lambda: guest.close_codes == [4410])
    for name in ("Gus", "host"):
        await party.refused_everywhere(name)
    status, problem = await party.ask("POST", "join", {"invitation": made["token"]}, None)
    assert (status, problem["code"]) == (403, "invitation_revoked")


# ---- for long


async def short_lived(servers: Servers, room: str, invitation: str, lives_s: float) -> str:
    """Mint a guest's token, with the servers' own keys, that is shorter than one can be had."""
    clock = SystemClock()
    database = Database(f"sqlite+aiosqlite:///{servers[0].data_dir.parents[1]}/shared.db")
    try:
        keys = SigningKeys(database, clock)
        await keys.reload()
        return (
            RoomTokens(Tokens(keys, clock, DEFAULT_ISSUER), clock)
            .mint(
                room,
                subject="guest_short",
                name="Gus",
                role="member",
                grants=ALL,
                lives_s=lives_s,
                extra={"inv": invitation},
                token_id="rt_short",
            )
            .token
        )
    finally:
        await database.aclose()


async def test_a_guest_that_renews_its_token_stays_beyond_its_end(party: Party) -> None:
    await party.make("long")
    made = await party.invite(max_uses=1)
    host = await party.minted("host", "host")
    token = await short_lived(party.servers, party.room, made["id"], 7.0)
    guest = await party.enter(await party.have("POST", "join", {}, token))
    ends_at = guest.welcomes[0]["expires_at"]
    renewed = await party.have("POST", "tokens/renew", None, token)
    assert (renewed["id"], renewed["subject"]) == ("rt_short", "guest_short")
    assert renewed["expires_at"] > time.time() + 11 * 3600
    await guest.do("auth", token=renewed["token"])
    await asyncio.sleep(max(0.0, ends_at + 1.0 - time.time()))
    await still_there(guest, host)
    (info,) = [
        info
        for info in (await party.have("GET", "tokens"))["tokens"]
        if info["subject"] == "guest_short"
    ]
    assert info["members"] == [guest.id]
    again = await party.have("POST", "tokens/renew", None, renewed["token"])
    await party.have("DELETE", "tokens/rt_short")
    await gone(guest)
    for late in (renewed, again):
        status, problem = await party.ask("GET", "/api/v1/auth/me", None, late["token"])
        assert (status, problem["code"]) == (401, "revoked"), "all that it was renewed by"
    status, problem = await party.ask("POST", "tokens/renew", None, party.tokens["host"])
    assert (status, problem["code"]) == (403, "not_renewable")
    status, problem = await party.ask("POST", "tokens/renew")
    assert (status, problem["code"]) == (403, "not_renewable")
