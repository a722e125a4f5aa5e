"""HLS on the room page: real streams, by the browser's own player and by hls.js."""

import asyncio
import contextlib
import datetime
import io
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import av
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from playwright.async_api import expect

from benchmarks.streams import (
    FRAMES_HZ,
    RENDITIONS,
    SEGMENT_S,
    WINDOW,
    Origin,
    Rendition,
    make_stream,
    origin,
    read_number,
)
from benchmarks.watch_party import TARGET_P95_MS, WITHOUT_MEDIA_SOURCE, sample, start_party
from mediaserver.rooms.playback import READY_TIMEOUT_S
from mediaserver.web.static import PROJECT_DIR, VENDORED
from tests.browser.conftest import OpenPage, Visit
from tests.browser.test_page_party import add_film, expect_playing, expect_together
from tests.integration.room_servers import Servers, run_servers
from tests.live import LiveServer
from tests.valkey import ValkeyProcess

SECONDS = 30.0
LIVE_S = 40.0
SAMPLED_S = 3.0
SHOWN_WITHIN_S = 15.0
HEVC = Rendition("hevc", 256, 144, 400_000, "hvc1.1.6.L60.B0,mp4a.40.2")
WITHOUT_NATIVE_HLS = """
    const can = HTMLMediaElement.prototype.canPlayType;
    HTMLMediaElement.prototype.canPlayType = function (type) {
        return /mpegurl/i.test(type) ? "" : can.call(this, type);
    };
"""
"""As Firefox and older Chrome answer."""

needs_hls_js = pytest.mark.skipif(
    not all((PROJECT_DIR / path).is_file() for path, _ in VENDORED.values()),
    reason="hls.js was not fetched (make vendor, which needs npm)",
)
pytestmark = needs_hls_js


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Streams of all kinds."""
    place = tmp_path_factory.mktemp("streams")
    make_stream(place / "mpegts", SECONDS, "mpegts")
    make_stream(place / "fmp4", SECONDS, "fmp4", RENDITIONS[:1])
    make_stream(place / "hevc", 4.0, "fmp4", [HEVC], encoder="libx265")
    make_stream(place / "now", LIVE_S, "mpegts", RENDITIONS[:1])
    (place / "page.m3u8").write_text("<!doctype html><title>Sign in</title>")
    return place


@pytest.fixture
async def streams(folder: Path) -> AsyncIterator[Origin]:
    async with origin(folder) as running:
        yield running


@pytest.fixture(scope="module")
def servers(
    valkey_server: ValkeyProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    with run_servers(tmp_path_factory.mktemp("servers"), valkey_server, 2) as running:
        yield running


async def two(
    open_page: OpenPage, servers: Servers, streams: Origin, before: str = ""
) -> tuple[Visit, Visit]:
    """Ann's browser plays HLS itself, Ben's does not; each is on a server of its own."""
    room = f"/?room=hls-{secrets.token_hex(5)}"
    ann = await open_page(servers[0], path=room, name="Ann", foreign=streams.host, before=before)
    await expect(ann.state).to_have_text("Connected")
    ben = await open_page(
        servers[1], path=room, name="Ben", foreign=streams.host, before=WITHOUT_NATIVE_HLS
    )
    await expect(ben.state).to_have_text("Connected")
    await ann.tab("People")
    await expect(ann.page.locator(".person")).to_have_count(2)
    return ann, ben


async def source(visit: Visit) -> str:
    """The scheme of what the element plays: `blob` is hls.js'."""
    found: str = await visit.page.evaluate("document.getElementById('player').src.split(':')[0]")
    return found


async def shown_s(visit: Visit) -> tuple[float, float]:
    """What the (paused) player shows, by the number in its picture, and where it says it is."""
    video = visit.page.locator("#player")
    with av.open(io.BytesIO(await video.screenshot()), "r") as png:
        number = read_number(next(png.decode(video=0)).to_ndarray(format="gray"))
    at: float = await video.evaluate("(video) => video.currentTime")
    return number / FRAMES_HZ, at


async def play_now(visit: Visit, url: str, title: str) -> None:
    """Add an item and start it for all."""
    await add_film(visit.page, url, title)
    await visit.page.get_by_role("button", name=f"Play now: {title}").click()


async def test_pages_that_play_hls_themselves_and_by_hls_js_stay_together(
    streams: Origin, servers: Servers, open_page: OpenPage
) -> None:
    ann, ben = await two(open_page, servers, streams, WITHOUT_MEDIA_SOURCE)
    await start_party([ann.page, ben.page], streams.url("mpegts/master.m3u8"))
    await check_together(ann, ben)
    await play_now(ann, streams.url("fmp4/master.m3u8"), "fMP4")
    await expect_playing(ben)
    await check_together(ann, ben)
    assert any(path.endswith("high-011.ts") for path in streams.asked), "the better rendition"


async def check_together(ann: Visit, ben: Visit) -> None:
    """Seek, watch for a while, pause: each shows the picture of its position, at most 80 ms off."""
    assert await source(ann) == "http"
    assert await source(ben) == "blob"
    await expect(ben.page.locator("#time-all")).to_have_text("0:30")
    await ann.page.get_by_role("slider", name="Position").fill("20")
    await expect_playing(ann, 20.0)
    await expect_playing(ben, 20.0)
    await expect_together(ann, ben)
    apart = await sample(ann.page, ben.page, SAMPLED_S)
    print(f"p50 {apart.percentile(50):.0f} ms, p95 {apart.percentile(95):.0f} ms apart")
    assert apart.paused == 0
    assert apart.percentile(95) <= TARGET_P95_MS
    await ben.page.get_by_role("button", name="Pause for everyone").click()
    for visit in (ann, ben):
        await expect(visit.page.locator("#drift-text")).to_have_text("Paused")
        await visit.page.wait_for_function(
            "() => { const v = document.getElementById('player');"
            " return v.paused && !v.seeking && v.readyState >= 3; }"
        )
    began = time.monotonic()
    while True:  # the picture of a seek is shown a little later
        places = [await shown_s(visit) for visit in (ann, ben)]
        # tracks begin apart, pictures are shown ahead
        if (
            all(at - 2.5 / FRAMES_HZ < shown < at + 1.5 / FRAMES_HZ for shown, at in places)
            and abs(places[0][0] - places[1][0]) <= 2 / FRAMES_HZ
        ):
            return
        assert time.monotonic() - began < SHOWN_WITHIN_S, places


async def test_what_cannot_be_played_is_said_and_keeps_nobody_waiting(
    streams: Origin, servers: Servers, open_page: OpenPage
) -> None:
    ann, ben = await two(open_page, servers, streams)
    for visit in (ann, ben):
        visit.expect_error("404|CORS|ERR_FAILED|Failed to load resource")
    for path, said in (
        ("nothing.m3u8", "There is no video at this address (any more): its server answers 404."),
        ("page.m3u8", "The address leads to no HLS playlist."),
        ("hevc/master.m3u8", "This browser cannot decode it. H.264 with AAC plays everywhere."),
    ):
        if path == "nothing.m3u8":
            await add_film(ann.page, streams.url(path), path)
        else:
            await play_now(ann, streams.url(path), path)
        for visit in (ann, ben):
            await expect(visit.page.locator("#stage-note-text")).to_have_text(said, timeout=40_000)
    started = time.monotonic()
    await play_now(ann, streams.url("private/mpegts/master.m3u8"), "Private")
    await expect_playing(ann)
    assert time.monotonic() - started < READY_TIMEOUT_S, "nobody is waited for"
    assert await source(ann) == "http", "the browser itself needs no leave"
    await expect(ben.page.locator("#stage-note-text")).to_contain_text("(CORS)")
    await expect(ben.page.locator("#drift-text")).to_have_text("Not shown here")
    await expect(ann.page.locator("#stage-note")).to_be_hidden()


async def test_a_live_stream_plays_at_its_newest_for_everybody(
    streams: Origin, servers: Servers, open_page: OpenPage
) -> None:
    ann, ben = await two(open_page, servers, streams)
    await add_film(ann.page, streams.url("live/now/master.m3u8"), "Now")
    await ann.page.get_by_role("button", name="Play for everyone").click()
    for visit in (ann, ben):
        await expect_playing(visit)
        await expect(visit.page.locator("#drift-text")).to_have_text("Live stream")
        await expect(visit.page.get_by_role("slider", name="Position")).to_be_hidden()
    assert [await source(ann), await source(ben)] == ["blob", "blob"]
    before_s = time.monotonic()
    await ben.page.get_by_role("button", name="Pause for everyone").click()
    for visit in (ann, ben):
        await visit.page.wait_for_function("() => document.getElementById('player').paused")
    numbers = [(await shown_s(visit))[0] for visit in (ann, ben)]
    first_s = before_s - streams.live_since_s
    newest_s = time.monotonic() - streams.live_since_s + WINDOW * SEGMENT_S
    assert first_s - 4 < min(numbers) <= max(numbers) < newest_s, numbers
    await ann.page.get_by_role("button", name="Play for everyone").click()
    for visit in (ann, ben):
        await expect_playing(visit)


async def test_a_secure_page_says_that_a_video_is_not(
    streams: Origin, servers: Servers, open_page: OpenPage, tmp_path: Path
) -> None:
    port = streams.host.rpartition(":")[2]
    async with tls_in_front_of(servers[0], tmp_path) as secure:
        visit = await open_page(
            servers[0],
            origin=secure,
            foreign=f"films.test:{port}",
            arguments=(
                "--ignore-certificate-errors",
                "--host-resolver-rules=MAP films.test 127.0.0.1",
            ),
        )
        visit.expect_error("ERR_SSL|ERR_FAILED|Failed to load resource|CORS|Mixed Content")
        await expect(visit.state).to_have_text("Connected")
        await add_film(visit.page, f"http://films.test:{port}/mpegts/master.m3u8", "Insecure")
        text = visit.page.locator("#stage-note-text")
        await expect(text).to_contain_text("begins with http:", timeout=40_000)


@contextlib.asynccontextmanager
async def tls_in_front_of(server: LiveServer, folder: Path) -> AsyncIterator[str]:
    """What a proxy does that ends TLS; yields its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(folder))
    port = int(server.url.rpartition(":")[2])
    pipes: set[asyncio.Task[None]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.TaskGroup() as group:
            pipes.add(group.create_task(pipe(reader, inner_writer)))
            pipes.add(group.create_task(pipe(inner_reader, writer)))

    listening = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        for task in pipes:
            task.cancel()


def certificate(folder: Path) -> Path:
    """A key and its own certificate, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "server.pem"
    path.write_bytes(plain + made.public_bytes(pem))
    return path
