"""How much a member may say in how short a time. Pure."""


class TokenBucket:
    """Lets `rate_hz` events a second through, and `burst` at once."""

    def __init__(self, rate_hz: float, burst: float) -> None:
        self._rate_hz = rate_hz
        self._burst = burst
        self._left = burst
        self._at_s: float | None = None

    def take(self, now_s: float) -> bool:
        """Whether an event at `now_s` (monotonic) passes; those that do not cost nothing."""
        if self._at_s is not None:
            self._left = min(self._burst, self._left + (now_s - self._at_s) * self._rate_hz)
        self._at_s = now_s
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def wait_s(self) -> float:
        """How long until the next one passes."""
        return max(0.0, (1.0 - self._left) / self._rate_hz)
