"""Small real media files of many kinds, made by PyAV."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

AUDIO_HZ = 48_000


@dataclass(frozen=True)
class Film:
    """What to make."""

    video: str | None = "libx264"
    audio: str | None = "aac"
    seconds: float = 2.0
    size: tuple[int, int] = (128, 72)
    pixel_format: str = "yuv420p"
    rate: int = 25
    options: tuple[tuple[str, str], ...] = ()
    """Of the container."""
    starts_s: float = 0.0


def make(path: Path, film: Film | None = None) -> Path:
    """Write a file; its name's suffix says which container. The left upper quarter is white."""
    film = film or Film()
    with av.open(str(path), "w", options=dict(film.options)) as out:
        video: av.VideoStream | None = None
        audio: av.AudioStream | None = None
        if film.video is not None:
            added = out.add_stream(film.video, rate=film.rate)
            assert isinstance(added, av.VideoStream)
            video = added
            video.width, video.height = film.size
            video.pix_fmt = film.pixel_format
            if film.video == "libx264":
                video.options = {"preset": "ultrafast", "bf": "2"}
        if film.audio is not None:
            sound = out.add_stream(film.audio, rate=AUDIO_HZ, layout="stereo")
            assert isinstance(sound, av.AudioStream)
            audio = sound
        if video is not None:
            picture = av.VideoFrame.from_ndarray(_picture(*film.size), format="yuv420p")
            first = round(film.starts_s * film.rate)
            for index in range(round(film.seconds * film.rate)):
                frame = picture.reformat(format=film.pixel_format)
                frame.pts, frame.time_base = first + index, Fraction(1, film.rate)
                out.mux(video.encode(frame))
        if audio is not None:
            samples = audio.codec_context.frame_size or 1024
            first = round(film.starts_s * AUDIO_HZ)
            for start in range(0, round(film.seconds * AUDIO_HZ), samples):
                times = (np.arange(samples) + start) / AUDIO_HZ
                tone = (0.1 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)
                heard = av.AudioFrame.from_ndarray(
                    np.tile(tone, (2, 1)), format="fltp", layout="stereo"
                )
                heard.sample_rate, heard.pts = AUDIO_HZ, first + start
                heard.time_base = Fraction(1, AUDIO_HZ)
                out.mux(audio.encode(heard))
        for stream in (video, audio):
            if stream is not None:
                out.mux(stream.encode(None))
    return path


def turn(path: Path, degrees: int) -> Path:
    """Have an MP4's pictures shown turned clockwise, as a phone does."""
    one = 1 << 16
    a, b, c, d = {90: (0, one, -one, 0), 180: (-one, 0, 0, -one), 270: (0, -one, one, 0)}[degrees]
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # version and flags, times and ids, …
    assert data[place : place + 4] == struct.pack(">i", one), "the matrix begins here"
    data[place : place + 36] = matrix
    path.write_bytes(data)
    return path


def corner_brightness(path: Path) -> list[int]:
    """Return the mean luma of the first picture's quarters, as shown without turning it:
    left upper, right upper, left lower, right lower."""
    with av.open(str(path)) as opened:
        luma = next(opened.decode(video=0)).to_ndarray(format="gray")
    rows, columns = luma.shape[0] // 2, luma.shape[1] // 2
    return [
        round(float(part.mean()))
        for part in (
            luma[:rows, :columns],
            luma[:rows, columns:],
            luma[rows:, :columns],
            luma[rows:, columns:],
        )
    ]


def _picture(width: int, height: int) -> np.ndarray:
    """Planes of yuv420p, shape (height * 3 / 2, width)."""
    picture = np.full((height * 3 // 2, width), 128, np.uint8)
    picture[:height] = 30
    picture[: height // 2, : width // 2] = 230
    return picture
