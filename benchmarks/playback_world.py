"""The world of a simulated watch party: virtual time, delays, and players like a browser's."""

import heapq
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from mediaserver_client.drift import PlayerState

UNIX_S = 1_800_000_000.0
"""The shared clock at virtual time 0."""


@dataclass(frozen=True)
class World:
    """How bad it is; times in seconds, ranges are drawn from evenly."""

    members: int = 50
    skew_s: float = 5.0
    clock_ppm: float = 50.0
    delay_s: tuple[float, float] = (0.005, 0.25)
    """One way, drawn anew for every message."""
    lopsided: bool = False
    """Instead: all messages to the server take the least, all from it the most."""
    in_order: bool = False
    """Whether a message waits for those sent before it, as on one TCP connection."""
    stall_every_s: float = 60.0
    """Mean time between a member's stalls; infinite for none."""
    stall_s: tuple[float, float] = (0.5, 3.0)
    seek_s: tuple[float, float] = (0.2, 1.5)
    fickle_seeks: bool = False
    """Whether each seek is drawn anew, instead of each player's own and a quarter more or less."""
    start_s: tuple[float, float] = (0.02, 0.15)
    """From `play` to the first moving picture: each player's own, and a third more or less."""
    load_s: tuple[float, float] = (0.3, 3.0)
    jitter_s: float = 0.015
    """Of a position that is read, either way."""
    player_ppm: float = 100.0
    """Error of a player's rate."""
    rate_steps: tuple[float, ...] = (0.001, 0.01, 1 / 64)
    """Players round rates to one of these."""
    timer_late_s: float = 0.015
    local_s: float = UNIX_S
    """What a local clock without skew shows at virtual time 0."""


class Loop:
    """Virtual time."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def at(self, when_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (max(when_s, self.now_s), next(self._count), action))

    def run_until(self, end_s: float) -> None:
        while self._due and self._due[0][0] <= end_s:
            self.now_s, _, action = heapq.heappop(self._due)
            action()
        self.now_s = end_s


class Player:
    """A player like a browser's: it loads, seeks and stalls in its own time."""

    def __init__(self, loop: Loop, world: World, chance: random.Random) -> None:
        self._loop, self._world, self._chance = loop, world, chance
        low_s, high_s = world.seek_s
        self._seek_s = chance.uniform(low_s, high_s / 1.25)
        self._start_s = chance.uniform(*world.start_s)
        self._error = 1 + chance.uniform(-1, 1) * world.player_ppm * 1e-6
        self._step = chance.choice(world.rate_steps)
        self.on_event: Callable[[], None] = lambda: None
        self.item_id: str | None = None
        self.paused = True
        self.rate = 1.0
        self.load_s = chance.uniform(*world.load_s)
        self._busy: set[str] = set()
        self._position_s, self._at_s, self._moves_from_s = 0.0, 0.0, math.inf
        self._seeking = self._stalling = 0
        self.seeks: list[float] = []
        self.rates: list[tuple[float, float]] = []
        self.stalls: list[tuple[float, float]] = []

    @property
    def ready(self) -> bool:
        return self.item_id is not None and not self._busy

    def true_position_s(self) -> float:
        self._advance()
        return self._position_s

    def read(self) -> PlayerState:
        jitter_s = self._chance.uniform(-1, 1) * self._world.jitter_s if self._moving() else 0.0
        return PlayerState(
            self.item_id,
            max(0.0, self.true_position_s() + jitter_s),
            self.paused,
            self.ready,
            self.rate,
            seekable=not any(one.startswith("loading") for one in self._busy),
        )

    def load(self, item_id: str) -> None:
        if self.item_id == item_id:
            return
        self._advance()
        self.item_id, self.paused, self._position_s = item_id, True, 0.0
        self._be_busy("loading", self.load_s)

    def play(self) -> None:
        self._advance()
        if self.paused:
            self.paused = False
            late_s = self._start_s * self._chance.uniform(0.67, 1.33)
            self._moves_from_s = self._loop.now_s + late_s

    def pause(self) -> None:
        self._advance()
        self.paused = True

    def seek(self, to_s: float) -> None:
        self._advance()
        self.seeks.append(self._loop.now_s)
        self._position_s = max(0.0, to_s + self._chance.uniform(-0.02, 0.02))
        low_s, high_s = self._world.seek_s
        took_s = min(max(self._seek_s * self._chance.uniform(0.8, 1.25), low_s), high_s)
        if self._world.fickle_seeks:
            took_s = self._chance.uniform(low_s, high_s)
        self._be_busy("seeking", took_s)

    def set_rate(self, rate: float) -> None:
        self._advance()
        self.rates.append((self._loop.now_s, rate))
        self.rate = round(rate / self._step) * self._step

    def stall(self, for_s: float) -> None:
        self.stalls.append((self._loop.now_s, self._loop.now_s + for_s))
        self._be_busy("stalled", for_s)

    def _be_busy(self, with_what: str, for_s: float) -> None:
        self._advance()
        self._seeking += 1
        what = f"{with_what} {self._seeking}"
        if with_what != "stalled":  # a new seek takes the place of one under way
            self._busy = {one for one in self._busy if not one.startswith(with_what)}
        self._busy.add(what)
        self._loop.at(self._loop.now_s + for_s, lambda: self._be_done(what))
        self.on_event()

    def _be_done(self, what: str) -> None:
        self._advance()
        if what in self._busy:
            self._busy.discard(what)
            self.on_event()

    def _moving(self) -> bool:
        return self.ready and not self.paused and self._loop.now_s > self._moves_from_s

    def _advance(self) -> None:
        now_s = self._loop.now_s
        if self.ready and not self.paused:
            moved_s = now_s - max(self._at_s, self._moves_from_s)
            self._position_s += max(0.0, moved_s) * self.rate * self._error
        self._at_s = now_s


class Wire:
    """One direction of a member's connection."""

    def __init__(self, loop: Loop, world: World, chance: random.Random, *, up: bool) -> None:
        self._loop, self._world, self._chance = loop, world, chance
        self._last_s = 0.0
        low_s, high_s = world.delay_s
        if world.lopsided:
            low_s = high_s = low_s if up else high_s
        self._delay_s = (low_s, high_s)

    def send(self, deliver: Callable[[], None]) -> None:
        at_s = self._loop.now_s + self._chance.uniform(*self._delay_s)
        if self._world.in_order:
            at_s = self._last_s = max(at_s, self._last_s)
        self._loop.at(at_s, deliver)
