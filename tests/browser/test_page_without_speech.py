"""The page where things are missing: the microphone, the speech worker, the key, HTTPS, a name."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.async_api import expect

from tests.browser.conftest import NO_SPEECH, OpenPage
from tests.live import LiveServer

KEY = "a-key-of-more-than-sixteen-characters"
NETWORK_ERRORS = r"WebSocket connection to|Failed to load resource"


def refusing(name: str) -> str:
    """Make every getUserMedia fail as browsers do; a machine without this fault cannot show it."""
    return (
        "navigator.mediaDevices.getUserMedia = () => "
        f"Promise.reject(new DOMException('the browser says so', '{name}'));"
    )


async def test_a_refused_microphone_is_explained_and_can_be_tried_again(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    visit = await open_page(server_without_speech, allow=False)
    await expect(visit.state).to_have_text("Connected")
    await visit.start()
    alert = visit.page.get_by_role("alert")
    await expect(alert).to_contain_text("The microphone is not allowed")
    await expect(alert).to_contain_text("Allow the microphone for this page")
    await expect(alert.get_by_role("button", name="Try again")).to_be_visible()
    await expect(visit.page.get_by_role("button", name="Start captions")).to_be_enabled()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("NotFoundError", "No microphone was found"),
        ("NotReadableError", "Another program may be using it"),
        ("AbortError", "The microphone cannot be used"),
    ],
)
async def test_a_missing_or_busy_microphone_is_explained(
    open_page: OpenPage, server_without_speech: LiveServer, error: str, message: str
) -> None:
    visit = await open_page(server_without_speech, before=refusing(error))
    await visit.start()
    await expect(visit.page.get_by_role("alert")).to_contain_text(message)


async def test_without_a_camera_captions_go_on_with_the_microphone(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    no_camera = """
        const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = (wanted) => wanted.video
            ? Promise.reject(new DOMException('no camera', 'NotFoundError')) : open(wanted);
    """
    visit = await open_page(server_without_speech, before=no_camera)
    await visit.settings()
    await visit.page.get_by_role("radio", name="Camera").check()
    await visit.start()
    await expect(visit.page.locator(".notice[data-key=camera]")).to_contain_text(
        "Captions go on with the microphone alone."
    )
    await expect(visit.page.get_by_role("button", name="Stop captions")).to_be_visible()


async def test_an_insecure_page_says_why_there_is_no_microphone_and_still_shows_captions(
    open_page: OpenPage, start_server: Callable[..., LiveServer]
) -> None:
    server = start_server(**NO_SPEECH, allowed_hosts="captions.test")
    port = server.url.rpartition(":")[2]
    visit = await open_page(
        server,
        origin=f"http://captions.test:{port}",
        arguments=("--host-resolver-rules=MAP captions.test 127.0.0.1",),
    )
    visit.expect_error("Cross-Origin-Opener-Policy header has been ignored")
    await expect(visit.page.locator(".notice")).to_contain_text("needs a secure page")
    await expect(visit.page.get_by_role("button", name="Start captions")).to_be_disabled()
    await expect(visit.state).to_have_text("Connected")


async def test_a_missing_speech_worker_is_told_to_who_speaks(
    open_page: OpenPage, server_without_speech: LiveServer, artifacts: Path
) -> None:
    visit = await open_page(server_without_speech)
    await visit.start()
    notice = visit.page.locator(".notice[data-key=status], .notice[data-key=media]")
    await expect(notice.first).to_be_visible(timeout=40_000)
    text = await notice.first.inner_text()
    assert re.search(r"speech|captions", text, re.IGNORECASE), text
    await visit.page.screenshot(path=artifacts / "page-no-speech-worker.png")


async def test_the_page_asks_for_the_key_and_keeps_it_for_the_tab(
    open_page: OpenPage, start_server: Callable[..., LiveServer]
) -> None:
    server = start_server(**NO_SPEECH, api_key=KEY)
    visit = await open_page(server)
    visit.expect_error(NETWORK_ERRORS)
    dialog = visit.page.get_by_role("dialog", name="Sign in")
    await expect(dialog).to_be_visible()
    await dialog.get_by_role("radio", name="API key").check()
    await dialog.get_by_role("textbox", name="API key").fill("not-the-key-at-all-no")
    await dialog.get_by_role("button", name="Sign in").click()
    await expect(dialog.get_by_role("alert")).to_have_text("That was not accepted.")
    await dialog.get_by_role("textbox", name="API key").fill(KEY)
    await visit.page.keyboard.press("Enter")
    await expect(dialog).to_be_hidden()
    await expect(visit.state).to_have_text("Connected")
    await visit.page.reload()
    await expect(visit.state).to_have_text("Connected")
    assert KEY not in visit.page.url


async def test_the_key_dialog_can_be_put_away_and_called_back(
    open_page: OpenPage, start_server: Callable[..., LiveServer]
) -> None:
    server = start_server(**NO_SPEECH, api_key=KEY)
    visit = await open_page(server)
    visit.expect_error(NETWORK_ERRORS)
    dialog = visit.page.get_by_role("dialog", name="Sign in")
    await expect(dialog).to_be_visible()
    await visit.page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(visit.state).to_have_text("Not connected")
    await visit.page.locator(".notice").get_by_role("button", name="Sign in").click()
    await expect(dialog).to_be_visible()


async def test_without_a_room_in_the_address_the_rooms_are_shown(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    visit = await open_page(server_without_speech, path="/")
    await expect(visit.page.get_by_role("heading", name="Rooms", exact=True)).to_be_visible()
    await expect(visit.page.get_by_label("Your name, as others see it")).to_have_value("guest")
    await visit.page.locator("#create-name").fill("Film night")
    await visit.page.get_by_role("button", name="Create and join").click()
    await expect(visit.state).to_have_text("Connected")
    assert re.search(r"\?room=room_[a-z0-9]+$", visit.page.url), visit.page.url
    await expect(visit.page.locator("#room-name")).to_have_text("Film night")


async def test_a_room_name_that_no_room_can_have_is_made_one(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    visit = await open_page(server_without_speech, path="/?room=../team%20call!")
    await expect(visit.page.locator("#room-name")).to_have_text("team-call-")
    await expect(visit.state).to_have_text("Connected")


async def test_what_people_write_is_shown_as_text(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    ann = await open_page(server_without_speech)
    ben = await open_page(server_without_speech)
    await expect(ben.state).to_have_text("Connected")
    await ben.tab("People")
    await ann.settings()
    await ann.page.get_by_label("Your name", exact=True).fill("<i>Ann</i>")
    await ann.page.keyboard.press("Tab")
    await expect(ann.page.locator("#say")).to_contain_text("You are <i>Ann</i> now")
    await ann.page.get_by_role("tab", name="Chat").click()
    await ann.page.get_by_label("Message to the room").fill("<img src=x onerror=alert(1)>")
    await ann.page.keyboard.press("Enter")
    await expect(ann.page.locator(".chat[data-own] .chat-text")).to_have_text(
        "<img src=x onerror=alert(1)>"
    )
    await expect(ben.page.locator("#unread")).to_contain_text("1")
    await ben.tab("Chat")
    message = ben.page.locator(".chat")
    await expect(message.locator(".chat-name")).to_have_text("<i>Ann</i>")
    await expect(message.locator(".chat-text")).to_have_text("<img src=x onerror=alert(1)>")
    assert await ben.page.locator("#chats img, #chats i").count() == 0


async def test_the_rooms_address_can_be_copied(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    page = (await open_page(server_without_speech)).page
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.get_by_role("button", name="Invite", exact=True).click()
    await page.get_by_role("button", name="Copy address").click()
    await expect(page.locator("#say")).to_contain_text("Link copied")
    assert await page.evaluate("navigator.clipboard.readText()") == page.url


async def test_a_silent_microphone_is_noticed(
    open_page: OpenPage, server_without_speech: LiveServer, tmp_path: Path
) -> None:
    silence = tmp_path / "silence.wav"
    soundfile.write(silence, np.zeros(16_000), 16_000, subtype="PCM_16")
    visit = await open_page(server_without_speech, audio=silence)
    await visit.start()
    notice = visit.page.locator(".notice[data-key=silence]")
    await expect(notice).to_contain_text("No sound comes from the microphone", timeout=40_000)
    await visit.page.get_by_role("button", name="Mute", exact=True).click()
    await expect(notice).to_be_hidden()
