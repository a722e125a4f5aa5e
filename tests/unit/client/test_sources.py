"""Where audio comes from."""

import asyncio
import importlib
import io
import itertools
import math
import os
import struct
import wave
from array import array
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mediaserver_client.errors import AudioError
from mediaserver_client.media import MediaFile, Microphone
from mediaserver_client.sources import (
    AudioSource,
    PcmBytes,
    PcmStream,
    WavFile,
    open_source,
    to_s16,
)

TONE = array("h", [round(8000 * math.sin(n * 2 * math.pi * 440 / 16000)) for n in range(32000)])


def wav(
    samples: bytes = TONE.tobytes(), *, width: int = 2, channels: int = 1, rate_hz: int = 16000
) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate_hz)
        file.writeframes(samples)
    return out.getvalue()


async def whole(source: AudioSource) -> bytes:
    return b"".join([pcm async for pcm in source.chunks()])


def opened(source: object) -> AudioSource:
    return open_source(source, 16000, 1)  # type: ignore[arg-type]


async def test_a_wav_file_gives_its_samples(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    path.write_bytes(wav())
    for source in (opened(path), opened(str(path)), opened(wav()), opened(io.BytesIO(wav()))):
        assert isinstance(source, WavFile)
        assert (source.sample_rate_hz, source.channels) == (16000, 1)
        assert await whole(source) == TONE.tobytes()


@pytest.mark.parametrize("width", [1, 3, 4])
async def test_wav_of_other_sample_sizes_becomes_16_bits(width: int) -> None:
    wide = {
        1: bytes((n >> 8) + 128 for n in TONE),
        3: b"".join(struct.pack("<i", n << 8)[:3] for n in TONE),
        4: b"".join(struct.pack("<i", n << 16) for n in TONE),
    }[width]
    pcm = array("h", await whole(opened(wav(wide, width=width))))
    assert len(pcm) == len(TONE)
    assert max(abs(a - b) for a, b in zip(pcm, TONE, strict=True)) <= (255 if width == 1 else 0)


def test_half_samples_are_cut_off_in_the_conversion() -> None:
    assert to_s16(b"\x00\x01\x02\x00\x03\x04", 3) == b"\x01\x02\x03\x04"


async def test_a_stereo_wav_says_so() -> None:
    source = opened(wav(TONE.tobytes(), channels=2, rate_hz=44100))
    assert (source.sample_rate_hz, source.channels) == (44100, 2)


async def test_raw_bytes_are_pcm_as_described() -> None:
    source = open_source(TONE.tobytes(), 8000, 2)
    assert isinstance(source, PcmBytes)
    assert (source.sample_rate_hz, source.channels) == (8000, 2)
    assert await whole(source) == TONE.tobytes()
    with pytest.raises(AudioError, match="whole number"):
        open_source(b"abc", 16000, 1)


async def test_an_iterator_is_cut_at_whole_frames() -> None:
    async def microphone() -> AsyncIterator[bytes]:
        for piece in (b"a", b"bcd", b"e", b"", b"fgh", b"i"):
            yield piece

    source = open_source(microphone(), 16000, 2)
    assert isinstance(source, PcmStream)
    assert [pcm async for pcm in source.chunks()] == [b"abcd", b"efgh"]


async def test_an_iterator_of_something_else_is_an_error_that_says_what_it_has_to_give() -> None:
    async def words() -> AsyncIterator[str]:
        yield "hello"

    with pytest.raises(AudioError, match="has to give bytes"):
        await whole(opened(words()))


def encode(path: Path, codec: str, rate_hz: int) -> None:
    """Write TONE into a stereo file of another format."""
    av: Any = importlib.import_module("av")
    with av.open(str(path), "w") as out, av.open(io.BytesIO(wav())) as tone:
        stream = out.add_stream(codec, rate=rate_hz, layout="stereo")
        context = stream.codec_context
        resampler = av.AudioResampler(
            format=context.format, layout="stereo", rate=rate_hz,
            frame_size=context.frame_size or 1024,
        )  # fmt: skip
        for frame in [*tone.decode(audio=0), None]:
            for piece in resampler.resample(frame):
                out.mux(stream.encode(piece))
        out.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("name", "codec", "rate_hz"), [("t.flac", "flac", 44100), ("t.ogg", "libopus", 48000)]
)
async def test_other_files_are_decoded_to_16_khz_mono(
    tmp_path: Path, name: str, codec: str, rate_hz: int
) -> None:
    path = tmp_path / name
    encode(path, codec, rate_hz)
    source = opened(path)
    assert isinstance(source, MediaFile)
    pcm = array("h", await whole(source))
    assert len(pcm) == pytest.approx(32000, abs=1000)
    crossings = sum((a < 0) != (b < 0) for a, b in itertools.pairwise(pcm))
    assert crossings == pytest.approx(2 * 440 * 2, abs=40)
    assert isinstance(opened(path.read_bytes()), MediaFile)


async def test_a_file_that_is_left_early_stops_its_thread(tmp_path: Path) -> None:
    import threading

    path = tmp_path / "long.wav"
    path.write_bytes(wav(TONE.tobytes() * 300))
    chunks = MediaFile(path).chunks()
    assert await anext(chunks)
    await chunks.aclose()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name == "audio-decode"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.wav", None, "No such file"),
        ("empty.wav", b"", "is empty"),
        ("text.mp3", b"this is no sound at all, only text", "no audio or video"),
        ("cut.wav", b"RIFF\x00\x00\x00\x00WAVE", "no audio or video"),
    ],
)
def test_what_cannot_be_read_says_why(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AudioError, match=said) as caught:
        opened(path)
    assert name in str(caught.value)


def test_a_directory_or_a_number_cannot_be_published(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="directory"):
        opened(tmp_path)
    with pytest.raises(AudioError, match="int"):
        opened(3)


async def test_a_film_without_sound_says_so(tmp_path: Path) -> None:
    import av

    path = tmp_path / "silent.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        out.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        out.mux(stream.encode(None))
    with pytest.raises(AudioError, match="no sound"):
        opened(path)


async def test_without_pyav_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r"pip install 'mediaserver-client\[media\]'"):
        opened(b"fLaC" + bytes(100))
    assert isinstance(opened(wav()), WavFile)


ALSA = """
pcm.spoken {{ type file; slave.pcm sink; file "/dev/null"; infile "{infile}"; format "raw" }}
pcm.sink {{ type null }}
"""


@pytest.mark.skipif(os.name != "posix", reason="ALSA is Linux's")
async def test_the_microphone_is_read_through_alsa(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tone.raw").write_bytes(TONE.tobytes() * 50)
    config = tmp_path / "asound.conf"
    config.write_text(ALSA.format(infile=tmp_path / "tone.raw"))
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(config))
    chunks = Microphone("spoken").chunks()
    pcm = b""
    async with asyncio.timeout(10):
        async for piece in chunks:
            pcm += piece
            if len(pcm) > 16000:
                break
    await chunks.aclose()  # type: ignore[attr-defined]
    assert max(array("h", pcm)) > 4000


@pytest.mark.skipif(os.name != "posix", reason="ALSA is Linux's")
def test_no_microphone_is_an_error_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "asound.conf").write_text("")
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(tmp_path / "asound.conf"))
    with pytest.raises(AudioError, match="arecord"):
        Microphone()
