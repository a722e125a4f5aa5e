"""The audio that a reconnect may need again: sent but not final yet, and not sent yet. Pure.

Two bounds, both in seconds of audio:

- `keep_s`: how much sent audio is kept while no final covers it. Older audio is forgotten, oldest
  first; `forgotten_s` counts what a reconnect then really missed.
- `ahead_s`: how much unsent audio is held. `full` says when; whoever reads the source waits.
"""

from collections import deque


class ReplayBuffer:
    """PCM by position, in bytes of whole frames (one sample of each channel)."""

    def __init__(
        self, *, frame_bytes: int, sample_rate_hz: int, keep_s: float = 60.0, ahead_s: float = 30.0
    ) -> None:
        self._frame_bytes = frame_bytes
        self._rate_hz = sample_rate_hz
        self._keep = self._at(keep_s)
        self._ahead = self._at(ahead_s)
        self._chunks: deque[tuple[int, bytes]] = deque()
        self._end = 0
        self._sent = 0
        self.forgotten_s = 0.0
        """Audio that a rewind asked for but that was kept no more."""

    def _at(self, position_s: float) -> int:
        return max(0, round(position_s * self._rate_hz)) * self._frame_bytes

    def _seconds(self, position: int) -> float:
        return position / self._frame_bytes / self._rate_hz

    @property
    def end_s(self) -> float:
        """Seconds of audio put in so far."""
        return self._seconds(self._end)

    @property
    def sent_s(self) -> float:
        """Position up to which audio was taken to be sent."""
        return self._seconds(self._sent)

    @property
    def kept_from_s(self) -> float:
        """The oldest position that can still be sent again."""
        return self._seconds(self._chunks[0][0] if self._chunks else self._end)

    @property
    def full(self) -> bool:
        """Whether enough unsent audio is held."""
        return self._end - self._sent >= self._ahead

    @property
    def all_sent(self) -> bool:
        """Whether nothing is left to take."""
        return self._sent >= self._end

    def put(self, pcm: bytes) -> None:
        """Append `pcm`, whole frames."""
        if len(pcm) % self._frame_bytes:
            raise ValueError("half a frame")
        if pcm:
            self._chunks.append((self._end, pcm))
            self._end += len(pcm)

    def take(self) -> bytes:
        """Return the next audio to send (a chunk or the rest of one); empty when all is sent."""
        for start, pcm in reversed(self._chunks):
            if start <= self._sent < start + len(pcm):
                break
        else:
            return b""
        part = pcm[self._sent - start :]
        self._sent += len(part)
        self._forget_before(self._sent - self._keep)
        return part

    def settle(self, position_s: float) -> None:
        """Forget sent audio before `position_s`: finals cover it."""
        self._forget_before(min(self._at(position_s), self._sent))

    def rewind(self, position_s: float) -> float:
        """Send again from `position_s`, or from the oldest kept; return where it really begins."""
        wanted = min(self._at(position_s), self._sent)
        oldest = self._chunks[0][0] if self._chunks else self._end
        self.forgotten_s += self._seconds(max(0, oldest - wanted))
        self._sent = max(wanted, oldest)
        return self._seconds(self._sent)

    def _forget_before(self, position: int) -> None:
        while self._chunks and self._chunks[0][0] + len(self._chunks[0][1]) <= position:
            self._chunks.popleft()
