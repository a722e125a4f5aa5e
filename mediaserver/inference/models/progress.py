"""How far a fetch is: one line that is drawn over itself on a terminal, else a few plain lines."""

import shutil
import sys
import time
from collections.abc import Callable
from typing import Protocol, TextIO

_REDRAW_S = 0.1
_PLAIN_STEP = 0.25


class Progress(Protocol):
    """Is told what goes on. All calls come from one thread."""

    def say(self, text: str) -> None:
        """Something worth a line happened."""

    def begin(self, label: str, total_bytes: int) -> None:
        """A step of known size starts."""

    def at(self, done_bytes: int) -> None:
        """So much of it is done."""

    def end(self) -> None:
        """It is over, done or not."""


class Silent:
    """Tells nobody."""

    def say(self, text: str) -> None:
        """Ignore it."""

    def begin(self, label: str, total_bytes: int) -> None:
        """Ignore it."""

    def at(self, done_bytes: int) -> None:
        """Ignore it."""

    def end(self) -> None:
        """Ignore it."""


class TerminalProgress:
    """Writes to a terminal or a log."""

    def __init__(
        self, stream: TextIO | None = None, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream or sys.stderr
        self._monotonic_s = monotonic_s
        self._drawn = self._stream.isatty()
        self._label = ""
        self._total_bytes = 0
        self._started_s = 0.0
        self._first_bytes: int | None = None
        self._redrawn_s = 0.0
        self._told = 0.0
        self._width = 0

    def say(self, text: str) -> None:
        """Write a line."""
        self._clear()
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def begin(self, label: str, total_bytes: int) -> None:
        """Start a step."""
        self._label, self._total_bytes = label, max(1, total_bytes)
        self._started_s = self._redrawn_s = self._monotonic_s()
        self._first_bytes, self._told = None, 0.0
        if not self._drawn:
            self.say(f"{label}: {megabytes(total_bytes)}")

    def at(self, done_bytes: int) -> None:
        """Draw how far it is; on a log only every quarter."""
        done_bytes = min(done_bytes, self._total_bytes)
        if self._first_bytes is None:
            self._first_bytes = done_bytes
        part = done_bytes / self._total_bytes
        now_s = self._monotonic_s()
        if not self._drawn:
            if part >= self._told + _PLAIN_STEP:
                self._told = part // _PLAIN_STEP * _PLAIN_STEP
                self.say(f"{self._label}: {self._told:.0%}")
        elif now_s - self._redrawn_s >= _REDRAW_S or part == 1.0:
            self._redrawn_s = now_s
            self._draw(part, done_bytes, now_s - self._started_s)

    def end(self) -> None:
        """Remove the drawn line."""
        self._clear()
        self._stream.flush()

    def _draw(self, part: float, done_bytes: int, elapsed_s: float) -> None:
        rate = (done_bytes - (self._first_bytes or 0)) / elapsed_s if elapsed_s > 0 else 0.0
        left = f"{(self._total_bytes - done_bytes) / rate:.0f} s left" if rate > 0 else ""
        figures = (
            f"{part:4.0%}  {megabytes(done_bytes)} of {megabytes(self._total_bytes)}  "
            f"{rate / 1e6:.1f} MB/s  {left}"
        )
        columns = shutil.get_terminal_size().columns - 1
        room = max(0, min(30, columns - len(self._label) - len(figures) - 6))
        bar = f"[{'#' * round(room * part):<{room}}]  " if room >= 5 else ""
        line = f"{self._label}  {bar}{figures}"[:columns]
        self._stream.write(f"\r{line:<{self._width}}")
        self._width = len(line)
        self._stream.flush()

    def _clear(self) -> None:
        if self._width:
            self._stream.write(f"\r{'':<{self._width}}\r")
            self._width = 0


def megabytes(size_bytes: int) -> str:
    """Return a size for people."""
    return f"{size_bytes / 1e6:.0f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.0f} kB"
