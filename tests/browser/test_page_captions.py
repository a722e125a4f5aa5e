"""The page hears real speech through the real server and worker, and shows what was said."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.async_api import Download, Page, expect

from tests.browser.conftest import OpenPage, Visit
from tests.live import LiveServer
from tests.speech import Clip, word_error_rate

Spoken = Callable[[Clip], Path]
HEARD_TIMEOUT_MS = 60_000
MOST_WER = 0.12


async def finals(page: Page) -> str:
    """All finished captions of the transcript."""
    texts = await page.locator(".entry[data-final] .said").all_inner_texts()
    return " ".join(" ".join(texts).split())


async def heard_all(visit: Visit, clip: Clip) -> str:
    """Wait until the clip's last words are final on the page; return all of the transcript."""
    last = clip.text.split()[-1].strip(".,;:!?\"'").lower()
    await expect(visit.page.locator(".entry[data-final]").last).to_contain_text(
        re.compile(re.escape(last), re.IGNORECASE), timeout=HEARD_TIMEOUT_MS
    )
    return await finals(visit.page)


async def saved(page: Page, label: str) -> tuple[Download, str]:
    """Download the transcript in one format."""
    await page.get_by_role("button", name="Download", exact=True).click()
    async with page.expect_download() as pending:
        await page.get_by_role("button", name=label).click()
    download = await pending.value
    return download, Path(await download.path()).read_text(encoding="utf-8")


@pytest.fixture
def clip(speech_clip: Callable[[str], Clip]) -> Clip:
    return speech_clip("lj001-0001")


async def test_the_page_shows_what_is_said_and_gives_it_as_files(
    open_page: OpenPage, live_server: LiveServer, clip: Clip, spoken: Spoken, artifacts: Path
) -> None:
    visit = await open_page(live_server, path="/?room=browser-words", audio=spoken(clip))
    page = visit.page
    await page.get_by_label("Spoken language").select_option("en")
    await page.get_by_role("radio", name="Camera").check()
    await visit.start()
    await expect(visit.state).to_have_text("Live", timeout=15_000)

    tentative = page.locator(".entry .tentative")
    await expect(tentative.first).to_be_visible(timeout=HEARD_TIMEOUT_MS)
    style = await tentative.first.evaluate(
        "(element) => { const style = getComputedStyle(element);"
        " return [style.fontStyle, style.textDecorationStyle]; }"
    )
    assert style == ["italic", "dotted"], "partials look different without colour too"
    await expect(page.locator("#overlay")).to_be_visible()
    await page.screenshot(path=artifacts / "page-live.png")

    shown = await heard_all(visit, clip)
    assert word_error_rate(clip.text, shown) <= MOST_WER, shown
    told = await page.locator("#spoken").inner_text()
    assert word_error_rate(clip.text, told.replace("guest: ", "")) <= MOST_WER, told
    await expect(page.locator("#figure-delay")).to_have_text(re.compile(r"\d\.\d s"))
    await expect(page.locator("#figure-rate")).to_have_text(re.compile(r"[1-9]\d* kbit/s"))

    await visit.stop()
    await expect(visit.state).to_have_text("Connected", timeout=20_000)
    download, vtt = await saved(page, "WebVTT")
    assert download.suggested_filename == "captions-browser-words.vtt"
    assert vtt.startswith("WEBVTT")
    assert re.search(r"^\d\d:\d\d:\d\d\.\d{3} --> ", vtt, re.MULTILINE)
    _, srt = await saved(page, "SubRip")
    assert re.match(r"1\n\d\d:\d\d:\d\d,\d{3} --> ", srt)
    _, text = await saved(page, "Text")
    assert clip.wer(re.sub(r"^\[[\d:.]+\]|^\w+: ", "", text, flags=re.MULTILINE)) <= MOST_WER + 0.1
    _, document = await saved(page, "JSON")
    assert json.loads(document)
    assert await page.locator(".notice").count() == 0


async def test_others_in_the_room_read_along_and_see_who_speaks(
    open_page: OpenPage, live_server: LiveServer, clip: Clip, spoken: Spoken, artifacts: Path
) -> None:
    reader = await open_page(live_server, path="/?room=browser-two", phone=True, dark=True)
    speaker = await open_page(live_server, path="/?room=browser-two", audio=spoken(clip))
    await speaker.page.get_by_label("Your name").fill("Ann")
    await speaker.page.keyboard.press("Tab")
    await expect(speaker.page.locator("#say")).to_have_text("You are Ann now")
    await speaker.start()
    await expect(reader.page.locator("#overlay")).to_be_visible(timeout=HEARD_TIMEOUT_MS)
    await expect(reader.page.locator(".entry-who").first).to_have_text("Ann")
    assert await reader.overflow_px() <= 0
    await reader.page.screenshot(path=artifacts / "page-phone-dark.png")
    shown = await heard_all(reader, clip)
    assert word_error_rate(clip.text, shown) <= MOST_WER, shown
    assert await reader.overflow_px() <= 0
    late = await open_page(live_server, path="/?room=browser-two")
    await expect(late.page.locator(".entry")).not_to_have_count(0)
    assert word_error_rate(clip.text, await finals(late.page)) <= MOST_WER
    times = [
        await visit.page.locator(".entry time").first.get_attribute("datetime")
        for visit in (reader, late)
    ]
    assert times[0] == times[1], "who comes late sees when it was said"


async def test_speech_in_spanish_is_shown_in_english_where_that_is_wanted(
    open_page: OpenPage,
    live_server: LiveServer,
    speech_clip: Callable[[str], Clip],
    spoken: Spoken,
) -> None:
    clip = speech_clip("captain-veneno.es")
    visit = await open_page(live_server, path="/?room=browser-spanish", audio=spoken(clip))
    await visit.page.get_by_label("Spoken language").select_option("es")
    await visit.page.get_by_role("radio", name="In English").check()
    await visit.start()
    said = visit.page.locator(".entry[data-final] .said")
    await expect(said.first).to_be_visible(timeout=HEARD_TIMEOUT_MS)
    await expect(said.first).to_have_attribute("lang", "en")
    words = set((await finals(visit.page)).lower().split())
    assert words & {"the", "of", "and", "to"}, words


async def test_a_muted_microphone_sends_no_words(
    open_page: OpenPage, live_server: LiveServer, clip: Clip, spoken: Spoken
) -> None:
    visit = await open_page(live_server, path="/?room=browser-mute", audio=spoken(clip))
    await visit.start()
    await visit.page.get_by_role("button", name="Mute", exact=True).click()
    await expect(visit.state).to_have_text("Live", timeout=15_000)
    await visit.page.wait_for_timeout(8000)
    assert await visit.page.locator(".entry").count() == 0
    await visit.page.get_by_role("button", name="Unmute").click()
    await expect(visit.page.locator("#badge-muted")).to_be_hidden()
