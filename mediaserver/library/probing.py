"""Opens hostile media files with FFmpeg, and tells what they hold.

Only listed demuxers and decoders are used, and only the file itself is opened: playlists, image
sequences and the like, which name other files and addresses, are refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition

from mediaserver.library.media_kinds import (
    AUDIO_DECODERS,
    FORMATS,
    MAX_DURATION_S,
    MAX_PIXELS,
    TELLS_DURATION,
    VIDEO_DECODERS,
    AudioTrack,
    VideoTrack,
)

MAX_PACKETS_TO_A_PICTURE = 2000
MAX_THREADS = 4
_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": ",".join(FORMATS),
    "codec_whitelist": ",".join((*VIDEO_DECODERS, *AUDIO_DECODERS)),
    "max_streams": "64",
}


class Unplayable(Exception):
    """The file cannot be prepared; the text says why, to whoever uploaded it."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a file holds."""

    format: str
    """One of `FORMATS`."""
    start_s: Fraction
    """The time of its beginning."""
    duration_s: float | None
    """As the file says; None where it does not."""
    video_index: int | None
    video: VideoTrack | None
    audio_index: int | None
    audio: AudioTrack | None

    @property
    def announced_s(self) -> float | None:
        """The duration, where it is written down rather than estimated."""
        return self.duration_s if self.format in TELLS_DURATION else None


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open a media file. Raises Unplayable if it is none that is allowed."""
    try:
        container = av.open(
            f"file:{path}", container_options=dict(_OPTIONS), metadata_errors="replace"
        )
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, OSError) and not isinstance(error, av.FFmpegError):
            raise
        raise Unplayable(
            "this is no video or audio file that is known here, or its beginning or its index is "
            "missing or damaged; MP4, MOV, WebM, MKV, AVI, MPEG, FLV, WMV, Ogg, MP3, WAV, FLAC "
            "and AAC work"
        ) from error
    with container:
        if container.format.name.split(",")[0] not in FORMATS:
            raise Unplayable(f"files of the kind {container.format.name} are not taken")
        yield container


def probe(path: Path) -> Source:
    """Tell what a file holds; its first picture is decoded. Raises Unplayable."""
    with opened(path) as container:
        video = _first_video(container)
        audio = _first_audio(container)
        start_us = container.start_time
        source = Source(
            format=container.format.name.split(",")[0],
            start_s=Fraction(start_us if start_us is not None else 0, av.time_base),
            duration_s=_duration_s(container),
            video_index=None if video is None else video.index,
            video=None if video is None else _picture(container, video),
            audio_index=None if audio is None else audio.index,
            audio=None if audio is None else _sound(audio),
        )
    if source.video is None and source.audio is None:
        raise Unplayable(
            "the file holds neither pictures nor sound that can be played: " + _codecs(path)
        )
    if source.duration_s is not None and source.duration_s > MAX_DURATION_S:
        raise Unplayable(f"it is longer than {MAX_DURATION_S / 3600:g} hours")
    return source


def limit_threads(stream: "av.VideoStream", threads: int = MAX_THREADS) -> None:
    """Let a decoder use several threads, not all there are."""
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = threads


def check_size(frame: av.VideoFrame) -> None:
    """Raise Unplayable for a picture that is too large: sizes may change within a file."""
    if frame.width * frame.height > MAX_PIXELS:
        raise Unplayable(
            f"its pictures have {frame.width}x{frame.height} pixels, more than can be read here; "
            "make it smaller (1920x1080 is enough)"
        )


def _first_video(container: InputContainer) -> "av.VideoStream | None":
    for stream in container.streams.video:
        context = stream.codec_context
        if stream.disposition & Disposition.attached_pic or context is None:  # a cover
            continue
        if context.codec.name in VIDEO_DECODERS:
            if context.width * context.height > MAX_PIXELS:
                raise Unplayable(
                    f"its pictures have {context.width}x{context.height} pixels, more than can be "
                    "read here; make it smaller (1920x1080 is enough)"
                )
            return stream
    return None


def _first_audio(container: InputContainer) -> "av.AudioStream | None":
    for stream in container.streams.audio:
        context = stream.codec_context
        known = context is not None and context.codec.name in AUDIO_DECODERS
        if known and context.sample_rate > 0 and context.layout.nb_channels > 0:
            return stream
    return None


def _picture(container: InputContainer, stream: "av.VideoStream") -> VideoTrack:
    frame = _first_frame(container, stream)
    check_size(frame)
    return VideoTrack(
        codec=stream.codec_context.codec.canonical_name,
        pixel_format=frame.format.name,
        width=frame.width,
        height=frame.height,
        rotation_deg=round(-frame.rotation / 90) * 90 % 360,
        sample_aspect=_aspect(stream),
    )


def _first_frame(container: InputContainer, stream: "av.VideoStream") -> av.VideoFrame:
    for count, packet in enumerate(container.demux(stream)):
        try:
            for frame in packet.decode():
                return frame
        except av.InvalidDataError:
            continue
        except av.FFmpegError as error:
            raise Unplayable(f"its pictures cannot be decoded ({reason(error)})") from error
        if count > MAX_PACKETS_TO_A_PICTURE:
            break
    raise Unplayable("none of its pictures can be decoded; it is damaged or cut off")


def _aspect(stream: "av.VideoStream") -> Fraction:
    told = stream.sample_aspect_ratio
    if told is None or not Fraction(1, 4) <= told <= 4:
        return Fraction(1)
    return Fraction(told)


def _sound(stream: "av.AudioStream") -> AudioTrack:
    return AudioTrack(stream.codec_context.codec.canonical_name, stream.profile)


def _duration_s(container: InputContainer) -> float | None:
    if container.duration is None or container.duration <= 0:
        return None
    return container.duration / av.time_base


def _codecs(path: Path) -> str:
    """Name what a file holds that is not known here."""
    with opened(path) as container:
        names = [stream.type for stream in container.streams]
    return ", ".join(names[:8]) or "nothing"


def reason(error: Exception) -> str:
    """What FFmpeg says."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
