"""Preparing: what becomes of processes that die, of instances that end, and of deleted videos."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from mediaserver.kernel.clocks import SystemClock
from mediaserver.kernel.ids import new_id
from mediaserver.library import preparing
from mediaserver.library.folder import Folder
from mediaserver.library.preparing import MAX_ATTEMPTS, PROGRAM, Preparing
from mediaserver.library.records import Records, Video
from mediaserver.library.tables import VIDEOS
from mediaserver.stores.database import Database
from tests.unit.library.films import Film, make

WITHIN_S = 30.0
LONG = Film("mpeg4", "ac3", seconds=40, size=(640, 360))
"""Takes some seconds to be encoded."""


class Place:
    """A database and a folder that instances share."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.database = Database(Database.default_url(tmp_path))
        self.records = Records(self.database)
        self.folder = Folder(tmp_path / "videos")
        self.instances: list[Preparing] = []

    def instance(self, *program: str, time_limit_s: float = 60.0) -> Preparing:
        """Start an instance."""
        made = Preparing(
            *(self.records, self.folder, SystemClock()),
            program=program or PROGRAM,
            retry_s=0.0,
            no_space_s=0.0,
            time_limit_s=time_limit_s,
        )
        made.start()
        self.instances.append(made)
        return made

    async def upload(self, film: Film | bytes, suffix: str = ".avi") -> str:
        """Put a complete upload in; return its id."""
        video = Video(
            id=new_id("v"),
            title="Film",
            state="processing",
            created_at=time.time(),
            owner_id="u_1",
            owner="Ann",
            size_bytes=1,
            received_bytes=1,
            touched_at=time.time(),
        )
        await self.folder.make(video.id)
        if isinstance(film, Film):
            made = await asyncio.to_thread(make, self.tmp_path / f"film{suffix}", film)
            film = made.read_bytes()
        self.folder.upload_path(video.id).write_bytes(film)
        await self.records.add(video)
        return video.id

    async def get(self, video_id: str) -> Video:
        video = await self.records.find(video_id)
        assert video is not None
        return video

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not await holds():
                await asyncio.sleep(0.02)

    async def until_state(self, video_id: str, state: str) -> Video:
        async def there() -> bool:
            return (await self.get(video_id)).state == state

        await self.until(there)
        return await self.get(video_id)

    async def until_at_work(self, instance: Preparing, video_id: str) -> int:
        """Wait until the process has begun to write; return its pid."""

        async def writes() -> bool:
            made = self.folder.path(video_id).glob("work-*/media.*")
            return instance.pid is not None and any(path.stat().st_size for path in made)

        await self.until(writes)
        assert instance.pid is not None
        return instance.pid

    def files(self, video_id: str) -> list[str]:
        return sorted(path.name for path in self.folder.path(video_id).iterdir())


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(tmp_path)
    await place.database.migrate()
    await place.folder.open()
    yield place
    for instance in place.instances:
        await instance.aclose()
    place.folder.close()
    await place.database.aclose()


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_an_upload_becomes_ready_and_only_the_result_is_kept(place: Place) -> None:
    video_id = await place.upload(Film())
    place.instance()
    video = await place.until_state(video_id, "ready")
    assert (video.width, video.height, video.content_type) == (128, 72, "video/mp4")
    assert video.duration_s == pytest.approx(2.0, abs=0.1)
    assert video.media_file is not None

    async def tidied() -> bool:
        return place.files(video_id) == [video.media_file]

    await place.until(tidied)


async def test_work_that_comes_later_is_done_at_once_when_told(place: Place) -> None:
    instance = place.instance()
    await asyncio.sleep(0.1)  # it has looked, and found nothing
    video_id = await place.upload(Film(None, "aac"), ".m4a")
    started = time.monotonic()
    instance.wake()
    await place.until_state(video_id, "ready")
    assert time.monotonic() - started < preparing.LOOKED_EVERY_S


async def test_what_cannot_be_played_fails_at_once_and_is_removed(place: Place) -> None:
    video_id = await place.upload(b"Hello, this is text.\n" * 50)
    place.instance()
    video = await place.until_state(video_id, "failed")
    assert video.attempts == 1
    assert "no video or audio file" in str(video.problem)

    async def empty() -> bool:
        return place.files(video_id) == []

    await place.until(empty)


async def test_a_killed_process_is_tried_again(place: Place) -> None:
    video_id = await place.upload(LONG)
    instance = place.instance()
    os.kill(await place.until_at_work(instance, video_id), signal.SIGKILL)
    video = await place.until_state(video_id, "ready")
    assert video.attempts == 2
    assert video.duration_s == pytest.approx(40, abs=1)


async def test_three_deaths_are_enough(place: Place) -> None:
    video_id = await place.upload(b"anything")
    dying = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    place.instance(sys.executable, "-c", dying)
    video = await place.until_state(video_id, "failed")
    assert video.attempts == MAX_ATTEMPTS
    assert "SIGSEGV" in str(video.problem)


async def test_a_full_disk_is_waited_for_and_counts_as_no_attempt(place: Place) -> None:
    video_id = await place.upload(Film())
    full, tries = place.tmp_path / "full", place.tmp_path / "tries"
    full.touch()
    tries.touch()
    prepares = "import runpy; runpy.run_module('mediaserver.library.prepare', run_name='__main__')"
    place.instance(
        sys.executable,
        "-c",
        "import pathlib, sys\n"
        f"if pathlib.Path({str(full)!r}).exists():\n"  # /dev/full answers every write with ENOSPC
        "    pathlib.Path(sys.argv[2], 'media.mp4').symlink_to('/dev/full')\n"
        f"print(file=open({str(tries)!r}, 'a'))\n"
        f"{prepares}",
    )

    async def tried_often() -> bool:
        return len(tries.read_text()) > 2 * MAX_ATTEMPTS

    await place.until(tried_often)
    assert (await place.get(video_id)).state == "processing"
    full.unlink()
    video = await place.until_state(video_id, "ready")
    assert video.attempts == 1


async def test_a_video_that_took_its_instances_with_it_is_given_up(place: Place) -> None:
    video_id = await place.upload(Film())
    for _ in range(MAX_ATTEMPTS):  # instances that claimed it, and were never heard of again
        async with place.database.begin() as connection:
            await connection.execute(sa.update(VIDEOS).values(lease_until=1.0))
        assert await place.records.claim(30.0) is not None
    async with place.database.begin() as connection:
        await connection.execute(sa.update(VIDEOS).values(lease_until=1.0))
    place.instance()
    video = await place.until_state(video_id, "failed")
    assert "3 times" in str(video.problem)


@pytest.mark.parametrize(
    "program",
    [
        "print('x' * 10_000_000)",
        "print('not json')",
        'print(\'{"file": "../../x", "content_type": "video/mp4", "duration_s": 1, '
        '"width": 1, "height": 1}\')',
        "print('{\"progress\": 1e999}')",
        "print('{\"progress\": 0.5}')",
        "pass",
    ],
)
async def test_a_process_that_was_taken_over_tells_nothing_of_use(
    place: Place, program: str
) -> None:
    video_id = await place.upload(b"anything")
    place.instance(sys.executable, "-c", program)
    video = await place.until_state(video_id, "failed")
    assert video.attempts == MAX_ATTEMPTS
    assert not (place.tmp_path / "x").exists()


async def test_the_process_has_none_of_the_servers_secrets(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDIASERVER_SECRET_KEY", "s" * 32)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    video_id = await place.upload(b"anything")
    tells = "import os, json; print(json.dumps({'problem': ' '.join(sorted(os.environ))}))"
    place.instance(sys.executable, "-c", tells)
    video = await place.until_state(video_id, "failed")
    assert "PATH" in str(video.problem)
    assert "SECRET" not in str(video.problem)


async def test_a_closed_instance_stops_soon_and_the_next_takes_over(place: Place) -> None:
    video_id = await place.upload(LONG)
    first = place.instance()
    pid = await place.until_at_work(first, video_id)
    started = time.monotonic()
    await first.aclose()
    assert time.monotonic() - started < 5.0
    assert is_gone(pid)
    assert place.files(video_id) == ["upload"]
    assert (await place.get(video_id)).state == "processing"
    place.instance()
    video = await place.until_state(video_id, "ready")
    assert video.attempts == 1, "it was given back, not lost"


async def test_an_instance_that_vanished_is_replaced_when_its_lease_is_over(place: Place) -> None:
    video_id = await place.upload(Film())
    assert await place.records.claim(0.2) is not None  # and it is never heard of again
    other = place.instance()

    async def taken() -> bool:
        other.wake()
        return (await place.get(video_id)).attempts == 2

    await place.until(taken)
    await place.until_state(video_id, "ready")


async def test_only_one_of_two_instances_prepares(place: Place) -> None:
    video_id = await place.upload(LONG)
    one, two = place.instance(), place.instance()

    async def begun() -> bool:
        return one.pid is not None or two.pid is not None

    await place.until(begun)
    seen = set()
    async with asyncio.timeout(WITHIN_S):
        while (await place.get(video_id)).state == "processing":
            two.wake()
            one.wake()
            seen |= {pid for pid in (one.pid, two.pid) if pid is not None}
            await asyncio.sleep(0.05)
    assert len(seen) == 1
    assert (await place.get(video_id)).attempts == 1


async def test_progress_is_told_and_a_deleted_video_stops_its_process(place: Place) -> None:
    film = Film("mpeg4", "ac3", seconds=120, size=(640, 360))
    video_id = await place.upload(film)
    instance = place.instance()
    pid = await place.until_at_work(instance, video_id)

    async def told() -> bool:
        return (await place.get(video_id)).progress > 0

    await place.until(told)
    await place.folder.remove(video_id)
    await place.records.remove(video_id)

    async def ended() -> bool:
        return is_gone(pid)

    await place.until(ended)

    async def nothing_left() -> bool:
        await place.folder.sweep()
        return list(place.folder.place.iterdir()) == []

    await place.until(nothing_left)


async def test_a_process_that_takes_too_long_is_ended(
    place: Place,
) -> None:
    video_id = await place.upload(b"anything")
    tells = "import time; print('{\"duration_s\": 0.05}', flush=True); time.sleep(100)"
    instance = place.instance(sys.executable, "-c", tells, time_limit_s=1.0)
    video = await place.until_state(video_id, "failed")
    assert "took longer than" in str(video.problem)
    await instance.aclose()
