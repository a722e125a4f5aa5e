"""How much a client may send in how short a time, and when it was too much for too long."""

from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import TooManyRequests
from mediaserver.rooms.limits import TokenBucket

MESSAGES_HZ = 30.0
MESSAGES_AT_ONCE = 60.0
FREE_HZ = 100.0
FREE_AT_ONCE = 400.0
REFUSED_AT_MOST = 200
REFUSED_WITHIN_S = 10.0


class FloodGate:
    """Refuses what is too much, and says when it is too much for too long."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._bucket = TokenBucket(MESSAGES_HZ, MESSAGES_AT_ONCE)
        self._free = TokenBucket(FREE_HZ, FREE_AT_ONCE)
        self._patience = TokenBucket(REFUSED_AT_MOST / REFUSED_WITHIN_S, REFUSED_AT_MOST)
        self.over = False
        """Whether patience is over: the client is to be sent away."""

    def check(self) -> None:
        """Count a message, or one that could not be read. Raises TooManyRequests."""
        if not self._bucket.take(self._clock.monotonic_s()):
            raise _too_many(MESSAGES_HZ, self._bucket.wait_s())

    def check_free(self) -> None:
        """Count what costs little, as a WebSocket's own ping. Raises TooManyRequests."""
        if not self._free.take(self._clock.monotonic_s()):
            raise _too_many(FREE_HZ, self._free.wait_s())

    def patient(self) -> bool:
        """Count a message that was refused; False once there were too many of them."""
        self.over = self.over or not self._patience.take(self._clock.monotonic_s())
        return not self.over


def _too_many(bound_hz: float, wait_s: float) -> TooManyRequests:
    return TooManyRequests(
        f"more than {bound_hz:g} messages a second; send less", retry_after_s=round(wait_s, 3)
    )
