"""MP4 items on the room page: indexes that come last, silent ones, servers that cannot seek."""

import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from benchmarks.streams import Origin, make_file, origin
from mediaserver.rooms.playback import READY_TIMEOUT_S
from tests.browser.conftest import OpenPage, Visit
from tests.browser.test_page_party import add_film, expect_playing, expect_together, position_s
from tests.live import LiveServer

SECONDS = 35.0


@pytest.fixture
async def films(tmp_path: Path) -> AsyncIterator[Origin]:
    make_file(tmp_path / "film.mp4", SECONDS)
    make_file(tmp_path / "silent.mp4", SECONDS, sounds=False)
    (tmp_path / "page.html").write_text("<!doctype html><title>Sign in</title>")
    async with origin(tmp_path) as running:
        yield running


async def play(visit: Visit, url: str, title: str) -> float:
    """Add an item, start it from its beginning; return how many seconds that took."""
    await add_film(visit.page, url, title)
    started = time.monotonic()
    await visit.page.get_by_role("button", name=f"Play now: {title}").click()
    await expect_playing(visit)
    return time.monotonic() - started


async def test_films_of_all_kinds_play_or_say_why_not(
    films: Origin, server_without_speech: LiveServer, open_page: OpenPage
) -> None:
    room = f"/?room=films-{secrets.token_hex(5)}"
    ann = await open_page(server_without_speech, path=room, name="Ann", foreign=films.host)
    await expect(ann.state).to_have_text("Connected")
    ben = await open_page(server_without_speech, path=room, name="Ben", foreign=films.host)
    await expect(ben.state).to_have_text("Connected")
    for visit in (ann, ben):
        visit.expect_error("404|Failed to load resource")

    note = ben.page.locator("#stage-note-text")
    await add_film(ann.page, films.url("nothing.mp4"), "Nothing")
    await expect(note).to_contain_text("its server answers 404")
    await add_film(ann.page, films.url("page.html"), "Page")
    await ann.page.get_by_role("button", name="Play now: Page").click()
    await expect(note).to_contain_text("something else than a video (text/html)")

    took_s = await play(ann, films.url("private/film.mp4"), "The index comes last")
    assert took_s < READY_TIMEOUT_S
    await ann.page.get_by_role("slider", name="Position").fill("25")
    await expect_playing(ben, 25.0)
    await expect_together(ann, ben)
    assert any(path == "private/film.mp4" for path in films.asked), "no CORS is needed"

    await play(ann, films.url("silent.mp4"), "Silent")
    await expect_playing(ben, 1.0)

    await play(ann, films.url("whole/film.mp4"), "Whole")
    await expect_playing(ben, 1.0)
    await ann.page.get_by_role("slider", name="Position").fill("30")
    for visit in (ann, ben):
        drift = visit.page.locator("#drift-text")
        await expect(drift).to_contain_text("lets nobody seek", timeout=40_000)
    before_s = await position_s(ben)
    await expect_playing(ben, before_s + 1.0)
