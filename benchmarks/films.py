"""A film made by PyAV, and a small server that hands it out as another origin: ranges, CORS."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from aiohttp import web

FRAMES_HZ = 25
SIZE = (320, 180)
AUDIO_HZ = 48_000
AUDIO_FRAME = 1024
GREY = 40
BAR = 210


def make_film(path: Path, seconds: float) -> Path:
    """Write an MP4 (H.264, AAC, index first) whose bar wanders to the right once a second."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as out:
        video = out.add_stream("libx264", rate=FRAMES_HZ)
        video.width, video.height = SIZE
        video.pix_fmt = "yuv420p"
        video.options = {"preset": "ultrafast", "g": str(FRAMES_HZ), "crf": "32"}
        sound = out.add_stream("aac", rate=AUDIO_HZ)
        picture = np.full((SIZE[1] * 3 // 2, SIZE[0]), 128, np.uint8)  # planes of yuv420p
        for index in range(round(seconds * FRAMES_HZ)):
            picture[: SIZE[1]] = GREY
            left = (index % FRAMES_HZ) * SIZE[0] // FRAMES_HZ
            picture[: SIZE[1], left : left + SIZE[0] // FRAMES_HZ] = BAR
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, FRAMES_HZ)
            out.mux(video.encode(frame))
        for index in range(round(seconds * AUDIO_HZ) // AUDIO_FRAME):
            times = (np.arange(AUDIO_FRAME) + index * AUDIO_FRAME) / AUDIO_HZ
            samples = (0.02 * np.sin(2 * np.pi * 220 * times)).astype(np.float32)
            heard = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            heard.sample_rate, heard.pts = AUDIO_HZ, index * AUDIO_FRAME
            out.mux(sound.encode(heard))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))
    return path


@dataclass(frozen=True)
class Cinema:
    """A running server of films."""

    host: str
    """``127.0.0.1:PORT``"""
    film_s: float

    def url(self, name: str = "film.mp4") -> str:
        """Any name leads to the same film."""
        return f"http://{self.host}/{name}"


@asynccontextmanager
async def cinema(film: Path, seconds: float) -> AsyncIterator[Cinema]:
    """Serve a film on loopback, as another origin does: with CORS and ranges."""

    async def serve(_request: web.Request) -> web.StreamResponse:
        return web.FileResponse(film, headers={"Access-Control-Allow-Origin": "*"})

    app = web.Application()
    app.router.add_get("/{name}.mp4", serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        _, port = runner.addresses[0][:2]
        yield Cinema(f"127.0.0.1:{port}", seconds)
    finally:
        await runner.cleanup()
