"""The library as a whole: resumed and hostile uploads, what was left, signed playback."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from mediaserver.kernel.clocks import MonotonicTime, SystemClock, WallTime
from mediaserver.kernel.errors import (
    BadInput,
    Conflict,
    Forbidden,
    Gone,
    InsufficientStorage,
    Locked,
    NotFound,
    TooLarge,
)
from mediaserver.library.service import Library
from mediaserver.library.uploads import UPLOAD_IDLE_S, Upload
from mediaserver.settings import Settings
from mediaserver.stores.database import Database
from tests.unit.library.films import Film, make

SECRET = bytes(range(32))


class LaterClock(SystemClock):
    """Runs as the machine's, some seconds ahead."""

    ahead_s = 0.0

    def monotonic_s(self) -> MonotonicTime:
        return MonotonicTime(super().monotonic_s() + self.ahead_s)

    def wall_s(self) -> WallTime:
        return WallTime(super().wall_s() + self.ahead_s)


@pytest.fixture
def clock() -> LaterClock:
    return LaterClock()


@pytest.fixture
async def library(tmp_path: Path, clock: LaterClock) -> AsyncIterator[Library]:
    database = Database(Database.default_url(tmp_path))
    await database.migrate()
    settings = Settings(data_dir=tmp_path, max_video_bytes=10_000_000)
    library = Library(settings, database, clock, lambda: SECRET)
    await library.start()
    yield library
    await library.aclose()
    await database.aclose()


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


async def begin(library: Library, size_bytes: int) -> Upload:
    return await library.create(title="Film", size_bytes=size_bytes, owner_id="u_1", owner="Ann")


async def test_an_upload_in_parts_becomes_a_film_that_is_played(
    library: Library, clock: LaterClock, tmp_path: Path
) -> None:
    data = make(tmp_path / "a.mp4", Film()).read_bytes()
    upload = await begin(library, len(data))
    third = len(data) // 3
    upload = await library.append(upload.video_id, 0, pieces(data[:100], data[100:third]))
    assert (upload.offset, upload.complete) == (third, False)
    with pytest.raises(Conflict):
        await library.sign(upload.video_id)
    upload = await library.append(upload.video_id, third, pieces(data[third:]))
    assert upload.complete
    async with asyncio.timeout(30):
        while (video := await library.get(upload.video_id)).state != "ready":
            await asyncio.sleep(0.02)
    assert await library.upload(video.video_id) == upload
    signed = await library.sign(video.video_id, subject="ann@x")
    url = urlsplit(signed.url)
    query = dict(parse_qsl(url.query))
    media = await library.media(url.path, query, None)
    assert media.content_type == "video/mp4"
    assert media.file.stat().st_size > 1000
    assert media.cookie is not None
    assert media.cookie.path == f"/media/videos/{video.video_id}/"
    assert media.cookie.max_age_s == signed.segment_auth.expires_in

    clock.ahead_s = 301.0
    with pytest.raises(Gone):
        await library.media(url.path, query, None)
    for asked in (query, {}):
        again = await library.media(url.path, asked, media.cookie.value)
        assert again.file == media.file
        assert again.cookie is None, "a session does not renew itself"
    with pytest.raises(Forbidden):
        await library.media(url.path, query | {"sub": "bob"}, media.cookie.value)
    with pytest.raises(Forbidden):
        await library.media(url.path, {}, None)
    other = url.path.replace(video.video_id, "v_" + "0" * 20)
    with pytest.raises(Forbidden):
        await library.media(other, {}, media.cookie.value)
    clock.ahead_s = signed.segment_auth.expires_in + 1.0
    with pytest.raises(Gone):
        await library.media(url.path, query, media.cookie.value)
    clock.ahead_s = 0.0
    await library.delete(video.video_id)
    with pytest.raises(NotFound):
        await library.media(url.path, query, media.cookie.value)


async def test_what_came_before_the_sender_broke_off_is_kept(library: Library) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield b"abc"
        raise ConnectionResetError

    async def hanging() -> AsyncIterator[bytes]:
        yield b"def"
        await asyncio.Event().wait()

    upload = await begin(library, 100)
    with pytest.raises(ConnectionResetError):
        await library.append(upload.video_id, 0, breaking())
    assert (await library.upload(upload.video_id)).offset == 3
    sending = asyncio.ensure_future(library.append(upload.video_id, 3, hanging()))
    await asyncio.sleep(0.2)
    with pytest.raises(Locked):
        await library.append(upload.video_id, 3, pieces(b"x"))
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    upload = await library.append(upload.video_id, 6, pieces(b"ghi"))
    assert upload.offset == 9
    with pytest.raises(Conflict) as caught:
        await library.append(upload.video_id, 0, pieces(b"abc"))
    assert caught.value.specific_code == "wrong_offset"


async def test_nothing_over_what_was_announced_is_kept(library: Library, tmp_path: Path) -> None:
    upload = await begin(library, 5)
    with pytest.raises(TooLarge):
        await library.append(upload.video_id, 0, pieces(b"abc", b"defgh"))
    assert (await library.upload(upload.video_id)).offset == 5
    with pytest.raises(TooLarge):
        await library.append(upload.video_id, 5, pieces(b"x"))


async def test_an_upload_that_cannot_be_is_refused(library: Library) -> None:
    with pytest.raises(BadInput):
        await begin(library, 0)
    with pytest.raises(TooLarge):
        await begin(library, 10_000_001)
    library._uploads._max_bytes = 2**60
    with pytest.raises(InsufficientStorage):
        await begin(library, 2**50)
    library._uploads._max_bytes = 10_000_000
    assert (await library.list(after=None, limit=10, only_ready=False)).videos == ()
    for call in (library.upload("v_" + "0" * 20), library.append("../x", 0, pieces(b"x"))):
        with pytest.raises(NotFound) as caught:
            await call
        assert caught.value.specific_code == "no_upload"


async def test_an_upload_that_is_deleted_while_it_goes_on_ends(library: Library) -> None:
    upload = await begin(library, 100)

    async def deleting() -> AsyncIterator[bytes]:
        yield b"abc"
        await library.delete(upload.video_id)
        yield b"def"

    with pytest.raises(NotFound):
        await library.append(upload.video_id, 0, deleting())
    with pytest.raises(NotFound):
        await library.get(upload.video_id)


async def test_uploads_that_were_left_are_completed_or_deleted(
    library: Library, clock: LaterClock, tmp_path: Path
) -> None:
    complete, left = await begin(library, 3), await begin(library, 3)
    folder = tmp_path / "videos"
    (folder / complete.video_id / "upload").write_bytes(b"abc")  # its instance died just then
    await library._uploads.tidy()
    assert (await library.get(complete.video_id)).state in ("processing", "failed")
    clock.ahead_s = UPLOAD_IDLE_S - 10.0
    await library._uploads.tidy()
    assert (await library.get(left.video_id)).state == "uploading"
    clock.ahead_s = UPLOAD_IDLE_S + 1.0
    await library._uploads.tidy()
    with pytest.raises(NotFound):
        await library.get(left.video_id)
    assert not (folder / left.video_id).exists()


async def test_pages_and_titles(library: Library) -> None:
    made = [(await begin(library, 10)).video_id for _ in range(5)]
    first = await library.list(after=None, limit=3, only_ready=False)
    rest = await library.list(after=first.next, limit=3, only_ready=False)
    assert [video.video_id for video in (*first.videos, *rest.videos)] == made[::-1]
    assert rest.next is None
    assert (await library.list(after=None, limit=3, only_ready=True)).videos == ()
    assert (await library.rename(made[0], "Other")).title == "Other"
    with pytest.raises(NotFound):
        await library.get(made[0], only_ready=True)
    with pytest.raises(BadInput):
        await library.list(after="x", limit=3, only_ready=False)
