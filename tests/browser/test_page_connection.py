"""The page when the server goes away and comes back."""

import re
from collections.abc import Callable
from pathlib import Path

from playwright.async_api import expect

from tests.browser.conftest import NO_SPEECH, OpenPage
from tests.live import LiveServer
from tests.ports import free_port

GONE = r"WebSocket connection to|Failed to load resource|ERR_CONNECTION_REFUSED"


async def test_the_page_says_that_the_server_is_gone_and_publishes_again_when_it_is_back(
    open_page: OpenPage, start_server: Callable[..., LiveServer], artifacts: Path
) -> None:
    port = str(free_port())
    server = start_server(port=port)
    visit = await open_page(server)
    visit.expect_error(GONE)
    await visit.start()
    await expect(visit.state).to_have_text("Live", timeout=40_000)

    server.stop()
    notice = visit.page.locator(".notice[data-key=connection]")
    await expect(notice).to_be_visible(timeout=40_000)
    await expect(notice).to_contain_text("What you say until then is not captioned")
    await expect(notice.get_by_role("button", name="Try now")).to_be_visible()
    await expect(visit.state).to_have_text(re.compile(r"Reconnecting"))
    await visit.page.screenshot(path=artifacts / "page-reconnecting.png")

    start_server(port=port)
    await expect(visit.state).to_have_text("Live", timeout=60_000)
    await expect(notice).to_be_hidden()
    await expect(visit.page.locator("#badge-live")).to_be_visible()


async def test_who_only_reads_comes_back_too_without_a_click(
    open_page: OpenPage, start_server: Callable[..., LiveServer]
) -> None:
    port = str(free_port())
    server = start_server(port=port, **NO_SPEECH)
    visit = await open_page(server)
    visit.expect_error(GONE)
    await expect(visit.state).to_have_text("Connected")
    server.stop()
    await expect(visit.state).to_have_text(re.compile(r"Reconnecting"), timeout=40_000)
    start_server(port=port, **NO_SPEECH)
    await expect(visit.state).to_have_text("Connected", timeout=60_000)


async def test_a_disconnected_network_is_named(
    open_page: OpenPage, start_server: Callable[..., LiveServer]
) -> None:
    server = start_server(**NO_SPEECH)
    visit = await open_page(server)
    visit.expect_error(r"WebSocket|ERR_INTERNET_DISCONNECTED|Failed to load")
    await expect(visit.state).to_have_text("Connected")
    await visit.page.context.set_offline(True)
    await visit.page.evaluate("dispatchEvent(new Event('online'))")
    server.stop()
    await expect(visit.state).to_have_text("Offline", timeout=40_000)
