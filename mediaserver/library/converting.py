"""Makes of a source what browsers play: streams are copied or encoded into one MP4 or WebM."""

import errno
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
from av.container import InputContainer, OutputContainer

from mediaserver.library.encoding import AnyPacket, Pictures, Sound
from mediaserver.library.media_kinds import MAX_DURATION_S, Plan
from mediaserver.library.probing import Source, Unplayable, opened, reason

MAX_HELD = 32
_OPTIONS = {"mp4": {"movflags": "+faststart"}, "webm": {"cues_to_front": "1"}}
"""What a player must know to seek comes first."""


class CannotCopy(Exception):
    """The streams do not fit as they are; they are to be encoded."""


@dataclass(slots=True)
class Span:
    """From where to where a stream went so far, seconds from the source's beginning."""

    start_s: float | None = None
    end_s: float = 0.0

    def add(self, packet: AnyPacket, start_s: Fraction) -> None:
        """Note a packet. Raises Unplayable if it is impossibly late."""
        if packet.pts is None:
            return
        begins_s = float(packet.pts * packet.time_base - start_s)
        ends_s = begins_s + float((packet.duration or 0) * packet.time_base)
        if ends_s > MAX_DURATION_S:
            raise Unplayable(f"it is longer than {MAX_DURATION_S / 3600:g} hours, or damaged")
        self.start_s = begins_s if self.start_s is None else min(self.start_s, begins_s)
        self.end_s = max(self.end_s, ends_s)


class _Way(Protocol):
    """What becomes of a stream's packets."""

    def push(self, packet: AnyPacket) -> None:
        """Take the next packet."""
        ...

    def finish(self) -> None:
        """There are no more."""
        ...


def convert(
    source: Source, path: Path, target: Path, plan: Plan, tell: Callable[[float], None]
) -> float:
    """Write `target`; return for how many seconds the source went.

    `tell` is given the seconds that were read so far. Raises Unplayable, and CannotCopy, after
    which another plan may do.
    """
    with ExitStack() as stack:
        container = stack.enter_context(opened(path))
        out = stack.enter_context(
            av.open(str(target), "w", format=plan.container, options=_OPTIONS[plan.container])
        )
        ways = _ways(source, container, out, plan)
        spans = {index: Span() for index in ways}
        streams = [container.streams[index] for index in ways]
        for packet in _packets(container, streams):
            spans[packet.stream.index].add(packet, source.start_s)
            ways[packet.stream.index].push(packet)
            tell(max(span.end_s for span in spans.values()))
        for way in ways.values():
            way.finish()
        try:
            out.close()
        except av.FFmpegError as error:
            raise _told(error) from error
    if all(span.start_s is None for span in spans.values()):
        raise Unplayable("nothing in it can be played; it is damaged or cut off")
    return max(span.end_s for span in spans.values())


def _ways(
    source: Source, container: InputContainer, out: OutputContainer, plan: Plan
) -> dict[int, _Way]:
    ways: dict[int, _Way] = {}
    if source.video_index is not None and source.video is not None:
        video = container.streams[source.video_index]
        assert isinstance(video, av.VideoStream)
        if plan.video == "copy":
            ways[video.index] = _Copy(video, out, source.start_s, whole_pictures=True)
        elif plan.size is not None:
            turn = source.video.rotation_deg
            ways[video.index] = Pictures(video, out, source.start_s, plan.size, turn)
    if source.audio_index is not None:
        audio = container.streams[source.audio_index]
        assert isinstance(audio, av.AudioStream)
        if plan.audio == "copy":
            ways[audio.index] = _Copy(audio, out, source.start_s, whole_pictures=False)
        else:
            codec = "libopus" if plan.container == "webm" else "aac"
            ways[audio.index] = Sound(audio, out, source.start_s, codec)
    return ways


def _packets(container: InputContainer, streams: "list[av.stream.Stream]") -> Iterator[AnyPacket]:
    """Yield packets up to the end, or up to where nothing more can be read."""
    demuxed = container.demux(*streams)
    while True:
        try:
            packet = next(demuxed)
        except (StopIteration, av.InvalidDataError):
            return
        if packet.size:
            yield packet


class _Copy:
    """Copies packets, moved so that the source begins at 0."""

    def __init__(
        self,
        stream: "av.VideoStream | av.AudioStream",
        out: OutputContainer,
        start_s: Fraction,
        *,
        whole_pictures: bool,
    ) -> None:
        try:
            self._target = out.add_stream_from_template(stream)
        except (av.FFmpegError, ValueError) as error:
            raise CannotCopy(reason(error)) from error
        self._out = out
        self._shift = round(start_s / stream.time_base) if stream.time_base else 0
        self._waits = whole_pictures
        self._held: list[AnyPacket] = []
        """The first packets, while it is not known when they are to be decoded."""

    def push(self, packet: AnyPacket) -> None:
        """Copy a packet; those before the first keyframe cannot be decoded and are left out."""
        if self._waits and not packet.is_keyframe:
            return
        self._waits = False
        if packet.pts is None:
            raise CannotCopy("a packet has no time")
        if packet.dts is None:
            self._hold(packet)
            return
        for number, held in enumerate(self._held):
            # as far before it as their number, so that times of decoding grow
            step = max(1, held.duration or 1)
            held.dts = packet.dts - (len(self._held) - number) * step
            self._mux(held)
        self._held.clear()
        self._mux(packet)

    def _hold(self, packet: AnyPacket) -> None:
        if len(self._held) >= MAX_HELD:
            raise CannotCopy("packets have no times of decoding")
        self._held.append(packet)

    def _mux(self, packet: AnyPacket) -> None:
        assert packet.pts is not None
        assert packet.dts is not None
        packet.pts -= self._shift
        packet.dts -= self._shift
        packet.stream = self._target
        try:
            self._out.mux_one(packet)
        except (av.FFmpegError, ValueError) as error:
            if _is_disk(error):
                raise
            raise CannotCopy(reason(error)) from error

    def finish(self) -> None:
        """Raise CannotCopy if something could not be written."""
        if self._held:
            raise CannotCopy("packets have no times of decoding")


def _told(error: Exception) -> Exception:
    """Return what to raise for a fault of writing."""
    if _is_disk(error):
        return error
    return CannotCopy(reason(error))


def _is_disk(error: Exception) -> bool:
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
