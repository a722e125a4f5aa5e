"""Users, API keys, invitations and room tokens by `Api`, on two real servers."""

import asyncio
import re
import sys
import typing
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from mediaserver_client import Api, Grants, Refused, RoomSession, SentAway, join_room
from mediaserver_client.account_types import Scope

from tests.integration.room_servers import Servers, run_servers
from tests.valkey import ValkeyProcess

KEY = "k" * 32
PASSWORD = "correct horse battery staple"
ENDS_S = 60.0
README = Path(__file__).resolve().parents[2] / "clients" / "python" / "README.md"
CHATS = Grants(room_join=True, can_subscribe=True, can_chat=True)


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, valkey_server: ValkeyProcess
) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("api")
    with run_servers(folder, valkey_server, 2, api_key=KEY, rate_limit="0") as servers:
        yield servers


@pytest.fixture
def urls(guarded: Servers) -> list[str]:
    return [server.url for server in guarded]


@pytest.fixture
async def admin(urls: list[str]) -> AsyncIterator[Api]:
    async with asyncio.timeout(ENDS_S), Api(urls, api_key=KEY) as api:
        yield api


async def refused_for(what: typing.Awaitable[object]) -> str:
    with pytest.raises(Refused) as refused:
        await what
    return refused.value.code


async def code_of(what: typing.Awaitable[object]) -> str | None:
    """What it is refused for; None where it is done."""
    try:
        await what
    except Refused as refused:
        return refused.code
    return None


async def over(session: RoomSession) -> str:
    """Wait until the server has sent it away; return why."""
    async for _ in session.chats():
        pass
    assert isinstance(session.over, SentAway)
    return session.over.why


async def test_users_are_made_changed_disabled_and_removed(admin: Api, urls: list[str]) -> None:
    ulla = await admin.create_user("Ulla", role="host", display_name="Ulla U.")
    assert (ulla.name, ulla.role, ulla.display_name) == ("ulla", "host", "Ulla U.")
    assert ulla.must_change_password
    assert ulla.one_time_password is not None
    assert await refused_for(admin.create_user("ulla")) == "user_exists"
    async with Api(urls[1]) as own:
        assert (await own.login("ulla", ulla.one_time_password)).must_change_password
        assert (await own.me()).scopes == ("password",), "with any credentials"
        await own.change_password(ulla.one_time_password, PASSWORD)
        me = await own.me()
        assert (me.kind, me.id, me.role, me.name) == ("user", ulla.id, "host", "Ulla U.")
        assert await refused_for(own.users()) == "scope_missing"
    assert ulla.id in [user.id for user in await admin.users()]
    assert (await admin.user(ulla.id)).one_time_password is None
    changed = await admin.change_user(ulla.id, role="member", display_name="U.")
    assert (changed.role, changed.display_name) == ("member", "U.")
    assert (await admin.disable_user(ulla.id)).disabled
    async with Api(urls, user="ulla", password=PASSWORD) as own:
        assert await refused_for(own.me()) == "user_disabled"
        assert not (await admin.enable_user(ulla.id)).disabled
        assert (await own.me()).role == "member"
        again = await admin.reset_password(ulla.id)
        assert again.one_time_password not in (None, ulla.one_time_password)
    bert = await admin.create_user("bert", password=PASSWORD)
    assert (bert.must_change_password, bert.one_time_password) == (False, None)
    for user in (ulla, bert):
        await admin.remove_user(user.id)
        assert await refused_for(admin.user(user.id)) == "no_such_user"


async def test_keys_are_made_used_listed_and_revoked(admin: Api, urls: list[str]) -> None:
    scopes: list[Scope] = ["rooms", "rooms:create", "keys"]
    made = await admin.create_key("host bot", scopes, expires_in_s=3600)
    assert made.key is not None
    assert (made.name, set(made.scopes)) == ("host bot", set(scopes))
    assert made.expires_at == pytest.approx(made.created_at + 3600)
    async with Api(urls[1], api_key=made.key) as bot:
        me = await bot.me()
        assert (me.kind, me.id, set(me.scopes)) == ("key", made.id, set(scopes))
        assert await refused_for(bot.users()) == "scope_missing"
        assert await refused_for(bot.create_key("mightier", ["users"])) == "scope_missing"
        (listed,) = [key for key in await admin.keys() if key.id == made.id]
        assert (listed.key, listed.revoked_at) == (None, None)
        assert listed.last_used_at is not None
        await admin.revoke_key(made.id)
        async with asyncio.timeout(15.0):  # what is known of a key is 2 s old at most
            while (code := await code_of(bot.me())) is None:
                await asyncio.sleep(0.05)
        assert code == "wrong_key"
    (listed,) = [key for key in await admin.keys() if key.id == made.id]
    assert listed.revoked_at is not None


async def test_a_ticket_opens_the_room_that_it_is_for(admin: Api, urls: list[str]) -> None:
    ticket = await admin.ticket("lobby")
    assert (ticket.room, ticket.expires_in_s) == ("lobby", 30.0)
    at = f"{urls[1].replace('http', 'ws', 1)}/ws?ticket={ticket.ticket}"
    async with aiohttp.ClientSession() as http, http.ws_connect(at) as socket:
        welcome = await socket.receive_json(timeout=20.0)
        assert (welcome["type"], welcome["room"]) == ("welcome", "lobby")


async def test_guests_are_listed_renewed_and_ended(admin: Api, urls: list[str]) -> None:
    await admin.create_room("guests", visibility="private")
    one, other = await admin.invite("guests"), await admin.invite("guests", role="listener")
    async with (
        join_room(urls[0], "guests", name="Gus", invitation=one.token) as gus,
        join_room(urls[1], "guests", name="Gina", invitation=one.token) as gina,
        join_room(urls[1], "guests", name="Lea", invitation=other.token) as lea,
    ):
        known = {info.name: info for info in await admin.room_tokens("guests")}
        assert set(known) == {"Gus", "Gina", "Lea"}
        assert known["Gus"].members == (gus.member_id,)
        assert (known["Lea"].role, known["Lea"].invitation_id) == ("listener", other.id)

        before = await gus.api.credentials.authorization()
        expires_at = await gus.authenticate()
        assert expires_at is not None
        assert await gus.api.credentials.authorization() != before
        assert gus.reconnects == 0
        me = await gus.api.me()
        assert (me.kind, me.room, me.id) == ("guest", "guests", known["Gus"].subject)
        renewed = await gus.api.renew_room_token("guests")
        assert renewed.id == known["Gus"].id

        await admin.revoke_room_token("guests", known["Gus"].id)
        assert await over(gus) == "sent away"
        await admin.revoke_invitation("guests", one.id)
        assert await over(gina) == "sent away"
        await admin.revoke_invitation("guests", other.id, keep_guests=True)
        await lea.rename("Léa")
        assert [info.name for info in await admin.room_tokens("guests")] == ["Lea"]
        assert await refused_for(lea.api.renew_room_token("guests")) == "invitation_revoked"
    made = await admin.make_room_token("guests", "c-7", name="Cy", grants=CHATS)
    async with join_room(urls[0], "guests", token=made.token, name="") as cy:
        assert await refused_for(cy.api.renew_room_token("guests")) == "not_renewable"
        assert await refused_for(cy.api.room_tokens("guests")) == "not_granted"
        await cy.api.revoke_room_token("guests", made.id)
        assert await over(cy) == "sent away"


async def test_the_readmes_admin_ends_a_guest(admin: Api, urls: list[str], tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    [source] = [block for block in blocks if "create_user" in block]
    for told, real in (
        ("http://127.0.0.1:8080", urls[0]),
        ('user="admin"', 'user="chief"'),
        ('password="…"', f'password="{PASSWORD}"'),
    ):
        assert told in source
        source = source.replace(told, real)
    script = tmp_path / "accounts.py"
    script.write_text(source)
    chief = await admin.create_user("chief", role="admin", password=PASSWORD)
    await admin.create_room("film-night")
    invitation = await admin.invite("film-night")
    async with join_room(urls[1], "film-night", name="Troll", invitation=invitation.token) as troll:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(script),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert (process.returncode, err.decode()) == (0, "")
        assert re.search(r"first login: \S{12,}\nthe bot's key, .*: ms_\w+\.\S+\n$", out.decode())
        assert await over(troll) == "sent away"
    await admin.remove_user(chief.id)
