#!/usr/bin/env python3
"""Watch parties in virtual time: what was tried, and what it gives. Prints the tables.

Drift is that of steady members (undisturbed for SETTLE_S) from the true shared position unless said
otherwise. Nothing is waited for: it takes about a minute of computing.
"""

import argparse
import math
import random
import sys
from collections.abc import Callable
from dataclasses import replace

from mediaserver_client.clock import DRIFT, ClockSync
from mediaserver_client.drift import ENTER_S, LEAVE_S, DriftController
from mediaserver_client.sync import PlaybackFollower

from benchmarks.playback_sim import (
    Drift,
    Member,
    Party,
    corrections,
    flips,
    most_seeks_a_stall,
    percentile,
)
from benchmarks.playback_world import UNIX_S, World
from benchmarks.tables import table

MINUTES = 4.0
MakeClock = Callable[[], ClockSync]


class LeastDelay(ClockSync):
    """The offset from the middle of the one exchange with the least round trip, of the newest."""

    def __init__(self, samples: int) -> None:
        super().__init__()
        self._kept = samples

    def _bounds(self, now_s: float) -> tuple[float, float]:
        best = min(list(self._samples)[-self._kept :], key=lambda s: s.round_trip_s)
        return best.low_s, best.high_s


class Mean(ClockSync):
    """The mean of the middles of all exchanges."""

    def _bounds(self, now_s: float) -> tuple[float, float]:
        middle_s = sum((s.low_s + s.high_s) / 2 for s in self._samples) / len(self._samples)
        return middle_s - 1.0, middle_s + 1.0  # not to be taken for certain


class Newest(ClockSync):
    """The intersection of fewer intervals."""

    def __init__(self, samples: int) -> None:
        super().__init__()
        self._kept = samples

    def _bounds(self, now_s: float) -> tuple[float, float]:
        newest = list(self._samples)[-self._kept :]
        low_s = max(s.low_s - DRIFT * (now_s - s.at_s) for s in newest)
        return low_s, min(s.high_s + DRIFT * (now_s - s.at_s) for s in newest)


class Sloped(ClockSync):
    """Drift estimated too: the slope at which the intersection is widest, from -100 to 100 ppm."""

    def _bounds(self, now_s: float) -> tuple[float, float]:
        widest = (-math.inf, math.inf)
        for ppm in range(-100, 101, 10):
            slope = ppm * 1e-6
            low_s = max(s.low_s + slope * (now_s - s.at_s) for s in self._samples)
            high_s = min(s.high_s + slope * (now_s - s.at_s) for s in self._samples)
            if high_s - low_s > widest[1] - widest[0] or math.isinf(widest[0]):
                widest = (low_s, high_s)
        return widest


CLOCKS: dict[str, MakeClock] = {
    "least round trip of 8": lambda: LeastDelay(8),
    "least round trip of 64": lambda: LeastDelay(64),
    "mean of 64": Mean,
    "intersection of 8": lambda: Newest(8),
    "intersection of 32": lambda: Newest(32),
    "**intersection of 64**": ClockSync,
    "intersection of 64, drift estimated": Sloped,
}


def clock_errors(make: MakeClock, seed: int, world: World) -> tuple[list[float], list[float]]:
    """Errors in seconds: right after the burst, and from the third to the sixth minute."""
    chance = random.Random(seed)
    clock, now_s = make(), 0.0
    offset_s = UNIX_S + chance.uniform(-1, 1) * world.skew_s
    speed = 1 + chance.uniform(-1, 1) * world.clock_ppm * 1e-6
    early, later = [], []
    while now_s < 360.0:
        there_s, back_s = chance.uniform(*world.delay_s), chance.uniform(*world.delay_s)
        t0 = clock.ping(now_s)
        server_s = (t0 + there_s) * speed + offset_s
        now_s = t0 + there_s + back_s
        clock.pong(t0, server_s, server_s, now_s)
        now_s = max(now_s, clock.next_ping_s)
        error_s = clock.shared_s(now_s) - (now_s * speed + offset_s)
        if now_s > 120.0:
            later.append(error_s)
        elif now_s - 20.0 < 0.0:
            early.append(error_s)
    return early[20:28], later


class Tried(Member):
    """A member with another clock or other thresholds."""

    make_clock: MakeClock = ClockSync
    enter_s, leave_s = ENTER_S, LEAVE_S

    def tools(self) -> tuple[ClockSync, PlaybackFollower]:
        clock = type(self).make_clock()
        return clock, PlaybackFollower(clock, DriftController(self.enter_s, self.leave_s))


def tried(**attributes: object) -> type[Member]:
    return type("Variant", (Tried,), attributes)


def ms(values: list[float], *shares: float) -> str:
    return " / ".join(f"{percentile(values, share) * 1000:.0f}" for share in shares)


def clock_table(seeds: int) -> str:
    rows = []
    for name, make in CLOCKS.items():
        early: list[float] = []
        later: list[float] = []
        for seed in range(8 * seeds):
            one, other = clock_errors(make, seed, World())
            early += one
            later += other
        rows.append([name, ms(early, 0.5, 0.95, 1.0), ms(later, 0.5, 0.95, 1.0)])
    return table(
        ["offset from", "after the burst: p50 / p95 / max, ms", "later: p50 / p95 / max, ms"], rows
    )


def party_row(name: str, world: World, member_type: type[Member], seeds: int) -> list[str]:
    total = Drift()
    counted = dict.fromkeys(("stalls", "seeks", "corrections", "flips", "worst"), 0)
    for seed in range(seeds):
        party = Party(world, seed, member_type)
        party.run(4.0)
        party.start()
        party.run(MINUTES * 60)
        for field in ("steady", "pairs", "recovery"):
            getattr(total, field).extend(getattr(party.drift, field))
        for member in party.members:
            counted["stalls"] += len(member.player.stalls)
            counted["seeks"] += len(member.player.seeks)
            counted["corrections"] += len(corrections(member))
            counted["flips"] += flips(member)
            counted["worst"] = max(counted["worst"], most_seeks_a_stall(member))
    minutes = MINUTES * world.members * seeds
    recovery = [f"{percentile(total.recovery, share):.1f}" for share in (0.5, 0.95)]
    return [
        name,
        ms(total.steady, 0.5, 0.95, 1.0),
        ms(total.pairs, 0.95),
        " / ".join(recovery) if total.recovery else "–",
        f"{counted['corrections'] / minutes:.2f}",
        f"{counted['seeks']} / {counted['stalls']}, {counted['worst']}",
        str(counted["flips"]),
    ]


PARTY_HEADER = [
    "", "drift p50 / p95 / max, ms", "between two, p95, ms", "after a stall p50 / p95, s",
    "corrections a minute", "seeks / stalls, most for one", "flips",
]  # fmt: skip


def variants_table(seeds: int) -> str:
    rows = [
        party_row(
            f"{name}; enter {enter * 1000:.0f}, leave {leave * 1000:.0f} ms",
            World(),
            tried(make_clock=staticmethod(make), enter_s=enter, leave_s=leave),
            seeds,
        )
        for name, make, enter, leave in (
            ("least round trip of 8", lambda: LeastDelay(8), 0.08, 0.03),
            ("intersection of 64", ClockSync, 0.08, 0.03),
            ("intersection of 64", ClockSync, 0.05, 0.015),
            ("**intersection of 64**", ClockSync, ENTER_S, LEAVE_S),
            ("intersection of 64", ClockSync, 0.02, 0.005),
            ("least round trip of 8", lambda: LeastDelay(8), ENTER_S, LEAVE_S),
        )
    ]
    return table(PARTY_HEADER, rows)


def worlds_table(seeds: int) -> str:
    world = World()
    worlds = {
        "as said": world,
        "messages stay in order (one TCP connection)": replace(world, in_order=True),
        "no stalls": replace(world, stall_every_s=math.inf),
        "a stall every 20 s": replace(world, stall_every_s=20.0),
        "each seek 0.2 to 1.5 s, drawn anew": replace(world, fickle_seeks=True),
        "positions ±40 ms": replace(world, jitter_s=0.04),
        "clocks ±200 ppm, players ±1000 ppm": replace(world, clock_ppm=200.0, player_ppm=1000.0),
        "delays 5 to 40 ms": replace(world, delay_s=(0.005, 0.04)),
        "5 ms there, 250 ms back, always": replace(world, delay_s=(0.005, 0.25), lopsided=True),
    }
    rows = [party_row(name, one, Member, seeds) for name, one in worlds.items()]
    return table(PARTY_HEADER, rows)


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--seeds", type=int, default=4, help="parties a row")
    seeds = p.parse_args().seeds
    print(f"{World().members} members, {MINUTES:g} minutes, {seeds} parties a row\n")
    print("### The clock by itself\n\n" + clock_table(seeds))
    print("### Clock and thresholds\n\n" + variants_table(seeds))
    print("### Worlds\n\n" + worlds_table(seeds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
