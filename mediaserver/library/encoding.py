"""Encodes pictures as H.264 High, and sound as AAC or Opus, from packets of any kind."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, TypeAlias, TypeVar

import av
from av.container import OutputContainer
from av.filter import Graph
from av.video.frame import PictureType

from mediaserver.library.media_kinds import AUDIO_BPS, AUDIO_HZ, KEYFRAME_S
from mediaserver.library.probing import MAX_THREADS, Unplayable, check_size, limit_threads

AnyPacket: TypeAlias = "av.Packet[Any]"
_Frame = TypeVar("_Frame")
TICKS_HZ = 90_000
MAX_BPS = 6_000_000
_MAX_HZ = 240
_TURNS = {0: "", 90: "transpose=clock,", 180: "hflip,vflip,", 270: "transpose=cclock,"}


class Pictures:
    """Decodes pictures, turns and scales them, and encodes them as H.264 High."""

    def __init__(
        self,
        stream: "av.VideoStream",
        out: OutputContainer,
        start_s: Fraction,
        size: tuple[int, int],
        turn_deg: int,
    ) -> None:
        limit_threads(stream)
        self._stream = stream
        self._out = out
        self._start_s = start_s
        self._size = size
        self._turn = _TURNS[turn_deg]
        rate = min(_MAX_HZ, max(1, round(stream.average_rate or 30)))
        target = out.add_stream("libx264", rate=rate)
        assert isinstance(target, av.VideoStream)
        target.width, target.height = size
        target.pix_fmt = "yuv420p"
        target.codec_context.time_base = Fraction(1, TICKS_HZ)
        target.codec_context.thread_count = MAX_THREADS
        target.options = {
            "preset": "veryfast",
            "profile": "high",
            "crf": "22",
            "maxrate": str(MAX_BPS),
            "bufsize": str(2 * MAX_BPS),
            "g": str(round(rate * KEYFRAME_S * 2)),
            "forced-idr": "1",
        }
        self._target = target
        self._graph: Graph | None = None
        self._shape: tuple[int, int, str] | None = None
        self._last = -1
        self._interval = TICKS_HZ // rate
        self._next_keyframe = 0
        self._decoded = False

    def push(self, packet: AnyPacket) -> None:
        """Decode a packet; a damaged one is left out."""
        for frame in _undamaged(packet.decode):
            assert isinstance(frame, av.VideoFrame)
            self._show(frame)

    def finish(self) -> None:
        """Encode what decoder, filters and encoder still hold."""
        for frame in _undamaged(lambda: self._stream.decode(None)):
            self._show(frame)
        if not self._decoded:
            raise Unplayable("none of its pictures can be decoded; it is damaged or cut off")
        self._out.mux(self._target.encode(None))

    def _show(self, frame: av.VideoFrame) -> None:
        check_size(frame)
        ticks = self._last + self._interval
        if frame.pts is not None and frame.time_base:
            ticks = round((frame.pts * frame.time_base - self._start_s) * TICKS_HZ)
        if ticks <= self._last or ticks < 0:  # nothing would be seen of it
            return
        self._decoded, self._last = True, ticks
        graph = self._graph_for(frame)
        graph.vpush(frame)
        shown = graph.vpull()
        shown.pts, shown.time_base = ticks, Fraction(1, TICKS_HZ)
        shown.pict_type = PictureType.NONE
        if ticks >= self._next_keyframe:
            shown.pict_type = PictureType.I
            self._next_keyframe = ticks + round(KEYFRAME_S * TICKS_HZ)
        self._out.mux(self._target.encode(shown))

    def _graph_for(self, frame: av.VideoFrame) -> Graph:
        """Return filters for pictures of this size and format, which may change in a file."""
        shape = (frame.width, frame.height, frame.format.name)
        if self._graph is not None and shape == self._shape:
            return self._graph
        graph = Graph()
        last = graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=frame.time_base or Fraction(1, TICKS_HZ),
        )
        width, height = self._size
        steps = f"{self._turn}scale={width}:{height}:flags=bicubic,setsar=1,format=yuv420p"
        for step in steps.split(","):
            name, _, arguments = step.partition("=")
            following = graph.add(name, arguments or None)
            last.link_to(following)
            last = following
        last.link_to(graph.add("buffersink"))
        graph.configure()
        self._graph, self._shape = graph, shape
        return graph


class Sound:
    """Decodes sound and encodes it, in stereo, with silence where there is a gap."""

    def __init__(
        self, stream: "av.AudioStream", out: OutputContainer, start_s: Fraction, codec: str
    ) -> None:
        self._stream = stream
        self._out = out
        self._start_s = start_s
        target = out.add_stream(codec, rate=AUDIO_HZ, layout="stereo")
        assert isinstance(target, av.AudioStream)
        target.bit_rate = AUDIO_BPS
        self._target = target
        self._frame_samples = 960 if codec == "libopus" else 1024
        self._format = "s16" if codec == "libopus" else "fltp"
        self._graph: Graph | None = None
        self._shape: tuple[int, str, str] | None = None
        self._samples = 0
        """Encoded so far."""
        self._expected = 0
        """The time of the next frame, in the source's samples."""

    def push(self, packet: AnyPacket) -> None:
        """Decode a packet; a damaged one is left out."""
        for frame in _undamaged(packet.decode):
            assert isinstance(frame, av.AudioFrame)
            self._hear(frame)

    def finish(self) -> None:
        """Encode what decoder, filters and encoder still hold."""
        for frame in _undamaged(lambda: self._stream.decode(None)):
            self._hear(frame)
        if self._graph is not None:
            self._graph.push(None)
            self._encode(self._graph)
        self._out.mux(self._target.encode(None))

    def _hear(self, frame: av.AudioFrame) -> None:
        told_s = None
        if frame.pts is not None and frame.time_base:
            told_s = frame.pts * frame.time_base - self._start_s
        graph = self._graph_for(frame)
        rate_hz = frame.sample_rate
        pts = self._expected if told_s is None else round(told_s * rate_hz)
        frame.pts, frame.time_base = pts, Fraction(1, rate_hz)
        self._expected = pts + frame.samples
        graph.push(frame)
        self._encode(graph)

    def _encode(self, graph: Graph) -> None:
        while True:
            try:
                heard = graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            assert isinstance(heard, av.AudioFrame)
            heard.pts, heard.time_base = self._samples, Fraction(1, AUDIO_HZ)
            self._samples += heard.samples
            self._out.mux(self._target.encode(heard))

    def _graph_for(self, frame: av.AudioFrame) -> Graph:
        """Return filters for sound of this shape, which may change in a file."""
        shape = (frame.sample_rate, frame.format.name, frame.layout.name)
        if self._graph is not None and shape == self._shape:
            return self._graph
        if self._graph is not None:
            self._graph.push(None)
            self._encode(self._graph)
        graph = Graph()
        source = graph.add_abuffer(
            sample_rate=frame.sample_rate,
            format=frame.format,
            layout=frame.layout,
            time_base=Fraction(1, frame.sample_rate),
        )
        even = graph.add("aresample", f"{AUDIO_HZ}:async=1000:first_pts={self._samples}")
        shaped = graph.add(
            "aformat",
            f"sample_fmts={self._format}:sample_rates={AUDIO_HZ}:channel_layouts=stereo",
        )
        framed = graph.add("asetnsamples", f"n={self._frame_samples}:p=0")
        sink = graph.add("abuffersink")
        for one, following in pairwise((source, even, shaped, framed, sink)):
            one.link_to(following)
        graph.configure()
        self._graph, self._shape, self._expected = graph, shape, 0
        return graph


def _undamaged(decode: Callable[[], Sequence[_Frame]]) -> Sequence[_Frame]:
    """Return what can be decoded."""
    try:
        return decode()
    except av.InvalidDataError:
        return ()
