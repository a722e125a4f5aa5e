"""Videos in SQL, on SQLite and PostgreSQL: pages, states, and who prepares what."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import sqlalchemy as sa

from mediaserver.kernel.errors import BadInput, NotFound
from mediaserver.kernel.ids import new_id
from mediaserver.library.records import Prepared, Records, Video
from mediaserver.library.tables import METADATA, VIDEOS
from mediaserver.stores.database import Database

PREPARED = Prepared("video-a.mp4", "video/mp4", 12.5, 640, 360)
LEASE_S = 30.0


@pytest.fixture(params=["sqlite_url", "postgres_url"])
def database_url(request: pytest.FixtureRequest, postgres: str | None) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A migrated database of each kind."""
    database = Database(database_url)
    await database.migrate()
    yield database
    await database.aclose()


@pytest.fixture
def records(database: Database) -> Records:
    return Records(database)


def video(**changes: object) -> Video:
    made = Video(
        id=new_id("v"),
        title="Film",
        state="processing",
        created_at=1_763_700_000.123456,
        owner_id="u_1",
        owner="Ann",
        size_bytes=5_000_000_000,
        received_bytes=5_000_000_000,
        touched_at=1_763_700_000.0,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


async def added(records: Records, **changes: object) -> Video:
    made = video(**changes)
    await records.add(made)
    return made


async def let_lease_end(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(sa.update(VIDEOS).values(lease_until=1.0))


async def test_the_table_is_as_the_code_thinks(database: Database) -> None:
    def shape(connection: sa.Connection) -> tuple[dict[str, bool], set[str]]:
        inspector = sa.inspect(connection)
        columns = {c["name"]: c["nullable"] for c in inspector.get_columns("videos")}
        return columns, {str(index["name"]) for index in inspector.get_indexes("videos")}

    async with database.begin() as connection:
        columns, indexes = await connection.run_sync(shape)
    assert columns == {str(c.name): bool(c.nullable) for c in VIDEOS.columns}
    assert indexes == {str(index.name) for index in METADATA.tables["videos"].indexes}


async def test_what_is_added_is_found_as_it_was(records: Records) -> None:
    made = await added(records, title="Größe 🎬")
    assert await records.find(made.id) == made
    assert await records.find("v_" + "0" * 20) is None
    assert (await records.rename(made.id, "Other")).title == "Other"
    with pytest.raises(NotFound):
        await records.rename("v_" + "0" * 20, "Other")
    assert await records.existing([made.id, "v_" + "0" * 20]) == {made.id}
    assert await records.remove(made.id)
    assert not await records.remove(made.id)


async def test_pages_are_whole_whatever_the_times(records: Records) -> None:
    times = [5.5, 5.5, 5.5, 1763700000.1234567, 7.0, 0.1 + 0.2]
    made = [await added(records, created_at=at, state="ready") for at in times]
    await added(records, created_at=6.0)
    wanted = sorted(made, key=lambda one: (one.created_at, one.id), reverse=True)
    seen: list[str] = []
    after = None
    while page := await records.page(after, 2, only_ready=True):
        seen += [one.id for one in page]
        after = page[-1].cursor
    assert seen == [one.id for one in wanted]
    assert len(await records.page(None, 100, only_ready=False)) == 7
    for bad in ("", "x", "5~", "5.5~v_1;", "nan~v_1", "1e5~v_1", "9" * 30 + "~v_1"):
        with pytest.raises(BadInput):
            await records.page(bad, 2, only_ready=True)


async def test_one_of_many_gets_a_video(records: Records) -> None:
    made = await added(records)
    claims = await asyncio.gather(*(records.claim(LEASE_S) for _ in range(6)))
    won = [work for work in claims if work is not None]
    assert [(work.video_id, work.attempt) for work in won] == [(made.id, 1)]
    assert await records.claim(LEASE_S) is None


async def test_many_get_different_videos_the_oldest_first(records: Records) -> None:
    made = [await added(records, created_at=float(at)) for at in range(1, 6)]
    first = await records.claim(LEASE_S)
    assert first is not None
    assert first.video_id == made[0].id
    others = await asyncio.gather(*(records.claim(LEASE_S) for _ in range(4)))
    rest = [work.video_id for work in others if work is not None]
    assert len(set(rest)) == len(rest)
    while (work := await records.claim(LEASE_S)) is not None:
        rest.append(work.video_id)
    assert sorted(rest) == sorted(one.id for one in made[1:])


@pytest.mark.parametrize("state", ["uploading", "ready", "failed"])
async def test_only_what_waits_is_claimed(records: Records, state: str) -> None:
    await added(records, state=state)
    assert await records.claim(LEASE_S) is None


async def test_whoever_lost_the_lease_changes_nothing(records: Records, database: Database) -> None:
    made = await added(records)
    late = await records.claim(LEASE_S)
    assert late is not None
    assert await records.renew(late, LEASE_S, 0.25)
    assert await records.claim(LEASE_S) is None, "it is held"
    await let_lease_end(database)
    now = await records.claim(LEASE_S)
    assert now is not None
    assert (now.video_id, now.attempt) == (made.id, 2)
    assert not await records.renew(late, LEASE_S, 0.5)
    assert not await records.publish(late, PREPARED)
    assert not await records.fail(late, "no")
    assert not await records.retry(late, 0.0)
    assert not await records.give_back(late)
    assert await records.renew(now, LEASE_S, 0.75)
    found = await records.find(made.id)
    assert found is not None
    assert (found.state, found.progress, found.lease) == ("processing", 0.75, now.lease)
    assert await records.publish(now, PREPARED)
    found = await records.find(made.id)
    assert found is not None
    info = found.info()
    assert (info.state, info.progress, info.duration_s) == ("ready", 1.0, 12.5)
    assert (info.width, info.height, info.content_type) == (640, 360, "video/mp4")
    assert not await records.renew(now, LEASE_S, 0.1), "it is over"


async def test_a_short_lease_ends_by_itself(records: Records) -> None:
    await added(records)
    assert await records.claim(0.05) is not None
    async with asyncio.timeout(20):
        while (work := await records.claim(LEASE_S)) is None:
            await asyncio.sleep(0.02)
    assert work.attempt == 2


async def test_what_is_given_back_does_not_count_and_what_died_does(records: Records) -> None:
    made = await added(records)
    for attempt in (1, 1):
        work = await records.claim(LEASE_S)
        assert work is not None
        assert work.attempt == attempt
        assert await records.give_back(work)
    work = await records.claim(LEASE_S)
    assert work is not None
    assert await records.retry(work, 60.0)
    assert await records.claim(LEASE_S) is None, "not so soon"
    found = await records.find(made.id)
    assert found is not None
    assert found.attempts == 1


async def test_uploads_are_completed_once(records: Records) -> None:
    made = await added(records, state="uploading", received_bytes=0, size_bytes=100)
    assert await records.received(made.id, 40, 9e9)
    assert await records.reserved_bytes() == 160
    assert [one.touched_at for one in await records.uploads()] == [9e9]
    assert [await records.uploaded(made.id) for _ in range(2)] == [True, False]
    assert not await records.received(made.id, 50, 9e9)
    assert await records.uploads() == []
    found = await records.find(made.id)
    assert found is not None
    assert (found.state, found.received_bytes) == ("processing", 100)
