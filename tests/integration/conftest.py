"""Integration tests run against real servers and real peers; see ../conftest.py."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from mediaserver.stores.database import Database
from mediaserver.stores.embedded import EmbeddedValkey
from mediaserver.stores.redis import RedisStore
from tests.integration.identity_instance import Instances
from tests.postgres import NoPostgres, run_postgres


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    """A real valkey-server of this test's own."""
    async with EmbeddedValkey(tmp_path / "shared") as server:
        yield server


@pytest.fixture
async def redis(valkey: EmbeddedValkey) -> AsyncIterator[RedisStore]:
    """A connection to it."""
    async with RedisStore(valkey.url) as store:
        yield store


@pytest.fixture(scope="session")
def postgres() -> Iterator[str | None]:
    """The socket's folder of a real PostgreSQL server; None where the machine has none."""
    try:
        with run_postgres() as folder:
            yield folder
    except NoPostgres:
        yield None


@pytest.fixture
async def postgres_url(postgres: str | None) -> AsyncIterator[str]:
    """A fresh, empty database on it."""
    if postgres is None:
        pytest.skip("PostgreSQL is not installed (make system installs it)")
    name = f"t{uuid.uuid4().hex}"
    connection = await asyncpg.connect(host=postgres, user="postgres", database="postgres")
    try:
        await connection.execute(f"CREATE DATABASE {name}")
        yield f"postgresql://postgres@/{name}?host={postgres}"
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A file that is not there yet."""
    return Database.default_url(tmp_path)


@pytest.fixture
async def instances(
    valkey: EmbeddedValkey, sqlite_url: str, tmp_path: Path
) -> AsyncIterator[Instances]:
    """Starts instances of the identity part of the server, on one Redis and one SQLite."""
    async with Instances(valkey.url, sqlite_url, tmp_path) as started:
        yield started
