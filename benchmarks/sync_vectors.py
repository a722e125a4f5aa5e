#!/usr/bin/env python3
"""Calls of the Python client's clock and follower with what they answered, for the JavaScript twin.

`python -m benchmarks.sync_vectors` writes clients/js/test/vectors/sync.json; a test fails while
that file is not what this makes. Sessions are lists of calls on one clock and one follower:

    ["ping", now, next_ping]
    ["pong", t0, t1, t2, t3, taken, offset, uncertainty, round_trip]
    ["restart", now]
    ["update", state, snapshot, taken]
    ["resync"]
    ["step", now, [item_id, position, paused, ready, rate, seekable, duration],
             [wake, load, pause, seek_to, rate, play, ready, ended], drift, blocked]

Inputs are rounded before they are used, so that both clients compute with the same numbers.
"""

import json
import sys
from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import Any

from mediaserver_client.clock import ClockSync
from mediaserver_client.drift import PlayerState
from mediaserver_client.sync import PlaybackFollower, PlaybackState, PlaybackStep

from benchmarks.playback_sim import Member, Party
from benchmarks.playback_world import UNIX_S, World
from mediaserver.rooms.playback import Pause, Play, Seek, SetRate

PATH = Path(__file__).resolve().parents[1] / "clients" / "js" / "test" / "vectors" / "sync.json"
Call = list[Any]


def rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


class RecordedClock(ClockSync):
    """A clock that keeps its calls."""

    def __init__(self, calls: list[Call]) -> None:
        super().__init__()
        self._calls = calls

    def ping(self, now_s: float) -> float:
        t0 = super().ping(rounded(now_s))
        self._calls.append(["ping", t0, rounded(self.next_ping_s)])
        return t0

    def pong(self, t0: float, t1: float, t2: float, t3: float) -> bool:
        times = [rounded(t) for t in (t0, t1, t2, t3)]
        taken = super().pong(*times)
        told = [rounded(v) for v in (self.offset_s, self.uncertainty_s, self.round_trip_s)]
        self._calls.append(["pong", *times, taken, *told])
        return taken

    def restart(self, now_s: float) -> None:
        super().restart(now_s)
        self._calls.append(["restart", now_s])


class RecordedFollower(PlaybackFollower):
    """A follower that keeps its calls."""

    def __init__(self, clock: ClockSync, calls: list[Call]) -> None:
        super().__init__(clock)
        self._calls = calls

    def update(self, state: PlaybackState, *, snapshot: bool = False) -> bool:
        message = {name: rounded(value) for name, value in asdict(state).items()}
        taken = super().update(PlaybackState.from_message(message), snapshot=snapshot)
        self._calls.append(["update", message, snapshot, taken])
        return taken

    def press_resync(self) -> None:
        self.resync()
        self._calls.append(["resync"])

    def step(self, now_s: float, player: PlayerState) -> PlaybackStep:
        now_s = rounded(now_s)
        player = PlayerState(*(rounded(value) for value in astuple(player)))
        step = super().step(now_s, player)
        answer = [rounded(value) for value in astuple(step)]
        drift_s = rounded(self.drift_s)
        self._calls.append(["step", now_s, list(astuple(player)), answer, drift_s, self.blocked])
        return step


class RecordedMember(Member):
    """A member whose client keeps its calls."""

    def tools(self) -> tuple[ClockSync, PlaybackFollower]:
        self.calls: list[Call] = []
        clock = RecordedClock(self.calls)
        return clock, RecordedFollower(clock, self.calls)


def party() -> list[Call]:
    """Three members through a start, stalls, commands; and one who comes late."""
    world = World(members=3, stall_every_s=float("inf"), local_s=1000.0)
    room = Party(world, 7, RecordedMember)
    room.run(2.0)
    room.start()
    room.run(10.0)
    for member, for_s in zip(room.members, (0.7, 2.6, 1.4), strict=True):
        member.player.stall(for_s)
        room.run(1.0)
    room.run(12.0)
    late = room.join()
    room.run(6.0)
    if isinstance(room.members[0].follower, RecordedFollower):
        room.members[0].follower.press_resync()
    room.run(3.0)
    for command in (SetRate(1.5), Seek(300.0), Pause(), Play()):
        room.command(command)
        room.run(5.0)
    members = [room.members[0], room.members[1], late]
    return [member.calls for member in members if isinstance(member, RecordedMember)]


def synchronise(clock: ClockSync, now_s: float, offset_s: float, count: int = 10) -> float:
    """Some exchanges with uneven delays; returns the local time after them."""
    for k in range(count):
        t0 = clock.ping(now_s)
        there_s, back_s = 0.01 + 0.03 * (k % 4), 0.02 + 0.05 * (k % 3)
        arrived_s = t0 + offset_s + there_s
        clock.pong(t0, arrived_s, arrived_s + 0.001, t0 + there_s + 0.001 + back_s)
        now_s = t0 + 0.3
    return now_s


def bad_clocks() -> list[Call]:
    """Answers that are of no use, and a clock that is set."""
    calls: list[Call] = []
    clock = RecordedClock(calls)
    RecordedFollower(clock, calls)
    now_s = synchronise(clock, 100.0, UNIX_S)
    for late_s in (0.05, 11.0):
        t0 = clock.ping(now_s)
        clock.pong(t0, now_s + UNIX_S, now_s + UNIX_S, now_s + late_s)
        clock.pong(t0, now_s + UNIX_S, now_s + UNIX_S, now_s + late_s)  # twice
        now_s += 12.0
    clock.pong(1.0, UNIX_S, UNIX_S, now_s)  # never asked
    t0 = clock.ping(now_s)
    clock.pong(t0, now_s + UNIX_S + 5, now_s + UNIX_S + 4, now_s + 0.1)  # sent before it came
    t0 = clock.ping(now_s)
    clock.pong(t0, now_s + UNIX_S, now_s + UNIX_S + 3, now_s + 0.1)  # longer there than away
    now_s = synchronise(clock, now_s + 1.0, UNIX_S + 3.0)
    clock.restart(now_s)
    synchronise(clock, now_s, UNIX_S + 3.004, 3)
    return calls


def bad_players() -> list[Call]:
    """Old states, refused starts, a player that cannot seek, the end, a log that began anew."""
    calls: list[Call] = []
    clock = RecordedClock(calls)
    follower = RecordedFollower(clock, calls)
    idle = PlayerState(None, 0.0, True, False)
    follower.step(99.0, idle)
    state = PlaybackState(3, 9, "film", True, 0.0, 1.0, UNIX_S + 103.0, ("me",), UNIX_S + 102.5)
    follower.update(state)
    follower.step(99.5, idle)
    film = PlayerState("film", 0.0, True, True, 1.0, True, 20.0)
    follower.step(99.9, film)  # by no clock yet
    now_s = synchronise(clock, 100.0, UNIX_S)
    for seq, epoch in ((9, 3), (8, 3), (10, 2)):
        follower.update(PlaybackState(epoch, seq, "other", False, 5.0, 1.0, UNIX_S))
    for _ in range(8):  # told to play, it stays paused
        now_s = follower.step(now_s, film).wake_s
    follower.press_resync()
    now_s = follower.step(now_s, film).wake_s
    fixed = PlayerState("film", 2.0, False, True, 1.0, False, 20.0)
    for k in range(6):
        follower.step(now_s + 0.5 * k, PlayerState(*astuple(fixed)))
    for end_s in (122.9, 123.1):
        follower.step(end_s, replace(film, position_s=19.0))
    at_end = replace(film, position_s=20.0)
    for end_s in (121.9, 122.2, 122.3):
        follower.step(end_s, at_end)
    follower.update(PlaybackState(1, 1, "film", False, 4.0, 1.0, UNIX_S + 125.0), snapshot=True)
    for position_s in (19.0, 19.0, 4.0):
        follower.step(125.0, PlayerState("film", position_s, False, True, 1.0, True, 20.0))
    follower.update(PlaybackState(1, 2, None, False, 0.0, 1.0, UNIX_S + 126.0))
    follower.step(126.0, PlayerState("film", 4.0, False, True))
    return calls


def make() -> dict[str, list[Call]]:
    first, second, late = party()
    return {
        "a member of a party": first,
        "a member whose stalls are long": second,
        "a member who comes late": late,
        "bad clocks": bad_clocks(),
        "bad players": bad_players(),
    }


def text() -> str:
    """The file: one call a line."""
    sessions = [
        f"{json.dumps(name)}: [\n" + ",\n".join(map(line, calls)) + "\n]"
        for name, calls in make().items()
    ]
    return "{\n" + ",\n".join(sessions) + "\n}\n"


def line(call: Call) -> str:
    return json.dumps(call, separators=(",", ":"), allow_nan=False)


def main() -> int:
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(text(), encoding="utf-8")
    print(f"{PATH.stat().st_size / 1000:.0f} kB", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
