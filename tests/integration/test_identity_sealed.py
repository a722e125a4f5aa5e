"""Signing keys at rest: sealed once a secret key is set, changed with it, and never guessed."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mediaserver.identity.tables import SERVER_SECRETS, SIGNING_KEYS
from mediaserver.kernel.errors import ConfigurationError
from mediaserver.stores.database import Database
from mediaserver.stores.embedded import EmbeddedValkey
from tests.integration.identity_instance import Instance, Instances

ONE, TWO = "1" * 32, "2" * 32


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, sqlite_url: str, postgres_url: str) -> str:
    return sqlite_url if request.param == "sqlite" else postgres_url


async def stored(url: str) -> list[str]:
    """All secrets, as they lie in the database."""
    database = Database(url)
    try:
        async with database.begin() as connection:
            keys = (await connection.execute(sa.select(SIGNING_KEYS.c.private_pem))).scalars()
            others = (await connection.execute(sa.select(SERVER_SECRETS.c.value))).scalars()
            return [*keys, *others]
    finally:
        await database.aclose()


@asynccontextmanager
async def running(
    valkey: EmbeddedValkey, url: str, folder: Path, **secrets: Any
) -> AsyncIterator[Instance]:
    """A server from its start to its end."""
    async with Instances(valkey.url, url, folder) as instances:
        yield await instances.start(**secrets)


async def test_keys_are_sealed_kept_and_sealed_anew(
    valkey: EmbeddedValkey, url: str, tmp_path: Path
) -> None:
    async with running(valkey, url, tmp_path) as one:
        tokens = await one.user()
        refreshed = await one.post("refresh", {"refresh_token": tokens["refresh_token"]})
        old = [tokens["access_token"], refreshed.body["access_token"]]
        jwks = (await one.get("/.well-known/jwks.json")).body
    plain = await stored(url)
    assert "BEGIN PRIVATE KEY" in plain[0], "the default"

    async def goes_on(secrets: dict[str, str]) -> list[str]:
        async with running(valkey, url, tmp_path, **secrets) as one:
            assert (await one.get("/.well-known/jwks.json")).body == jwks
            for token in old:
                assert (await one.get("me", token=token)).status == 200
            # the answer that was lost is given again, derived with the same secret
            again = await one.post("refresh", {"refresh_token": tokens["refresh_token"]})
            assert again.body["refresh_token"] == refreshed.body["refresh_token"]
        return await stored(url)

    sealed = await goes_on({"secret_key": ONE})
    assert all(text.startswith("sealed:1:") for text in sealed), "at the first start with a key"
    assert await goes_on({"secret_key": ONE}) == sealed, "and then left alone"
    changed = await goes_on({"secret_key": TWO, "secret_key_previous": ONE})
    assert all(text.startswith("sealed:1:") for text in changed)
    assert not {text.split(":")[2] for text in changed} & {text.split(":")[2] for text in sealed}
    assert await goes_on({"secret_key": TWO}) == changed
    assert await goes_on({"secret_key_previous": TWO}) == plain, "in clear again"


async def test_an_empty_database_has_no_key_in_clear(
    valkey: EmbeddedValkey, url: str, tmp_path: Path
) -> None:
    async with running(valkey, url, tmp_path, secret_key=ONE) as one:
        token = (await one.user())["access_token"]
        await one.identity.signing.reload(hurry=True)
        async with running(valkey, url, tmp_path, secret_key=ONE) as two:
            assert (await two.get("me", token=token)).status == 200
    found = await stored(url)
    assert len(found) == 3
    assert all(text.startswith("sealed:1:") for text in found)


async def test_keys_that_another_one_sealed_are_no_fault_of_a_request(
    valkey: EmbeddedValkey, url: str, tmp_path: Path
) -> None:
    """An instance without the secret key runs on with what it has, and refuses what it cannot."""
    async with running(valkey, url, tmp_path) as plain:
        token = (await plain.user())["access_token"]
        async with running(valkey, url, tmp_path, secret_key=ONE) as sealing:
            await sealing.identity.signing.forget()
            await sealing.identity.signing.reload()
            other = (await sealing.login())["access_token"]
            assert (await sealing.get("me", token=token)).status == 401
            assert (await sealing.get("me", token=other)).status == 200
        plain.identity.signing._read_at -= 60.0
        answer = await plain.get("me", token=other)
        assert (answer.status, answer.body["code"]) == (401, "invalid_token")
        with pytest.raises(ConfigurationError, match="SECRET_KEY is not set"):
            await plain.identity.signing.reload()


def command(folder: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MEDIASERVER_")}
    chosen = {
        "data_dir": str(folder),
        "inference_urls": "127.0.0.1:1",
        "port": "0",
        **settings,
    }
    return subprocess.run(
        [sys.executable, "-m", "mediaserver", *arguments],
        env={**kept, **{f"MEDIASERVER_{k.upper()}": v for k, v in chosen.items()}},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_without_the_right_key_the_server_does_not_start_and_says_what_to_do(
    valkey: EmbeddedValkey, sqlite_url: str, tmp_path: Path
) -> None:
    async with running(valkey, sqlite_url, tmp_path, secret_key=ONE) as one:
        tokens = await one.user()
    stores = {"redis_url": valkey.url, "database_url": sqlite_url}
    for settings, state in (({}, "is not set"), ({"secret_key": TWO}, "is another one")):
        refused = command(tmp_path, "serve", **stores, **settings)
        assert refused.returncode == 2
        (line,) = refused.stderr.strip().splitlines()
        assert f"MEDIASERVER_SECRET_KEY {state}" in line
        assert "keys forget-signing" in line
        assert not any(secret in line for secret in (ONE, TWO))
    forgot = command(tmp_path, "keys", "forget-signing", **stores)
    assert (forgot.returncode, forgot.stderr) == (
        0,
        "signing keys thrown away: 1; restart all instances\n",
    )
    async with running(valkey, sqlite_url, tmp_path, secret_key=TWO) as one:
        assert (await one.get("me", token=tokens["access_token"])).status == 401
        fresh = await one.post("refresh", {"refresh_token": tokens["refresh_token"]})
        assert fresh.status == 200, "logins go on"
        assert (await one.get("me", token=fresh.body["access_token"])).status == 200
