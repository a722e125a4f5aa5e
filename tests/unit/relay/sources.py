"""A source of encoded frames that a test writes."""

from collections.abc import Mapping

from mediaserver.kernel.clocks import SystemClock
from mediaserver.rtc.encoded import EncodedFrame, Fanout, Tap
from mediaserver.rtc.stats import MediaKind


class WrittenSource:
    """A `MediaSource` that sends what it is given."""

    def __init__(self, **codecs: str) -> None:
        self.sent: dict[MediaKind, str] = {
            kind: codecs[kind] for kind in ("audio", "video") if kind in codecs
        }
        self.keyframes_asked = 0
        self.fanout = Fanout(SystemClock(), lambda: None, self.request_keyframe)

    @property
    def codecs(self) -> Mapping[MediaKind, str]:
        return self.sent

    def open_tap(self) -> Tap:
        return self.fanout.open()

    def request_keyframe(self) -> None:
        self.keyframes_asked += 1


def picture(number: int, keyframe: bool = False, size: int = 100) -> EncodedFrame:
    return EncodedFrame(
        kind="video",
        codec="VP8",
        timestamp=2**33 + number * 3600,
        clock_hz=90_000,
        keyframe=keyframe,
        data=bytes([number % 256]) * size,
        captured_s=number / 25,
    )
