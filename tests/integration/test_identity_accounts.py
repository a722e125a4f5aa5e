"""Users and API keys by HTTP, on SQLite and on PostgreSQL."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from aiohttp import web

from mediaserver.identity.tables import API_KEYS, USERS
from mediaserver.stores.embedded import EmbeddedValkey
from mediaserver.web import keys
from mediaserver.web.routing import Routes
from tests.integration.identity_instance import PASSWORD, Instance, Instances

STATIC_KEY = "static-key-0123456789"


@pytest.fixture(params=["sqlite", "postgresql"])
async def both(
    request: pytest.FixtureRequest,
    valkey: EmbeddedValkey,
    tmp_path: Path,
    sqlite_url: str,
    postgres_url: str,
) -> AsyncIterator[Instances]:
    url = sqlite_url if request.param == "sqlite" else postgres_url
    async with Instances(valkey.url, url, tmp_path) as started:
        yield started


async def whoami(request: web.Request) -> web.StreamResponse:
    return web.json_response({"name": request[keys.PRINCIPAL].name})


def doors() -> Routes:
    return (
        Routes("t")
        .add("GET", "/listen", whoami, summary="x", scope="listen")
        .add("GET", "/any", whoami, summary="x")
        .add("GET", "/metrics", whoami, summary="x", scope="metrics")
    )


def one_time_password(announced: list[str]) -> str:
    (text,) = announced
    found = re.search(r"one-time password (\S+)", text)
    assert found is not None
    return found.group(1)


async def admin(instance: Instance) -> str:
    token: str = (await instance.user("root", "admin"))["access_token"]
    return token


# ---- the first start -----------------------------------------------------------------------


async def test_the_first_admins_password_is_good_for_changing_it_only(both: Instances) -> None:
    one, two = await asyncio.gather(both.start(doors()), both.start(doors()))
    password = one_time_password(one.announced + two.announced)
    login = await one.post("login", {"name": "ADMIN", "password": password})
    assert login.status == 200
    assert login.body["must_change_password"] is True
    assert login.body["refresh_token"] is None
    token = login.body["access_token"]
    for path in ("users", "keys", "/any", "/listen"):
        assert (await two.get(path, token=token)).status == 403, path
    assert (await two.get("me", token=token)).body["scopes"] == ["password"]
    assert (await one.post("tickets", {}, token=token)).status == 403

    for new in (password, "admin"):
        answer = await one.post("password", {"current": password, "new": new}, token=token)
        assert answer.status == 400
    wrong = await one.post("password", {"current": "x", "new": PASSWORD}, token=token)
    assert (wrong.status, wrong.body["code"]) == (403, "wrong_password")
    changed = await one.post("password", {"current": password, "new": PASSWORD}, token=token)
    assert changed.status == 200
    me = await two.get("me", token=changed.body["access_token"])
    assert (me.body["role"], me.body["name"]) == ("admin", "admin")
    assert (await two.post("login", {"name": "admin", "password": password})).status == 401

    three = await both.start()
    assert three.announced == [], "it is shown once"


# ---- logging in ----------------------------------------------------------------------------


async def test_a_wrong_name_and_a_wrong_password_are_told_alike(both: Instances) -> None:
    one = await both.start()
    await one.user()
    told = []
    for name, password in (("anna", "wrong"), ("nobody", "wrong"), ("nobody", PASSWORD)):
        answer = await one.post("login", {"name": name, "password": password})
        told.append({k: v for k, v in answer.body.items() if k != "instance"})
        assert answer.status == 401
    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "x",
        {"name": "anna"},
        {"name": "anna", "password": 7},
        {"name": "a\x00b", "password": "x"},
        {"name": "anna", "password": "x", "more": 1},
        {"name": "x" * 65, "password": "x"},
        {"name": "anna", "password": "x" * 257},
        {"name": None, "password": None},
    ],
)
async def test_a_malformed_login_is_400_and_shows_no_password(
    instances: Instances, body: object
) -> None:
    one = await instances.start()
    answer = await one.post("login", body)
    assert (answer.status, answer.body["code"]) == (400, "bad_body")


async def test_only_json_is_read(instances: Instances) -> None:
    one = await instances.start()
    url = "/api/v1/auth/login"
    async with one.client.post(url, data={"name": "a", "password": "b"}) as response:
        assert response.status == 415
    headers = {"Content-Type": "application/json"}
    for text in (b"{", b"\xff\xfe", b'{"name": "\\ud800", "password": "x"}', b"[" * 100_000):
        async with one.client.post(url, data=text, headers=headers) as response:
            assert response.status == 400


async def test_in_a_browser_the_refresh_token_is_in_a_cookie(instances: Instances) -> None:
    one = await instances.start()
    await one.user()
    login = await one.post("login", {"name": "anna", "password": PASSWORD, "cookie": True})
    assert login.body["refresh_token"] is None
    cookie = login.cookies["mediaserver_refresh"]
    assert cookie["httponly"]
    assert (cookie["samesite"], cookie["path"]) == ("Strict", "/api/v1/auth")
    assert not cookie["secure"], "this is http"
    sent = {"Cookie": f"mediaserver_refresh={cookie.value}"}
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        answer = await one.post("refresh", headers=sent | {"Origin": origin})
        assert (answer.status, answer.body["code"]) == (403, "wrong_origin")
    assert (await one.post("refresh", headers=sent)).status == 403, "no browser sends it so"
    own = sent | {"Origin": one.origin}
    refreshed = await one.post("refresh", headers=own)
    assert refreshed.status == 200
    assert refreshed.body["refresh_token"] is None
    following = refreshed.cookies["mediaserver_refresh"].value
    assert following != cookie.value
    out = await one.post(
        "logout", headers={"Cookie": f"mediaserver_refresh={following}", "Origin": one.origin}
    )
    assert out.status == 204
    assert out.cookies["mediaserver_refresh"].value == ""
    again = {"Cookie": f"mediaserver_refresh={following}", "Origin": one.origin}
    assert (await one.post("refresh", headers=again)).status == 401


async def test_behind_tls_the_cookie_is_secure(instances: Instances) -> None:
    one = await instances.start(trusted_proxies=("127.0.0.1",))
    await one.user()
    body = {"name": "anna", "password": PASSWORD, "cookie": True}
    for scheme, secure in (("https", True), ("http", False)):
        answer = await one.post("login", body, headers={"X-Forwarded-Proto": scheme})
        assert bool(answer.cookies["mediaserver_refresh"]["secure"]) is secure
    two = await instances.start(public_url="https://media.example.org")
    answer = await two.post("login", body)
    assert answer.cookies["mediaserver_refresh"]["secure"]


# ---- users ---------------------------------------------------------------------------------


async def test_an_admin_adds_changes_and_removes_users(both: Instances) -> None:
    one, two = await both.start(), await both.start()
    token = await admin(one)
    added = await one.post("users", {"name": "Berta", "role": "host"}, token=token)
    assert added.status == 201
    user_id, password = added.body["id"], added.body["one_time_password"]
    assert (added.body["name"], added.body["display_name"]) == ("berta", "Berta")
    twice = await two.post("users", {"name": "BERTA"}, token=token)
    assert (twice.status, twice.body["code"]) == (409, "user_exists")
    listed = (await two.get("users", token=token)).body["users"]
    assert [user["name"] for user in listed] == ["admin", "berta", "root"]
    assert all(user["one_time_password"] is None for user in listed)

    login = (await two.post("login", {"name": "berta", "password": password})).body
    body = {"current": password, "new": PASSWORD}
    tokens = (await two.post("password", body, token=login["access_token"])).body
    assert "rooms:create" in (await two.get("me", token=tokens["access_token"])).body["scopes"]

    changed = await one.ask("PATCH", f"users/{user_id}", {"role": "member"}, token=token)
    assert changed.body["role"] == "member"
    async with asyncio.timeout(10):
        while (await two.get("me", token=tokens["access_token"])).status != 401:
            await asyncio.sleep(0.05)
    body = {"refresh_token": tokens["refresh_token"]}
    assert (await two.post("refresh", body)).status == 401

    reset = await one.ask("PATCH", f"users/{user_id}", {"reset_password": True}, token=token)
    assert reset.body["must_change_password"] is True
    assert (await two.post("login", {"name": "berta", "password": PASSWORD})).status == 401
    body = {"name": "berta", "password": reset.body["one_time_password"]}
    assert (await two.post("login", body)).body["must_change_password"] is True

    assert (await one.ask("DELETE", f"users/{user_id}", token=token)).status == 204
    assert (await one.ask("DELETE", f"users/{user_id}", token=token)).status == 404
    assert (await two.get(f"users/{user_id}", token=token)).status == 404


async def test_a_disabled_user_is_kept_out_and_let_in_again(both: Instances) -> None:
    one, two = await both.start(doors()), await both.start(doors())
    root, anna = await admin(one), await one.user("anna")
    asked = {"name": "bot", "scopes": ["listen"]}
    key = (await one.post("keys", asked, token=anna["access_token"])).body["key"]
    assert (await two.get("/listen", headers={"X-API-Key": key})).status == 200
    me = (await one.get("me", token=anna["access_token"])).body["id"]
    changed = await one.ask("PATCH", f"users/{me}", {"disabled": True}, token=root)
    assert (changed.status, changed.body["disabled"]) == (200, True)
    answer = await two.post("login", {"name": "anna", "password": PASSWORD})
    assert (answer.status, answer.body["code"]) == (403, "user_disabled")
    wrong = await two.post("login", {"name": "anna", "password": "wrong wrong wrong"})
    assert wrong.body["code"] == "wrong_password", "told only to who knows the password"
    fresh = await two.post("refresh", {"refresh_token": anna["refresh_token"]})
    assert (fresh.status, fresh.body["code"]) == (401, "invalid_grant")
    assert (await one.get("me", token=anna["access_token"])).status == 401
    async with asyncio.timeout(10):  # what is known of a key is 2 s old at most
        while (await two.get("/listen", headers={"X-API-Key": key})).status != 401:
            await asyncio.sleep(0.05)
    users = (await one.get("users", token=root)).body["users"]
    ids = {user["name"]: user["id"] for user in users}
    first = await one.ask("PATCH", f"users/{ids['admin']}", {"disabled": True}, token=root)
    assert first.status == 200
    refused = await one.ask("PATCH", f"users/{ids['root']}", {"disabled": True}, token=root)
    assert (refused.status, refused.body["code"]) == (409, "last_admin")
    assert (await one.ask("PATCH", f"users/{me}", {"disabled": False}, token=root)).status == 200
    assert (await two.login("anna"))["access_token"]
    async with asyncio.timeout(10):
        while (await two.get("/listen", headers={"X-API-Key": key})).status != 200:
            await asyncio.sleep(0.05)


async def test_the_last_admin_stays(both: Instances) -> None:
    one = await both.start()
    token = await admin(one)
    users = (await one.get("users", token=token)).body["users"]
    ids = {user["name"]: user["id"] for user in users}
    assert (await one.ask("DELETE", f"users/{ids['admin']}", token=token)).status == 204
    for method, body in (("DELETE", None), ("PATCH", {"role": "host"})):
        answer = await one.ask(method, f"users/{ids['root']}", body, token=token)
        assert (answer.status, answer.body["code"]) == (409, "last_admin")
    assert (await one.get("me", token=token)).body["role"] == "admin"


async def test_members_are_not_admins(instances: Instances) -> None:
    one = await instances.start()
    token = (await one.user())["access_token"]
    for method, path in (
        ("GET", "users"),
        ("POST", "users"),
        ("GET", "users/u_1"),
        ("PATCH", "users/u_1"),
        ("DELETE", "users/u_1"),
        ("POST", "/api/v1/rooms/r/tokens"),
    ):
        answer = await one.ask(method, path, token=token)
        assert (answer.status, answer.body["code"]) == (403, "scope_missing"), path
        assert (await one.ask(method, path)).status == 401


async def test_passwords_are_stored_as_argon2id(both: Instances) -> None:
    one = await both.start()
    await one.user()
    async with one.app[keys.DATABASE].begin() as connection:
        stored = (await connection.execute(sa.select(USERS.c.password_hash))).scalars().all()
    assert all(hashed.startswith("$argon2id$v=19$m=65536,t=3,p=4$") for hashed in stored)


# ---- API keys ------------------------------------------------------------------------------


async def test_a_key_opens_what_its_scopes_allow_and_is_shown_once(both: Instances) -> None:
    one, two = await both.start(doors()), await both.start(doors())
    token = (await one.user())["access_token"]
    made = await one.post("keys", {"name": "bot", "scopes": ["listen"]}, token=token)
    assert made.status == 201
    key, key_id = made.body["key"], made.body["id"]
    assert re.fullmatch(r"ms_[a-z0-9]{16}\.[A-Za-z0-9_-]{43}", key)
    for headers in (
        {"X-API-Key": key},
        {"Authorization": f"Bearer {key}"},
        {"Authorization": f"Token {key}"},
        {"Sec-WebSocket-Protocol": f"token, {key}"},
    ):
        assert (await two.get("/listen", headers=headers)).body == {"name": "bot"}
    assert (await two.get("/metrics", headers={"X-API-Key": key})).status == 403
    assert (await two.get("/any", headers={"X-API-Key": key})).status == 200
    assert (await two.get("/listen", headers={"X-API-Key": key[:-1]})).status == 401

    (listed,) = (await two.get("keys", token=token)).body["keys"]
    assert listed["key"] is None
    assert listed["last_used_at"] == pytest.approx(time.time(), abs=30)
    async with one.app[keys.DATABASE].begin() as connection:
        (row,) = (await connection.execute(sa.select(API_KEYS))).all()
    assert key.partition(".")[2] not in repr(row)

    assert (await one.ask("DELETE", f"keys/{key_id}", token=token)).status == 204
    assert (await one.get("/listen", headers={"X-API-Key": key})).status == 401
    async with asyncio.timeout(10):
        while (await two.get("/listen", headers={"X-API-Key": key})).status != 401:
            await asyncio.sleep(0.1)


async def test_keys_expire_and_cannot_be_mightier_than_their_maker(both: Instances) -> None:
    one = await both.start(doors())
    token = (await one.user())["access_token"]
    refused = await one.post("keys", {"name": "x", "scopes": ["listen", "users"]}, token=token)
    assert (refused.status, refused.body["code"]) == (403, "scope_missing")
    body = {"name": "x", "scopes": ["listen"], "expires_in_s": 60}
    made = (await one.post("keys", body, token=token)).body
    assert made["expires_at"] == pytest.approx(time.time() + 60, abs=5)
    async with one.app[keys.DATABASE].begin() as connection:
        await connection.execute(sa.update(API_KEYS).values(expires_at=time.time() - 1))
    answer = await one.get("/listen", headers={"X-API-Key": made["key"]})
    assert (answer.status, answer.body["code"]) == (401, "key_expired")


async def test_a_key_does_not_outdo_its_owner_who_was_demoted_or_removed(both: Instances) -> None:
    one, two = await both.start(doors()), await both.start(doors())
    token = await admin(one)
    mighty = (await two.user("berta", "admin"))["access_token"]
    made = (await two.post("keys", {"name": "x", "scopes": ["metrics"]}, token=mighty)).body
    headers = {"X-API-Key": made["key"]}
    assert (await one.get("/metrics", headers=headers)).status == 200
    path = f"users/{made['user_id']}"
    assert (await one.ask("PATCH", path, {"role": "member"}, token=token)).status == 200
    async with asyncio.timeout(10):
        while (await one.get("/metrics", headers=headers)).status != 403:
            await asyncio.sleep(0.1)
    assert (await one.ask("DELETE", path, token=token)).status == 204
    async with asyncio.timeout(10):
        while (await one.get("/metrics", headers=headers)).status != 401:
            await asyncio.sleep(0.1)


async def test_one_sees_and_revokes_ones_own_keys_and_an_admin_all(instances: Instances) -> None:
    one = await instances.start()
    root = await admin(one)
    anna = (await one.user("anna"))["access_token"]
    berta = (await one.user("berta"))["access_token"]
    made = (await one.post("keys", {"name": "x", "scopes": ["listen"]}, token=anna)).body
    assert (await one.get("keys", token=berta)).body["keys"] == []
    assert (await one.ask("DELETE", f"keys/{made['id']}", token=berta)).status == 404
    assert len((await one.get("keys", token=root)).body["keys"]) == 1
    assert (await one.ask("DELETE", f"keys/{made['id']}", token=root)).status == 204


async def test_the_static_key_has_every_scope(instances: Instances) -> None:
    one = await instances.start(doors(), api_key=STATIC_KEY)
    headers = {"X-API-Key": STATIC_KEY}
    for path in ("users", "keys", "/listen", "/metrics", "/any"):
        assert (await one.get(path, headers=headers)).status == 200, path
    made = await one.post("keys", {"name": "x", "scopes": ["users"]}, headers=headers)
    assert made.body["user_id"] is None
    assert (await one.get("users", headers={"X-API-Key": made.body["key"]})).status == 200
