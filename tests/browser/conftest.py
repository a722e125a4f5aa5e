"""Browser tests: Chromium, driven by Playwright, on the real page of a real server."""

import os
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from playwright.async_api import (
    Browser,
    ConsoleMessage,
    Page,
    Request,
    StorageState,
    async_playwright,
    expect,
)

from tests.live import LiveServer, run_server
from tests.speech import RATE_HZ, Clip

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
    "--allow-loopback-in-peer-connection",
)
FAKE_DEVICES = ("--use-fake-device-for-media-stream",)
ALLOWED = ("--use-fake-ui-for-media-stream",)
DESKTOP = (1280, 800)
PHONE = (360, 740)
BUSY_MS = 20_000
"""For what a page does at once, on a machine that is busy."""
expect.set_options(timeout=BUSY_MS)
LEAD_IN_S = 3.0
"""Silence before the speech: the microphone runs before the connection stands."""
TAIL_S = 6.0


@dataclass
class Visit:
    """An open page, and what went wrong on it."""

    page: Page
    server: LiveServer
    unexpected: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    """Patterns of console errors that this test brings about."""

    def expect_error(self, pattern: str) -> None:
        """Let console errors that match `pattern` pass."""
        self.expected.append(pattern)

    def check(self) -> None:
        """Fail on console errors that nobody expected, and on requests to other hosts."""
        wrong = [
            text
            for text in self.unexpected
            if not any(re.search(pattern, text) for pattern in self.expected)
        ]
        assert not wrong, f"errors on the console: {wrong}"
        assert not self.foreign, f"requests to other hosts: {self.foreign}"

    @property
    def state(self) -> Any:
        """The pill that tells how the connection is."""
        return self.page.locator("#connection-text")

    async def start(self) -> None:
        """Press the button that starts captions."""
        await self.speaking()
        await self.page.get_by_role("button", name="Start captions").click()

    async def stop(self) -> None:
        """Press the button that ends them."""
        await self.page.get_by_role("button", name="Stop captions").click()

    async def tab(self, name: str) -> None:
        """Open a tab of the panel: Chat, People, Queue or Captions."""
        await self.page.get_by_role("tab", name=name).click()

    async def speaking(self) -> None:
        """Bring what belongs to speaking into sight: on a phone it lies under Captions."""
        await expect(self.page.locator("#room-screen")).to_be_visible()
        if not await self.page.locator("#start").is_visible():
            await self.tab("Captions")

    async def settings(self) -> None:
        """Open the settings of one's own captions."""
        await self.speaking()
        if not await self.page.locator("#setup-form").is_visible():
            await self.page.locator("#setup summary").click()

    async def overflow_px(self) -> int:
        """How much wider than the window the page is."""
        width: int = await self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return width


OpenPage = Callable[..., Awaitable[Visit]]


def chromium_path() -> str:
    """Return the system's Chromium; skips where there is none."""
    given = os.environ.get("MEDIASERVER_TEST_CHROMIUM")
    for name in (given, "chromium", "chromium-browser", "google-chrome"):
        if name and (found := shutil.which(name)):
            return found
    pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")


@pytest.fixture
async def open_page(start_server: Callable[..., LiveServer]) -> AsyncIterator[OpenPage]:
    """Open the page: ``await open_page(server, audio=FILE, phone=True, dark=True, …)``.

    Each call is a Chromium of its own with a fresh profile, in which `name` was given before, so
    that a room's address leads right into it; with None its door asks. `foreign` is another host
    that the page may ask (for videos). At the end of the test no page may
    have logged an error or asked another host for anything.
    """
    room = f"/?room=test-{secrets.token_hex(6)}"
    visits: list[Visit] = []
    browsers: list[Browser] = []
    async with async_playwright() as playwright:

        async def visit(
            server: LiveServer,
            *,
            path: str = room,
            audio: Path | None = None,
            allow: bool = True,
            devices: bool = True,
            phone: bool = False,
            dark: bool = False,
            origin: str | None = None,
            arguments: tuple[str, ...] = (),
            before: str = "",
            name: str | None = "guest",
            foreign: str = "",
        ) -> Visit:
            wanted = [*ARGUMENTS, *arguments]
            wanted += FAKE_DEVICES if devices else ()
            wanted += ALLOWED if allow else ()
            if audio is not None:
                wanted.append(f"--use-file-for-fake-audio-capture={audio}%noloop")
            browser = await playwright.chromium.launch(
                executable_path=chromium_path(),
                args=wanted,
                ignore_default_args=["--mute-audio"],  # it would silence shared tabs too
            )
            browsers.append(browser)
            width, height = PHONE if phone else DESKTOP
            url = origin or server.url
            context = await browser.new_context(
                storage_state=_named(url, name),
                viewport={"width": width, "height": height},
                color_scheme="dark" if dark else "light",
                has_touch=phone,
                accept_downloads=True,
            )
            page = await context.new_page()
            if before:
                await page.add_init_script(before)
            opened = Visit(page, server)
            _watch(opened, url, foreign)
            visits.append(opened)
            await page.goto(url + path)
            return opened

        try:
            yield visit
        finally:
            for browser in browsers:
                await browser.close()
    for opened in visits:
        opened.check()


def _named(url: str, name: str | None) -> StorageState:
    if name is None:
        return {"cookies": [], "origins": []}
    kept: Any = [{"name": "captions.name", "value": name}]
    return {"cookies": [], "origins": [{"origin": url, "localStorage": kept}]}


def _watch(visit: Visit, url: str, foreign: str) -> None:
    hosts = (url.split("://")[1], foreign)

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            visit.unexpected.append(message.text)

    def on_request(request: Request) -> None:
        scheme, _, rest = request.url.partition("://")
        if scheme not in ("blob", "data") and rest.partition("/")[0] not in hosts:
            visit.foreign.append(request.url)

    visit.page.on("console", on_console)
    visit.page.on("pageerror", lambda error: visit.unexpected.append(str(error)))
    visit.page.on("request", on_request)


@pytest.fixture
def spoken(tmp_path: Path) -> Callable[[Clip], Path]:
    """Write a recording as a WAV file that Chromium plays as its microphone."""

    def write(clip: Clip) -> Path:
        silence = (np.zeros(round(s * RATE_HZ), np.float32) for s in (LEAD_IN_S, TAIL_S))
        lead_in, tail = silence
        path = tmp_path / f"{clip.name}.wav"
        samples = np.concatenate([lead_in, clip.samples, tail])
        soundfile.write(path, samples, RATE_HZ, subtype="PCM_16")
        return path

    return write


NO_SPEECH: dict[str, Any] = {"wait_ready": False, "inference_urls": "unix:/nowhere/nobody.sock"}
"""Settings of a server whose speech worker is not there: quick to start, and a case of its own."""


@pytest.fixture(scope="session")
def server_without_speech(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One such server for the whole run: leave it as you found it."""
    with run_server(tmp_path_factory.mktemp("no-speech"), None, **NO_SPEECH) as server:
        yield server
