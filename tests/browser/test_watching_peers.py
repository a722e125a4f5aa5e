"""Chromium publishes to a server's peers, and Chromium watches: what its own statistics say."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Browser, Page, async_playwright

from mediaserver.rtc.peer import Peers
from tests.browser.conftest import ALLOWED, ARGUMENTS, FAKE_DEVICES, chromium_path
from tests.integration.watcher import ViewerRecorder
from tests.integration.webrtc_client import CONFIG, Recorder

PUBLISH = """async (codec) => {
  const stream = await navigator.mediaDevices.getUserMedia(
    {audio: true, video: {width: 640, height: 360, frameRate: 30}});
  const pc = window.pc = new RTCPeerConnection({bundlePolicy: "max-bundle"});
  for (const track of stream.getTracks()) {
    const transceiver = pc.addTransceiver(track, {direction: "sendonly", streams: [stream]});
    if (track.kind === "video") {
      const known = RTCRtpSender.getCapabilities("video").codecs;
      const wanted = known.filter((c) => c.mimeType === `video/${codec}` || /rtx/.test(c.mimeType));
      if (!wanted.some((c) => c.mimeType === `video/${codec}`)) return null;
      transceiver.setCodecPreferences(wanted);
    }
  }
  await pc.setLocalDescription(await pc.createOffer());
  return pc.localDescription.sdp;
}"""

WATCH = """async () => {
  const pc = window.pc = new RTCPeerConnection({bundlePolicy: "max-bundle"});
  const video = window.video = document.createElement("video");
  video.autoplay = video.playsInline = true;
  document.body.append(video);
  window.streams = new Set();
  for (const kind of ["audio", "video"]) pc.addTransceiver(kind, {direction: "recvonly"});
  pc.ontrack = ({streams}) => { window.streams.add(streams[0].id); video.srcObject = streams[0]; };
  await pc.setLocalDescription(await pc.createOffer());
  return pc.localDescription.sdp;
}"""

ANSWER = """async (sdp) => pc.setRemoteDescription({type: "answer", sdp})"""

FIGURES = """async () => {
  const found = {streams: window.streams.size, width: video.videoWidth, time_s: video.currentTime};
  for (const report of (await pc.getStats()).values())
    if (report.type === "inbound-rtp") found[report.kind] = report;
  return found;
}"""


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(
            executable_path=chromium_path(), args=[*ARGUMENTS, *FAKE_DEVICES, *ALLOWED]
        )
        yield chromium
        await chromium.close()


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """An empty page, from where a browser lets its camera be used."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>test</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


async def figures_when(
    page: Page, holds: Callable[[Any], bool], timeout_s: float = 40.0
) -> dict[str, Any]:
    """Return the viewer's figures as soon as `holds`."""
    async with asyncio.timeout(timeout_s):
        while True:
            found: dict[str, Any] = await page.evaluate(FIGURES)
            if "audio" in found and "video" in found and holds(found):
                return found
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_chromium_watches_what_chromium_sends(browser: Browser, url: str, codec: str) -> None:
    peers, recorder, told = Peers(CONFIG), Recorder(), ViewerRecorder()
    publisher, watcher = await browser.new_page(), await browser.new_page()
    try:
        await publisher.goto(url)
        await watcher.goto(url)
        offer = await publisher.evaluate(PUBLISH, codec)
        if offer is None:
            pytest.skip(f"this Chromium does not encode {codec}")
        peer = peers.open(recorder)
        await publisher.evaluate(ANSWER, await peer.accept(offer))
        async with asyncio.timeout(40):
            while len(peer.broadcast.codecs) < 2:
                await asyncio.sleep(0.05)
        assert peer.broadcast.codecs == {"audio": "opus", "video": codec}
        await watcher.bring_to_front()
        viewer = peers.open_viewer(peer.broadcast, told)
        await watcher.evaluate(ANSWER, await viewer.accept(await watcher.evaluate(WATCH)))
        await asyncio.wait_for(told.is_connected.wait(), 20)
        connected_s = time.monotonic()
        await figures_when(watcher, lambda f: f["video"].get("framesDecoded", 0) > 0)
        first_s = time.monotonic() - connected_s
        seen = await figures_when(
            watcher,
            lambda f: (
                f["video"]["framesDecoded"] > 60
                and f["audio"].get("totalAudioEnergy", 0) > 0
                and f["audio"].get("estimatedPlayoutTimestamp")
                and f["video"].get("estimatedPlayoutTimestamp")
            ),
            60,
        )
        skews_ms: list[float] = []
        settling_s = time.monotonic()
        async with asyncio.timeout(60):  # a browser moves one kind towards the other step by step
            while len(skews_ms) < 10 or abs(sorted(skews_ms[-10:])[5]) >= 80:
                await asyncio.sleep(0.2)
                now = await watcher.evaluate(FIGURES)
                skews_ms.append(
                    now["video"]["estimatedPlayoutTimestamp"]
                    - now["audio"]["estimatedPlayoutTimestamp"]
                )
        print(
            f"{codec}: first picture {first_s:.2f} s after connecting, skew of what is played "
            f"{sorted(skews_ms[-10:])[5]:.0f} ms (at first {skews_ms[0]:.0f}, "
            f"{time.monotonic() - settling_s:.0f} s ago); "
            f"lost {now['video']['packetsLost']}, NACKs {now['video']['nackCount']}, "
            f"PLIs {now['video']['pliCount']}, freezes {now['video'].get('freezeCount')}, "
            f"{now['video'].get('framesPerSecond')} pictures/s"
        )
        assert first_s < 5.0
        assert seen["streams"] == 1, "both tracks are of one stream, so they are played in sync"
        assert seen["width"] == 640
        assert now["time_s"] > seen["time_s"]
        assert told.closings == []
        await publisher.close()
        await asyncio.wait_for(told.is_closed.wait(), 20)
        assert told.closings[0][0] == "ended"
    finally:
        await peers.aclose()
        for page in (publisher, watcher):
            await page.close()
