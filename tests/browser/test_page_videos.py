"""The library on the page: uploading, what may be done with a video, watching it in rooms."""

import base64
import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from playwright.async_api import CDPSession, Page, Request, Response, expect

from benchmarks.films import make_film
from benchmarks.watch_party import TARGET_P95_MS, sample
from tests.browser.conftest import NO_SPEECH, OpenPage, Visit
from tests.browser.test_page_access import violations
from tests.browser.test_page_party import expect_playing, invitation
from tests.integration.room_servers import Servers, run_servers
from tests.live import LiveServer, run_server
from tests.valkey import ValkeyProcess

KEY = "a-key-that-may-do-everything-here"
AS_ADMIN = f"sessionStorage.setItem('captions.key', '{KEY}')"
"""Signs in by the key, which has every scope."""
FILM_S = 45.0
NOISE_S = 80.0
SAMPLED_S = 10.0
SETTLE_S = 6.0
READY_MS = 60_000
EXPIRES_S = 30


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("films") / "Our_first-film.mp4", FILM_S)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of tens of megabytes: no browser keeps all of it."""
    return make_noise(tmp_path_factory.mktemp("noise") / "noise.mp4")


def make_noise(path: Path) -> Path:
    rows, columns = 180, 320
    random = np.random.default_rng(7)
    pictures = [random.integers(0, 256, (rows * 3 // 2, columns), np.uint8) for _ in range(10)]
    with av.open(str(path), "w", options={"movflags": "faststart"}) as out:
        video = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = columns, rows, "yuv420p"
        video.options = {"preset": "ultrafast", "g": "25", "crf": "30"}
        for index in range(round(NOISE_S * 25)):
            frame = av.VideoFrame.from_ndarray(pictures[index % 10], format="yuv420p")
            frame.pts = index
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with run_server(tmp_path_factory.mktemp("library"), None, **NO_SPEECH, api_key=KEY) as running:
        yield running


@pytest.fixture
def servers(valkey_server: ValkeyProcess, tmp_path: Path) -> Iterator[Servers]:
    """Two that share Redis, the database and the folder of videos."""
    shared = {
        "storage_url": f"file://{tmp_path}/videos",
        "secret_key": "s" * 32,
        "access": "guarded",
    }
    with run_servers(tmp_path, valkey_server, 2, **shared) as running:
        yield running


async def lobby(open_page: OpenPage, server: LiveServer, **options: Any) -> Visit:
    visit = await open_page(server, path="/", before=AS_ADMIN, name="Ann", **options)
    await expect(visit.page.get_by_role("heading", name="Videos")).to_be_visible()
    return visit


async def signed_in(open_page: OpenPage, servers: Servers) -> Visit:
    """The administrator that the first server made, on its start screen."""
    told = "".join((server.log_path.parent / "server.out").read_text() for server in servers)
    found = re.search(r"log in as '(\w+)' with the one-time password (\S+)", told)
    assert found, told
    visit = await open_page(servers[0], path="/", name="Ann")
    visit.expect_error("401")
    page = visit.page
    await page.locator("#rooms-sign-in").click()
    dialog = page.get_by_role("dialog", name="Sign in")
    await dialog.get_by_label("User name").fill(found.group(1))
    await dialog.get_by_label("Password").fill(found.group(2))
    await page.keyboard.press("Enter")
    change = page.get_by_role("dialog", name="Choose your password")
    await change.get_by_label("New password").fill("a password of some length")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Upload", exact=True)).to_be_visible()
    return visit


def row(page: Page, title: str) -> Any:
    return page.locator(".video", has_text=title)


async def upload(page: Page, file: Path) -> None:
    async with page.expect_file_chooser() as chooser:
        await page.get_by_role("button", name="Upload", exact=True).click()
    await (await chooser.value).set_files(str(file))


async def uploaded(page: Page, file: Path, title: str) -> None:
    """Upload it and wait until it can be watched."""
    await upload(page, file)
    ready = page.locator(".video[data-state=ready]", has_text=title)
    await expect(ready).to_be_visible(timeout=READY_MS)


def ask(server: LiveServer, method: str, path: str, body: object = None) -> Any:
    request = urllib.request.Request(
        server.url + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"X-API-Key": KEY, "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.loads(response.read() or b"null")


@pytest.fixture(autouse=True)
def empty_after(request: pytest.FixtureRequest) -> Iterator[None]:
    """The shared server's library is empty again."""
    yield
    if "server" in request.fixturenames:
        running: LiveServer = request.getfixturevalue("server")
        for video in ask(running, "GET", "/api/videos?limit=100")["videos"]:
            ask(running, "DELETE", f"/api/videos/{video['video_id']}")


# ---- in rooms ------------------------------------------------------------------------------


async def test_a_film_is_uploaded_and_watched_on_two_servers_by_a_guest_too(
    servers: Servers, open_page: OpenPage, film: Path
) -> None:
    ann = await signed_in(open_page, servers)
    await uploaded(ann.page, film, "Our first film")
    await expect(row(ann.page, "Our first film")).to_contain_text("0:45 · 320×180")
    await ann.page.get_by_role("button", name="Watch together: Our first film").click()
    await expect(ann.state).to_have_text("Connected")
    await expect(ann.page.locator("#now")).to_have_text("Our first film")
    await expect(ann.page.locator("#time-all")).to_have_text("0:45")
    ben = await open_page(servers[1], path=await invitation(ann), name=None)
    await ben.page.get_by_label("Your name, as others see it").fill("Ben")
    await ben.page.get_by_role("button", name="Join").click()
    await expect(ben.state).to_have_text("Connected")
    for visit in (ann, ben):
        await visit.page.wait_for_function(
            "() => document.getElementById('player').readyState >= 3", timeout=20_000
        )
    await ann.page.get_by_role("button", name="Play for everyone").click()
    for visit in (ann, ben):
        await expect_playing(visit)
    await ben.tab("Queue")
    await expect(ben.page.locator(".queue-detail")).to_contain_text("0:45")
    await expect(ben.page.locator("#queue-library")).to_be_hidden()
    await ann.page.wait_for_timeout(SETTLE_S * 1000)
    apart = await sample(ann.page, ben.page, SAMPLED_S)
    p95 = apart.percentile(95)
    print(f"apart: p50 {apart.percentile(50):.0f} ms, p95 {p95:.0f} ms")
    assert len(apart.distances_ms) > SAMPLED_S * 5
    assert p95 <= TARGET_P95_MS
    sources = [
        await visit.page.evaluate("document.getElementById('player').src") for visit in (ann, ben)
    ]
    for source, server in zip(sources, servers, strict=True):
        assert source.startswith(f"{server.url}/media/videos/"), "each from its own server"


async def test_a_video_is_found_in_the_library_and_added(
    server: LiveServer, open_page: OpenPage, film: Path, tmp_path: Path
) -> None:
    visit = await lobby(open_page, server)
    page = visit.page
    other = tmp_path / "The other one.mp4"
    other.write_bytes(film.read_bytes())
    await uploaded(page, film, "Our first film")
    await uploaded(page, other, "The other one")
    await page.goto(f"{server.url}/?room=picking")
    await expect(visit.state).to_have_text("Connected")
    await visit.tab("Queue")
    await page.get_by_role("button", name="From the library").click()
    dialog = page.get_by_role("dialog", name="From the library")
    await expect(dialog.locator(".library-row")).to_have_count(2)
    await expect(page.get_by_label("Search by title")).to_be_focused()
    await page.keyboard.type("other ONE")
    await expect(dialog.locator(".library-row")).to_have_count(1)
    assert await violations(page) == []
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(dialog).to_be_hidden()
    await expect(page.locator(".queue-title")).to_have_text("The other one")
    await expect(page.locator("#queue-library")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.get_by_label("Search by title").fill("nothing like it")
    await expect(dialog).to_contain_text("No title has these words.")


async def test_sound_alone_plays_with_a_sign_in_place_of_pictures(
    server: LiveServer, open_page: OpenPage, tmp_path: Path
) -> None:
    visit = await lobby(open_page, server)
    await uploaded(visit.page, make_song(tmp_path / "A song.m4a"), "A song")
    await expect(row(visit.page, "A song")).to_contain_text("sound only")
    await visit.page.get_by_role("button", name="Watch together: A song").click()
    await expect(visit.page.locator("#sound-only")).to_be_visible(timeout=20_000)
    await visit.page.get_by_role("button", name="Play for everyone").click()
    await expect_playing(visit)


def make_song(path: Path) -> Path:
    with av.open(str(path), "w", format="ipod") as out:
        sound = out.add_stream("aac", rate=48_000)
        for index in range(20 * 48_000 // 1024):
            times = (np.arange(1024) + index * 1024) / 48_000
            samples = (0.02 * np.sin(2 * np.pi * 330 * times)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48_000, index * 1024
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    return path


@pytest.mark.parametrize("cookie", [True, False], ids=["cookie", "no-cookie"])
async def test_playing_goes_on_when_the_address_has_expired(
    server: LiveServer, open_page: OpenPage, noise: Path, cookie: bool
) -> None:
    visit = await lobby(open_page, server)
    page = visit.page
    await uploaded(page, noise, "noise")
    video = ask(server, "GET", "/api/videos")["videos"][0]
    signed = ask(
        server, "POST", "/api/videos/sign", {"video_id": video["video_id"], "expires_in": EXPIRES_S}
    )
    await page.evaluate(SHORT_LIVED, signed)
    await page.get_by_role("button", name="Watch together: noise").click()
    await page.wait_for_function(
        "() => document.getElementById('player').readyState >= 3", timeout=20_000
    )
    await page.wait_for_timeout((EXPIRES_S + 1.5) * 1000)
    if not cookie:
        visit.expect_error("410")
        await page.context.clear_cookies()
    asked: list[tuple[int, str]] = []

    def on_response(response: Response) -> None:
        if "/media/" in response.url:
            asked.append((response.status, response.url))

    page.on("response", on_response)
    await page.locator("#seek").fill("60")
    await page.get_by_role("button", name="Play for everyone").click()
    await expect_playing(visit, 61)
    await expect(page.locator("#drift-text")).to_have_text(re.compile("In sync"), timeout=20_000)
    opened = await page.evaluate("window.opened")
    if cookie:
        assert opened == 1
        assert [status for status, _ in asked if status != 206] == []
        assert {url for _, url in asked} == {signed["url"]}, "the expired address, by its cookie"
    else:
        assert opened == 2
        assert 410 in [status for status, _ in asked]
        assert await page.evaluate("document.getElementById('player').src") != signed["url"]


SHORT_LIVED = """async (signed) => {
    const { Room } = await import("/clients/js/room.js");
    const open = Room.prototype.openItem;
    window.opened = 0;
    Room.prototype.openItem = function (itemId) {
        window.opened += 1;
        return window.opened === 1 ? Promise.resolve(signed) : open.call(this, itemId);
    };
}"""
"""The first address that the room opens is one that the server signed for half a minute."""


# ---- uploading -----------------------------------------------------------------------------


async def slow_down(visit: Visit, bytes_per_s: int) -> CDPSession:
    network = await visit.page.context.new_cdp_session(visit.page)
    await network.send("Network.enable")
    await _throttle(network, bytes_per_s)
    return network


async def _throttle(network: CDPSession, bytes_per_s: int, *, offline: bool = False) -> None:
    how = {"offline": offline, "latency": 0, "downloadThroughput": -1}
    await network.send("Network.emulateNetworkConditions", {**how, "uploadThroughput": bytes_per_s})


async def under_way(page: Page, title: str, at_least: float) -> None:
    """Wait until so much of it is sent."""
    await page.wait_for_function(
        "([title, least]) => [...document.querySelectorAll('.video')].some((row) =>"
        " row.textContent.includes(title) && row.querySelector('progress').value > least)",
        arg=[title, at_least],
        timeout=30_000,
    )


async def test_an_upload_goes_on_after_the_network_was_gone(
    server: LiveServer, open_page: OpenPage, noise: Path
) -> None:
    visit = await lobby(open_page, server)
    visit.expect_error("ERR_INTERNET_DISCONNECTED")
    page = visit.page
    network = await slow_down(visit, 8_000_000)
    await upload(page, noise)
    await under_way(page, "noise", 0.3)
    await _throttle(network, 8_000_000, offline=True)
    await expect(row(page, "noise")).to_contain_text("trying again")
    await page.wait_for_timeout(1500)
    await _throttle(network, -1)
    ready = page.locator(".video[data-state=ready]", has_text="noise")
    await expect(ready).to_be_visible(timeout=READY_MS)
    (video,) = ask(server, "GET", "/api/videos")["videos"]
    assert video["received_bytes"] == noise.stat().st_size
    assert video["duration_s"] == pytest.approx(NOISE_S, abs=1)


async def test_an_upload_goes_on_after_a_reload(
    server: LiveServer, open_page: OpenPage, noise: Path
) -> None:
    visit = await lobby(open_page, server)
    page = visit.page
    page.on("dialog", lambda dialog: dialog.accept())  # that the page is left while it uploads
    await slow_down(visit, 8_000_000)
    await upload(page, noise)
    await under_way(page, "noise", 0.3)
    await page.reload()
    unfinished = row(page, "noise")
    await expect(unfinished).to_contain_text("Choose the file again to go on")
    offsets: list[str] = []

    def on_request(asked: Request) -> None:
        if asked.method == "PATCH":
            offsets.append(asked.headers["upload-offset"])

    page.on("request", on_request)
    async with page.expect_file_chooser() as chooser:
        await page.get_by_role("button", name="Choose the file: noise").click()
    await (await chooser.value).set_files(str(noise))
    await expect(page.locator(".video[data-state=ready]")).to_have_count(1, timeout=READY_MS)
    assert int(offsets[0]) > 0.2 * noise.stat().st_size
    await expect(page.locator(".video")).to_have_count(1)


async def test_an_upload_is_cancelled_and_gone(
    server: LiveServer, open_page: OpenPage, noise: Path
) -> None:
    visit = await lobby(open_page, server)
    page = visit.page
    await slow_down(visit, 2_000_000)
    await upload(page, noise)
    await under_way(page, "noise", 0.01)
    async with page.expect_response(lambda answer: answer.request.method == "DELETE") as gone:
        await page.get_by_role("button", name="Cancel: noise").click()
    assert (await gone.value).status == 204
    await expect(page.locator(".video")).to_have_count(0)
    await expect(page.locator("#videos-empty")).to_be_visible()
    assert ask(server, "GET", "/api/videos")["videos"] == []


async def test_what_is_no_video_says_why_and_can_be_deleted(
    server: LiveServer, open_page: OpenPage, tmp_path: Path
) -> None:
    visit = await lobby(open_page, server)
    page = visit.page
    nothing = tmp_path / "letter.mp4"
    nothing.write_text("Dear all, this is no film.\n" * 100)
    await upload(page, nothing)
    failed = page.locator(".video[data-state=failed]", has_text="letter")
    await expect(failed).to_be_visible(timeout=READY_MS)
    assert len(await failed.locator(".video-detail").inner_text()) > 10
    assert await violations(page) == []
    await page.get_by_role("button", name="Delete: letter").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(page.locator(".video")).to_have_count(0)


async def test_files_are_dropped_onto_the_library(
    server: LiveServer, open_page: OpenPage, film: Path
) -> None:
    visit = await lobby(open_page, server)
    page = visit.page
    held = await page.evaluate_handle(
        """async (bytes) => {
            const data = new DataTransfer();
            const content = Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0));
            data.items.add(new File([content], "dropped.mp4"));
            return data;
        }""",
        base64.b64encode(film.read_bytes()).decode(),
    )
    await page.dispatch_event("#videos-card", "dragover", {"dataTransfer": held})
    await expect(page.locator("#videos-drop")).to_be_visible()
    await page.dispatch_event("#videos-card", "drop", {"dataTransfer": held})
    await expect(page.locator("#videos-drop")).to_be_hidden()
    ready = page.locator(".video[data-state=ready]", has_text="dropped")
    await expect(ready).to_be_visible(timeout=READY_MS)


# ---- what may be done with a video ---------------------------------------------------------


@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
async def test_a_video_is_played_linked_renamed_and_deleted(
    server: LiveServer, open_page: OpenPage, film: Path, phone: bool
) -> None:
    visit = await lobby(open_page, server, phone=phone, dark=phone)
    page = visit.page
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await uploaded(page, film, "Our first film")
    assert await violations(page) == []
    assert await visit.overflow_px() == 0
    await page.get_by_role("button", name="Play: Our first film").click()
    await page.wait_for_function(
        "() => document.getElementById('watch-video').currentTime > 0.5", timeout=20_000
    )
    assert await violations(page) == []
    assert await visit.overflow_px() == 0
    await page.get_by_role("button", name="Close").click()
    await expect(page.get_by_role("button", name="Play: Our first film")).to_be_focused()
    await act(page, "Copy link")
    link = page.get_by_label("Plays for everybody, without an account")
    await expect(link).to_have_value(re.compile(f"^{re.escape(server.url)}/media/videos/"))
    await expect(page.locator("#link-text")).to_contain_text(re.compile(r"begin by \d"))
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied == await link.input_value()
    with urllib.request.urlopen(copied, timeout=10) as response:
        assert response.headers["Content-Type"] == "video/mp4"
        assert len(response.read()) > 1000
    assert await violations(page) == []
    await page.get_by_role("button", name="Done").click()
    await act(page, "Rename")
    await page.get_by_role("dialog").get_by_label("Title").fill("Ours <b>now</b>")
    await page.keyboard.press("Enter")
    await expect(row(page, "Ours <b>now</b>")).to_be_visible()
    await act(page, "Delete")
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(page.locator(".video")).to_have_count(0)
    assert ask(server, "GET", "/api/videos")["videos"] == []


async def act(page: Page, what: str) -> None:
    more = page.get_by_role("button", name=re.compile("^More:"))
    await more.click()
    button, menu = await more.bounding_box(), await page.locator("#menu").bounding_box()
    assert button
    assert menu
    gap = max(button["y"] - menu["y"] - menu["height"], menu["y"] - button["y"] - button["height"])
    assert 0 <= gap < 12, "the menu is beside its button, however far the page is scrolled"
    await page.get_by_role("menuitem", name=what).click()


async def test_who_may_only_watch_gets_no_buttons_to_change_anything(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    visit = await open_page(server_without_speech, path="/", name="Ann")
    page = visit.page
    await expect(page.get_by_role("heading", name="Videos")).to_be_visible()
    await expect(page.locator("#videos-empty")).to_contain_text("Administrators")
    await expect(page.get_by_role("button", name="Upload")).to_be_hidden()


async def test_who_has_not_signed_in_sees_no_library(
    server: LiveServer, open_page: OpenPage
) -> None:
    visit = await open_page(server, path="/", name="Ann")
    visit.expect_error("401")
    await expect(visit.page.locator("#rooms-locked")).to_be_visible()
    await expect(visit.page.locator("#videos-card")).to_be_hidden()
