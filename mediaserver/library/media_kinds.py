"""Which media browsers play as they are, and what becomes of all others. Pure.

| pictures | sound | becomes |
|---|---|---|
| H.264 (8-bit 4:2:0) or AV1 | AAC, MP3, Opus | MP4, both copied |
| VP8, VP9 (8-bit 4:2:0) | Opus, Vorbis | WebM, both copied |
| any other | any | MP4: H.264 High within 1920x1080 |
| none | AAC, MP3; Opus, Vorbis | MP4; WebM, copied |

Sound that is not in its row becomes AAC in MP4, Opus in WebM.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from mediaserver.kernel.errors import UnsupportedMedia

LONG_SIDE, SHORT_SIDE = 1920, 1080
"""What encoded pictures fit in, whichever way they are turned."""
MAX_PIXELS = 8192 * 4352
"""Of one picture of a source."""
MAX_DURATION_S = 24 * 3600.0
KEYFRAME_S = 2.0
AUDIO_BPS = 160_000
AUDIO_HZ = 48_000

FORMATS = (
    *("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "ogg", "asf"),
    *("mp3", "wav", "w64", "flac", "aac", "aiff", "caf", "au"),
)
"""FFmpeg's demuxers that may be used. None of them opens another file or address."""
VIDEO_DECODERS = (
    *("h264", "hevc", "libdav1d", "vp8", "libvpx", "vp9", "libvpx-vp9", "mpeg4", "mpeg2video"),
    *("mpeg1video", "h263", "flv", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2", "wmv3"),
    *("vc1", "mjpeg", "theora", "prores", "dnxhd", "ffv1", "dvvideo", "vp6f", "vp6", "qtrle"),
)
AUDIO_DECODERS = (
    *("aac", "aac_latm", "mp3", "mp3float", "mp2", "mp2float", "opus", "libopus", "vorbis"),
    *("flac", "alac", "ac3", "eac3", "dca", "truehd", "wmav1", "wmav2", "wmapro", "amrnb"),
    *("amrwb", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be"),
    *("pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_u8", "pcm_s8", "pcm_alaw", "pcm_mulaw"),
    *("adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt", "speex"),
)
"""FFmpeg's decoders that may be used."""
TELLS_DURATION = frozenset({"mov", "matroska", "ogg", "wav", "w64"})
"""Formats whose duration is written down; that of the others is estimated."""

Container = Literal["mp4", "webm"]
Treatment = Literal["copy", "encode"]

_TELLS_TIMES = frozenset({"mov", "matroska", "mpegts", "flv"})
"""Formats in which each picture has its own time, so that pictures can be copied."""
_MP4_SOUND = frozenset({"aac", "mp3", "opus"})
_WEBM_SOUND = frozenset({"opus", "vorbis"})
_PLAYED_PROFILES: Mapping[str, frozenset[str]] = {
    "h264": frozenset({"yuv420p", "yuvj420p"}),
    "av1": frozenset({"yuv420p", "yuv420p10le"}),
    "vp8": frozenset({"yuv420p"}),
    "vp9": frozenset({"yuv420p"}),
}
_AAC_PROFILES = frozenset({None, "LC", "HE-AAC", "HE-AACv2"})


@dataclass(frozen=True, slots=True)
class VideoTrack:
    """The pictures of a source."""

    codec: str
    """FFmpeg's name: ``h264``."""
    pixel_format: str | None
    width: int
    height: int
    """As they are coded."""
    rotation_deg: int = 0
    """Clockwise, to be shown: 0, 90, 180 or 270."""
    sample_aspect: Fraction = Fraction(1)
    """Width of a pixel by its height."""

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height, in square pixels, turned as they are shown."""
        width, height = max(1, round(self.width * self.sample_aspect)), self.height
        return (height, width) if self.rotation_deg in (90, 270) else (width, height)


@dataclass(frozen=True, slots=True)
class AudioTrack:
    """The sound of a source."""

    codec: str
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is made of a source."""

    container: Container
    video: Treatment | None
    """None: there are no pictures."""
    audio: Treatment | None
    size: tuple[int, int] | None
    """Width and height as shown; of encoded pictures both are even."""

    @property
    def content_type(self) -> str:
        """Of the result."""
        return f"{'audio' if self.video is None else 'video'}/{self.container}"

    @property
    def copies(self) -> bool:
        """Whether anything is copied as it is."""
        return "copy" in (self.video, self.audio)


def plan(source_format: str, video: VideoTrack | None, audio: AudioTrack | None) -> Plan:
    """Return what to make of a source. Raises UnsupportedMedia where there is nothing to play."""
    if video is None and audio is None:
        raise UnsupportedMedia("the file holds neither pictures nor sound that can be played")
    if video is None:
        assert audio is not None
        container: Container = "webm" if audio.codec in _WEBM_SOUND else "mp4"
        return Plan(container, None, _sound(audio, container), None)
    if video.width * video.height > MAX_PIXELS or min(video.width, video.height) < 1:
        raise UnsupportedMedia(
            f"its pictures have {video.width}x{video.height} pixels, more than can be read here; "
            "make it smaller (1920x1080 is enough)"
        )
    if not _is_played(source_format, video):
        return Plan("mp4", "encode", _sound(audio, "mp4"), fitted(*video.shown))
    container = "webm" if video.codec in ("vp8", "vp9") else "mp4"
    return Plan(container, "copy", _sound(audio, container), video.shown)


def encoding_all(video: VideoTrack | None, audio: AudioTrack | None) -> Plan:
    """Return the plan that copies nothing, for a source that cannot be copied after all."""
    return Plan(
        "mp4",
        None if video is None else "encode",
        None if audio is None else "encode",
        None if video is None else fitted(*video.shown),
    )


def fitted(width: int, height: int) -> tuple[int, int]:
    """Return an even size of the same ratio that fits; nothing is made larger."""
    long, short = max(width, height), min(width, height)
    scale = min(Fraction(1), Fraction(LONG_SIDE, long), Fraction(SHORT_SIDE, short))
    return _even(width * scale), _even(height * scale)


def _is_played(source_format: str, video: VideoTrack) -> bool:
    if source_format not in _TELLS_TIMES:
        return False
    if video.codec in ("vp8", "vp9") and video.rotation_deg:  # WebM cannot say so
        return False
    return video.pixel_format in _PLAYED_PROFILES.get(video.codec, frozenset())


def _sound(audio: AudioTrack | None, container: Container) -> Treatment | None:
    if audio is None:
        return None
    if container == "webm":
        return "copy" if audio.codec in _WEBM_SOUND else "encode"
    if audio.codec == "aac" and audio.profile not in _AAC_PROFILES:
        return "encode"
    return "copy" if audio.codec in _MP4_SOUND else "encode"


def _even(value: Fraction) -> int:
    return max(2, round(value / 2) * 2)
