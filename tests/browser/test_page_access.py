"""The page for everybody: keyboard, screen reader, phone, light and dark, no movement."""

from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from mediaserver.protocol.languages import LANGUAGES
from mediaserver.protocol.messages import MAX_CHAT_CHARACTERS, MAX_NAME_CHARACTERS
from tests.browser.conftest import OpenPage
from tests.live import LiveServer

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
TOUCH_PX = 44


async def violations(page: Page) -> list[str]:
    """What axe-core finds wrong, one line each."""
    found = await Axe().run(page, options=RULES)
    return [
        f"{rule['id']}: {node['html'][:120]}"
        for rule in found.response["violations"]
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
async def test_axe_finds_nothing_in_any_state(
    open_page: OpenPage, server_without_speech: LiveServer, phone: bool, dark: bool
) -> None:
    visit = await open_page(server_without_speech, phone=phone, dark=dark)
    page = visit.page
    await expect(visit.state).to_have_text("Connected")
    assert await violations(page) == []
    await visit.settings()
    assert await violations(page) == []
    await visit.tab("Chat")
    await page.get_by_label("Message to the room").fill("Hello")
    await page.keyboard.press("Enter")
    await expect(page.locator(".chat")).to_have_count(1)
    assert await violations(page) == []
    await visit.start()
    await expect(page.get_by_role("button", name="Stop captions")).to_be_visible()
    await expect(page.locator(".notice").first).to_be_visible(timeout=40_000)
    assert await violations(page) == []


async def test_everything_can_be_done_with_the_keyboard(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    visit = await open_page(server_without_speech)
    page = visit.page
    await expect(visit.state).to_have_text("Connected")
    await page.evaluate("document.getElementById('setup').open = true")
    reached = []
    for _ in range(60):
        await page.keyboard.press("Tab")
        focus = await page.evaluate(
            """() => {
                const element = document.activeElement;
                if (element === document.body) return null;
                const style = getComputedStyle(element);
                const shown = element.closest(".tile, .segment") ?? element;
                return {
                    id: element.id || element.name || element.className || element.tagName,
                    outline: getComputedStyle(shown).outlineStyle !== "none",
                };
            }"""
        )
        if focus is None:  # past the end, into the browser's own buttons
            break
        assert focus["outline"], f"no visible focus on {focus['id']}"
        reached.append(focus["id"])
    assert reached == [
        *("skip", "brand", "invite", "account", "theme", "leave", "stage-add"),
        *(["emoji"] * 6),
        *("fullscreen", "start", "SUMMARY", "source"),
        *("microphone", "language", "task", "name", "smaller", "larger", "announce"),
        *("tab-chat", "chat-scroll", "chat-text", "chat-send"),
    ]


async def test_start_mute_and_stop_by_keyboard(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    visit = await open_page(server_without_speech)
    page = visit.page
    await expect(visit.state).to_have_text("Connected")
    await page.locator("#start").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#start-text")).to_have_text("Stop captions")
    await expect(page.locator("#start")).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(page.locator("#mute")).to_be_focused()
    await page.keyboard.press("Space")
    await expect(page.locator("#mute")).to_have_attribute("aria-pressed", "true")
    await expect(page.locator("#badge-muted")).to_be_visible()
    await expect(page.locator("#say")).to_contain_text("Muted")
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Space")
    await expect(page.locator("#start-text")).to_have_text("Start captions", timeout=40_000)


async def test_tabs_move_with_the_arrow_keys(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    page = (await open_page(server_without_speech)).page
    await page.locator("#tab-chat").focus()
    await page.keyboard.press("ArrowRight")
    await expect(page.get_by_role("tab", name="People")).to_be_focused()
    await expect(page.get_by_role("tabpanel", name="People")).to_be_visible()
    await page.keyboard.press("End")
    await expect(page.get_by_role("tabpanel", name="Captions")).to_be_visible()


async def test_what_a_screen_reader_is_told_of_the_page(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    visit = await open_page(server_without_speech, path="/?room=told")
    page = visit.page
    await visit.settings()
    await expect(page.locator("main h1")).to_have_text("Room told")
    assert await page.locator("html").get_attribute("lang") == "en"
    spoken = page.get_by_role("log", name="Finished captions")
    await expect(spoken).to_have_attribute("aria-live", "polite")
    await expect(page.locator("#overlay")).to_have_attribute("aria-hidden", "true")
    for role, name in [
        ("button", "Start captions"),
        ("button", "Mute"),
        ("button", "Smaller captions"),
        ("button", "Dark theme"),
        ("combobox", "Spoken language"),
        ("radio", "Microphone"),
        ("radio", "In English"),
        ("textbox", "Your name"),
        ("tab", "Captions"),
        ("combobox", "Captions in"),
    ]:
        if name == "Captions in":
            await visit.tab("Captions")
        await expect(page.get_by_role(role, name=name, exact=True)).to_have_count(1)  # type: ignore[arg-type]


async def test_a_phone_shows_all_without_scrolling_sideways(
    open_page: OpenPage, server_without_speech: LiveServer, artifacts: Path
) -> None:
    visit = await open_page(server_without_speech, phone=True)
    page = visit.page
    await expect(visit.state).to_have_text("Connected")
    assert await visit.overflow_px() <= 0
    await page.screenshot(path=artifacts / "page-phone-idle.png")
    await visit.settings()
    assert await visit.overflow_px() <= 0
    small = await page.evaluate(
        """(least) => [...document.querySelectorAll("button, select, input, summary, .tile")]
            .filter((element) => element.checkVisibility())
            .filter((element) => !["radio", "checkbox"].includes(element.type))
            .map((element) => [element, element.getBoundingClientRect()])
            .filter(([, box]) => box.width < least || box.height < least)
            .map(([element, box]) => `${element.id} ${box.width} x ${box.height}`)""",
        TOUCH_PX,
    )
    assert small == []
    for _ in range(4):
        await page.get_by_role("button", name="Larger captions").click()
    assert await visit.overflow_px() <= 0


async def test_the_theme_follows_the_system_until_one_is_chosen(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    visit = await open_page(server_without_speech, dark=True)
    page = visit.page
    background = "getComputedStyle(document.documentElement).backgroundColor"
    dark = await page.evaluate(background)
    await expect(page.locator("#theme")).to_have_attribute("aria-pressed", "true")
    await page.locator("#theme").click()
    light = await page.evaluate(background)
    assert light != dark
    await page.reload()
    assert await page.evaluate(background) == light


async def test_choices_are_kept_for_the_next_visit(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    visit = await open_page(server_without_speech)
    page = visit.page
    await visit.settings()
    await page.get_by_label("Spoken language").select_option("es")
    await page.get_by_role("radio", name="In English").check()
    await page.get_by_label("Your name", exact=True).fill("Ann")
    await page.get_by_role("button", name="Larger captions").click()
    await page.reload()
    await visit.settings()
    await expect(page.get_by_label("Spoken language")).to_have_value("es")
    await expect(page.get_by_role("radio", name="In English")).to_be_checked()
    await expect(page.get_by_label("Your name", exact=True)).to_have_value("Ann")
    await expect(page.locator("#size-output")).to_have_text("125 %")


async def test_nothing_moves_where_motion_is_unwelcome(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    page = (await open_page(server_without_speech)).page
    await page.emulate_media(reduced_motion="reduce")
    moving = await page.evaluate(
        """() => [...document.querySelectorAll("*")]
            .filter((element) => getComputedStyle(element).animationName !== "none")
            .map((element) => element.className)"""
    )
    assert moving == []


async def test_the_fields_end_where_the_protocol_does(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    page = (await open_page(server_without_speech)).page
    for field, limit in (("#chat-text", MAX_CHAT_CHARACTERS), ("#name", MAX_NAME_CHARACTERS)):
        assert await page.locator(field).get_attribute("maxlength") == str(limit)


async def test_every_language_is_one_that_the_server_takes(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    page = (await open_page(server_without_speech)).page
    offered = await page.locator("#language option").evaluate_all(
        "options => options.map((option) => option.value).filter(Boolean)"
    )
    assert set(offered) == LANGUAGES


async def test_the_page_obeys_the_content_security_policy(
    open_page: OpenPage, server_without_speech: LiveServer
) -> None:
    """Errors on the console, which a breach would be, fail every test here; this one looks."""
    visit = await open_page(
        server_without_speech,
        before="document.addEventListener('securitypolicyviolation', (event) => "
        "console.error('CSP', event.violatedDirective, event.blockedURI));",
    )
    await expect(visit.state).to_have_text("Connected")
    policy = await visit.page.evaluate(
        "fetch('/').then((response) => response.headers.get('content-security-policy'))"
    )
    assert "default-src 'self'" in policy
    assert "unsafe-inline" not in policy
