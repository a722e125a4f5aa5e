"""Videos by `Api` and `join_room` on two real servers: uploads that break, and playing."""

import asyncio
import hashlib
import itertools
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from mediaserver_client import (
    Api,
    ClientError,
    Refused,
    ServerUnreachable,
    SignedPlayback,
    VideoInfo,
    join_room,
)

from benchmarks.films import make_film
from tests.integration.room_servers import Servers, run_servers
from tests.integration.test_python_client import proxy_to
from tests.valkey import run_valkey

KEY = "k" * 32
PASSWORD = "correct horse battery staple"
ENDS_S = 90.0
FILM_S = 2.0
MIB = 2**20
README = Path(__file__).resolve().parents[2] / "clients" / "python" / "README.md"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "A holiday.mp4", FILM_S)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 MiB that are no video."""
    path = tmp_path_factory.mktemp("noise") / "noise.bin"
    path.write_bytes(os.urandom(24 * MIB))
    return path


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Servers]:
    """Two guarded servers that share what they store."""
    with (
        tempfile.TemporaryDirectory() as short,  # the path of a socket has 107 bytes at most
        run_valkey(Path(short)) as valkey,
        run_servers(tmp_path, valkey, 2, api_key=KEY, max_video_bytes=str(64 * MIB)) as servers,
    ):
        yield servers


@pytest.fixture
async def api(two: Servers) -> AsyncIterator[Api]:
    async with asyncio.timeout(ENDS_S), Api(two[0].url, api_key=KEY) as api:
        yield api


async def fetch(signed: SignedPlayback, **headers: str) -> tuple[int, bytes]:
    """GET the media without any credentials."""
    async with aiohttp.ClientSession() as http, http.get(signed.url, headers=headers) as answer:
        return answer.status, await answer.read()


async def begun(api: Api, folder: Path) -> tuple[VideoInfo, Path]:
    """Wait for an upload's begin; return it, and a second name of its file that stays."""
    while not (found := (await api.videos()).videos):
        await asyncio.sleep(0.02)
    kept = folder / "kept"
    kept.hardlink_to(folder / "videos" / found[0].video_id / "upload")
    return found[0], kept


async def status(server: str, token: str) -> int:
    """Of a request with an access token."""
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{server}/api/v1/auth/me", headers=headers) as answer,
    ):
        return answer.status


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ---- the library ---------------------------------------------------------------------------


async def test_a_film_is_uploaded_renamed_played_and_deleted(api: Api, film: Path) -> None:
    told: list[tuple[int, int]] = []
    size = film.stat().st_size
    video = await api.upload_video(film, on_progress=lambda sent, of: told.append((sent, of)))
    assert (video.title, video.size_bytes, video.received_bytes) == ("A holiday", size, size)
    assert video.state != "uploading"
    assert told[0] == (0, size)
    assert told[-1] == (size, size)
    assert told == sorted(told)
    video = await api.ready_video(video.video_id)
    assert (video.state, video.content_type, video.progress) == ("ready", "video/mp4", 1.0)
    assert video.duration_s is not None
    assert abs(video.duration_s - FILM_S) < 0.2
    assert (await api.rename_video(video.video_id, "Höhle <b>")).title == "Höhle <b>"
    assert await api.video(video.video_id) == (await api.videos()).videos[0]
    signed = await api.sign_video(video.video_id, expires_in=60, subject="ann@example")
    assert signed.expires_in == 60
    assert signed.segment_auth.path == f"/media/videos/{video.video_id}/"
    status, media = await fetch(signed)
    assert (status, media[4:8]) == (200, b"ftyp")
    assert await fetch(signed, Range="bytes=4-7") == (206, b"ftyp")
    await api.delete_video(video.video_id)
    assert (await fetch(signed))[0] == 404
    assert (await api.videos()).videos == ()
    with pytest.raises(Refused) as refused:
        await api.video(video.video_id)
    assert refused.value.code == "no_video"


async def test_pages_of_videos_follow_each_other(api: Api, film: Path) -> None:
    for number in range(3):
        await api.upload_video(film, f"Film {number}")
    first = await api.videos(limit=2)
    assert [video.title for video in first.videos] == ["Film 2", "Film 1"]
    assert first.next is not None
    rest = await api.videos(limit=2, after=first.next)
    assert [video.title for video in rest.videos] == ["Film 0"]
    assert rest.next is None


async def test_what_is_refused_says_why(two: Servers, api: Api, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await api.upload_video(tmp_path / "nothing.mp4")
    empty = tmp_path / "empty.mp4"
    empty.touch()
    large = tmp_path / "large.mp4"
    with large.open("wb") as file:
        file.truncate(65 * MIB)
    for path, code in ((empty, "empty_upload"), (large, "too_large")):
        with pytest.raises(Refused) as refused:
            await api.upload_video(path)
        assert refused.value.code == code
    text = tmp_path / "text.mp4"
    text.write_text("this is no video " * 100)
    video = await api.upload_video(text)
    with pytest.raises(ClientError, match="text cannot be played: "):
        await api.ready_video(video.video_id)
    assert (await api.video(video.video_id)).problem
    with pytest.raises(Refused) as refused:
        await api.sign_video(video.video_id)
    assert refused.value.code == "video_not_ready"
    watcher = await api.create_key("watcher", ["videos"])
    async with Api(two[1].url, api_key=watcher.key) as watching:
        assert (await watching.videos()).videos == ()
        with pytest.raises(Refused) as refused:
            await watching.upload_video(text)
        assert refused.value.code == "scope_missing"


# ---- uploads that break --------------------------------------------------------------------


async def test_an_upload_goes_on_after_every_break(
    two: Servers, api: Api, noise: Path, tmp_path: Path
) -> None:
    breaks = [3 * MIB, 9 * MIB, 9 * MIB, 20 * MIB]
    told: list[int] = []
    async with proxy_to(two[0].url) as proxy, Api(proxy.url, api_key=KEY) as shaky:

        def progress(sent: int, _size: int) -> None:
            told.append(sent)
            if breaks and sent >= breaks[0]:
                breaks.pop(0)
                proxy.cut()

        upload = asyncio.create_task(shaky.upload_video(noise, "Noise", on_progress=progress))
        _, kept = await begun(api, tmp_path)
        video = await upload
        assert proxy.connections >= 4
    assert not breaks
    assert (video.received_bytes, told[-1]) == (24 * MIB, 24 * MIB)
    assert await asyncio.to_thread(digest, kept) == await asyncio.to_thread(digest, noise)
    went_back = [after for before, after in itertools.pairwise(told) if after < before]
    assert went_back, "it is told how much is really there"


async def test_an_upload_goes_on_at_another_server(
    two: Servers, noise: Path, tmp_path: Path
) -> None:
    killed: list[int] = []

    def progress(sent: int, _size: int) -> None:
        if sent >= 8 * MIB and not killed:
            killed.append(sent)
            two[0].process.send_signal(signal.SIGKILL)

    async with (
        asyncio.timeout(ENDS_S),
        Api([server.url for server in two], api_key=KEY) as both,
        Api(two[1].url, api_key=KEY) as other,
    ):
        upload = asyncio.create_task(both.upload_video(noise, on_progress=progress))
        _, kept = await begun(other, tmp_path)
        video = await upload
    assert killed
    assert video.received_bytes == 24 * MIB
    assert await asyncio.to_thread(digest, kept) == await asyncio.to_thread(digest, noise)


async def test_an_upload_of_an_earlier_run_is_gone_on_with(
    two: Servers, api: Api, noise: Path, tmp_path: Path
) -> None:
    half = asyncio.Event()

    def progress(sent: int, size: int) -> None:
        if sent > size / 2:
            half.set()

    first = asyncio.create_task(api.upload_video(noise, on_progress=progress))
    video, kept = await begun(api, tmp_path)
    await half.wait()
    first.cancel()
    await asyncio.wait([first])
    other_file = tmp_path / "other.bin"
    other_file.write_bytes(b"other")
    told: list[int] = []
    async with Api(two[1].url, api_key=KEY) as later:
        with pytest.raises(ClientError, match="is not what was uploaded"):
            await later.upload_video(other_file, resume=video.video_id)
        done = await later.upload_video(
            noise, resume=video.video_id, on_progress=lambda sent, _: told.append(sent)
        )
    assert done.video_id == video.video_id
    assert told[0] > 4 * MIB, "what was there is not sent again"
    assert await asyncio.to_thread(digest, kept) == await asyncio.to_thread(digest, noise)


async def test_a_login_that_ends_meanwhile_is_renewed(
    two: Servers, api: Api, noise: Path, tmp_path: Path
) -> None:
    await api.create_user("chief", role="admin", password=PASSWORD)
    ended = asyncio.Event()
    async with (
        proxy_to(two[0].url) as proxy,
        Api(proxy.url, user="chief", password=PASSWORD) as shaky,
        Api(two[1].url, user="chief", password=PASSWORD) as elsewhere,
    ):

        def progress(sent: int, _size: int) -> None:
            if sent >= 8 * MIB and not ended.is_set():
                ended.set()
                proxy.refuses = True
                proxy.cut()

        upload = asyncio.create_task(shaky.upload_video(noise, on_progress=progress))
        await ended.wait()
        before = shaky.credentials.tokens
        assert before is not None
        await elsewhere.logout(everywhere=True)
        while await status(two[0].url, before.access_token) != 401:
            await asyncio.sleep(0.05)
        proxy.refuses = False
        video = await upload
        assert shaky.credentials.tokens != before
    assert video.received_bytes == 24 * MIB


async def test_a_server_that_stays_away_is_given_up(two: Servers, api: Api, noise: Path) -> None:
    async with proxy_to(two[0].url) as proxy, Api(proxy.url, api_key=KEY) as shaky:

        def progress(sent: int, _size: int) -> None:
            if sent >= 2 * MIB:
                proxy.refuses = True
                proxy.cut()

        with pytest.raises(ServerUnreachable):
            await shaky.upload_video(noise, on_progress=progress, reconnect_s=1.0)
    assert (await api.videos()).videos[0].state == "uploading"


async def test_a_file_that_changes_is_noticed(two: Servers, tmp_path: Path) -> None:
    path = tmp_path / "growing.bin"
    path.write_bytes(bytes(8 * MIB))
    async with proxy_to(two[0].url) as proxy, Api(proxy.url, api_key=KEY) as shaky:

        def progress(sent: int, _size: int) -> None:
            if sent >= 2 * MIB:
                os.truncate(path, 3 * MIB)

        with pytest.raises(ClientError, match="was changed while it was sent"):
            await shaky.upload_video(path, on_progress=progress)


async def test_an_upload_that_was_deleted_ends(two: Servers, api: Api, noise: Path) -> None:
    async with proxy_to(two[0].url) as proxy, Api(proxy.url, api_key=KEY) as shaky:
        gone = asyncio.Event()

        def progress(sent: int, _size: int) -> None:
            if sent >= 2 * MIB and not gone.is_set():
                gone.set()
                proxy.refuses = True
                proxy.cut()

        upload = asyncio.create_task(shaky.upload_video(noise, on_progress=progress))
        await gone.wait()
        [video] = (await api.videos()).videos
        await api.delete_video(video.video_id)
        proxy.refuses = False
        with pytest.raises(Refused) as refused:
            await upload
    assert refused.value.code == "no_upload"


# ---- rooms, and the README -----------------------------------------------------------------


async def test_everybody_in_a_room_opens_its_video(two: Servers, api: Api, film: Path) -> None:
    video = await api.upload_video(film, "Film night")
    await api.ready_video(video.video_id)
    room = await api.create_room(title="Cinema")
    invitation = await api.invite(room.room)
    async with (
        join_room(two[0].url, room.room, name="Ann", api_key=KEY) as ann,
        join_room(
            two[1].url, room.room, name="Guest", invitation=invitation.token, api_key=""
        ) as guest,
    ):
        item = await ann.add_to_queue(video_id=video.video_id)
        assert (item.kind, item.title) == ("vod", "Film night")
        await guest.until(lambda: guest.queue, timeout_s=10)
        for member, server in ((ann, two[0]), (guest, two[1])):
            signed = await member.open_item(item)
            assert signed.url.startswith(f"{server.url}/media/videos/{video.video_id}/")
            status, media = await fetch(signed)
            assert (status, media[4:8]) == (200, b"ftyp")
        with pytest.raises(Refused):
            await guest.open_item("i_nothing")
        film_elsewhere = await ann.add_to_queue("https://films.example/a.mp4")
        with pytest.raises(Refused):
            await ann.open_item(film_elsewhere)


async def test_the_readmes_upload_works(two: Servers, film: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    [source] = [block for block in blocks if "upload_video" in block]
    for placeholder, real in (
        ("http://127.0.0.1:8080", two[0].url),
        ('"ms_…"', f'"{KEY}"'),
        ('"holiday.mp4"', f'"{film}"'),
    ):
        assert placeholder in source
        source = source.replace(placeholder, real)
    script = tmp_path / "videos.py"
    script.write_text(source)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(ENDS_S):
        out, err = await process.communicate()
    assert (process.returncode, err.decode()) == (0, "")
    assert re.search(
        r"100 %\nOur holiday: 2 s\nhttp://\S+/media/videos/v_\S+sig=\S+\n$", out.decode()
    )
