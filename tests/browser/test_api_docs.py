"""Swagger UI under the server's own content policy, from its own files."""

from pathlib import Path

from playwright.async_api import expect

from tests.browser.conftest import OpenPage
from tests.live import LiveServer


async def test_swagger_ui_shows_the_routes_and_tries_one(
    open_page: OpenPage, server_without_speech: LiveServer, artifacts: Path
) -> None:
    visit = await open_page(server_without_speech, path="/docs")
    page = visit.page
    await expect(page.locator(".info .title")).to_contain_text("mediaserver")
    await expect(page.locator(".opblock-summary-path").first).to_be_visible()
    health = page.locator("#operations-health-get_healthz")
    await health.locator(".opblock-summary").click()
    await health.get_by_role("button", name="Try it out").click()
    await health.get_by_role("button", name="Execute").click()
    await expect(health.locator(".responses-inner .live-responses-table")).to_contain_text('"ok"')
    await page.screenshot(path=artifacts / "api-docs.png")
