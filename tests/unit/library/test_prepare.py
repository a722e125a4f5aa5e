"""The program that prepares a video: real files of many kinds, and hostile ones."""

import asyncio
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pytest

from tests.unit.library.films import Film, corner_brightness, make, turn

TIMEOUT_S = 60.0


async def prepare(source: Path) -> tuple[list[dict[str, Any]], Path]:
    """Run the program; return what it told and its folder."""
    folder = source.parent / "out"
    folder.mkdir()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mediaserver.library.prepare", str(source), str(folder)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            told, errors = await asyncio.gather(process.stdout.read(), process.stderr.read())
            code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        process.stdin.close()
    assert code == 0, errors.decode()
    return [json.loads(line) for line in told.splitlines()], folder


async def prepared(source: Path) -> tuple[dict[str, Any], Path]:
    told, folder = await prepare(source)
    assert "file" in told[-1], told
    return told[-1], folder / told[-1]["file"]


async def refused(source: Path) -> str:
    told, _folder = await prepare(source)
    assert list(told[-1]) == ["problem"], told
    return str(told[-1]["problem"])


def packets(path: Path, kind: Literal["video", "audio"]) -> list[bytes]:
    with av.open(str(path)) as opened:
        stream = opened.streams.best(kind)
        return [bytes(packet) for packet in opened.demux(stream) if packet.size]


def codecs(path: Path) -> list[str]:
    with av.open(str(path)) as opened:
        return [stream.codec_context.codec.canonical_name for stream in opened.streams]


def keyframes_s(path: Path) -> list[float]:
    with av.open(str(path)) as opened:
        found = [p for p in opened.demux(video=0) if p.size and p.is_keyframe]
        return [float(p.pts * p.time_base) for p in found if p.pts is not None]


def plays_while_loading(path: Path) -> bool:
    """Whether what a player needs first comes first."""
    data = path.read_bytes()
    if path.suffix == ".mp4":
        return data.index(b"moov") < data.index(b"mdat")
    return data.index(b"\x1c\x53\xbb\x6b") < data.index(b"\x1f\x43\xb6\x75")  # Cues, Cluster


async def test_what_browsers_play_is_copied_with_its_index_in_front(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", Film(seconds=3))
    assert not plays_while_loading(source), "its index comes last"
    done, media = await prepared(source)
    assert done == {
        "file": "media.mp4",
        "content_type": "video/mp4",
        "duration_s": pytest.approx(3.0, abs=0.05),
        "width": 128,
        "height": 72,
    }
    assert plays_while_loading(media)
    assert packets(media, "video") == packets(source, "video"), "bit for bit"
    assert packets(media, "audio") == packets(source, "audio")


@pytest.mark.parametrize(
    ("name", "film", "content_type", "wanted"),
    [
        ("a.mkv", Film(audio="libmp3lame"), "video/mp4", ["h264", "mp3"]),
        ("a.webm", Film("libvpx", "libopus"), "video/webm", ["vp8", "opus"]),
        ("a.webm", Film("libvpx-vp9", None), "video/webm", ["vp9"]),
        ("a.ts", Film(starts_s=10.0), "video/mp4", ["h264", "aac"]),
        ("a.m4a", Film(None), "audio/mp4", ["aac"]),
        ("a.mp3", Film(None, "libmp3lame"), "audio/mp4", ["mp3"]),
        ("a.ogg", Film(None, "libopus"), "audio/webm", ["opus"]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_these_are_copied(
    tmp_path: Path, name: str, film: Film, content_type: str, wanted: list[str]
) -> None:
    source = make(tmp_path / name, film)
    done, media = await prepared(source)
    assert done["content_type"] == content_type
    assert done["duration_s"] == pytest.approx(film.seconds, abs=0.1)
    assert codecs(media) == wanted
    assert plays_while_loading(media)
    with av.open(str(media)) as opened:
        assert abs(opened.start_time or 0) < 50_000, "it begins at 0"
    kinds: tuple[Literal["video", "audio"], ...] = ("video", "audio")
    for kind in kinds:
        if (film.video if kind == "video" else film.audio) is not None:
            assert len(packets(media, kind)) == pytest.approx(len(packets(source, kind)), abs=2)


@pytest.mark.parametrize(
    ("name", "film", "wanted"),
    [
        ("a.avi", Film("mpeg4", "ac3", seconds=5.0), ["h264", "aac"]),
        ("a.mkv", Film("ffv1", "flac"), ["h264", "aac"]),
        ("a.mp4", Film(pixel_format="yuv444p"), ["h264", "aac"]),
        ("a.mkv", Film("libx264", "ac3"), ["h264", "aac"]),
        ("a.mkv", Film("libvpx", "ac3"), ["vp8", "opus"]),
        ("a.wav", Film(None, "pcm_s16le"), ["aac"]),
        ("a.mov", Film("libx265", "aac", size=(640, 480)), ["h264", "aac"]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_all_others_are_encoded(
    tmp_path: Path, name: str, film: Film, wanted: list[str]
) -> None:
    done, media = await prepared(make(tmp_path / name, film))
    assert codecs(media) == wanted
    assert done["duration_s"] == pytest.approx(film.seconds, abs=0.1)
    if film.video is None:
        assert (done["width"], done["height"]) == (None, None)
        return
    assert (done["width"], done["height"]) == film.size
    bright = corner_brightness(media)
    assert bright[0] > 180, "the picture is what it was"
    assert max(bright[1:]) < 80
    with av.open(str(media)) as opened:
        assert opened.streams.video[0].codec_context.pix_fmt == "yuv420p"
    assert len(packets(media, "video")) == film.seconds * film.rate, "no picture is lost"


async def test_encoded_pictures_have_a_keyframe_every_two_seconds(tmp_path: Path) -> None:
    _done, media = await prepared(make(tmp_path / "a.avi", Film("mpeg4", None, seconds=7.0)))
    assert keyframes_s(media) == pytest.approx([0, 2, 4, 6], abs=0.05)


async def test_large_pictures_are_made_smaller_in_their_ratio(tmp_path: Path) -> None:
    film = Film("mpeg4", None, seconds=0.4, size=(2002, 3000))
    done, _media = await prepared(make(tmp_path / "a.avi", film))
    assert (done["width"], done["height"]) == (1080, 1618)


@pytest.mark.parametrize(("degrees", "bright"), [(90, 1), (180, 3), (270, 2)])
async def test_a_turned_film_is_shown_turned(tmp_path: Path, degrees: int, bright: int) -> None:
    (tmp_path / "copied").mkdir()
    done, media = await prepared(turn(make(tmp_path / "copied" / "a.mp4"), degrees))
    assert (done["width"], done["height"]) == ((72, 128) if degrees != 180 else (128, 72))
    with av.open(str(media)) as opened:
        assert next(opened.decode(video=0)).rotation % 360 == -degrees % 360, "players turn it"
    (tmp_path / "encoded").mkdir()
    film = Film(pixel_format="yuv444p")
    done, media = await prepared(turn(make(tmp_path / "encoded" / "a.mp4", film), degrees))
    assert (done["width"], done["height"]) == ((72, 128) if degrees != 180 else (128, 72))
    with av.open(str(media)) as opened:
        assert next(opened.decode(video=0)).rotation == 0
    quarters = corner_brightness(media)
    assert quarters.index(max(quarters)) == bright


async def test_sound_that_begins_late_stays_late(tmp_path: Path) -> None:
    """Silence is put where there is none, so that pictures and sound stay together."""
    early, late = make(tmp_path / "v.mkv", Film("ffv1", None)), tmp_path / "a.mkv"
    sound = make(tmp_path / "s.mkv", Film(None, "flac", seconds=1.0, starts_s=1.0))
    with av.open(str(early)) as a, av.open(str(sound)) as b, av.open(str(late), "w") as out:
        streams = [(part, out.add_stream_from_template(part.streams[0])) for part in (a, b)]
        for part, target in streams:
            for packet in part.demux():
                if packet.size:
                    packet.stream = target
                    out.mux(packet)
    done, media = await prepared(late)
    assert done["duration_s"] == pytest.approx(2.0, abs=0.1)
    with av.open(str(media)) as opened:
        loud = [
            float(frame.time or 0.0)
            for frame in opened.decode(audio=0)
            if frame.pts is not None and np.abs(frame.to_ndarray()).max() > 0.05
        ]
    assert loud[0] == pytest.approx(1.0, abs=0.1)
    assert loud[-1] > 1.8


@pytest.mark.parametrize("share", [0.3, 0.7])
@pytest.mark.parametrize("name", ["a.mp4", "index_first.mp4", "a.mkv"])
async def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, name: str, share: float) -> None:
    options = (("movflags", "faststart"),) if name == "index_first.mp4" else ()
    source = make(tmp_path / name, Film(seconds=6, options=options))
    os.truncate(source, round(source.stat().st_size * share))
    problem = await refused(source)
    if name == "a.mp4":
        assert "missing or damaged" in problem
    else:
        assert "cut off or damaged" in problem
        assert "of its 6.0 seconds" in problem


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile '{}'\n"
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video {} RTP/AVP 96\n"
MPD = '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{}</BaseURL></MPD>'


@pytest.mark.parametrize("kind", [PLAYLIST, CONCAT, SDP, MPD])
@pytest.mark.parametrize("name", ["upload", "a.m3u8", "a.ffconcat", "a.mpd"])
async def test_what_points_elsewhere_is_refused_and_asks_nobody(
    tmp_path: Path, kind: str, name: str
) -> None:
    asked: list[str] = []

    async def count(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append("somebody came")
        writer.close()

    server = await asyncio.start_server(count, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        source = tmp_path / name
        source.write_text(kind.format(f"http://127.0.0.1:{port}/a.ts"))
        assert "no video or audio file" in await refused(source)
    assert not asked


async def test_a_playlist_of_a_file_of_the_server_is_refused(tmp_path: Path) -> None:
    secret = make(tmp_path / "secret.ts")
    for kind in (PLAYLIST, CONCAT):
        folder = tmp_path / kind[1:5]
        folder.mkdir()
        (folder / "upload").write_text(kind.format(secret))
        assert "no video or audio file" in await refused(folder / "upload")


async def test_text_and_noise_are_refused(tmp_path: Path) -> None:
    for name, data in (("text", b"Hello\n" * 100), ("noise", os.urandom(100_000)), ("one", b"x")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "upload").write_bytes(data)
        assert await refused(folder / "upload")


async def test_pictures_of_a_hostile_size_are_refused(tmp_path: Path) -> None:
    source = make(tmp_path / "a.avi", Film("mpeg4", None, seconds=0.2))
    data = source.read_bytes()
    small, huge = struct.pack("<ii", 128, 72), struct.pack("<ii", 60_000, 60_000)
    assert small in data
    source.write_bytes(data.replace(small, huge))
    # The size inside the stream counts for the decoder, so one without it too:
    raw = tmp_path / "raw"
    raw.mkdir()
    film = make(raw / "a.mkv", Film("ffv1", None, seconds=0.2))
    data = film.read_bytes()
    width, height = b"\xb0\x81\x80", b"\xba\x81\x48"  # PixelWidth 128, PixelHeight 72
    assert width in data
    assert height in data
    film.write_bytes(data.replace(width, b"\xb0\x82\xff\xf0").replace(height, b"\xba\x82\xff\xf0"))
    for hostile in (source, film):
        told, _ = await prepare(hostile)
        assert "problem" in told[-1] or told[-1]["width"] == 128, told


async def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    source = make(tmp_path / "a.avi", Film("mpeg4", "ac3", seconds=60, size=(640, 360)))
    (tmp_path / "out").mkdir()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mediaserver.library.prepare", source, tmp_path / "out"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            assert b"duration_s" in await process.stdout.readline(), "it is at work"
            process.stdin.close()
            assert await process.wait() == os.EX_TEMPFAIL
            await process.stdout.read()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
