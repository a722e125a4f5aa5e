"""What is copied into what, and what is encoded."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.kernel.errors import UnsupportedMedia
from mediaserver.library.media_kinds import (
    LONG_SIDE,
    MAX_PIXELS,
    SHORT_SIDE,
    AudioTrack,
    Plan,
    VideoTrack,
    encoding_all,
    fitted,
    plan,
)

AAC = AudioTrack("aac", "LC")


def pictures(codec: str, pixel_format: str = "yuv420p", **more: object) -> VideoTrack:
    return VideoTrack(codec, pixel_format, 640, 360, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source_format", "codec", "sound", "container", "video", "audio"),
    [
        ("mov", "h264", AAC, "mp4", "copy", "copy"),
        ("matroska", "h264", AudioTrack("mp3"), "mp4", "copy", "copy"),
        ("matroska", "h264", AudioTrack("ac3"), "mp4", "copy", "encode"),
        ("mov", "h264", AudioTrack("aac", "Main"), "mp4", "copy", "encode"),
        ("mpegts", "h264", AAC, "mp4", "copy", "copy"),
        ("matroska", "av1", AudioTrack("opus"), "mp4", "copy", "copy"),
        ("matroska", "vp8", AudioTrack("vorbis"), "webm", "copy", "copy"),
        ("matroska", "vp9", AudioTrack("opus"), "webm", "copy", "copy"),
        ("mov", "vp9", AAC, "webm", "copy", "encode"),
        ("matroska", "vp9", None, "webm", "copy", None),
        ("mov", "hevc", AAC, "mp4", "encode", "copy"),
        ("avi", "h264", AudioTrack("mp3"), "mp4", "encode", "copy"),
        ("avi", "mpeg4", AudioTrack("ac3"), "mp4", "encode", "encode"),
        ("mov", "prores", AudioTrack("pcm_s16le"), "mp4", "encode", "encode"),
    ],
)
def test_pictures(
    source_format: str,
    codec: str,
    sound: AudioTrack | None,
    container: str,
    video: str,
    audio: str | None,
) -> None:
    made = plan(source_format, pictures(codec), sound)
    assert (made.container, made.video, made.audio) == (container, video, audio)
    assert made.content_type == f"video/{container}"


@pytest.mark.parametrize(
    ("codec", "container", "treatment"),
    [
        ("aac", "mp4", "copy"),
        ("mp3", "mp4", "copy"),
        ("opus", "webm", "copy"),
        ("vorbis", "webm", "copy"),
        ("flac", "mp4", "encode"),
        ("pcm_s16le", "mp4", "encode"),
    ],
)
def test_sound_alone(codec: str, container: str, treatment: str) -> None:
    made = plan("ogg", None, AudioTrack(codec))
    assert made == Plan(container, None, treatment, None)  # type: ignore[arg-type]
    assert made.content_type == f"audio/{container}"


def test_pixel_formats_that_browsers_do_not_decode_are_encoded() -> None:
    assert plan("mov", pictures("h264", "yuv420p10le"), None).video == "encode"
    assert plan("mov", pictures("h264", "yuv444p"), None).video == "encode"
    assert plan("matroska", pictures("vp9", "yuv420p10le"), None).video == "encode"
    assert plan("mov", pictures("av1", "yuv420p10le"), None).video == "copy"


def test_a_turned_picture_is_turned_where_the_container_cannot_say_so() -> None:
    assert plan("mov", pictures("h264", rotation_deg=90), None).video == "copy"
    turned = plan("mov", pictures("vp9", rotation_deg=90), None)
    assert (turned.video, turned.size) == ("encode", (360, 640))


def test_nothing_to_play_and_too_large_pictures_are_refused() -> None:
    with pytest.raises(UnsupportedMedia):
        plan("mov", None, None)
    with pytest.raises(UnsupportedMedia, match="16384x16384"):
        plan("mov", VideoTrack("h264", "yuv420p", 16384, 16384), None)
    assert MAX_PIXELS >= 7680 * 4320, "8K is taken"


def test_encoding_all_copies_nothing() -> None:
    assert encoding_all(pictures("h264"), AAC) == Plan("mp4", "encode", "encode", (640, 360))
    assert encoding_all(None, AAC) == Plan("mp4", None, "encode", None)


def test_pixels_that_are_not_square_are_made_so() -> None:
    pal = VideoTrack("mpeg2video", "yuv420p", 720, 576, sample_aspect=Fraction(64, 45))
    assert plan("mpeg", pal, None).size == (1024, 576)


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_encoded_pictures_are_even_fit_and_keep_their_ratio(width: int, height: int) -> None:
    made = fitted(width, height)
    assert all(side % 2 == 0 and side >= 2 for side in made)
    assert max(made) <= LONG_SIDE
    assert min(made) <= SHORT_SIDE
    assert all(side <= max(2, given + 1) for side, given in zip(made, (width, height), strict=True))
    if min(made) > 32:
        assert made[0] / made[1] == pytest.approx(width / height, rel=2 / min(made))
