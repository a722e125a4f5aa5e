"""A watch party in virtual time: members with bad clocks, networks and players, and a server.

What decides is the real code: `mediaserver.rooms.playback` on the server's side,
`mediaserver_client.clock` and `.sync` on each member's. Simulated is only the world between them
(`playback_world`).
"""

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from mediaserver_client.clock import ClockSync
from mediaserver_client.sync import PlaybackFollower, PlaybackState, PlaybackStep

from benchmarks.playback_world import UNIX_S, Loop, Player, Wire, World
from mediaserver.rooms import playback
from mediaserver.rooms.playback import Playback

SETTLE_S = 22.0
"""After a start, join, command or stall: a second of drift takes 20 s at 5 %."""
IN_SYNC_S = 0.04


class Member:
    """A client: its clock, its player, and the real code between them."""

    def __init__(self, party: "Party", name: str, chance: random.Random) -> None:
        world, self._loop, self._party, self.name = party.world, party.loop, party, name
        self._chance = chance
        self._skew_s = world.local_s + chance.uniform(-1, 1) * world.skew_s
        self._speed = 1 + chance.uniform(-1, 1) * world.clock_ppm * 1e-6
        self.player = Player(self._loop, world, chance)
        self.player.on_event = self._look_soon
        self.up = Wire(self._loop, world, chance, up=True)
        self.down = Wire(self._loop, world, chance, up=False)
        self.clock, self.follower = self.tools()
        self.joined_s = self._loop.now_s
        self.pings = 0
        self.recovered = 0  # so many of the player's stalls
        self._looks = 0
        self._ping()
        self._look()
        if math.isfinite(world.stall_every_s):
            self._plan_stall()

    def tools(self) -> tuple[ClockSync, PlaybackFollower]:
        """What is tried here."""
        clock = ClockSync()
        return clock, PlaybackFollower(clock)

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
            self._loop.now_s + self._chance.expovariate(1 / world.stall_every_s), self._stall
        )

    def _stall(self) -> None:
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

    def _do(self, step: PlaybackStep) -> None:
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
    """Error of the steady members' shared clocks."""
    recovery: list[float] = field(default_factory=list)
    """From the end of a stall until the member is within IN_SYNC_S; to half a second."""


class Party:
    """A server's room and its members."""

    def __init__(self, world: World, seed: int, member_type: type[Member] = Member) -> None:
        self.world = world
        self._member_type = member_type
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
        member = self._member_type(self, name, random.Random(self.chance.random()))
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
            if abs(drift_s) <= IN_SYNC_S and member.player.ready:
                self._note_recovery(member)
            if self._steady(member):
                steady.append(drift_s)
                self.drift.clock.append(member.clock_error_s())
        self.drift.steady.extend(steady)
        if pairs:
            self.drift.pairs.extend(a - b for a, b in itertools.combinations(steady, 2))

    def _note_recovery(self, member: Member) -> None:
        stalls = member.player.stalls
        if len(stalls) > member.recovered and stalls[-1][1] < self.loop.now_s:
            member.recovered = len(stalls)
            self.drift.recovery.append(self.loop.now_s - stalls[-1][1])

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
