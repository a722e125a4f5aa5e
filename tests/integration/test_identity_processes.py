"""Two server processes with one Redis and one database, and the commands beside them."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mediaserver.stores.database import Database
from tests.live import LiveServer, run_server

STATIC_KEY = "static-key-of-the-process-test"
PASSWORD = "correct horse battery staple"


@dataclass
class Pair:
    """Two servers that share a data directory's stores."""

    servers: tuple[LiveServer, LiveServer]
    folder: Path
    first_password: str
    settings: dict[str, str]

    def run(self, *arguments: str, text: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a command on the same stores."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MEDIASERVER_")}
        chosen = {f"MEDIASERVER_{k.upper()}": v for k, v in self.settings.items()}
        return subprocess.run(
            [sys.executable, "-m", "mediaserver", *arguments],
            env={**kept, **chosen},
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """No worker is needed: the inference address leads nowhere."""
    folder = tmp_path_factory.mktemp("pair")
    shared = folder / "shared"
    shared.mkdir()
    settings = {
        "data_dir": str(shared / "data"),
        "database_url": Database.default_url(shared),
        "inference_urls": "127.0.0.1:1",
        "access": "guarded",
        "api_key": STATIC_KEY,
        "log_level": "debug",
    }
    with ExitStack() as stack:
        servers = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            servers.append(
                stack.enter_context(run_server(folder / name, None, wait_ready=False, **settings))
            )
        printed = (folder / "one" / "server.out").read_text()
        found = re.search(r"one-time password (\S+)", printed)
        assert found is not None, printed
        assert "one-time password" not in (folder / "two" / "server.out").read_text()
        yield Pair((servers[0], servers[1]), folder, found.group(1), settings)


async def post(
    server: LiveServer, path: str, body: Any = None, token: str | None = None
) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/api/v1/auth/{path}", json=body, headers=headers) as response,
    ):
        text = await response.text()
        return response.status, await response.json(content_type=None) if text else None


async def get(server: LiveServer, path: str, headers: dict[str, str]) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{server.url}{path}", headers=headers) as response,
    ):
        return response.status


async def log_in(pair: Pair, name: str, password: str) -> Any:
    status, tokens = await post(pair.servers[0], "login", {"name": name, "password": password})
    assert status == 200, tokens
    return tokens


@pytest.fixture
def anna(pair: Pair) -> Iterator[str]:
    """A member, added by command while the servers run."""
    added = pair.run("users", "add", "anna", "--password-stdin", text=f"{PASSWORD}\n")
    assert added.returncode == 0, added.stderr
    yield "anna"
    assert pair.run("users", "remove", "anna").returncode == 0


async def test_50_refreshes_at_once_on_two_processes_give_one_successor(
    pair: Pair, anna: str
) -> None:
    tokens = await log_in(pair, anna, PASSWORD)
    body = {"refresh_token": tokens["refresh_token"]}
    answers = await asyncio.gather(*(post(pair.servers[i % 2], "refresh", body) for i in range(50)))
    assert {status for status, _ in answers} == {200}
    successors = {told["refresh_token"] for _, told in answers}
    assert len(successors) == 1
    newest = {"refresh_token": successors.pop()}
    for server in pair.servers:
        assert (await post(server, "refresh", newest))[0] == 200

    # the first token is now two generations old
    status, told = await post(pair.servers[1], "refresh", body)
    assert (status, told["code"]) == (401, "invalid_grant")
    for server in pair.servers:
        assert (await post(server, "refresh", newest))[0] == 401
        async with asyncio.timeout(15):
            headers = {"Authorization": f"Bearer {tokens['access_token']}"}
            while await get(server, "/api/v1/auth/me", headers) != 401:
                await asyncio.sleep(0.05)


async def test_logout_by_command_ends_sessions_in_running_servers(pair: Pair, anna: str) -> None:
    tokens = await log_in(pair, anna, PASSWORD)
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert await get(pair.servers[1], "/api/v1/auth/me", headers) == 200
    assert pair.run("users", "logout", "anna").returncode == 0
    async with asyncio.timeout(15):
        while await get(pair.servers[1], "/api/v1/auth/me", headers) != 401:
            await asyncio.sleep(0.05)


async def test_users_disabled_by_command_are_kept_out_of_running_servers(
    pair: Pair, anna: str
) -> None:
    assert pair.run("users", "disable", anna).returncode == 0
    (row,) = [line for line in pair.run("users", "list").stdout.splitlines() if anna in line]
    assert "disabled" in row
    credentials = {"name": anna, "password": PASSWORD}
    status, problem = await post(pair.servers[0], "login", credentials)
    assert (status, problem["code"]) == (403, "user_disabled")
    assert pair.run("users", "enable", anna).returncode == 0
    assert (await log_in(pair, anna, PASSWORD))["access_token"]


async def test_keys_by_command_work_and_are_revoked_in_running_servers(pair: Pair) -> None:
    made = pair.run("keys", "create", "scraper", "--scope", "metrics", "--days", "1")
    assert made.returncode == 0
    key = made.stdout.strip()
    for server in pair.servers:
        assert await get(server, "/metrics", {"X-API-Key": key}) == 200
        assert await get(server, "/api/v1/auth/users", {"X-API-Key": key}) == 403
    listed = pair.run("keys", "list").stdout
    assert key.partition(".")[0] in listed
    assert key.partition(".")[2] not in listed
    assert pair.run("keys", "revoke", key.partition(".")[0]).returncode == 0
    async with asyncio.timeout(15):
        while await get(pair.servers[0], "/metrics", {"X-API-Key": key}) != 401:
            await asyncio.sleep(0.1)
    assert "revoked" in pair.run("keys", "list").stdout


def test_commands_say_what_is_wrong_in_one_line(pair: Pair) -> None:
    wrong = (
        (("users", "role", "nobody", "host"), "there is no user nobody"),
        (("users", "add", "no good", "--role", "host"), "name: "),
        (("users", "remove", "admin"), "last admin"),
        (("keys", "revoke", "ms_nothing"), "there is no key"),
        (("keys", "create", "x", "--scope", "listen", "--days", "0"), "--days"),
        (("keys", "create", "x", "--scope", "listen", "--user", "nobody"), "no user nobody"),
    )
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda one: pair.run(*one[0]), wrong))
    for (arguments, told), result in zip(wrong, results, strict=True):
        assert result.returncode == 1, arguments
        assert told in result.stderr
        assert len(result.stderr.splitlines()) == 1, result.stderr
    short = pair.run("users", "password", "admin", "--password-stdin", text="short\n")
    assert "at least 10 characters" in short.stderr
    assert pair.run("users", "list").stdout.splitlines()[0].startswith("NAME")


async def guests_secrets(pair: Pair, token: str) -> list[str]:
    """Invite a guest, let it in on both instances, renew its token, end it; return all secrets."""
    one, two = pair.servers
    at = "../rooms/hush"
    assert (await post(one, "../rooms", {"name": "hush", "visibility": "private"}, token))[0] == 201
    _, invitation = await post(one, f"{at}/invitations", {}, token)
    status, guest = await post(two, f"{at}/join", {"invitation": invitation["token"]})
    assert status == 200
    status, renewed = await post(two, f"{at}/tokens/renew", None, guest["token"])
    assert status == 200
    async with aiohttp.ClientSession() as http:
        for path in (f"tokens/{renewed['id']}", f"invitations/{invitation['id']}"):
            url = f"{one.url}/api/v1/rooms/hush/{path}"
            headers = {"Authorization": f"Bearer {token}"}
            async with http.delete(url, headers=headers) as answer:
                assert answer.status == 204
    assert (await post(two, f"{at}/join", {"invitation": invitation["token"]}))[0] == 403
    return [invitation["token"], guest["token"], guest["ticket"], renewed["token"]]


async def test_no_secret_is_in_any_log(pair: Pair) -> None:
    """Everything that identity does, at the level debug; then every secret is searched for."""
    one, two = pair.servers
    secrets = [pair.first_password, STATIC_KEY, PASSWORD, "wrong-password-attempt"]
    first = await log_in(pair, "admin", pair.first_password)
    body = {"current": pair.first_password, "new": PASSWORD}
    status, admin = await post(one, "password", body, first["access_token"])
    assert status == 200
    token = admin["access_token"]
    secrets += [first["access_token"], token, admin["refresh_token"]]
    status, refreshed = await post(two, "refresh", {"refresh_token": admin["refresh_token"]})
    secrets += [refreshed["access_token"], refreshed["refresh_token"]]
    status, user = await post(one, "users", {"name": "carla"}, token)
    assert status == 201
    status, key = await post(one, "keys", {"name": "x", "scopes": ["rooms:tokens"]}, token)
    status, ticket = await post(one, "tickets", {"room": "r"}, token)
    secrets += [user["one_time_password"], key["key"], ticket["ticket"]]
    asked = {"subject": "s", "grants": {"room_join": True}}
    status, room = await post(one, "../rooms/r/tokens", asked, key["key"])
    assert status == 201
    secrets.append(room["token"])
    secrets += await guests_secrets(pair, token)
    await post(one, "login", {"name": "carla", "password": "wrong-password-attempt"})
    await post(one, "login", {"name": "carla", "password": ["wrong-password-attempt"]})
    for headers in ({"X-API-Key": key["key"]}, {"Authorization": f"Bearer {token}x"}):
        await get(two, "/api/v1/auth/users", headers)
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
    await get(two, f"/ws?ticket={ticket['ticket']}", upgrade)
    await post(two, "refresh", {"refresh_token": first["access_token"]})
    await post(two, "logout-all", token=refreshed["access_token"])
    made = pair.run("users", "password", "carla")
    secrets.append(made.stdout.strip())
    assert made.stdout.strip() not in made.stderr

    data = Path(pair.settings["data_dir"])
    valkey_log = (data / "valkey" / "valkey.log").read_text(errors="replace")
    logs = {"one": one.log, "two": two.log, "valkey": valkey_log, "command": made.stderr}
    assert "session.logged_in" in logs["one"], "it does log"
    for secret in secrets:
        for part in {secret, secret.partition(".")[2] or secret, secret.rpartition(".")[2]}:
            assert len(part) > 9
            for name, text in logs.items():
                assert part not in text, f"{part[:4]}… is in the log of {name}"
    for word in ("argon2id", "PRIVATE KEY", "INSERT INTO"):
        for text in logs.values():
            assert word not in text, word
