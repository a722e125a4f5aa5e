"""Encoded media on its way from who sends it to who watches: never decoded, never encoded anew.

    with source.open_tap() as tap:       # source: a MediaSource; a peer's `broadcast` is one
        while True:
            frame = await tap.get()      # an EncodedFrame; ChannelClosed when the source ended

A source hands every frame to a `Fanout`, which has a `Tap` for each reader. A tap holds about a
second: a reader that falls further behind loses what waits, goes on with the next keyframe, and
holds up nobody else.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from mediaserver.kernel.channels import ChannelClosed
from mediaserver.kernel.clocks import Clock
from mediaserver.rtc.stats import MediaKind

HELD_S = 1.0
"""What a reader may be behind; then it loses what waits."""
HELD_BYTES = 2 * 1024 * 1024
"""… or when it is behind by this much, though never the one frame that is more by itself."""


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One whole encoded picture, or one packet of audio."""

    kind: MediaKind
    codec: str
    """As in SDP: ``opus``, ``G722``, ``PCMU``, ``PCMA``; ``VP8``, ``H264``."""
    timestamp: int
    """RTP time in units of `clock_hz`: it neither wraps nor goes back, and has no fixed origin."""
    clock_hz: int
    keyframe: bool
    """Whether it can be decoded without those before it; always so for audio."""
    data: bytes
    """As the RTP payload format has it put together; H.264 in Annex B, a keyframe with its SPS and
    PPS."""
    captured_s: float
    """When it was captured, on a clock that the audio and video of a source share: what is equal
    here is to be seen and heard together. The origin is arbitrary."""


class Tap:
    """One reader's frames, in the order in which they came. Close it after use."""

    def __init__(
        self, clock: Clock, on_close: Callable[["Tap"], None], request_keyframe: Callable[[], None]
    ) -> None:
        self.dropped = 0
        """Frames that this reader lost because it was behind, or while it awaited a keyframe."""
        self._clock = clock
        self._on_close = on_close
        self._request_keyframe = request_keyframe
        self._items: deque[tuple[float, EncodedFrame]] = deque()
        self._bytes = 0
        self._awaits_keyframe = True
        self._behind = False
        self._ended = False
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    async def get(self) -> EncodedFrame:
        """Return the next frame, waiting for one.

        Raises ChannelClosed when the tap is closed, or when its source ended and nothing waits.
        """
        while not self._items:
            if self._ended:
                raise ChannelClosed
            self._changed.clear()
            await self._changed.wait()
        _, frame = self._items.popleft()
        self._bytes -= len(frame.data)
        return frame

    def put(self, frame: EncodedFrame) -> None:
        """Take a frame from the source; neither waits nor raises."""
        if self._ended:
            return
        now_s = self._clock.monotonic_s()
        if self._items and (
            now_s - self._items[0][0] > HELD_S or self._bytes + len(frame.data) > HELD_BYTES
        ):
            self._skip()
        if frame.kind == "video":
            if self._awaits_keyframe and not frame.keyframe:
                self.dropped += self._behind
                return
            self._awaits_keyframe = self._behind = False
        self._items.append((now_s, frame))
        self._bytes += len(frame.data)
        self._changed.set()

    def end(self) -> None:
        """The source ended; what waits can still be read."""
        self._ended = True
        self._changed.set()

    def close(self) -> None:
        """Read no more. Idempotent."""
        self._items.clear()
        self._bytes = 0
        self.end()
        self._on_close(self)

    def _skip(self) -> None:
        self.dropped += len(self._items)
        lost_video = any(frame.kind == "video" for _, frame in self._items)
        self._items.clear()
        self._bytes = 0
        if lost_video and not self._awaits_keyframe:
            self._awaits_keyframe = self._behind = True
            self._request_keyframe()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


class MediaSource(Protocol):
    """Audio and video that can be watched: of a local publisher, or of another instance's."""

    @property
    def codecs(self) -> Mapping[MediaKind, str]:
        """What is sent now, of each kind (see `EncodedFrame.codec`); empty before anything came."""
        ...

    def open_tap(self) -> Tap:
        """Read from now on; video begins with a keyframe. After the source ended: an ended tap."""
        ...

    def request_keyframe(self) -> None:
        """Ask the sender for a keyframe; asking more often than it helps costs nothing."""
        ...


class Fanout:
    """Hands each frame of a source to all taps.

    `changed` is called after the first tap was opened and after the last one was closed (see
    `watched`); `request_keyframe` whenever a tap needs a keyframe.
    """

    def __init__(
        self, clock: Clock, changed: Callable[[], None], request_keyframe: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._changed = changed
        self._request_keyframe = request_keyframe
        self._taps: set[Tap] = set()
        self._ended = False

    def __len__(self) -> int:
        return len(self._taps)

    @property
    def watched(self) -> bool:
        """Whether anybody reads."""
        return bool(self._taps)

    def open(self) -> Tap:
        """Return a new tap."""
        tap = Tap(self._clock, self._closed, self._request_keyframe)
        if self._ended:
            tap.end()
            return tap
        self._taps.add(tap)
        if len(self._taps) == 1:
            self._changed()
        self._request_keyframe()
        return tap

    def deliver(self, frame: EncodedFrame) -> None:
        """Hand a frame to all taps."""
        for tap in self._taps:
            tap.put(frame)

    def close(self) -> None:
        """The source ended: so do the taps. Idempotent."""
        self._ended = True
        for tap in tuple(self._taps):
            tap.end()
            self._closed(tap)

    def _closed(self, tap: Tap) -> None:
        if tap in self._taps:
            self._taps.remove(tap)
            if not self._taps:
                self._changed()
