"""Clocks. What decides takes time as an argument; only edges own a `Clock`.

Three times that must not be mixed have three names: media time (seconds from the start of a
track), monotonic time (for intervals on one machine) and wall time (Unix seconds, for people).
"""

import time
from typing import NewType, Protocol

MediaTime = NewType("MediaTime", float)
MonotonicTime = NewType("MonotonicTime", float)
WallTime = NewType("WallTime", float)


class Clock(Protocol):
    """Where an edge reads the time from; tests pass a virtual one."""

    def monotonic_s(self) -> MonotonicTime:
        """Seconds from an arbitrary point, never going back."""
        ...

    def wall_s(self) -> WallTime:
        """Seconds since the Unix epoch."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic_s(self) -> MonotonicTime:
        """Seconds from an arbitrary point, never going back."""
        return MonotonicTime(time.monotonic())

    def wall_s(self) -> WallTime:
        """Seconds since the Unix epoch."""
        return WallTime(time.time())
