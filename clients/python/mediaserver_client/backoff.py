"""How long to wait before the next try to connect."""

import random
from dataclasses import dataclass, field


@dataclass
class Backoff:
    """Waits that double from `first_s` to `most_s`, each shortened by up to `jitter` at random.

    The jitter keeps a thousand clients from coming back in the same instant.
    """

    first_s: float = 0.25
    most_s: float = 8.0
    jitter: float = 0.5
    rng: random.Random = field(default_factory=random.Random)
    tries: int = 0

    def next_s(self, retry_after_s: float | None = None) -> float:
        """Return how long to wait now; never less than the server's `retry_after_s`."""
        full = min(self.most_s, self.first_s * 2.0 ** min(self.tries, 32))
        self.tries += 1
        wait = full * (1.0 - self.jitter * self.rng.random())
        return max(wait, retry_after_s or 0.0)
