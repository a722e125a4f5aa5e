"""The stores: the embedded valkey-server's life, faults of Redis as our errors, migrations."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest
import sqlalchemy as sa

from mediaserver.identity.tables import METADATA
from mediaserver.kernel.errors import ConfigurationError, Unavailable
from mediaserver.stores.database import Database
from mediaserver.stores.embedded import MAX_SOCKET_PATH_BYTES, EmbeddedValkey
from mediaserver.stores.redis import SOCKET_TIMEOUT_S, RedisStore
from tests.postgres import NoPostgres, run_postgres


async def pid_of(store: RedisStore) -> int:
    return int((await store.client.info("server"))["process_id"])


async def answers(store: RedisStore, within_s: float = 30.0) -> None:
    async with asyncio.timeout(within_s):
        while True:
            try:
                await store.ping()
            except Unavailable:
                await asyncio.sleep(0.02)
            else:
                return


async def test_it_starts_fast_keeps_its_data_and_ends(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with EmbeddedValkey(tmp_path) as valkey, RedisStore(valkey.url) as store:
        assert loop.time() - started < 8.0
        await store.client.set("kept", "yes")
        pid = await pid_of(store)
        config = await store.client.config_get("*")
        assert config["appendonly"] == "yes"
        assert config["maxmemory-policy"] == "noeviction"
        assert config["port"] == "0", "nothing but the socket"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    async with EmbeddedValkey(tmp_path) as valkey, RedisStore(valkey.url) as store:
        assert await store.client.get("kept") == b"yes"


async def test_two_share_it_and_whoever_stays_keeps_it(tmp_path: Path) -> None:
    first, second = EmbeddedValkey(tmp_path), EmbeddedValkey(tmp_path)
    await first.start()
    await second.start()
    assert first.url == second.url
    async with RedisStore(second.url) as store:
        pid = await pid_of(store)
        await first.aclose()
        await store.ping()
        assert await pid_of(store) == pid, "the first one's end did not touch it"
        os.kill(pid, signal.SIGKILL)
        await answers(store)
        assert await pid_of(store) != pid
    await second.aclose()
    assert first._guardian is not None
    async with asyncio.timeout(20):  # the last one has gone: it ends
        while first._guardian.poll() is None:
            await asyncio.sleep(0.02)
    assert not Path(second.url.removeprefix("unix://")).exists()


async def test_its_guardians_death_is_survived(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path) as valkey, RedisStore(valkey.url) as store:
        await store.client.set("kept", "yes")
        async with asyncio.timeout(20):  # what is in the append-only file outlives a kill
            while (await store.client.info("persistence"))["aof_buffer_length"]:
                await asyncio.sleep(0.02)
        guardian = valkey._guardian
        assert guardian is not None
        pid = await pid_of(store)
        guardian.kill()
        async with asyncio.timeout(30):
            while valkey._guardian is guardian:
                await asyncio.sleep(0.05)
        await answers(store)
        assert await pid_of(store) != pid
        assert await store.client.get("kept") == b"yes"


async def test_a_long_data_directory_has_its_socket_elsewhere(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    async with EmbeddedValkey(deep) as valkey, RedisStore(valkey.url) as store:
        await store.ping()
        path = Path(valkey.url.removeprefix("unix://"))
        assert len(str(path)) <= MAX_SOCKET_PATH_BYTES
        assert path.parent.stat().st_mode & 0o77 == 0, "for this user only"
    assert not path.parent.exists()


async def test_a_hung_redis_is_noticed_in_time_and_then_fails_fast(
    valkey: EmbeddedValkey, redis: RedisStore
) -> None:
    pid = await pid_of(redis)
    loop = asyncio.get_running_loop()
    os.kill(pid, signal.SIGSTOP)
    try:
        started = loop.time()
        with pytest.raises(Unavailable) as caught:
            await redis.ping()
        assert caught.value.specific_code == "redis_down"
        assert loop.time() - started < SOCKET_TIMEOUT_S + 2.0
        started = loop.time()
        with pytest.raises(Unavailable):
            await redis.ping()
        assert loop.time() - started < SOCKET_TIMEOUT_S / 4, "it is not asked again"
    finally:
        os.kill(pid, signal.SIGCONT)
    await answers(redis)


async def test_a_script_is_sent_again_to_a_server_that_forgot_it(redis: RedisStore) -> None:
    script = redis.script("return {KEYS[1], ARGV[1]}")
    assert await script(["a"], [1]) == [b"a", b"1"]
    await redis.client.script_flush()
    assert await script(["a"], ["b"]) == [b"a", b"b"]


async def test_a_blocking_client_waits_without_holding_others_up(redis: RedisStore) -> None:
    blocking = redis.blocking_client()
    waiting = asyncio.ensure_future(blocking.xread({"stream": "$"}, block=14_000))
    await redis.ping()
    async with asyncio.timeout(20):
        while not (await redis.client.info("clients"))["blocked_clients"]:
            await asyncio.sleep(0.01)
        await redis.client.xadd("stream", {"a": "b"})
        assert await waiting
    await blocking.aclose()


@pytest.mark.parametrize(
    "url",
    [
        "http://host",
        "host:6379",
        "redis+sentinel://host:26379",
        "redis+magic://host",
        "redis+cluster://",
        "",
    ],
)
def test_a_url_that_cannot_be_is_one_line(url: str) -> None:
    with pytest.raises(ConfigurationError, match="MEDIASERVER_REDIS_URL"):
        RedisStore(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://user:pass@one:26379,two/mymaster/2",
        "rediss+cluster://:pass@one:6379,two:6380",
        "rediss://user:pass@host:6380/1",
    ],
)
async def test_urls_of_every_kind_are_read_and_their_passwords_not_shown(url: str) -> None:
    async with RedisStore(url) as store:
        assert "pass" not in store.place
        with pytest.raises(Unavailable):
            async with asyncio.timeout(20):
                await store.ping()


@pytest.mark.parametrize("url", ["mysql://host/x", "nonsense", "sqlite:///:memory:"])
async def test_a_database_that_cannot_be_is_one_line(url: str) -> None:
    with pytest.raises(ConfigurationError):
        await Database(url).migrate()


async def test_an_unreachable_database_is_one_line_without_its_password(tmp_path: Path) -> None:
    database = Database("postgresql://user:hunter2@127.0.0.1:1/x")
    with pytest.raises(ConfigurationError) as caught:
        await database.migrate()
    assert "127.0.0.1" in caught.value.detail
    assert "hunter2" not in caught.value.detail
    with pytest.raises(Unavailable) as down:
        await database.ping()
    assert down.value.specific_code == "database_down"
    await database.aclose()


async def test_a_database_that_dies_is_unavailable() -> None:
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(run_postgres())
        except NoPostgres as error:
            pytest.skip(str(error))
        database = Database(f"postgresql://postgres@/postgres?host={folder}")
        await database.ping()
        told = (Path(folder) / "data" / "postmaster.pid").read_text()
        postmaster = int(told.splitlines()[0])
        os.kill(postmaster, signal.SIGQUIT)
        for _ in range(3):
            with pytest.raises(Unavailable) as caught:
                await database.ping()
            assert caught.value.specific_code == "database_down"
        await database.aclose()


@pytest.mark.parametrize("kind", ["sqlite_url", "postgres_url"])
async def test_several_instances_migrate_an_empty_database_at_once(
    kind: str, sqlite_url: str, postgres_url: str
) -> None:
    url = {"sqlite_url": sqlite_url, "postgres_url": postgres_url}[kind]
    databases = [Database(url) for _ in range(4)]
    await asyncio.gather(*(database.migrate() for database in databases))
    await databases[0].migrate()

    def shape(connection: sa.Connection) -> dict[str, dict[str, bool]]:
        inspector = sa.inspect(connection)
        return {
            table: {column["name"]: column["nullable"] for column in inspector.get_columns(table)}
            for table in inspector.get_table_names()
        }

    async with databases[0].begin() as connection:
        real = await connection.run_sync(shape)
    wanted = {
        table.name: {str(column.name): bool(column.nullable) for column in table.columns}
        for table in METADATA.sorted_tables
    }
    assert {name: columns for name, columns in real.items() if name in wanted} == wanted
    for database in databases:
        await database.aclose()


@pytest.mark.parametrize("made_before", [False, True])
async def test_the_file_is_for_its_owner_only(sqlite_url: str, made_before: bool) -> None:
    database = Database(sqlite_url)
    path = Path(str(database.url.database))
    if made_before:
        path.touch(mode=0o666)
        path.chmod(0o664)
    await database.migrate()
    async with database.begin() as connection:
        await connection.execute(sa.text("CREATE TABLE more (x INTEGER)"))
        for part in (path, Path(f"{path}-wal"), Path(f"{path}-shm"), Path(f"{path}.lock")):
            assert part.stat().st_mode & 0o777 == 0o600, part.name
    await database.aclose()
