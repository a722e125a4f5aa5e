"""Following a room's playback: what a player has to do now. Pure.

`PlaybackFollower` knows the newest `playback` state and the shared clock. Its `step` looks at the
player and says what to do: load, pause, seek, play, change the rate, report ready. To come in sync
it lands: it seeks to where playback will be when the seek is done, stands still, and plays when
the shared position comes by. clients/js/sync.js does the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mediaserver_client.clock import ClockSync
from mediaserver_client.drift import (
    CONTROL_S,
    DriftController,
    Expected,
    PlayerState,
)

END_S = 1.0
"""A player may come to its end this much before the shared position."""
SEEK_FROM_REST_S = 0.5
"""A player that stands still and is late by more seeks before it plays."""
PLACED_S = 0.2
"""A player that holds for the start this near its position starts that much sooner or later."""
EXACT_S = 0.05
"""Two paused players this near show (about) the same; somebody who asks gets this."""
AGAIN_S = 1.5
"""A landing that is late by more seeks again,"""
MAX_LANDING_SEEKS = 3
"""so many times in all."""
EARLY_S = 2.0
"""Nobody waits longer than this for the shared position to come by; it seeks back instead."""
ROUNDED = 0.03
"""Players may round rates by so much."""
START_LIMIT_S = 0.6
"""A start that takes longer was a stall, and is not learnt from."""
STARTS = 3
"""Refused starts in a row before the player counts as blocked (autoplay needs a gesture)."""
LANDING_LOOK_S = 0.05
"""Between looks at a player that seeks, so that its seeks are measured well."""


@dataclass(frozen=True, slots=True)
class PlaybackState:
    """What is played, as the server says it: see `mediaserver.protocol.rooms.PlaybackState`."""

    epoch: int
    seq: int
    item_id: str | None
    playing: bool
    position_s: float
    rate: float
    anchor_s: float
    waiting_for: tuple[str, ...] = ()
    wait_until_s: float | None = None

    @classmethod
    def from_message(cls, state: Mapping[str, Any]) -> "PlaybackState":
        """Read the `state` of a `playback` message. Raises KeyError where a field is missing."""
        wait_until_s = state.get("wait_until_s")
        return cls(
            epoch=int(state["epoch"]),
            seq=int(state["seq"]),
            item_id=state["item_id"],
            playing=bool(state["playing"]),
            position_s=float(state["position_s"]),
            rate=float(state["rate"]),
            anchor_s=float(state["anchor_s"]),
            waiting_for=tuple(state.get("waiting_for") or ()),
            wait_until_s=None if wait_until_s is None else float(wait_until_s),
        )

    def position_at(self, shared_s: float) -> float:
        """Where playback is at a time of the shared clock, seconds of the item."""
        if not self.playing:
            return self.position_s
        return self.position_s + max(0.0, shared_s - self.anchor_s) * self.rate


@dataclass(frozen=True, slots=True)
class PlaybackStep:
    """What to do now, in this order; None and False mean: leave it."""

    wake_s: float
    """Local time of the next step, if nothing happens before."""
    load: str | None = None
    """Load this item (paused); look again when the player has it."""
    pause: bool = False
    seek_to_s: float | None = None
    rate: float | None = None
    play: bool = False
    ready: int | None = None
    """Report `playback.ready` for this epoch."""
    ended: int | None = None
    """The item of this epoch has come to its end: ask for the next one."""


class PlaybackFollower:
    """Keeps one player with the room.

    `step` at the last step's `wake_s`, and whenever a state comes or the player has loaded, sought,
    stalled or gone on.
    """

    def __init__(self, clock: ClockSync, drift: DriftController | None = None) -> None:
        self._clock = clock
        self._drift = drift or DriftController()
        self._state: PlaybackState | None = None
        self._seeks = Expected(0.6, 0.3, max_s=5.0)
        self._starts = Expected(0.1, 0.0, max_s=START_LIMIT_S)
        self._control_s = float("-inf")
        self._sought_s: float | None = None  # a seek is under way since then
        self._landing = True
        self._landing_seeks = 0
        self._exactly = False  # somebody asked for it: seek for little drift too
        self._started: tuple[float, float] | None = None  # told to play when, and from where
        self._refused = 0
        self._placed: int | None = None  # seq that the player was placed for while paused
        self._rate: float | None = None  # as the player was told
        self._reported: tuple[int, float] | None = None  # barrier: its epoch and its end
        self._ended: int | None = None

    @property
    def state(self) -> PlaybackState | None:
        """The newest state."""
        return self._state

    @property
    def drift_s(self) -> float | None:
        """Player less shared position, seconds of the item; None unless it plays."""
        return self._drift.drift_s

    @property
    def correcting(self) -> bool:
        """Whether the rate is changed to come in sync."""
        return self._drift.correcting

    @property
    def landing(self) -> bool:
        """Whether the player is on its way to the shared position."""
        return self._landing

    @property
    def blocked(self) -> bool:
        """Whether the player refuses to start (autoplay rules): somebody has to press play."""
        return self._refused >= STARTS

    @property
    def seek_time_s(self) -> float:
        """How long this player's seeks take, as measured."""
        return self._seeks.mean_s

    def position_s(self, now_s: float) -> float | None:
        """The shared position at local time `now_s`; None while nothing is played."""
        if self._state is None or self._state.item_id is None:
            return None
        return self._state.position_at(self._clock.shared_s(now_s))

    def update(self, state: PlaybackState, *, snapshot: bool = False) -> bool:
        """Take a state; False if it is older than, or the same as, the one that is known.

        With `snapshot` it is taken in any case: the room's log began anew.
        """
        known = self._state
        if known is not None and not snapshot:
            if (state.epoch, state.seq) <= (known.epoch, known.seq):
                return False
            if _goes_on(known, state):
                self._state = state
                if state.rate != known.rate:
                    self._drift.pause()
                return True
        self._state = state
        self._land_anew()
        if snapshot or known is None or known.epoch != state.epoch:
            self._reported = self._ended = None
        return True

    def resync(self) -> None:
        """Land anew, as exactly as can be: somebody asked for it, or has unblocked the player."""
        self._land_anew()
        self._exactly = True

    def _land_anew(self) -> None:
        self._drift.forgive()
        self._exactly = False
        self._refused = 0
        self._placed = None
        self._begin_landing()

    def step(self, now_s: float, player: PlayerState) -> PlaybackStep:
        """Return what to do at local time `now_s`."""
        state = self._state
        if state is None or state.item_id is None:
            self._drift.pause()
            return PlaybackStep(now_s + CONTROL_S, pause=not player.paused)
        if player.item_id != state.item_id:
            self._drift.pause()
            self._sought_s = self._rate = None
            return PlaybackStep(now_s + CONTROL_S, load=state.item_id)
        self._measure_seek(now_s, player)
        if not state.playing:
            return self._stand_still(now_s, player, state)
        if not self._clock.synchronised:
            return PlaybackStep(now_s + LANDING_LOOK_S, pause=self._landing and not player.paused)
        if self._is_over(now_s, player, state):
            return self._end(now_s, state)
        if player.paused or self._landing:
            return self._land(now_s, player, state)
        return self._follow(now_s, player, state)

    # ---- paused, and the end ---------------------------------------------------------------

    def _stand_still(self, now_s: float, player: PlayerState, state: PlaybackState) -> PlaybackStep:
        self._drift.pause()
        self._begin_landing()
        off_s = abs(player.position_s - state.position_s)
        seek = off_s > EXACT_S and player.seekable and self._placed != state.seq
        if player.seekable:
            self._placed = state.seq
        if seek:
            self._sought_s = now_s
        return PlaybackStep(
            now_s + CONTROL_S,
            pause=not player.paused,
            seek_to_s=state.position_s if seek else None,
            rate=self._new_rate(player, state.rate),
        )

    def _is_over(self, now_s: float, player: PlayerState, state: PlaybackState) -> bool:
        if player.duration_s is None:
            return False
        rest_s = player.duration_s - state.position_at(self._clock.shared_s(now_s))
        # A player that came to its end first would begin again if it were told to play.
        there = player.position_s >= player.duration_s - EXACT_S
        return rest_s <= (END_S * state.rate if there else 0.0)

    def _end(self, now_s: float, state: PlaybackState) -> PlaybackStep:
        self._drift.pause()
        first = self._ended != state.epoch
        self._ended = state.epoch
        return PlaybackStep(now_s + CONTROL_S, ended=state.epoch if first else None)

    # ---- landing ---------------------------------------------------------------------------

    def _begin_landing(self) -> None:
        self._landing = True
        self._landing_seeks = 0
        self._started = None

    def _land(self, now_s: float, player: PlayerState, state: PlaybackState) -> PlaybackStep:
        """Stand still at a place ahead, and play when the shared position comes by."""
        self._notice_refusal(player)
        pause = not player.paused
        soon_s = now_s + LANDING_LOOK_S
        if self.blocked:
            return PlaybackStep(now_s + CONTROL_S, pause=pause)
        if self._sought_s is not None:
            return PlaybackStep(soon_s, pause=pause)
        rate = self._new_rate(player, state.rate)
        shared_s = self._clock.shared_s(now_s)
        starts_s = state.anchor_s + (player.position_s - state.position_s) / state.rate
        late_s = shared_s - starts_s + (0.0 if player.playing else self._starts.mean_s)
        if self._must_seek(shared_s, late_s, player, state):
            to_s = self._seek_ahead(now_s, player, state)
            return PlaybackStep(soon_s, pause=pause, seek_to_s=to_s, rate=rate)
        if not player.ready:
            return PlaybackStep(soon_s, pause=pause, rate=rate)
        ready = self._report(shared_s, state)
        if late_s < -0.0005:
            wake_s = now_s + min(-late_s, CONTROL_S)
            return PlaybackStep(wake_s, pause=pause, rate=rate, ready=ready)
        self._started = (now_s, player.position_s)
        self._landing = self._exactly = False
        self._control_s = now_s + CONTROL_S
        self._drift.pause()
        return PlaybackStep(self._control_s, rate=rate, play=True, ready=ready)

    def _notice_refusal(self, player: PlayerState) -> None:
        if not self._landing:  # it was told to play, and is paused
            self._refused += 1
            self._begin_landing()
        elif self.blocked and not player.paused:
            self._refused = 0

    def _must_seek(
        self, shared_s: float, late_s: float, player: PlayerState, state: PlaybackState
    ) -> bool:
        if not player.seekable or self._landing_seeks >= MAX_LANDING_SEEKS:
            return False
        if shared_s < state.anchor_s and self._landing_seeks == 0:
            return abs(player.position_s - state.position_s) > PLACED_S
        if late_s < 0.0:
            ahead_s = player.position_s - state.position_at(shared_s)
            return ahead_s > (EARLY_S + self._seeks.likely_s) * state.rate
        if self._landing_seeks > 0:
            return late_s > AGAIN_S
        return late_s > (EXACT_S if self._exactly else SEEK_FROM_REST_S)

    def _seek_ahead(self, now_s: float, player: PlayerState, state: PlaybackState) -> float:
        """Begin a seek; returns where playback will be when the player is likely done with it."""
        self._sought_s = now_s
        self._landing_seeks += 1
        self._drift.sought(now_s)
        ahead_s = self._seeks.likely_s + self._starts.mean_s
        to_s = state.position_at(self._clock.shared_s(now_s) + ahead_s)
        return to_s if player.duration_s is None else min(to_s, player.duration_s)

    # ---- playing ---------------------------------------------------------------------------

    def _follow(self, now_s: float, player: PlayerState, state: PlaybackState) -> PlaybackStep:
        if player.ready and now_s < self._control_s - 0.1 * CONTROL_S:
            return PlaybackStep(self._control_s)
        self._control_s = now_s + CONTROL_S
        self._measure_start(now_s, player, state)
        position_s = state.position_at(self._clock.shared_s(now_s))
        correction = self._drift.step(now_s, position_s, state.rate, player)
        rate = self._new_rate(player, correction.rate)
        if not correction.seek:
            return PlaybackStep(self._control_s, rate=rate)
        self._begin_landing()
        to_s = self._seek_ahead(now_s, player, state)
        return PlaybackStep(now_s + LANDING_LOOK_S, pause=True, seek_to_s=to_s, rate=rate)

    # ---- what is remembered ----------------------------------------------------------------

    def _new_rate(self, player: PlayerState, rate: float) -> float | None:
        """The rate to set; None where the player was told so and has (about) done it."""
        if self._rate == rate and abs(player.rate - rate) < ROUNDED:
            return None
        self._rate = rate
        return rate

    def _report(self, shared_s: float, state: PlaybackState) -> int | None:
        if state.wait_until_s is None or shared_s >= state.wait_until_s:
            return None
        barrier = (state.epoch, state.wait_until_s)
        if self._reported == barrier:
            return None
        self._reported = barrier
        return state.epoch

    def _measure_seek(self, now_s: float, player: PlayerState) -> None:
        if self._sought_s is not None and player.ready and now_s > self._sought_s:
            self._seeks.learn(now_s - self._sought_s)
            self._sought_s = None

    def _measure_start(self, now_s: float, player: PlayerState, state: PlaybackState) -> None:
        """Learn how long `play` took to move the player, from where it is a moment later."""
        if self._started is None or not player.playing:
            return
        started_s, from_s = self._started
        self._started = None
        self._refused = 0
        took_s = now_s - started_s - (player.position_s - from_s) / state.rate
        if 0.0 <= took_s <= START_LIMIT_S:
            self._starts.learn(took_s)


def _goes_on(known: PlaybackState, state: PlaybackState) -> bool:
    """Whether a player that follows `known` need not land for `state`."""
    if (known.epoch, known.item_id) != (state.epoch, state.item_id):
        return False
    if not (known.playing and state.playing):
        return known.playing == state.playing and known.position_s == state.position_s
    if known.anchor_s == state.anchor_s:
        return known.position_s == state.position_s
    # Another rate from the anchor on: the same place at that moment.
    off_s = abs(known.position_at(state.anchor_s) - state.position_s)
    return known.anchor_s < state.anchor_s and off_s < EXACT_S
