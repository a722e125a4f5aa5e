"""The room's live broadcast on the page: one broadcasts, others see, hear and are told."""

import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from benchmarks.films import Cinema, cinema, make_film
from tests.browser.conftest import OpenPage, Visit
from tests.browser.test_page_access import violations
from tests.browser.test_page_party import add_film, expect_playing
from tests.integration.room_servers import Servers, run_servers
from tests.live import LiveServer, run_server
from tests.speech import Clip
from tests.valkey import ValkeyProcess

BEGINS_MS = 40_000
FILM_S = 60.0
MOVED = 0.5
"""Mean difference of two pictures, of 255. The fake camera's clock and disc move all the time."""
ASKS_FOR_A_CLICK = ("--autoplay-policy=document-user-activation-required",)
TELLS_THAT_IT_PLAYS = """
    addEventListener("playing", ({ target }) => {
        if (target.id === "live") setInterval(() => console.info("live plays"), 200);
    }, true);
"""
"""Whatever Playwright asks a page counts as a gesture of its user, so the page has to tell."""

_PICTURES = """async () => {
    const video = document.getElementById("live");
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [160, 90];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const picture = () => {
        context.drawImage(video, 0, 0, 160, 90);
        return context.getImageData(0, 0, 160, 90).data;
    };
    const before = picture();
    await new Promise((resolve) => setTimeout(resolve, 700));
    const after = picture();
    let moved = 0;
    for (let n = 0; n < after.length; n += 1) moved += Math.abs(after[n] - before[n]);
    return {
        width: video.videoWidth, paused: video.paused, shown: video.checkVisibility(),
        moved: moved / after.length,
    };
}"""
"""Two pictures as they are shown, 0.7 s apart, and how much they differ."""

_LOUDEST = """async (ms) => {
    const video = document.getElementById("live");
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    context.createMediaStreamSource(video.srcObject).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    let loudest = 0;
    for (const end = performance.now() + ms; performance.now() < end; ) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        analyser.getFloatTimeDomainData(samples);
        for (const sample of samples) loudest = Math.max(loudest, Math.abs(sample));
    }
    await context.close();
    return { loudest, muted: video.muted, volume: video.volume };
}"""
"""The loudest sample that came within some time; the fake microphone beeps every second."""


@pytest.fixture
def servers(valkey_server: ValkeyProcess, tmp_path: Path) -> Iterator[Servers]:
    with run_servers(tmp_path, valkey_server, 2) as running:
        yield running


@pytest.fixture
async def films(tmp_path: Path) -> AsyncIterator[Cinema]:
    async with cinema(make_film(tmp_path / "film.mp4", FILM_S), FILM_S) as running:
        yield running


async def enter(open_page: OpenPage, server: LiveServer, room: str, name: str, **how: Any) -> Visit:
    visit = await open_page(server, path=room, name=name, **how)
    await expect(visit.state).to_have_text("Connected")
    return visit


async def go_live(visit: Visit, source: str = "Camera") -> None:
    await visit.settings()
    await visit.page.get_by_role("radio", name=source).check()
    await visit.start()
    await expect(visit.page.locator("#badge-live")).to_be_visible(timeout=BEGINS_MS)


async def see(visit: Visit) -> None:
    """Moving pictures of the broadcast are on the page."""
    page = visit.page
    await expect(page.locator("#badge-watched")).to_be_visible(timeout=BEGINS_MS)
    await expect(page.locator("#live-calm")).to_be_hidden(timeout=BEGINS_MS)
    await expect(page.locator("#stage-note")).to_be_hidden()
    began = time.monotonic()
    while True:
        found = await page.evaluate(_PICTURES)
        plays = found["width"] > 0 and found["shown"] and not found["paused"]
        if plays and found["moved"] > MOVED:
            return
        assert time.monotonic() - began < BEGINS_MS / 1000, found


async def hear(visit: Visit) -> dict[str, Any]:
    """The broadcast's sound comes; return what was found."""
    began = time.monotonic()
    while True:
        found: dict[str, Any] = await visit.page.evaluate(_LOUDEST, 1500)
        if found["loudest"] > 0.02:
            return found
        assert time.monotonic() - began < BEGINS_MS / 1000, found


def note(visit: Visit) -> Any:
    return visit.page.locator("#stage-note")


def new_room() -> str:
    return f"/?room=live-{secrets.token_hex(5)}"


async def test_a_broadcast_is_put_on_with_one_tap_and_watched_on_another_instance(
    servers: Servers, open_page: OpenPage, artifacts: Path
) -> None:
    room = new_room()
    ann = await enter(open_page, servers[0], room, "Ann")
    ben = await enter(open_page, servers[1], room, "Ben")
    await go_live(ann)
    await ben.tab("People")
    row = ben.page.locator(".person", has_text="Ann")
    await expect(row.get_by_text("live with picture")).to_be_attached(timeout=BEGINS_MS)
    await ben.page.locator("#stage").get_by_role("button", name="Watch Ann live").click()
    await see(ben)
    found = await hear(ben)
    assert not found["muted"], found
    await expect(ben.page.locator("#badge-watched")).to_have_text("LiveAnn")
    for gone in ("#seek", "#rate", "#resync"):
        await expect(ben.page.locator(gone)).to_be_hidden()
    assert await violations(ben.page) == []
    await ben.page.screenshot(path=artifacts / "live-desktop.png")
    await ben.page.get_by_role("button", name="Small window").click()
    await ben.page.wait_for_function("document.pictureInPictureElement?.id === 'live'")
    await ben.page.get_by_role("button", name="Small window").click()
    await ben.page.wait_for_function("document.pictureInPictureElement === null")

    await expect(ann.page.locator("#stage")).to_have_attribute("data-mode", "own")
    await ann.page.wait_for_function("document.getElementById('live').srcObject === null")
    await ann.page.screenshot(path=artifacts / "live-own.png")

    await ben.page.get_by_role("button", name="Pause, for you only").click()
    await expect(note(ben)).to_contain_text("Paused, for you only")
    await expect(ben.page.locator("#live")).to_be_hidden()
    await expect(ann.page.locator("#badge-live")).to_be_visible()
    await note(ben).get_by_role("button", name="Watch again").click()
    await see(ben)

    await ben.page.reload()
    await see(ben)
    await hear(ben)

    await ann.stop()
    await expect(note(ben)).to_contain_text("Ann’s broadcast has ended", timeout=BEGINS_MS)
    await expect(ben.page.locator("#live")).to_be_hidden()
    await expect(note(ann)).to_contain_text("The room waits for you")
    await ann.page.get_by_role("button", name="Go live").click()
    await see(ben)
    await ann.page.close()
    await expect(note(ben)).to_contain_text(re.compile("Ann has left|Ann’s"), timeout=60_000)
    await expect(ben.page.locator("#live")).to_be_hidden()

    other = await enter(open_page, servers[0], room, "Cleo")
    await go_live(other)
    await note(ben).get_by_role("button", name="Watch Cleo live").click(timeout=BEGINS_MS)
    await see(ben)
    await expect(ben.page.locator("#badge-watched")).to_have_text("LiveCleo")


async def test_whoever_goes_live_is_waited_for_and_sound_alone_has_a_calm_picture(
    open_page: OpenPage, server_without_speech: LiveServer, artifacts: Path
) -> None:
    room = new_room()
    ann = await enter(open_page, server_without_speech, room, "Ann")
    ben = await enter(open_page, server_without_speech, room, "Ben", phone=True, dark=True)
    await ben.page.set_viewport_size({"width": 390, "height": 844})
    await ann.tab("Queue")
    await ann.page.get_by_role("button", name="Add whoever goes live").click()
    await expect(note(ben)).to_contain_text("Waiting for the broadcast to begin")
    assert await violations(ben.page) == []
    await go_live(ann, "Microphone")
    calm = ben.page.locator("#live-calm")
    await expect(calm).to_contain_text("Sound only", timeout=BEGINS_MS)
    await expect(calm).to_contain_text("Ann")
    await hear(ben)
    await expect(note(ben)).to_be_hidden()
    await expect(ann.page.locator("#stage")).to_have_attribute("data-mode", "own")
    assert await violations(ben.page) == []
    assert await ben.overflow_px() <= 0
    await ben.page.screenshot(path=artifacts / "live-phone-sound.png")
    await ann.stop()
    await expect(note(ben)).to_contain_text("Ann’s broadcast has ended", timeout=BEGINS_MS)
    await go_live(ann)
    await see(ben)
    assert await ben.overflow_px() <= 0
    await ben.page.screenshot(path=artifacts / "live-phone.png")


async def test_who_may_not_control_watches_what_the_host_put_on(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    room = new_room()
    ann = await enter(open_page, server_without_speech, room, "Ann")
    await ann.tab("People")
    await ann.page.get_by_role("button", name="Room", exact=True).click()
    await ann.page.get_by_label("Members control the playback too").uncheck()
    await ann.page.get_by_role("button", name="Save").click()
    ben = await enter(open_page, server_without_speech, room, "Ben", devices=False)
    await go_live(ann)
    offer = ann.page.locator("#speak").get_by_role("button", name="Let the room watch you live")
    await expect(offer).to_be_visible(timeout=BEGINS_MS)
    assert await ben.page.get_by_role("button", name="Watch Ann live").count() == 0
    await offer.click()
    await see(ben)
    await expect(ben.page.get_by_role("button", name="Next video")).to_be_disabled()


async def test_a_broadcast_waits_behind_a_film_and_the_film_comes_back(
    films: Cinema, open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    room = new_room()
    ann = await enter(open_page, server_without_speech, room, "Ann", foreign=films.host)
    ben = await enter(open_page, server_without_speech, room, "Ben", foreign=films.host)
    await add_film(ben.page, films.url(), "The film")
    await ben.page.get_by_role("button", name="Play for everyone").click()
    await expect_playing(ben)
    await go_live(ann)
    await ben.page.get_by_role("button", name="Add Ann live").click(timeout=BEGINS_MS)
    await expect(ben.page.locator(".queue-title")).to_have_text(["The film", "Ann live"])
    await expect_playing(ben)
    await expect(ben.page.get_by_role("button", name="Add Ann live")).to_have_count(0)

    await ben.page.get_by_role("button", name="Next video").click()
    await see(ben)
    await expect(ben.page.locator("#player")).to_be_hidden()
    await ben.page.wait_for_function("document.getElementById('player').paused")
    await expect(ann.page.locator("#play")).to_be_hidden()

    await ben.page.get_by_role("button", name="Play now: The film").click()
    for visit in (ann, ben):
        await expect_playing(visit)
        await expect(visit.page.locator("#live")).to_be_hidden()
        await expect(visit.page.get_by_role("button", name="Pause for everyone")).to_be_enabled()
        await expect(visit.page.get_by_role("slider", name="Position")).to_be_visible()
    await expect(ben.page.get_by_role("button", name="Watch Ann live")).to_have_count(0)


async def test_where_the_browser_wants_a_click_before_sound_a_tap_brings_it(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    room = new_room()
    ann = await enter(open_page, server_without_speech, room, "Ann")
    await go_live(ann)
    await ann.page.get_by_role("button", name="Let the room watch you live").first.click()
    await expect(ann.page.locator("#stage")).to_have_attribute("data-mode", "own")
    ben = await open_page(
        server_without_speech,
        path=room,
        name="Ben",
        devices=False,
        arguments=ASKS_FOR_A_CLICK,
        before=TELLS_THAT_IT_PLAYS,
    )
    await ben.page.wait_for_event(
        "console", lambda message: message.text == "live plays", timeout=BEGINS_MS
    )
    sound = ben.page.get_by_role("button", name="Tap for sound")
    await expect(sound).to_be_visible()
    assert await ben.page.evaluate("document.getElementById('live').muted")
    await see(ben)
    await sound.click()
    await expect(sound).to_be_hidden()
    found = await hear(ben)
    assert not found["muted"], found
    assert found["volume"] == 1.0, found
    await see(ben)
    await ben.page.get_by_role("button", name="Sound off, for you only").click()
    assert await ben.page.evaluate("document.getElementById('live').muted")
    await expect(sound).to_be_hidden()


@pytest.mark.parametrize("dies", [0, 1], ids=["the broadcaster's", "the viewer's"])
async def test_where_an_instance_dies_the_broadcast_goes_on_when_there_is_one_again(
    valkey_server: ValkeyProcess, servers: Servers, open_page: OpenPage, tmp_path: Path, dies: int
) -> None:
    room = new_room()
    ann = await enter(open_page, servers[0], room, "Ann")
    ben = await enter(open_page, servers[1], room, "Ben")
    (ann, ben)[dies].expect_error("WebSocket connection to|Failed to load resource")
    await go_live(ann)
    await ben.page.locator("#stage").get_by_role("button", name="Watch Ann live").click()
    await see(ben)
    servers[dies].process.kill()
    what = "Connecting to Ann again|Ann’s connection was lost|Ann has left|has ended"
    await expect(note(ben)).to_contain_text(re.compile(what), timeout=BEGINS_MS)
    await expect(ben.page.locator("#live")).to_be_hidden()
    folder = tmp_path / "again"
    folder.mkdir()
    with run_server(
        folder,
        None,
        wait_ready=False,
        redis_url=valkey_server.url,
        database_url=f"sqlite+aiosqlite:///{tmp_path}/shared.db",
        inference_urls="unix:/nonexistent/worker.sock",
        port=servers[dies].url.rpartition(":")[2],
    ):
        await expect(ann.page.locator("#badge-live")).to_be_visible(timeout=60_000)
        await expect(ben.state).to_have_text(
            re.compile("Connected|Captions paused"), timeout=60_000
        )
        await see(ben)
        await hear(ben)


async def test_captions_lie_over_the_broadcast(
    live_server: LiveServer,
    open_page: OpenPage,
    speech_clip: Callable[[str], Clip],
    spoken: Callable[[Clip], Path],
    artifacts: Path,
) -> None:
    room = new_room()
    clip = speech_clip("lj001-0001")
    ann = await enter(open_page, live_server, room, "Ann", audio=spoken(clip))
    ben = await enter(open_page, live_server, room, "Ben")
    await go_live(ann)
    await ben.page.locator("#stage").get_by_role("button", name="Watch Ann live").click()
    await see(ben)
    overlay = ben.page.locator("#overlay")
    await expect(overlay).to_be_visible(timeout=60_000)
    await expect(overlay).to_contain_text(re.compile(r"Ann: \w+ \w+"), timeout=30_000)
    await expect(ben.page.locator("#badge-watched")).to_be_visible()
    await ben.page.screenshot(path=artifacts / "live-captions.png")
