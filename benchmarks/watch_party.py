"""How far apart two browsers are that watch together, each on its own server.

``python -m benchmarks.watch_party [--seconds 60]`` starts two servers that share one Redis (the
valkey-server of their data directory) and a small film server, lets two Chromium processes join one
room, one on each server, and reads `video.currentTime` of both against the machine's clock for a
minute. It needs Playwright and Chromium. Prints the distribution of the distance between the two,
and of each one's own drift as it shows it; the target is a p95 of 80 ms between the two.

With ``--hls mpegts`` or ``--hls fmp4`` they watch HLS, by hls.js; with ``--native`` too, by the
browser's own player. With ``--vod`` they watch a video of the servers, uploaded to one of them.
"""

import argparse
import asyncio
import contextlib
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from mediaserver_client import Api, join_room
from playwright.async_api import Browser, Page, Playwright, async_playwright

from benchmarks.films import cinema, make_film
from benchmarks.servers import our_server
from benchmarks.streams import make_stream, origin
from mediaserver.inference.registry import ModelRegistry
from mediaserver.settings import load_settings

TARGET_P95_MS = 80.0
ROOM = "benchmark"
SECONDS = 60.0
READY_S = 300.0
"""Until an uploaded film is prepared."""
Kind = Literal["file", "vod", "mpegts", "fmp4"]
SETTLE_S = 12.0
"""From the start of the film until its players must have come in sync (docs/playback.md)."""
SAMPLE_MS = 100
PAIRED_S = 0.15
"""Two samples are compared if they were taken within this time."""
START_TIMEOUT_MS = 30_000
CHROMIUM_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
)

WITHOUT_MEDIA_SOURCE = "delete window.MediaSource; delete window.ManagedMediaSource;"
"""hls.js cannot work then, as on an iPhone: the browser plays HLS itself."""

_SAMPLER = """([seconds, everyMs]) => new Promise((resolve) => {
    const video = document.getElementById("player");
    const drift = document.getElementById("drift");
    const now = () => (performance.timeOrigin + performance.now()) / 1000;
    const until = now() + seconds;
    const samples = [];
    const timer = setInterval(() => {
        const shown = drift.dataset.ms === "" ? null : Number(drift.dataset.ms);
        samples.push([now(), video.currentTime, video.paused ? 1 : 0, shown]);
        if (now() < until) return;
        clearInterval(timer);
        resolve(samples);
    }, everyMs);
})"""
"""Both pages read the same machine's clock: Unix seconds, position, paused, shown drift in ms."""


Samples = Sequence[Sequence[float | None]]
Adding = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Apart:
    """How far two pages were from each other."""

    distances_ms: np.ndarray
    """|difference of position|, one for each pair of samples."""
    shown_ms: np.ndarray
    """|drift| as the pages showed it."""
    paused: int
    """Samples in which a player stood still."""

    def percentile(self, q: float) -> float:
        return float(np.percentile(self.distances_ms, q))


def compare(
    one: Sequence[Sequence[float | None]], other: Sequence[Sequence[float | None]]
) -> Apart:
    """Compare two pages' samples. Raises ValueError where no two were taken together.

    A position less the time at which it was read does not change while the film plays at rate 1,
    so that samples need not be taken at the same moment.
    """
    a, b = (np.array([s[:3] for s in samples], float) for samples in (one, other))
    nearest = np.abs(a[:, None, 0] - b[None, :, 0]).argmin(axis=1)
    together = np.abs(a[:, 0] - b[nearest, 0]) <= PAIRED_S
    if not together.any():
        raise ValueError("no two samples were taken together")
    offset_a = a[together, 1] - a[together, 0]
    offset_b = b[nearest[together], 1] - b[nearest[together], 0]
    shown = [abs(s[3]) for samples in (one, other) for s in samples if s[3] is not None]
    paused = int(a[together, 2].sum() + b[nearest[together], 2].sum())
    return Apart(np.abs(offset_a - offset_b) * 1000, np.array(shown or [np.nan]), paused)


async def start_party(pages: Sequence[Page], film: str | Adding) -> None:
    """Put a film into the room that all `pages` are in, and start it from the first one.

    `film` is its address, or a function that puts it into the queue.
    """
    first = pages[0]
    if isinstance(film, str):
        await first.get_by_role("tab", name="Queue").click()
        await first.get_by_label("Address of a video").fill(film)
        await first.get_by_role("button", name="Add", exact=True).click()
    else:
        await film()
    for page in pages:
        await page.wait_for_function(
            "() => document.getElementById('player').readyState >= 3", timeout=START_TIMEOUT_MS
        )
    await first.get_by_role("button", name="Play for everyone").click()
    for page in pages:
        await page.wait_for_function(
            "() => { const v = document.getElementById('player');"
            " return !v.paused && v.currentTime > 0.2; }",
            timeout=START_TIMEOUT_MS,
        )


async def sample(one: Page, other: Page, seconds: float) -> Apart:
    """Watch two pages for a while."""
    both = (page.evaluate(_SAMPLER, [seconds, SAMPLE_MS]) for page in (one, other))
    return compare(*await asyncio.gather(*both))


# ---- the benchmark -------------------------------------------------------------------------


def chromium_path() -> str:
    """Return the system's Chromium. Raises SystemExit where there is none."""
    for name in (os.environ.get("MEDIASERVER_TEST_CHROMIUM"), "chromium", "google-chrome"):
        if name and (found := shutil.which(name)):
            return found
    raise SystemExit("no Chromium on this machine (Debian: apt-get install chromium)")


@contextlib.asynccontextmanager
async def _visitor(playwright: Playwright, url: str, name: str, before: str) -> AsyncIterator[Page]:
    browser: Browser = await playwright.chromium.launch(
        executable_path=chromium_path(), args=list(CHROMIUM_ARGUMENTS)
    )
    try:
        page = await (await browser.new_context()).new_page()
        await page.add_init_script(before)
        await page.goto(url)
        await page.locator("#door-name").fill(name)
        await page.get_by_role("button", name="Join", exact=True).click()
        await page.wait_for_selector("#connection[data-state=open]", timeout=START_TIMEOUT_MS)
        yield page
    finally:
        await browser.close()


async def measure(
    urls: Sequence[str], film: str | Adding, seconds: float, *, before: str = ""
) -> Apart:
    """Let two browsers watch a film together, each on the server of its URL.

    `film` is as for `start_party`; both are in the room `ROOM`. The script `before` runs in each
    page first.
    """
    async with async_playwright() as playwright, contextlib.AsyncExitStack() as stack:
        pages = []
        for url, name in zip(urls, ("Ann", "Ben"), strict=True):
            visit = _visitor(playwright, f"{url}/?room={ROOM}", name, before)
            pages.append(await stack.enter_async_context(visit))
        await start_party(pages, film)
        await asyncio.sleep(SETTLE_S)
        return await sample(pages[0], pages[1], seconds)


def report(apart: Apart, seconds: float) -> str:
    """The figures in Markdown."""
    shown = [float(np.nanpercentile(apart.shown_ms, q)) for q in (50, 95)]
    p50, p95, most = (apart.percentile(q) for q in (50, 95, 100))
    return (
        f"Two Chromium processes on two servers, {seconds:.0f} s, "
        f"{len(apart.distances_ms)} pairs of samples:\n\n"
        "| | p50, ms | p95, ms | max, ms |\n| --- | --- | --- | --- |\n"
        f"| between the two pages | {p50:.0f} | {p95:.0f} (target {TARGET_P95_MS:.0f}) "
        f"| {most:.0f} |\n"
        f"| as the pages show it | {shown[0]:.0f} | {shown[1]:.0f} | |\n"
    )


@contextlib.asynccontextmanager
async def _showing(
    folder: Path, film_s: float, kind: Kind, server: str, key: str
) -> AsyncIterator[str | Adding]:
    """A film of that kind, served; yields its URL, or what adds it to the room."""
    if kind == "vod":
        path = await asyncio.to_thread(make_film, folder / "film.mp4", film_s)
        yield await _uploaded(path, server, key)
        return
    if kind == "file":
        film = await asyncio.to_thread(make_film, folder / "film.mp4", film_s)
        async with cinema(film, film_s) as films:
            yield films.url()
        return
    await asyncio.to_thread(make_stream, folder / "stream", film_s, kind)
    async with origin(folder) as streams:
        yield streams.url("stream/master.m3u8")


async def _uploaded(film: Path, server: str, key: str) -> Adding:
    """Upload a film; return what adds it to the room."""
    async with Api(server, api_key=key) as api:
        video = await api.upload_video(film)
        await api.ready_video(video.video_id, timeout_s=READY_S)

    async def add() -> None:
        async with join_room(server, ROOM, name="Host", api_key=key) as host:
            await host.add_to_queue(video_id=video.video_id)

    return add


async def _main(seconds: float, kind: Kind, native: bool) -> int:
    settings = load_settings()
    model = ModelRegistry(settings.data_dir).locate(settings.speech_model)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, contextlib.ExitStack() as stack:
        shared = {
            "MEDIASERVER_DATA_DIR": str(Path(folder) / "data"),
            "MEDIASERVER_SPEECH_MODEL": str(model.resolve()),
            "MEDIASERVER_ACCESS": "open",
            "MEDIASERVER_API_KEY": (key := secrets.token_urlsafe(24)),
        }
        servers = [stack.enter_context(our_server(**shared)) for _ in range(2)]
        urls = [server.url for server in servers]
        film_s = seconds + SETTLE_S + 60
        async with _showing(Path(folder), film_s, kind, urls[0], key) as film:
            before = WITHOUT_MEDIA_SOURCE if native else ""
            apart = await measure(urls, film, seconds, before=before)
    print(report(apart, seconds))
    return 0 if apart.percentile(95) <= TARGET_P95_MS else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=SECONDS)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--hls", choices=("mpegts", "fmp4"))
    which.add_argument("--vod", action="store_true")
    parser.add_argument("--native", action="store_true")
    given = parser.parse_args()
    kind: Kind = "vod" if given.vod else given.hls or "file"
    return asyncio.run(_main(given.seconds, kind, given.native))


if __name__ == "__main__":
    sys.exit(main())
