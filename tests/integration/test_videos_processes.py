"""Videos on two server processes with one Redis, one database and one folder; one is killed."""

import asyncio
import hashlib
import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from fractions import Fraction
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import av
import numpy as np
import pytest

from benchmarks.films import make_film
from tests.integration.room_servers import Servers, run_servers
from tests.integration.video_client import KEY, VideoClient, hold, until_held
from tests.live import LiveServer
from tests.valkey import run_valkey

MIB = 2**20
ENDS_S = 120.0


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Servers]:
    with (
        tempfile.TemporaryDirectory() as short,  # the path of a socket has 107 bytes at most
        run_valkey(Path(short)) as valkey,
        run_servers(tmp_path, valkey, 2, api_key=KEY, log_level="debug") as servers,
    ):
        yield servers


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


@pytest.fixture
async def clients(two: Servers, http: aiohttp.ClientSession) -> tuple[VideoClient, VideoClient]:
    return VideoClient(http, two[0].url), VideoClient(http, two[1].url)


def keep(folder: Path, place: str) -> Path:
    """Give an upload's file a second name, which stays when the video is prepared."""
    kept = folder / f"kept-{place.rpartition('/')[2]}"
    kept.hardlink_to(folder / "videos" / place.rpartition("/")[2] / "upload")
    return kept


def same(kept: Path, data: bytes) -> bool:
    return hashlib.sha256(kept.read_bytes()).digest() == hashlib.sha256(data).digest()


async def pieces(data: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]
        await asyncio.sleep(0)


async def test_half_is_sent_to_each_process(
    clients: tuple[VideoClient, VideoClient], tmp_path: Path
) -> None:
    one, other = clients
    data = os.urandom(16 * MIB)
    place = await one.begin(len(data))
    kept = keep(tmp_path, place)
    turns, offset = [one, other, one, other], 0
    for turn, client in enumerate(turns, 1):
        until = len(data) * turn // len(turns)
        told = await client.patch(place, offset, pieces(data[offset:until]))
        assert (told.status, told.headers["Upload-Offset"]) == (204, str(until))
        offset = until
        assert {await client.offset(place) for client in clients} == {offset}
    assert await asyncio.to_thread(same, kept, data)


async def test_only_one_process_takes_an_upload_at_a_time(
    clients: tuple[VideoClient, VideoClient], tmp_path: Path
) -> None:
    one, other = clients
    place, gate = await one.begin(10), asyncio.Event()
    kept = keep(tmp_path, place)
    first = asyncio.create_task(hold(one, place, b"01234", gate))
    try:
        told = await until_held(other, place)
        assert int(told.headers.get("Retry-After", "1")) >= 1
    finally:
        gate.set()
    assert (await first).headers["Upload-Offset"] == "6"
    assert (await other.patch(place, 6, b"6789")).headers["Upload-Offset"] == "10"
    assert kept.read_bytes() == b"01234!6789"


async def test_an_upload_goes_on_at_the_other_when_one_is_killed_in_the_middle(
    two: Servers, clients: tuple[VideoClient, VideoClient], tmp_path: Path
) -> None:
    data = os.urandom(16 * MIB)
    place = await clients[0].begin(len(data))
    kept = keep(tmp_path, place)

    async def until_killed() -> AsyncIterator[bytes]:
        at = 0
        while two[0].process.poll() is None:
            yield data[at : at + 65_536]
            at = min(at + 65_536, len(data) - 65_536)
            if at > 4 * MIB:
                await asyncio.sleep(0.01)
            if kept.stat().st_size > 4 * MIB:
                two[0].process.send_signal(signal.SIGKILL)
                await asyncio.sleep(0.05)

    with pytest.raises(aiohttp.ClientError):
        await clients[0].patch(place, 0, until_killed())
    assert two[0].process.wait() == -signal.SIGKILL
    offset = await clients[1].offset(place)
    assert 4 * MIB < offset < len(data)
    told = await clients[1].patch(place, offset, pieces(data[offset:]))
    assert (told.status, told.headers["Upload-Offset"]) == (204, str(len(data)))
    assert await asyncio.to_thread(same, kept, data)


async def test_a_stop_waits_for_no_sender_and_keeps_what_came(
    two: Servers, clients: tuple[VideoClient, VideoClient]
) -> None:
    place, gate = await clients[0].begin(MIB), asyncio.Event()
    sending = asyncio.create_task(hold(clients[0], place, bytes(300_000), gate))
    try:
        await until_held(clients[1], place)
        code, took_s = await asyncio.to_thread(two[0].stop)
    finally:
        gate.set()
    assert code == 0
    assert took_s < 15
    with pytest.raises(aiohttp.ClientError):
        await sending
    assert "Traceback" not in two[0].log
    offset = await clients[1].offset(place)
    assert 0 < offset <= 300_000
    assert (await clients[1].patch(place, offset, bytes(MIB - offset))).status == 204


async def test_what_a_killed_process_prepared_is_taken_over(
    two: Servers, clients: tuple[VideoClient, VideoClient], tmp_path: Path
) -> None:
    film = await asyncio.to_thread(make_film, tmp_path / "film.mp4", 2.0)
    slow = await asyncio.to_thread(make_slow, tmp_path / "slow.avi")
    video_id = await clients[0].upload(slow)
    async with asyncio.timeout(ENDS_S):
        while not (workers := preparations(two[0])):
            await asyncio.sleep(0.02)
        two[0].process.send_signal(signal.SIGKILL)
        two[0].process.wait()
        video = await clients[1].ready(video_id, timeout_s=ENDS_S)
        while any(is_preparation(pid) for pid in workers):
            await asyncio.sleep(0.05)  # the orphan ends by itself
    assert video["content_type"] == "video/mp4"
    url = (await clients[1].sign(video_id))["url"]
    told = await clients[1].play(url)
    assert told.body[4:8] == b"ftyp"
    assert len(told.body) > 8 * MIB, "more than sockets hold"
    for _ in range(5):
        async with clients[1].http.get(url) as playing:
            assert await playing.content.readexactly(MIB) == told.body[:MIB]
            playing.close()  # as browsers do whenever somebody seeks
    assert (await clients[1].play(url, Range="bytes=-9")).body == told.body[-9:]
    await clients[1].ready(await clients[1].upload(film))
    assert "Traceback" not in two[1].log
    assert "http.failed" not in two[1].log


async def test_the_loop_and_the_memory_stay_free_while_much_is_uploaded(
    two: Servers, clients: tuple[VideoClient, VideoClient]
) -> None:
    block, count = os.urandom(MIB), 192

    async def much() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield block

    place = await clients[0].begin(count * MIB)
    before_kib = peak_kib(two[0])
    upload = asyncio.create_task(clients[0].patch(place, 0, much()))
    waits_s: list[float] = []
    loop = asyncio.get_running_loop()
    while not upload.done():
        started = loop.time()
        assert (await clients[0].ask("GET", "/healthz")).status == 200
        waits_s.append(loop.time() - started)
        await asyncio.sleep(0.01)
    assert (await upload).status == 204
    assert len(waits_s) > 5
    assert sorted(waits_s)[len(waits_s) // 2] < 0.5
    assert max(waits_s) < 5.0
    assert peak_kib(two[0]) - before_kib < 64 * 1024


async def test_no_signature_or_cookie_is_in_any_log(
    two: Servers, clients: tuple[VideoClient, VideoClient], tmp_path: Path
) -> None:
    film = await asyncio.to_thread(make_film, tmp_path / "film.mp4", 2.0)
    video_id = await clients[0].upload(film)
    await clients[0].ready(video_id)
    secrets = {KEY}
    for client, other in (clients, clients[::-1]):
        url = (await client.sign(video_id, subject="ann@example"))["url"]
        path = url.removeprefix(client.server)
        query = dict(parse_qsl(urlsplit(url).query))
        told = await other.play(other.server + path)
        assert told.status == 200
        [cookie] = told.cookies.values()
        await client.play(url, Cookie=f"{cookie.key}={cookie.value}", Range="bytes=0-9")
        await client.play(url, Range="bytes=x")
        wrong = query["sig"][:-1] + ("A" if query["sig"][-1] != "A" else "B")
        for asked in (
            url.replace(query["sig"], wrong),
            url.replace(video_id, "v_" + "0" * 20),
            url + "&sig=" + query["sig"],
            url.replace("/media/", "/media//"),
        ):
            assert (await client.play(asked, Cookie=f"{cookie.key}={cookie.value}")).status >= 400
        secrets |= {query["sig"], wrong, *cookie.value.split(".")[2:3]}
    for server in two:
        status, metrics = await asyncio.to_thread(server.get, "/metrics")
        assert status == 200
        assert 'route="/media/videos/{video_id}/{file}"' in metrics
        assert video_id not in metrics
        assert "ann@example" in server.log, "for whom it was signed is told"
        assert re.search(r"http\.refused .*code=bad_signature", server.log)
        for secret in secrets:
            assert len(secret) > 20
            assert secret not in server.log
            assert secret not in metrics
        assert "Traceback" not in server.log


def make_slow(path: Path, seconds: float = 90.0) -> Path:
    """A film that has to be encoded anew (MPEG-4 part 2 in AVI), which takes some seconds."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        grain = np.random.default_rng(1).integers(16, 235, (540 + 64, 640), np.uint8)
        for index in range(round(seconds * 25)):
            picture = np.ascontiguousarray(grain[index % 64 : index % 64 + 540])
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def preparations(server: LiveServer) -> list[int]:
    """Process ids of what prepares videos for a server."""
    return [pid for pid in server.processes() if is_preparation(pid)]


def is_preparation(pid: int) -> bool:
    try:
        return b"library.prepare" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def peak_kib(server: LiveServer) -> int:
    told = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", told)[0])
