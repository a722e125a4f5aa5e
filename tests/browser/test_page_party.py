"""Watch parties on the page: two browsers in one room, as people use it."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Page, expect

from benchmarks.films import Cinema, cinema, make_film
from tests.browser.conftest import NO_SPEECH, OpenPage, Visit
from tests.browser.test_page_access import TOUCH_PX, violations
from tests.live import LiveServer

FILM_S = 60.0
SCHEMES: tuple[Literal["dark"], Literal["light"]] = ("dark", "light")
MARKUP = "<img src=x onerror=alert(1)>"
TOGETHER_S = 0.25
"""How far apart two pages may be that are read one after the other."""
TOGETHER_WITHIN_S = 20.0


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("films") / "film.mp4", FILM_S)


@pytest.fixture
async def films(film: Path) -> AsyncIterator[Cinema]:
    async with cinema(film, FILM_S) as running:
        yield running


def new_room() -> str:
    return f"/?room=party-{secrets.token_hex(5)}"


async def write(page: Page, text: str) -> None:
    """Write into the chat and wait until the server has it."""
    await page.get_by_label("Message to the room").fill(text)
    await page.keyboard.press("Enter")
    await expect(page.locator(".chat").last).to_contain_text(text)


async def act(page: Page, person: str, what: str) -> None:
    """Choose from a person's menu."""
    await page.get_by_role("button", name=f"Actions for {person}").click()
    await page.get_by_role("menuitem", name=what).click()


async def add_film(page: Page, url: str, title: str) -> None:
    await page.get_by_role("tab", name="Queue").click()
    await page.get_by_label("Address of a video").fill(url)
    await page.get_by_label("Title, if you like").fill(title)
    await page.get_by_role("button", name="Add", exact=True).click()
    await expect(page.locator(".queue-title", has_text=title)).to_be_visible()


async def invitation(visit: Visit, role: str = "member") -> str:
    """Make an invitation link; return it from the path on."""
    page = visit.page
    await page.get_by_role("button", name="Invite", exact=True).click()
    await page.get_by_label("They come as").select_option(role)
    await page.get_by_role("button", name="Make a link").click()
    link = page.get_by_label("Whoever has this link")
    await expect(link).to_have_value(re.compile("#room=.*invitation="))
    await page.get_by_role("button", name="Done").click()
    return (await link.input_value()).removeprefix(visit.server.url)


async def position_s(visit: Visit) -> float:
    at: float = await visit.page.evaluate("document.getElementById('player').currentTime")
    return at


async def expect_playing(visit: Visit, from_s: float = 0.5) -> None:
    await visit.page.wait_for_function(
        "(from) => { const v = document.getElementById('player');"
        " return !v.paused && v.currentTime > from; }",
        arg=from_s,
        timeout=40_000,
    )


async def expect_together(one: Visit, other: Visit) -> None:
    """Both pages say that they are in sync, and their pictures are at about the same place."""
    for visit in (one, other):
        await expect(visit.page.locator("#drift-text")).to_have_text(
            re.compile(r"In sync, \d+ ms"), timeout=40_000
        )
    async with asyncio.timeout(TOGETHER_WITHIN_S):
        while True:
            before, at, after = [await position_s(visit) for visit in (one, other, one)]
            if before - TOGETHER_S < at < after + TOGETHER_S:
                return
            await asyncio.sleep(0.1)


async def two(
    open_page: OpenPage, server: LiveServer, films: Cinema | None = None, *, phone: bool = False
) -> tuple[Visit, Visit]:
    """Ann, who is host, and Ben, in a new room."""
    room, foreign = new_room(), films.host if films else ""
    ann = await open_page(server, path=room, name="Ann", foreign=foreign)
    await expect(ann.state).to_have_text("Connected")
    ben = await open_page(server, path=room, name="Ben", foreign=foreign, phone=phone)
    await expect(ben.state).to_have_text("Connected")
    return ann, ben


async def test_a_room_is_made_listed_and_joined_by_an_invitation(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    title = f"Film <b>night</b> {secrets.token_hex(4)}"
    ann = await open_page(server_without_speech, path="/", name=None)
    await ann.page.get_by_label("Title", exact=True).locator("visible=true").fill(title)
    await ann.page.get_by_role("button", name="Create and join").click()
    await expect(ann.page.get_by_role("alert").first).to_have_text("Say who you are first.")
    await ann.page.get_by_label("Your name, as others see it").fill("Ann")
    await ann.page.get_by_role("button", name="Create and join").click()
    await expect(ann.state).to_have_text("Connected")
    await expect(ann.page.locator("#room-name")).to_have_text(title)

    other = await open_page(server_without_speech, path="/", name="Ben")
    row = other.page.locator(".room-row", has_text=title)
    await expect(row).to_contain_text("1 person")
    await row.get_by_role("button", name="Join").click()
    await expect(other.state).to_have_text("Connected")

    path = await invitation(ann, "listener")
    guest = await open_page(server_without_speech, path=path, name=None)
    await expect(guest.page.get_by_role("heading", name="You are invited")).to_be_visible()
    await guest.page.get_by_label("Your name, as others see it").fill("Cleo")
    await guest.page.get_by_role("button", name="Join", exact=True).click()
    await expect(guest.state).to_have_text("Connected")
    assert "invitation" not in guest.page.url, "the token does not stay in the address"
    await expect(guest.page.get_by_label("Message to the room")).to_be_disabled()
    await expect(guest.page.locator("#chat-limit")).to_contain_text("Listeners read and react")
    await guest.page.reload()
    await expect(guest.state).to_have_text("Connected")
    await guest.tab("People")
    await expect(guest.page.locator(".person", has_text="Cleo")).to_contain_text("Listener")
    await expect(guest.page.locator(".person")).to_have_count(3)


async def test_chat_with_answers_mentions_reactions_changes_and_deletions(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    ann, ben = await two(open_page, server_without_speech)
    await write(ann.page, "Shall we start?")
    message = ben.page.locator(".chat", has_text="Shall we start?").first
    await message.hover()
    await message.get_by_role("button", name="Actions for the message").click()
    await ben.page.get_by_role("menuitem", name="Reply").click()
    await expect(ben.page.locator("#chat-context-text")).to_have_text(
        "Answer to Ann: Shall we start?"
    )
    await ben.page.keyboard.type("Yes @An")
    await expect(ann.page.locator("#typing")).to_have_text("Ben is writing…")
    await expect(ben.page.get_by_role("option", name="Ann", exact=True)).to_be_visible()
    await ben.page.keyboard.press("Enter")
    await expect(ben.page.get_by_label("Message to the room")).to_have_value("Yes @Ann ")
    await ben.page.keyboard.press("Enter")

    answer = ann.page.locator(".chat").last
    await expect(answer.locator(".chat-quote")).to_contain_text("Shall we start?")
    await expect(answer.locator(".mention")).to_have_text("@Ann")
    await expect(answer).to_have_attribute("data-for-me", "")
    await expect(ann.page.locator("#typing")).to_have_text("")
    await answer.hover()
    await answer.get_by_role("button", name="Actions for the message").click()
    await ann.page.get_by_role("menuitem", name="Love").click()
    await expect(ben.page.locator(".chat").last.locator(".reaction")).to_contain_text("1")
    await ben.page.locator(".chat").last.locator(".reaction").click()
    await expect(answer.locator(".reaction")).to_contain_text("2")

    own = ann.page.locator(".chat").first
    await own.hover()
    await own.get_by_role("button", name="Actions for the message").click()
    await ann.page.get_by_role("menuitem", name="Edit").click()
    await ann.page.get_by_label("Message to the room").fill("Shall we start now?")
    await ann.page.keyboard.press("Enter")
    await expect(ben.page.locator(".chat").first).to_contain_text("Shall we start now? (edited)")
    await expect(answer.locator(".chat-quote")).to_contain_text("Shall we start now?")
    await own.hover()
    await own.get_by_role("button", name="Actions for the message").click()
    await ann.page.get_by_role("menuitem", name="Delete").click()
    await ann.page.get_by_role("button", name="Delete", exact=True).click()
    await expect(ben.page.locator(".chat")).to_have_count(1)
    await expect(ben.page.locator(".chat-quote")).to_contain_text("A message that is gone")
    await ben.page.reload()
    await expect(ben.page.locator(".chat .reaction")).to_contain_text("2")


async def test_markup_in_names_titles_and_messages_is_shown_as_text(
    open_page: OpenPage, server_without_speech: LiveServer, films: Cinema
) -> None:
    room = new_room()
    ann = await open_page(server_without_speech, path=room, name=MARKUP, foreign=films.host)
    await expect(ann.state).to_have_text("Connected")
    ben = await open_page(server_without_speech, path=room, name="Ben", foreign=films.host)
    await expect(ben.state).to_have_text("Connected")
    await write(ann.page, MARKUP)
    await add_film(ann.page, films.url(), MARKUP)
    await ann.page.locator("#reactbar button").first.click()
    page = ben.page
    await expect(page.locator(".float-name")).to_have_text(MARKUP)
    await expect(page.locator(".chat-name")).to_have_text(MARKUP)
    await expect(page.locator(".chat-text")).to_have_text(MARKUP)
    await ben.tab("People")
    await expect(page.locator(".person-name").first).to_have_text(MARKUP)
    await ben.tab("Queue")
    await expect(page.locator(".queue-title")).to_have_text(MARKUP)
    assert await page.locator("#room-screen img, #room-screen i").count() == 0


async def test_play_seek_and_pause_are_followed_late_comers_land_and_a_reload_comes_back(
    open_page: OpenPage, server_without_speech: LiveServer, films: Cinema, artifacts: Path
) -> None:
    ann, ben = await two(open_page, server_without_speech, films)
    await add_film(ann.page, films.url(), "The film")
    await expect(ben.page.locator("#time-all")).to_have_text("1:00", timeout=40_000)
    await ben.page.get_by_role("button", name="Play for everyone").click()
    await expect_playing(ann)
    await expect_playing(ben)
    await expect_together(ann, ben)
    await ann.page.screenshot(path=artifacts / "party.png")

    await ann.page.get_by_role("slider", name="Position").fill("30")
    await expect_playing(ben, 30.0)
    await expect_playing(ann, 30.0)
    await expect_together(ann, ben)
    room = ann.page.url.removeprefix(server_without_speech.url)
    late = await open_page(server_without_speech, path=room, name="Cleo", foreign=films.host)
    await expect_playing(late, 30.0)
    await expect_together(ann, late)

    await ben.tab("People")
    await expect(ben.page.locator(".person")).to_have_count(3)
    await ben.page.reload()
    await expect_playing(ben, 30.0)
    await expect_together(ann, ben)
    await ben.tab("People")
    await expect(ben.page.locator(".person")).to_have_count(3)
    await ben.page.get_by_role("button", name="Resync").click()
    await expect_together(ann, ben)

    await ann.page.get_by_role("button", name="Pause for everyone").click()
    for visit in (ben, late):
        await expect(visit.page.locator("#drift-text")).to_have_text("Paused")
        await expect(visit.page.get_by_role("button", name="Play for everyone")).to_be_visible()
    async with asyncio.timeout(TOGETHER_WITHIN_S):
        while True:
            places = [await position_s(visit) for visit in (ann, ben, late)]
            if max(places) - min(places) <= 0.1:
                break
            await asyncio.sleep(0.1)


async def test_the_queue_is_ordered_played_and_emptied_by_those_who_may(
    open_page: OpenPage, server_without_speech: LiveServer, films: Cinema
) -> None:
    ann, ben = await two(open_page, server_without_speech, films)
    for name in ("One", "Two", "Three"):
        await add_film(ann.page, films.url(f"{name.lower()}.mp4"), name)
    await ben.tab("Queue")
    titles = ben.page.locator(".queue-title")
    await expect(titles).to_have_text(["One", "Two", "Three"])
    await ben.page.get_by_role("button", name="Move up: Three").click()
    await expect(ann.page.locator(".queue-title")).to_have_text(["One", "Three", "Two"])
    await expect(ben.page.get_by_role("button", name="Move up: Three")).to_be_focused()
    await ben.page.get_by_role("button", name="Play now: Three").click()
    await expect(ann.page.locator("[aria-current] .queue-title")).to_have_text("Three")
    await expect_playing(ann)
    await ann.page.get_by_role("button", name="Next video").click()
    await expect(ben.page.locator("[aria-current] .queue-title")).to_have_text("Two")
    await ann.page.get_by_role("button", name="Remove: One").click()
    await expect(titles).to_have_text(["Three", "Two"])

    await ann.tab("People")
    await ann.page.get_by_role("button", name="Room", exact=True).click()
    await ann.page.get_by_label("Members control the playback too").uncheck()
    await ann.page.get_by_role("button", name="Save").click()
    await expect(ben.page.locator("#queue-locked")).to_be_visible()
    await expect(ben.page.get_by_role("button", name="Pause for everyone")).to_be_disabled()
    assert await ben.page.get_by_role("button", name="Remove: Two").count() == 0


async def test_a_video_that_cannot_be_played_says_so(
    open_page: OpenPage, server_without_speech: LiveServer, films: Cinema
) -> None:
    visit = await open_page(server_without_speech, path=new_room(), foreign=films.host)
    visit.expect_error("Failed to load resource|404|CORS")
    await expect(visit.state).to_have_text("Connected")
    await add_film(visit.page, films.url("nothing.webm"), "Nothing")
    note = visit.page.locator("#stage-note")
    await expect(note).to_contain_text("This video cannot be played", timeout=40_000)
    await expect(note.get_by_role("button", name="Try again")).to_be_visible()
    assert await violations(visit.page) == []


async def test_where_the_browser_refuses_to_play_a_click_joins_the_playback(
    open_page: OpenPage, server_without_speech: LiveServer, films: Cinema
) -> None:
    ann, _ = await two(open_page, server_without_speech, films)
    await add_film(ann.page, films.url(), "The film")
    await ann.page.get_by_role("button", name="Play for everyone").click()
    await expect_playing(ann)
    refusing = """
        const play = HTMLMediaElement.prototype.play;
        let asked = false;
        addEventListener("click", () => (asked = true), true);
        HTMLMediaElement.prototype.play = function () {
            return asked ? play.call(this)
                : Promise.reject(new DOMException("no gesture", "NotAllowedError"));
        };
    """
    room = ann.page.url.removeprefix(server_without_speech.url)
    late = await open_page(
        server_without_speech, path=room, name="Cleo", foreign=films.host, before=refusing
    )
    await late.page.get_by_role("button", name="Click to join the playback").click(timeout=40_000)
    await expect_playing(late)
    await expect_together(ann, late)


async def test_hosts_mute_slow_down_send_away_and_hand_over(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    ann, ben = await two(open_page, server_without_speech)
    await ann.tab("People")
    await act(ann.page, "Ben", "Mute in the chat")
    await expect(ben.page.locator("#chat-limit")).to_contain_text("A host has muted you")
    await expect(ben.page.get_by_label("Message to the room")).to_be_disabled()
    await act(ann.page, "Ben", "Let write again")
    await ben.start()
    await expect(ben.page.get_by_role("button", name="Stop captions")).to_be_visible()
    await act(ann.page, "Ben", "Mute microphone")
    await expect(ben.page.locator("#dock-hint")).to_have_text("A host has muted your microphone.")
    await expect(ben.page.get_by_role("button", name="Start captions")).to_be_disabled()
    await expect(ben.page.locator(".notice[data-key=capture]")).to_contain_text(
        "not heard any more"
    )
    await expect(ben.page.get_by_label("Message to the room")).to_be_enabled()

    await ann.page.get_by_role("button", name="Room", exact=True).click()
    await ann.page.get_by_label("Slow mode").select_option("30")
    await ann.page.get_by_role("button", name="Save").click()
    await expect(ben.page.locator("#chat-limit")).to_have_text("Slow mode: one message every 30 s.")
    await write(ben.page, "once")
    await expect(ben.page.locator("#chat-limit")).to_contain_text("you can write again in")
    await expect(ben.page.get_by_role("button", name="Send", exact=True)).to_be_disabled()

    await act(ann.page, "Ben", "Send away")
    await expect(ann.page.get_by_role("dialog", name="Send Ben away?")).to_be_visible()
    await ann.page.get_by_role("button", name="Send away", exact=True).click()
    await expect(ben.page.locator(".notice[data-key=connection]")).to_contain_text("sent away")
    await expect(ben.state).to_have_text("Not connected")
    await ben.page.get_by_role("button", name="Connect again").click()
    await expect(ben.state).to_have_text("Connected")

    await act(ann.page, "Ben", "Hand the room over")
    await ann.page.get_by_role("button", name="Hand over").click()
    await expect(ann.page.locator(".person", has_text="Ann")).to_contain_text("Co-host")
    await ben.tab("People")
    await expect(ben.page.get_by_role("button", name="Room", exact=True)).to_be_visible()


@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
async def test_axe_finds_nothing_on_the_new_screens_and_nothing_scrolls_sideways(
    open_page: OpenPage,
    server_without_speech: LiveServer,
    films: Cinema,
    phone: bool,
    artifacts: Path,
) -> None:
    visit = await open_page(server_without_speech, path="/", phone=phone, foreign=films.host)
    page = visit.page
    await expect(page.locator("#rooms-title")).to_be_visible()
    assert await violations(page) == []
    assert await visit.overflow_px() <= 0
    await page.get_by_role("button", name="Create and join").click()
    await expect(visit.state).to_have_text("Connected")
    await write(page, "Hello, a" + "a" * 60)
    await visit.tab("Queue")
    await page.get_by_label("Address of a video").fill(films.url())
    await page.keyboard.press("Enter")
    await expect(page.locator("#playbar")).to_be_visible()
    for tab in ("Queue", "People", "Captions", "Chat"):
        await visit.tab(tab)
        for colours in SCHEMES:
            await page.emulate_media(color_scheme=colours, reduced_motion="reduce")
            assert await violations(page) == [], (tab, colours)
        assert await visit.overflow_px() <= 0, tab
        small = await page.evaluate(
            """(least) => [...document.querySelectorAll("button, select, textarea, summary")]
                .filter((element) => element.checkVisibility())
                .filter((element) => !element.matches(".reaction, .chat-quote"))
                .map((element) => [element, element.getBoundingClientRect()])
                .filter(([, box]) => Math.min(box.width, box.height) < least)
                .map(([element, box]) => `${element.id} ${box.width} x ${box.height}`)""",
            TOUCH_PX - 0.5,
        )
        assert small == [], tab
    await page.screenshot(path=artifacts / f"party-{'phone' if phone else 'desktop'}.png")
    await page.get_by_role("button", name="Invite", exact=True).click()
    await page.get_by_role("button", name="Make a link").click()
    await expect(page.get_by_label("Whoever has this link")).to_be_visible()
    assert await violations(page) == []


async def test_the_party_is_worked_by_keyboard(
    open_page: OpenPage, server_without_speech: LiveServer, films: Cinema
) -> None:
    ann, ben = await two(open_page, server_without_speech, films)
    page = ann.page
    await page.locator("#tab-chat").focus()
    await page.keyboard.press("ArrowLeft")
    await page.keyboard.press("ArrowLeft")
    await expect(page.get_by_role("tab", name="Queue")).to_be_focused()
    await page.get_by_label("Address of a video").focus()
    await page.keyboard.type(films.url())
    await page.keyboard.press("Enter")
    await expect(page.locator(".queue-row")).to_have_count(1)
    await page.get_by_role("button", name="Play for everyone").focus()
    await page.keyboard.press("Enter")
    await expect_playing(ben)
    await page.get_by_role("slider", name="Position").focus()
    for _ in range(4):
        await page.keyboard.press("ArrowRight")
    await expect_playing(ben, 20.0)
    await page.locator("#tab-people").focus()
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Actions for Ben").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("menuitem", name="Hand the room over")).to_be_focused()
    await page.keyboard.press("End")
    await expect(page.get_by_role("menuitem", name="Ban…")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="Actions for Ben")).to_be_focused()


PASSWORD = "a new password of one's own"


async def test_a_guarded_server_is_entered_by_account_and_the_one_time_password_is_changed(
    open_page: OpenPage, start_server: Callable[..., LiveServer]
) -> None:
    server = start_server(**NO_SPEECH, access="guarded")
    told = (server.log_path.parent / "server.out").read_text()
    found = re.search(r"log in as '(\w+)' with the one-time password (\S+)", told)
    assert found, told
    visit = await open_page(server, path="/", name="Ada")
    visit.expect_error(r"Failed to load resource|WebSocket connection to")
    page = visit.page
    await expect(page.locator("#rooms-locked")).to_be_visible()
    await page.locator("#rooms-sign-in").click()
    dialog = page.get_by_role("dialog", name="Sign in")
    await dialog.get_by_label("User name").fill(found.group(1))
    await dialog.get_by_label("Password").fill("wrong")
    await page.keyboard.press("Enter")
    await expect(dialog.get_by_role("alert")).not_to_be_empty()
    await dialog.get_by_label("Password").fill(found.group(2))
    await page.keyboard.press("Enter")
    change = page.get_by_role("dialog", name="Choose your password")
    await change.get_by_label("New password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(change).to_be_hidden()
    await expect(page.locator("#rooms-empty")).to_be_visible()
    await page.get_by_label("Title", exact=True).locator("visible=true").fill("Guarded")
    await page.get_by_role("radio", name="Invited only").check()
    await page.get_by_role("button", name="Create and join").click()
    await expect(visit.state).to_have_text("Connected")
    await page.reload()
    await expect(visit.state).to_have_text("Connected")

    guest = await open_page(server, path=await invitation(visit), name="Gast")
    guest.expect_error("Failed to load resource")
    await guest.page.get_by_role("button", name="Join", exact=True).click()
    await expect(guest.state).to_have_text("Connected")
    await guest.page.reload()
    await expect(guest.state).to_have_text("Connected")
    await visit.tab("People")
    await expect(page.locator(".person", has_text="Gast")).to_contain_text("Member · guest")
    await act(page, "Gast", "Ban")
    await page.get_by_role("button", name="Ban", exact=True).click()
    notice = guest.page.locator(".notice[data-key=connection]")
    await expect(notice).to_be_visible()
    await guest.page.get_by_role("button", name="Connect again").click()
    await expect(notice).to_contain_text("You are banned")

    await page.locator("#account").click()
    await page.get_by_role("menuitem", name="Sign out", exact=True).click()
    await expect(page.locator("#rooms-locked")).to_be_visible()
