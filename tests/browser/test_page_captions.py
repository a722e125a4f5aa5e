"""The page hears real speech through the real server and worker, and shows what was said."""

import asyncio
import base64
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.async_api import Download, Page, expect

from tests.browser.conftest import OpenPage, Visit
from tests.live import LiveServer
from tests.speech import Clip, word_error_rate

Spoken = Callable[[Clip], Path]
HEARD_TIMEOUT_S = 120.0
HEARD_TIMEOUT_MS = 1000 * HEARD_TIMEOUT_S
SETTLED_S = 2.0
MOST_WER = 0.15
"""Of two dozen words: three. The figures that matter are measured in tests/integration."""


async def finals(page: Page) -> str:
    """All finished captions of the transcript."""
    texts = await page.locator(".entry[data-final] .said").all_inner_texts()
    return " ".join(" ".join(texts).split())


async def heard_all(visit: Visit, clip: Clip) -> str:
    """Wait until all of the clip must be on the page, final; return the transcript."""
    page = visit.page
    await visit.tab("Captions")
    seen, since = "", time.monotonic()
    deadline = since + HEARD_TIMEOUT_S
    while time.monotonic() < deadline:
        shown = await finals(page)
        open_captions = await page.locator(".entry:not([data-final])").count()
        if shown != seen or open_captions or word_error_rate(clip.text, shown) > MOST_WER:
            seen, since = shown, time.monotonic()
        elif time.monotonic() - since > SETTLED_S:
            return shown
        await page.wait_for_timeout(200)
    raise AssertionError(f"not all was heard in {HEARD_TIMEOUT_S} s: {seen!r}")


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
    await visit.settings()
    await page.get_by_label("Spoken language").select_option("en")
    await page.get_by_role("radio", name="Camera").check()
    await visit.start()
    await visit.tab("Captions")
    await expect(visit.state).to_have_text("Live", timeout=40_000)

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
    await expect(visit.state).to_have_text("Connected", timeout=40_000)
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
    await reader.tab("Captions")
    await speaker.settings()
    await speaker.page.get_by_label("Your name", exact=True).fill("Ann")
    await speaker.page.keyboard.press("Tab")
    await expect(speaker.page.locator("#say")).to_contain_text("You are Ann now")
    await speaker.start()
    await expect(reader.page.locator("#overlay")).to_be_visible(timeout=HEARD_TIMEOUT_MS)
    await expect(reader.page.locator(".entry-who").first).to_have_text("Ann")
    assert await reader.overflow_px() <= 0
    await reader.page.screenshot(path=artifacts / "page-phone-dark.png")
    shown = await heard_all(reader, clip)
    assert word_error_rate(clip.text, shown) <= MOST_WER, shown
    assert await reader.overflow_px() <= 0
    late = await open_page(live_server, path="/?room=browser-two")
    await late.tab("Captions")
    await heard_all(late, clip)
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
    await visit.settings()
    await visit.page.get_by_label("Spoken language").select_option("es")
    await visit.page.get_by_role("radio", name="In English").check()
    await visit.start()
    await visit.tab("Captions")
    said = visit.page.locator(".entry[data-final] .said")
    await expect(said.first).to_be_visible(timeout=HEARD_TIMEOUT_MS)
    await expect(said.first).to_have_attribute("lang", "en")
    async with asyncio.timeout(HEARD_TIMEOUT_S):
        while not {"the", "of", "and", "to"} & set((await finals(visit.page)).lower().split()):
            await asyncio.sleep(0.2)


async def test_a_muted_microphone_sends_no_words(
    open_page: OpenPage, live_server: LiveServer, clip: Clip, spoken: Spoken
) -> None:
    visit = await open_page(live_server, path="/?room=browser-mute", audio=spoken(clip))
    await visit.start()
    await visit.page.get_by_role("button", name="Mute", exact=True).click()
    await expect(visit.state).to_have_text("Live", timeout=40_000)
    await visit.page.wait_for_timeout(8000)
    assert await visit.page.locator(".entry").count() == 0
    await visit.page.get_by_role("button", name="Unmute").click()
    await expect(visit.page.locator("#badge-muted")).to_be_hidden()


async def test_captions_start_again_after_a_stop_in_the_same_session(
    open_page: OpenPage, live_server: LiveServer, clip: Clip, spoken: Spoken
) -> None:
    visit = await open_page(live_server, audio=spoken(clip))
    await visit.start()
    await expect(visit.state).to_have_text("Live", timeout=40_000)
    await visit.stop()
    await expect(visit.state).to_have_text("Connected", timeout=40_000)
    await visit.settings()
    await visit.page.get_by_label("Spoken language").select_option("en")
    await visit.start()
    shown = await heard_all(visit, clip)
    assert word_error_rate(clip.text, shown) <= MOST_WER, shown
    assert len([line for line in live_server.log.splitlines() if "peer.closed" in line]) >= 1


async def test_a_shared_tab_is_captioned_and_the_browsers_own_stop_button_ends_it(
    open_page: OpenPage, live_server: LiveServer, clip: Clip, spoken: Spoken
) -> None:
    title = "The tab with the speech"
    visit = await open_page(
        live_server,
        devices=False,
        allow=False,
        arguments=(f"--auto-select-tab-capture-source-by-title={title}",),
    )
    tab = await visit.page.context.new_page()
    await tab.set_content(f"<title>{title}</title><audio controls></audio>")
    sound = base64.b64encode(spoken(clip).read_bytes()).decode()
    await tab.evaluate(
        """(sound) => {
        document.querySelector("audio").src = `data:audio/wav;base64,${sound}`;
    }""",
        sound,
    )
    await visit.page.bring_to_front()
    await visit.settings()
    await visit.page.get_by_role("radio", name="Share a tab").check()
    await visit.page.get_by_label("Spoken language").select_option("en")
    await visit.start()
    await expect(visit.state).to_have_text("Live", timeout=40_000)
    await tab.evaluate("document.querySelector('audio').play()")
    shown = await heard_all(visit, clip)
    assert word_error_rate(clip.text, shown) <= MOST_WER, shown
    await tab.close()
    await expect(visit.page.locator("#start-text")).to_have_text("Start captions", timeout=40_000)
    await expect(visit.state).to_have_text("Connected")
