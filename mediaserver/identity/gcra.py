"""GCRA, the generic cell rate algorithm (ITU-T I.371): rate limits without counters. Pure.

A quota of q requests in w seconds lets one through every w/q seconds on average, and q at once
after a pause. All that is kept is the *theoretical arrival time*: when the quota will be whole
again. Times are integer microseconds.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quota:
    """How much is allowed."""

    name: str
    """In headers and keys."""
    requests: int
    window_s: int

    @property
    def interval_us(self) -> int:
        """Between two requests at the steady rate."""
        return max(1, self.window_s * 1_000_000 // self.requests)

    @property
    def burst_us(self) -> int:
        """How far the theoretical arrival time may run ahead."""
        return self.interval_us * self.requests

    @property
    def policy(self) -> str:
        """For the header ``RateLimit-Policy``."""
        return f'"{self.name}";q={self.requests};w={self.window_s}'


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one request."""

    quota: Quota
    allowed: bool
    arrival_us: int
    """The new theoretical arrival time."""
    remaining: int
    reset_s: int
    """Until the quota is whole again, rounded up."""

    @property
    def state(self) -> str:
        """For the header ``RateLimit``."""
        return f'"{self.quota.name}";r={self.remaining};t={self.reset_s}'


def decide(quota: Quota, arrival_us: int | None, now_us: int) -> Decision:
    """Let a request at `now_us` through, or not; a refused one costs nothing."""
    arrival = max(arrival_us or 0, now_us)
    after = arrival + quota.interval_us
    allowed = after - now_us <= quota.burst_us
    if allowed:
        arrival = after
    return decision(quota, allowed, arrival, now_us)


def decision(quota: Quota, allowed: bool, arrival_us: int, now_us: int) -> Decision:
    """Describe what was decided, here or by Redis."""
    ahead_us = arrival_us - now_us
    remaining = max(0, quota.burst_us - ahead_us) // quota.interval_us if allowed else 0
    return Decision(quota, allowed, arrival_us, remaining, math.ceil(max(0, ahead_us) / 1e6))
