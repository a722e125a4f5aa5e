"""A watch party in virtual time: members with bad clocks, networks and players, and a server.

What decides is the real code: `mediaserver.rooms.playback` on the server's side,
`mediaserver_client.clock` and `.sync` on each member's. Simulated is only the world between them:
time, delays, players.
"""

import heapq
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from mediaserver_client.clock import ClockSync
from mediaserver_client.drift import PlayerState
from mediaserver_client.sync import PlaybackFollower, PlaybackState, Step

from mediaserver.rooms import playback
from mediaserver.rooms.playback import Playback

UNIX_S = 1_800_000_000.0
"""The shared clock at virtual time 0."""
SETTLE_S = 22.0
"""After a start, join, command or stall: a second of drift takes 20 s at 5 %."""


@dataclass(frozen=True)
class World:
    """How bad it is; times in seconds, ranges are drawn from evenly."""

    members: int = 50
    skew_s: float = 5.0
    clock_ppm: float = 50.0
    delay_s: tuple[float, float] = (0.005, 0.25)
    """One way, drawn anew for every message."""
    in_order: bool = False
    """Whether a message waits for those sent before it, as on one TCP connection."""
    stall_every_s: float = 60.0
    """Mean time between a member's stalls; infinite for none."""
    stall_s: tuple[float, float] = (0.5, 3.0)
    seek_s: tuple[float, float] = (0.2, 1.5)
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

    def __init__(self, loop: Loop, world: World, chance: random.Random) -> None:
        self._loop, self._world, self._chance = loop, world, chance
        self._last_s = 0.0

    def send(self, deliver: Callable[[], None]) -> None:
        at_s = self._loop.now_s + self._chance.uniform(*self._world.delay_s)
        if self._world.in_order:
            at_s = self._last_s = max(at_s, self._last_s)
        self._loop.at(at_s, deliver)


class Member:
    """A client: its clock, its player, and the real code between them."""

    def __init__(self, party: "Party", name: str, chance: random.Random) -> None:
        world, self._loop, self._party, self.name = party.world, party.loop, party, name
        self._chance = chance
        self._skew_s = UNIX_S + chance.uniform(-1, 1) * world.skew_s
        self._speed = 1 + chance.uniform(-1, 1) * world.clock_ppm * 1e-6
        self.player = Player(self._loop, world, chance)
        self.player.on_event = self._look_soon
        self.up, self.down = (Wire(self._loop, world, chance) for _ in range(2))
        self.clock = ClockSync()
        self.follower = PlaybackFollower(self.clock)
        self.joined_s = self._loop.now_s
        self.pings = 0
        self._looks = 0
        self._ping()
        self._look()
        if math.isfinite(world.stall_every_s):
            self._plan_stall()

    def local_s(self) -> float:
        return self._loop.now_s * self._speed + self._skew_s

    def clock_error_s(self) -> float:
        return self.clock.shared_s(self.local_s()) - self._party.shared_s()

    def receive(self, state: PlaybackState) -> None:
        self.follower.update(state)
        self._look()

    def _at_local(self, local_s: float, action: Callable[[], None]) -> None:
        late_s = self._chance.random() * self._party.world.timer_late_s
        self._loop.at((local_s - self._skew_s) / self._speed + late_s, action)

    def _ping(self) -> None:
        t0 = self.clock.ping(self.local_s())
        self.pings += 1
        self.up.send(lambda: self._answer(t0))
        self._at_local(self.clock.next_ping_s, self._ping)

    def _answer(self, t0: float) -> None:
        t1 = t2 = self._party.shared_s()
        self.down.send(lambda: self._pong(t0, t1, t2))

    def _pong(self, t0: float, t1: float, t2: float) -> None:
        self.clock.pong(t0, t1, t2, self.local_s())

    def _plan_stall(self) -> None:
        world = self._party.world
        self._loop.at(
            self._loop.now_s + self._chance.expovariate(1 / world.stall_every_s), self._st
        )

    def _st(self) -> None:
        for_s = self._chance.uniform(*self._party.world.stall_s)
        if not self.player.paused and self.player.ready:
            self.player.stall(for_s)
        self._plan_stall()

    def _look_soon(self) -> None:
        self._loop.at(self._loop.now_s + self._chance.random() * 0.01, self._look)

    def _look(self) -> None:
        self._looks += 1
        look = self._looks
        step = self.follower.step(self.local_s(), self.player.read())
        self._do(step)
        self._at_local(step.wake_s, lambda: self._look() if look == self._looks else None)

    def _do(self, step: Step) -> None:
        if step.load is not None:
            self.player.load(step.load)
        if step.pause:
            self.player.pause()
        if step.seek_to_s is not None:
            self.player.seek(step.seek_to_s)
        if step.rate is not None:
            self.player.set_rate(step.rate)
        if step.play:
            self.player.play()
        if step.ready is not None:
            epoch = step.ready
            self.up.send(lambda: self._party.take_ready(self.name, epoch))


@dataclass
class Drift:
    """What was sampled; seconds of the item."""

    steady: list[float] = field(default_factory=list)
    """Player less true shared position, of members undisturbed for SETTLE_S."""
    every: list[float] = field(default_factory=list)
    """The same of every member that plays, disturbed or not."""
    pairs: list[float] = field(default_factory=list)
    """Between any two steady members at one moment."""
    clock: list[float] = field(default_factory=list)


class Party:
    """A server's room and its members."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.loop = Loop()
        self.chance = random.Random(seed)
        self.state = Playback()
        self.members: list[Member] = []
        self.changed_s = 0.0
        self.drift = Drift()
        for _ in range(world.members):
            self.join()

    def shared_s(self) -> float:
        return UNIX_S + self.loop.now_s

    def lead_s(self) -> float:
        return playback.start_lead_s(max((m.clock.round_trip_s for m in self.members), default=0))

    def join(self) -> Member:
        name = f"m{len(self.members)}"
        member = Member(self, name, random.Random(self.chance.random()))
        self.members.append(member)
        self._tell(member)
        return member

    def command(self, command: playback.Command) -> None:
        self.changed_s = self.loop.now_s
        self._become(playback.apply(self.state, command, self.shared_s(), lead_s=self.lead_s()))

    def start(self, item_id: str = "film") -> None:
        names = tuple(member.name for member in self.members)
        self.command(playback.SetItem(item_id, members=names))

    def take_ready(self, name: str, epoch: int) -> None:
        lead_s = self.lead_s()
        self._become(playback.ready(self.state, name, epoch, self.shared_s(), lead_s=lead_s))

    def _become(self, state: Playback) -> None:
        if state is not self.state:
            self.state = state
            for member in self.members:
                self._tell(member)

    def _tell(self, member: Member) -> None:
        state = PlaybackState.from_message(asdict(self.state))
        member.down.send(lambda: member.receive(state))

    def run(self, for_s: float, every_s: float = 0.5) -> None:
        """Let time pass, and sample."""
        end_s = self.loop.now_s + for_s
        count = 0
        while self.loop.now_s < end_s - 1e-9:
            self.loop.run_until(min(end_s, self.loop.now_s + every_s))
            self._sample(pairs=count % 8 == 0)
            count += 1

    def drift_of(self, member: Member) -> float:
        return member.player.true_position_s() - self.state.position_at(self.shared_s())

    def _sample(self, *, pairs: bool) -> None:
        if not self.state.playing or self.shared_s() <= self.state.anchor_s:
            return
        steady = []
        for member in self.members:
            if self.loop.now_s < member.joined_s + 3.0:
                continue
            drift_s = self.drift_of(member)
            self.drift.every.append(drift_s)
            if self._steady(member):
                steady.append(drift_s)
                self.drift.clock.append(member.clock_error_s())
        self.drift.steady.extend(steady)
        if pairs:
            self.drift.pairs.extend(a - b for a, b in itertools.combinations(steady, 2))

    def _steady(self, member: Member) -> bool:
        """Whether nothing happened to a member for SETTLE_S."""
        since_s = max(self.changed_s, self.state.anchor_s - UNIX_S, member.joined_s)
        if member.player.stalls:
            since_s = max(since_s, member.player.stalls[-1][1])
        return self.loop.now_s >= since_s + SETTLE_S


def percentile(values: list[float], share: float) -> float:
    """Of the absolute values."""
    ordered = sorted(map(abs, values))
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan


def most_seeks_a_stall(member: Member) -> int:
    """The most seeks between one stall and the next (not those of starts)."""
    starts = [start_s for start_s, _ in member.player.stalls]
    most = 0
    for start_s, next_s in itertools.pairwise([*starts, math.inf]):
        most = max(most, sum(start_s <= seek_s < next_s for seek_s in member.player.seeks))
    return most


def corrections(member: Member, shared_rate: float = 1.0) -> list[tuple[float, int]]:
    """When corrections by rate began, and their signs."""
    begun, before = [], 0
    for at_s, rate in member.player.rates:
        sign = (rate > shared_rate + 1e-9) - (rate < shared_rate - 1e-9)
        if sign and sign != before:
            begun.append((at_s, sign))
        before = sign
    return begun


def flips(member: Member, within_s: float = 15.0) -> int:
    """Corrections that undo the one before, with no stall or seek between: oscillation."""
    events = [start_s for start_s, _ in member.player.stalls] + member.player.seeks
    count = 0
    for (a_s, a), (b_s, b) in itertools.pairwise(corrections(member)):
        if a == -b and b_s - a_s < within_s and not any(a_s < e <= b_s for e in events):
            count += 1
    return count
