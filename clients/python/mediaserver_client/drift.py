"""Keeping a player at the shared position while it plays. Pure.

Small drift is corrected by the rate, large drift by a seek. How long this player's seeks and starts
take is measured, and allowed for. clients/js/drift.js does the same.
"""

import math
from dataclasses import dataclass

CONTROL_S = 0.5
"""Between two looks at the player."""
ENTER_S = 0.03
"""Correction begins above this drift,"""
LEAVE_S = 0.008
"""and ends below this one. Both are seconds of the viewer's time."""
MAX_CORRECTION = 0.05
"""The rate is changed by no more than this share,"""
CORRECTION_STEP = 0.01
"""in steps of this."""
CORRECT_IN_S = 2.0
"""A correction takes about this long, where MAX_CORRECTION allows it."""
SEEK_S = 1.0
"""Drift above this is corrected by a seek."""
MISSED_S = 1.5
"""A seek that landed off by less is finished by rate."""
MIN_SEEK_GAP_S = 5.0
"""Between two seeks; twice as long after each one that did not bring the player in sync,"""
MAX_SEEK_GAP_S = 60.0
"""up to this."""
JUMP_S = 0.15
"""A reading off by more than this tells of a stall or a skip, not of noise."""
READINGS = 3
"""Readings after a start, a stall or a jump before anything is corrected."""
GAIN = 0.3
"""Weight of a new reading against what was expected."""


@dataclass(frozen=True, slots=True)
class PlayerState:
    """A player as it is now."""

    item_id: str | None
    """What is loaded."""
    position_s: float
    paused: bool
    """Told to stand still."""
    ready: bool
    """Has data to go on from here: neither loading, nor seeking, nor out of data."""
    rate: float = 1.0
    """As the player has it, which may be rounded."""
    seekable: bool = True
    duration_s: float | None = None
    """Of the item, once it is known."""

    @property
    def playing(self) -> bool:
        """Whether pictures move."""
        return self.ready and not self.paused


class Expected:
    """A running estimate of how long something takes, and of how much that varies (seconds)."""

    def __init__(self, mean_s: float, deviation_s: float, *, max_s: float) -> None:
        self.mean_s = mean_s
        self.deviation_s = deviation_s
        self._max_s = max_s

    @property
    def likely_s(self) -> float:
        """It seldom takes longer."""
        return self.mean_s + 2.0 * self.deviation_s

    def learn(self, took_s: float) -> None:
        """Take a measurement; one below zero or beyond the maximum counts as that."""
        took_s = min(max(took_s, 0.0), self._max_s)
        error_s = took_s - self.mean_s
        self.deviation_s += 0.25 * (abs(error_s) - self.deviation_s)
        self.mean_s += 0.3 * error_s


@dataclass(frozen=True, slots=True)
class Correction:
    """What to do about the drift."""

    rate: float
    """At which the player should play."""
    seek: bool = False
    """The drift is beyond what the rate can correct."""


class DriftController:
    """The control loop of a playing player. `step` about every CONTROL_S."""

    def __init__(self, enter_s: float = ENTER_S, leave_s: float = LEAVE_S) -> None:
        self._enter_s, self._leave_s = enter_s, leave_s
        self._drift_s: float | None = None
        self._readings = 0
        self._looked_s = 0.0
        self._factor = 1.0
        self._seek_gap_s = MIN_SEEK_GAP_S
        self._no_seek_before_s = float("-inf")
        self._missed = False  # the last seek has yet to be finished by rate
        self._in_sync = True  # since the last seek

    @property
    def drift_s(self) -> float | None:
        """Player less shared position, seconds of the item, smoothed; None while not known."""
        return self._drift_s

    @property
    def correcting(self) -> bool:
        """Whether the rate is changed to correct drift."""
        return self._factor != 1.0

    def pause(self) -> None:
        """Forget the drift: the player stands still, stalls or seeks."""
        self._drift_s = None
        self._readings = 0
        self._factor = 1.0

    def sought(self, now_s: float) -> None:
        """Note that a seek was begun."""
        self.pause()
        if not self._in_sync:
            self._seek_gap_s = min(2.0 * self._seek_gap_s, MAX_SEEK_GAP_S)
        self._missed = True
        self._in_sync = False
        self._no_seek_before_s = now_s + self._seek_gap_s

    def forgive(self) -> None:
        """Begin anew with seeks: another item, another position, or somebody asked for it."""
        self.pause()
        self._missed = False
        self._in_sync = True
        self._seek_gap_s = MIN_SEEK_GAP_S
        self._no_seek_before_s = float("-inf")

    def step(
        self, now_s: float, shared_position_s: float, rate: float, player: PlayerState
    ) -> Correction:
        """Return what to do at local time `now_s`, when playback is at `shared_position_s`.

        `rate` is the shared rate. A player that stalls is left alone until it plays again.
        """
        if not player.playing:
            if self._readings > 0:
                self._missed = False  # it came to play: this is a new stall
            self.pause()
            return Correction(rate)
        self._read(now_s, player.position_s - shared_position_s, player.rate - rate)
        late_s = -(self._drift_s or 0.0) / rate
        if self._readings < READINGS:
            return Correction(rate * self._factor)
        if abs(late_s) < self._enter_s:
            self._missed = False
            self._in_sync = True
            self._seek_gap_s = MIN_SEEK_GAP_S
        limit_s = MISSED_S if self._missed else SEEK_S
        if abs(late_s) > limit_s and player.seekable and now_s >= self._no_seek_before_s:
            return Correction(rate, seek=True)
        self._factor = self._next_factor(late_s)
        return Correction(rate * self._factor)

    def _read(self, now_s: float, measured_s: float, relative_rate: float) -> None:
        """Blend a reading with what was expected from the last one and the player's rate."""
        if self._drift_s is None:
            self._drift_s, self._readings = measured_s, 1
        else:
            expected_s = self._drift_s + relative_rate * (now_s - self._looked_s)
            error_s = measured_s - expected_s
            if abs(error_s) > JUMP_S:
                self._drift_s, self._readings = measured_s, 1
            else:
                self._readings += 1
                gain = max(GAIN, 1.0 / self._readings)
                self._drift_s = expected_s + gain * error_s
        self._looked_s = now_s

    def _next_factor(self, late_s: float) -> float:
        correction = self._factor - 1.0
        if correction == 0.0:
            late = abs(late_s) > self._enter_s
            return 1.0 + _correction(late_s, CORRECT_IN_S) if late else 1.0
        if abs(late_s) < self._leave_s or (late_s > 0.0) != (correction > 0.0):
            return 1.0
        if abs(late_s) < abs(correction) * CONTROL_S:
            return 1.0 + _correction(late_s, CONTROL_S)  # as much as is left until the next look
        wanted = _correction(late_s, CORRECT_IN_S)
        if abs(wanted) > abs(correction) + 1.5 * CORRECTION_STEP:
            return 1.0 + wanted
        return self._factor


def _correction(late_s: float, in_s: float) -> float:
    """Return the change of the rate that makes up for `late_s` in `in_s`, in whole steps."""
    steps = math.floor(abs(late_s) / in_s / CORRECTION_STEP + 0.5)
    steps = min(max(steps, 1), round(MAX_CORRECTION / CORRECTION_STEP))
    return math.copysign(steps * CORRECTION_STEP, late_s)
