"""A room session lasts as long as its credentials: expired, renewed in band, revoked; Origin."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from mediaserver.identity.room_tokens import RoomTokens
from mediaserver.identity.signing import SigningKeys
from mediaserver.identity.token_register import TokenRegister
from mediaserver.identity.tokens import DEFAULT_ISSUER, Tokens
from mediaserver.kernel.clocks import SystemClock
from mediaserver.protocol.rooms import Grants
from mediaserver.stores.database import Database
from mediaserver.stores.redis import RedisStore
from tests.integration.room_client import RoomMember
from tests.integration.room_servers import Servers, run_servers
from tests.valkey import ValkeyProcess

KEY = "k" * 32
PASSWORD = "correct horse battery staple"
GRANTS = {"room_join": True, "can_subscribe": True, "can_chat": True}
WITHIN_S = 20.0
"""A look every 2 s, what is known of a key for 2 s more, and a machine that is busy."""


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, valkey_server: ValkeyProcess
) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("credentials")
    with run_servers(folder, valkey_server, 2, api_key=KEY) as servers:
        yield servers


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def ask(
    servers: Servers, method: str, path: str, body: object = None, key: str | None = KEY
) -> Any:
    """Ask the second server, where nobody of these tests is connected."""
    status, answer = await asyncio.to_thread(servers.ask, 1, method, path, body, key)
    assert status < 300, answer
    return answer


async def room_token(servers: Servers, subject: str, key: str = KEY) -> str:
    body = {"subject": subject, "role": "member", "grants": GRANTS, "expires_in_s": 60}
    minted = await ask(servers, "POST", "/api/v1/rooms/lasting/tokens", body, key)
    return str(minted["token"])


async def short_token(servers: Servers, subject: str, lives_s: float) -> str:
    """Mint one, with the servers' own keys, that is shorter than one can be had."""
    clock = SystemClock()
    database = Database(f"sqlite+aiosqlite:///{servers[0].data_dir.parents[1]}/shared.db")
    try:
        keys = SigningKeys(database, clock)
        await keys.reload()
        minted = RoomTokens(Tokens(keys, clock, DEFAULT_ISSUER), clock).mint(
            "lasting",
            subject=subject,
            name=subject,
            role="member",
            grants=Grants.model_validate(GRANTS),
            lives_s=lives_s,
        )
    finally:
        await database.aclose()
    return minted.token


async def enter(
    servers: Servers, http: aiohttp.ClientSession, token: str | None, **join: str
) -> RoomMember:
    """Enter on the first server with a ticket."""
    await asyncio.to_thread(servers.ask, 1, "POST", "/api/v1/rooms", {"name": "lasting"}, KEY)
    ticket = await ask(servers, "POST", "/api/v1/rooms/lasting/join", join, token)
    servers[0].key = None  # the ticket is what counts
    member = RoomMember([servers[0]], "lasting", "", ticket=ticket["ticket"])
    member.reconnects = False
    await member.start(http)
    return member


async def sent_away(member: RoomMember, code: int) -> None:
    """Wait until it is, with that code."""
    await member.wait(lambda: member.close_codes, WITHIN_S)
    assert member.close_codes == [code]
    await member.stop()


async def test_who_does_not_renew_is_sent_away_and_who_does_stays(
    guarded: Servers, http: aiohttp.ClientSession
) -> None:
    short, renewing = [
        await enter(guarded, http, await short_token(guarded, subject, 7.0))
        for subject in ("static:short", "static:renewing")
    ]
    expires_at = renewing.welcomes[0]["expires_at"]
    assert expires_at is not None
    await renewing.do("auth", token=await room_token(guarded, "renewing"))
    await sent_away(short, 4401)
    await asyncio.sleep(max(0.0, expires_at + 1.0 - time.time()))  # past its first credentials
    await renewing.do("chat.send", text="still here")
    left = await renewing.wait_for("member.left", lambda m: m["member_id"] == short.id)
    assert left["reason"] == "expired"
    assert renewing.close_codes == []
    await renewing.stop()


async def test_revoking_an_api_key_ends_its_sessions_and_those_of_its_room_tokens(
    guarded: Servers, http: aiohttp.ClientSession
) -> None:
    body = {"name": "bots", "scopes": ["rooms", "rooms:tokens"]}
    made = await ask(guarded, "POST", "/api/v1/auth/keys", body)
    token = await room_token(guarded, "their-user", key=made["key"])
    other = await enter(guarded, http, await room_token(guarded, "somebody-else"))
    bot = await enter(guarded, http, made["key"])
    user = await enter(guarded, http, token)
    await ask(guarded, "DELETE", f"/api/v1/auth/keys/{made['id']}")
    await asyncio.gather(sent_away(bot, 4403), sent_away(user, 4403))
    status, problem = await asyncio.to_thread(
        guarded.ask, 1, "GET", "/api/v1/rooms/lasting", None, token
    )
    assert (status, problem["code"]) == (401, "revoked")
    await other.do("chat.send", text="not mine")
    await other.stop()


async def login(guarded: Servers, name: str) -> tuple[str, str]:
    """Add a user and log in; return its id and access token."""
    user = {"name": name, "password": PASSWORD, "role": "member"}
    made = await ask(guarded, "POST", "/api/v1/auth/users", user)
    credentials = {"name": name, "password": PASSWORD}
    tokens = await ask(guarded, "POST", "/api/v1/auth/login", credentials, None)
    return made["id"], tokens["access_token"]


async def test_logging_out_and_removing_a_user_end_their_room_sessions(
    guarded: Servers, http: aiohttp.ClientSession
) -> None:
    (_, anna), (bert_id, bert) = [await login(guarded, name) for name in ("anna", "bert")]
    here = [await enter(guarded, http, token) for token in (anna, bert)]
    await ask(guarded, "POST", "/api/v1/auth/logout", None, anna)
    await ask(guarded, "DELETE", f"/api/v1/auth/users/{bert_id}")
    await asyncio.gather(*(sent_away(member, 4403) for member in here))


async def test_a_revoked_guest_is_sent_away(
    guarded: Servers, http: aiohttp.ClientSession, valkey_server: ValkeyProcess
) -> None:
    staying = await enter(guarded, http, await room_token(guarded, "staying"))
    body = {"subject": "going", "role": "member", "grants": GRANTS}
    minted = await ask(guarded, "POST", "/api/v1/rooms/lasting/tokens", body)
    going = await enter(guarded, http, minted["token"])
    async with RedisStore(valkey_server.url) as store:  # so that no room is told: it is noticed
        await TokenRegister(store).revoke("lasting", minted["id"])
    await sent_away(going, 4403)
    assert staying.close_codes == []
    await staying.stop()


async def test_a_page_of_another_site_opens_no_socket_with_a_ticket(
    guarded: Servers, http: aiohttp.ClientSession
) -> None:
    token = await room_token(guarded, "origin")
    for origin, expected in (
        ("https://evil.example", 403),
        ("null", 403),
        (guarded[0].url, 101),
    ):
        ticket = await ask(guarded, "POST", "/api/v1/rooms/lasting/join", {}, token)
        url = f"{guarded[0].ws_url}/ws?ticket={ticket['ticket']}"
        status = 101
        try:
            async with http.ws_connect(url, headers={"Origin": origin}) as socket:
                assert (await socket.receive_json(timeout=20.0))["type"] == "welcome"
        except aiohttp.WSServerHandshakeError as refused:
            status = refused.status
        assert status == expected, origin
