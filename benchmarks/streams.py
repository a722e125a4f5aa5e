"""HLS made by PyAV: H.264 and AAC in MPEG-TS or fMP4, two renditions, each picture numbered.

The number of a picture is drawn into it as a row of black and white blocks, so that what a player
shows can be read back and held against the position that it tells.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from aiohttp import web

FRAMES_HZ = 25
AUDIO_HZ = 48_000
AUDIO_FRAME = 1024
SEGMENT_S = 2
BITS = 12
"""Blocks in the row; the left one counts most."""
MARK = 0.25
"""Height of the row, as a share of the picture's."""
BLACK, WHITE = 16, 235

Segments = Literal["mpegts", "fmp4"]
Encoder = Literal["libx264", "libx265"]


@dataclass(frozen=True)
class Rendition:
    """One variant of a stream."""

    name: str
    width: int
    height: int
    bandwidth_bps: int
    codecs: str = "avc1.42c00d,mp4a.40.2"


RENDITIONS = (
    Rendition("low", 256, 144, 400_000),
    Rendition("high", 512, 288, 1_200_000, "avc1.42c015,mp4a.40.2"),
)


def numbered_picture(index: int, width: int, height: int) -> np.ndarray:
    """Return picture `index` as planes of yuv420p, shape (height * 3 / 2, width)."""
    picture = np.full((height * 3 // 2, width), 128, np.uint8)
    picture[:height] = 60
    rows, block = round(height * MARK), width // BITS
    for bit in range(BITS):
        on = index >> (BITS - 1 - bit) & 1
        picture[:rows, bit * block : (bit + 1) * block] = WHITE if on else BLACK
    return picture


def read_number(luma: np.ndarray) -> int:
    """Return the number that is drawn into a picture; `luma` has shape (height, width)."""
    height, width = luma.shape
    row, block = round(height * MARK / 2), width / BITS
    blocks = (luma[row, round((bit + 0.5) * block)] for bit in range(BITS))
    return sum(int(value > 128) << (BITS - 1 - bit) for bit, value in enumerate(blocks))


def _write(
    container: av.container.OutputContainer,
    rendition: Rendition,
    seconds: float,
    *,
    encoder: Encoder = "libx264",
    sounds: bool = True,
) -> None:
    gop = str(FRAMES_HZ * SEGMENT_S)
    video = container.add_stream(encoder, rate=FRAMES_HZ)
    assert isinstance(video, av.VideoStream)
    video.width, video.height = rendition.width, rendition.height
    video.pix_fmt = "yuv420p"
    video.options = {"preset": "ultrafast", "crf": "30", "g": gop, "keyint_min": gop}
    if encoder == "libx264":
        video.options |= {"profile": "baseline", "sc_threshold": "0"}
    else:
        video.options |= {"x265-params": "log-level=error"}
        video.codec_context.codec_tag = "hvc1"
    sound = None
    if sounds:
        sound = container.add_stream("aac", rate=AUDIO_HZ, layout="mono")
    samples_done = 0
    for index in range(round(seconds * FRAMES_HZ)):
        planes = numbered_picture(index, rendition.width, rendition.height)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = index, Fraction(1, FRAMES_HZ)
        container.mux(video.encode(frame))
        while sound is not None and samples_done < (index + 1) * AUDIO_HZ / FRAMES_HZ:
            times = (np.arange(AUDIO_FRAME) + samples_done) / AUDIO_HZ
            tone = (0.02 * np.sin(2 * np.pi * 220 * times)).astype(np.float32)
            heard = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
            heard.sample_rate, heard.pts = AUDIO_HZ, samples_done
            heard.time_base = Fraction(1, AUDIO_HZ)
            container.mux(sound.encode(heard))
            samples_done += AUDIO_FRAME
    container.mux(video.encode(None))
    if sound is not None:
        container.mux(sound.encode(None))


def make_file(path: Path, seconds: float, *, sounds: bool = True) -> Path:
    """Write an MP4 whose index comes last; `sounds` False leaves the sound track out."""
    with av.open(str(path), "w") as container:
        _write(container, RENDITIONS[0], seconds, sounds=sounds)
    return path


def make_stream(
    folder: Path,
    seconds: float,
    segments: Segments = "mpegts",
    renditions: Sequence[Rendition] = RENDITIONS,
    encoder: Encoder = "libx264",
) -> Path:
    """Write a VOD into `folder`; return its master playlist ``master.m3u8``.

    The playlist of a rendition is ``NAME.m3u8``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    suffix = "ts" if segments == "mpegts" else "m4s"
    for rendition in renditions:
        options = {
            "hls_time": str(SEGMENT_S),
            "hls_playlist_type": "vod",
            "hls_segment_type": segments,
            "hls_segment_filename": str(folder / f"{rendition.name}-%03d.{suffix}"),
            "hls_fmp4_init_filename": f"{rendition.name}-init.mp4",
            "hls_flags": "independent_segments",
        }
        playlist = folder / f"{rendition.name}.m3u8"
        with av.open(str(playlist), "w", format="hls", options=options) as container:
            _write(container, rendition, seconds, encoder=encoder)
    master = folder / "master.m3u8"
    master.write_text(master_playlist(renditions))
    return master


def master_playlist(renditions: Sequence[Rendition]) -> str:
    """The multivariant playlist (RFC 8216) of renditions that lie beside it."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    for one in renditions:
        lines += [
            f"#EXT-X-STREAM-INF:BANDWIDTH={one.bandwidth_bps},"
            f'RESOLUTION={one.width}x{one.height},CODECS="{one.codecs}"',
            f"{one.name}.m3u8",
        ]
    return "\n".join(lines) + "\n"


# ---- the server ----------------------------------------------------------------------------

TYPES = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".ts": "video/mp2t",
    ".m4s": "video/iso.segment",
    ".mp4": "video/mp4",
    ".html": "text/html",
}
WINDOW = 5
"""Segments that a live playlist has."""


@dataclass
class Origin:
    """A running server of media: another origin than the page's.

    What lies in its folder is had as it is; under ``private/`` without CORS, under ``whole/``
    without ranges, and under ``live/`` playlists are live: they grow by a segment when its time
    has come, and forget the old ones.
    """

    folder: Path
    host: str = ""
    """``127.0.0.1:PORT``"""
    asked: list[str] = field(default_factory=list)
    """The paths that were asked for, in order."""
    live_since_s: float = 0.0
    """Monotonic."""

    def url(self, path: str) -> str:
        return f"http://{self.host}/{path}"

    async def serve(self, request: web.Request) -> web.StreamResponse:
        asked = request.match_info["path"]
        self.asked.append(asked)
        way, _, name = asked.partition("/")
        name = name if way in ("private", "whole", "live") else asked
        headers = {} if way == "private" else {"Access-Control-Allow-Origin": "*"}
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder.resolve()) or not path.is_file():
            return web.Response(status=404, text="there is no such file", headers=headers)
        headers["Content-Type"] = TYPES.get(path.suffix, "application/octet-stream")
        if way == "whole":
            return web.Response(body=path.read_bytes(), headers=headers)
        if way == "live" and path.suffix == ".m3u8" and "#EXTINF" in path.read_text():
            elapsed_s = time.monotonic() - self.live_since_s
            text = live_playlist(path.read_text(), elapsed_s)
            return web.Response(text=text, headers={**headers, "Cache-Control": "no-store"})
        return web.FileResponse(path, headers=headers)


def live_playlist(vod: str, elapsed_s: float) -> str:
    """A playlist as it is `elapsed_s` after a live stream began; it ends with its last segment."""
    lines = vod.splitlines()
    at = [number for number, line in enumerate(lines) if line.startswith("#EXTINF")]
    segments = [f"{lines[number]}\n{lines[number + 1]}" for number in at]
    kept = ("#EXTM3U", "#EXT-X-VERSION", "#EXT-X-TARGET", "#EXT-X-MAP")
    head = [line for line in lines if line.startswith(kept)]
    until = WINDOW + int(elapsed_s / SEGMENT_S)
    first = max(0, min(until, len(segments)) - WINDOW)
    end = ["#EXT-X-ENDLIST"] if until > len(segments) else []
    number = f"#EXT-X-MEDIA-SEQUENCE:{first}"
    return "\n".join([*head, number, *segments[first:until], *end]) + "\n"


@asynccontextmanager
async def origin(folder: Path) -> AsyncIterator[Origin]:
    """Serve a folder on loopback: see `Origin`."""
    running = Origin(folder, live_since_s=time.monotonic())
    app = web.Application()
    app.router.add_get("/{path:.+}", running.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        running.host = "{}:{}".format(*runner.addresses[0][:2])
        yield running
    finally:
        await runner.cleanup()
