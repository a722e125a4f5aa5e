"""What a room plays, and where it is: the state that all members share. Pure.

All times are Unix seconds of the shared clock (Redis TIME); they come in as arguments. At shared
time t, while playing, the position is ``position_s + (t - anchor_s) * rate``. `anchor_s` may lie
ahead: until then everybody holds at `position_s`, and so all start together.

The first start of an item opens the ready barrier: `waiting_for` are those it waits for. The
anchor is set to the barrier's end at once, so the start needs nobody to announce it: whoever is not
ready by then is left out and lands later. When the last one is ready the anchor moves forward.

Whoever stores the state (`playback_fields`: as a Redis hash) compares `epoch` and `seq` with those
it read and writes the new state only if they are unchanged, else reads and decides anew.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import assert_never

from mediaserver.kernel.errors import BadInput, Conflict

MIN_RATE = 0.25
MAX_RATE = 4.0
MIN_LEAD_S = 0.3
MAX_LEAD_S = 1.0
READY_TIMEOUT_S = 8.0
END_TOLERANCE_S = 2.0
"""Somebody whose player runs ahead or whose file is shorter may say `ended` this much early."""


@dataclass(frozen=True, slots=True)
class Playback:
    """The state of a room. Members get all of it but `command_seq`, `duration_s` and `begun`."""

    epoch: int = 0
    """Rises with every new item and with every start over."""
    seq: int = 0
    """Rises by one with every change, readiness included."""
    command_seq: int = 0
    """`seq` of the last change that somebody commanded: what a command's base is held against."""
    item_id: str | None = None
    duration_s: float | None = None
    """Of the item, where it is known; the position ends there."""
    begun: bool = False
    """Paused after it had played in this epoch; then a start waits for nobody."""
    playing: bool = False
    position_s: float = 0.0
    """Position at `anchor_s`, seconds of the item."""
    rate: float = 1.0
    anchor_s: float = 0.0
    waiting_for: tuple[str, ...] = ()
    """Members that the start waits for; they are not ready yet."""
    wait_until_s: float | None = None
    """End of the barrier; null where there is none or all were ready."""

    def position_at(self, now_s: float) -> float:
        """Where playback is at shared time `now_s`, seconds of the item."""
        if not self.playing:
            return self.position_s
        position_s = self.position_s + max(0.0, now_s - self.anchor_s) * self.rate
        return position_s if self.duration_s is None else min(position_s, self.duration_s)

    def waits(self, now_s: float) -> bool:
        """Whether the start waits for members."""
        return self.wait_until_s is not None and now_s < self.wait_until_s

    @property
    def ends_at_s(self) -> float | None:
        """When the item will end by the shared clock; None if paused or the length is unknown."""
        if not self.playing or self.duration_s is None:
            return None
        return self.anchor_s + max(0.0, self.duration_s - self.position_s) / self.rate


# ---- commands ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Base:
    """The state that somebody saw when they gave a command."""

    epoch: int
    seq: int


@dataclass(frozen=True, slots=True)
class Play:
    """Go on, from `position_s` if given. At the end of the item: start over."""

    position_s: float | None = None
    members: tuple[str, ...] = ()
    """Those present who can be waited for, where this is the first start of the epoch."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop, at `position_s` if given (where it was pressed), else where the shared clock is."""

    position_s: float | None = None


@dataclass(frozen=True, slots=True)
class Seek:
    """Go to `position_s`; paused or playing as before."""

    position_s: float


@dataclass(frozen=True, slots=True)
class SetRate:
    """Play at `rate`, `MIN_RATE` to `MAX_RATE`."""

    rate: float


@dataclass(frozen=True, slots=True)
class SetItem:
    """Change the item (None: nothing is left) and start it when `members` are ready."""

    item_id: str | None
    duration_s: float | None = None
    position_s: float = 0.0
    play: bool = True
    members: tuple[str, ...] = ()
    """Those present who can be waited for; empty opens no barrier."""


Command = Play | Pause | Seek | SetRate | SetItem


def start_lead_s(largest_round_trip_s: float) -> float:
    """How far ahead a start is set, so that the message reaches the slowest member before it."""
    if not largest_round_trip_s >= 0.0:
        return MIN_LEAD_S
    return min(max(2.0 * largest_round_trip_s, MIN_LEAD_S), MAX_LEAD_S)


def apply(
    state: Playback,
    command: Command,
    now_s: float,
    *,
    base: Base | None = None,
    lead_s: float = MIN_LEAD_S,
) -> Playback:
    """Return the state after `command`; `state` itself where it changes nothing.

    `base` None accepts any state. Raises Conflict with code `stale` when somebody else's command
    came first, `nothing_playing` when there is no item, and BadInput for a value out of range.
    """
    check_base(state, base)
    match command:
        case Play():
            after = _play(state, command, now_s, lead_s)
        case Pause():
            after = _pause(state, command.position_s, now_s)
        case Seek():
            after = _seek(state, command.position_s, now_s, lead_s)
        case SetRate():
            after = _set_rate(state, command.rate, now_s)
        case SetItem():
            after = _set_item(state, command, now_s, lead_s)
        case _:
            assert_never(command)
    if after is state:
        return state
    return replace(after, seq=state.seq + 1, command_seq=state.seq + 1)


def check_base(state: Playback, base: Base | None) -> None:
    """Raise Conflict with code `stale` where a command came between `base` and `state`.

    Readiness rises `seq` too, but makes nobody's command stale.
    """
    if base is None:
        return
    if base.epoch != state.epoch or not state.command_seq <= base.seq <= state.seq:
        raise Conflict(
            f"playback changed meanwhile (it is at epoch {state.epoch}, seq {state.seq}); "
            "look at the new state and decide again",
            code="stale",
        )


def _play(state: Playback, command: Play, now_s: float, lead_s: float) -> Playback:
    _need_item(state)
    position_s = command.position_s
    if position_s is None:
        position_s = state.position_s
        if _at_end(state, now_s):
            position_s = 0.0
            state = replace(state, epoch=state.epoch + 1, begun=False, playing=False)
        elif state.playing:
            return state
    members = () if state.begun or state.playing else command.members
    return _starting(replace(state, position_s=_within(state, position_s)), members, now_s, lead_s)


def _starting(state: Playback, members: tuple[str, ...], now_s: float, lead_s: float) -> Playback:
    """Start after the lead, or after the barrier where there are members to wait for."""
    wait_until_s = now_s + READY_TIMEOUT_S if members else None
    return replace(
        state,
        playing=True,
        anchor_s=(now_s if wait_until_s is None else wait_until_s) + lead_s,
        waiting_for=tuple(dict.fromkeys(members)),
        wait_until_s=wait_until_s,
    )


def _pause(state: Playback, position_s: float | None, now_s: float) -> Playback:
    _need_item(state)
    if not state.playing:
        return state
    if position_s is None:
        position_s = state.position_at(now_s)
    return replace(
        state,
        begun=state.begun or now_s > state.anchor_s,
        playing=False,
        position_s=_within(state, position_s),
        anchor_s=now_s,
        waiting_for=(),
        wait_until_s=None,
    )


def _seek(state: Playback, position_s: float, now_s: float, lead_s: float) -> Playback:
    _need_item(state)
    position_s = _within(state, position_s)
    if not state.playing:
        return replace(state, position_s=position_s, anchor_s=now_s)
    anchor_s = state.anchor_s if state.waits(now_s) else now_s + lead_s
    return replace(state, position_s=position_s, anchor_s=anchor_s)


def _set_rate(state: Playback, rate: float, now_s: float) -> Playback:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise BadInput(f"the rate must lie between {MIN_RATE} and {MAX_RATE}")
    if rate == state.rate:
        return state
    if not state.playing or now_s <= state.anchor_s:
        return replace(state, rate=rate)
    return replace(state, rate=rate, position_s=state.position_at(now_s), anchor_s=now_s)


def _set_item(state: Playback, command: SetItem, now_s: float, lead_s: float) -> Playback:
    duration_s = command.duration_s
    if duration_s is not None and not (math.isfinite(duration_s) and duration_s > 0):
        raise BadInput("the duration must be a positive number of seconds, or unknown")
    after = replace(
        state,
        epoch=state.epoch + 1,
        item_id=command.item_id,
        duration_s=duration_s,
        begun=False,
        playing=False,
        anchor_s=now_s,
        waiting_for=(),
        wait_until_s=None,
    )
    after = replace(after, position_s=_within(after, command.position_s))
    if command.item_id is None or not command.play:
        return after
    return _starting(after, command.members, now_s, lead_s)


def _need_item(state: Playback) -> None:
    if state.item_id is None:
        raise Conflict("nothing is playing; put an item into the queue", code="nothing_playing")


def _at_end(state: Playback, now_s: float) -> bool:
    return state.duration_s is not None and state.position_at(now_s) >= state.duration_s


def _within(state: Playback, position_s: float) -> float:
    if not math.isfinite(position_s):
        raise BadInput("the position must be a number of seconds")
    end_s = math.inf if state.duration_s is None else state.duration_s
    return min(max(0.0, position_s), end_s)


# ---- the ready barrier ---------------------------------------------------------------------


def ready(
    state: Playback,
    member_id: str,
    epoch: int,
    now_s: float,
    *,
    lead_s: float = MIN_LEAD_S,
    is_ready: bool = True,
) -> Playback:
    """Note that a member is ready for `epoch` (or no longer); the last one sets the start.

    Returns `state` itself where that changes nothing: no barrier, another epoch, too late.
    """
    if epoch != state.epoch or not state.waits(now_s):
        return state
    if is_ready:
        return _without(state, {member_id}, now_s, lead_s)
    if member_id in state.waiting_for:
        return state
    return replace(state, seq=state.seq + 1, waiting_for=(*state.waiting_for, member_id))


def left(
    state: Playback, member_ids: Iterable[str], now_s: float, *, lead_s: float = MIN_LEAD_S
) -> Playback:
    """Wait no longer for members who went; `state` itself where nobody waited for them."""
    return _without(state, set(member_ids), now_s, lead_s) if state.waits(now_s) else state


def expire(state: Playback, now_s: float) -> Playback:
    """Clear a barrier whose time is over, for what is shown; the start needs no such call."""
    if state.wait_until_s is None or now_s < state.wait_until_s:
        return state
    return replace(state, seq=state.seq + 1, waiting_for=(), wait_until_s=None)


def _without(state: Playback, gone: set[str], now_s: float, lead_s: float) -> Playback:
    waiting_for = tuple(member for member in state.waiting_for if member not in gone)
    if len(waiting_for) == len(state.waiting_for):
        return state
    state = replace(state, seq=state.seq + 1, waiting_for=waiting_for)
    if waiting_for:
        return state
    # Never later than what everybody was told: some may not hear of this before the old anchor.
    return replace(state, wait_until_s=None, anchor_s=min(state.anchor_s, now_s + lead_s))


# ---- the end of an item --------------------------------------------------------------------


def ended(state: Playback, epoch: int, now_s: float) -> bool:
    """Whether a member's word that the item of `epoch` ended means: on to the next one.

    False where that happened already. Raises Conflict with code `not_ended` where the shared clock
    says otherwise (the length is known, and the end is further than END_TOLERANCE_S away).
    """
    if epoch != state.epoch or state.item_id is None or not state.playing:
        return False
    if state.duration_s is not None:
        rest_s = state.duration_s - state.position_at(now_s)
        if rest_s > END_TOLERANCE_S * max(1.0, state.rate):
            raise Conflict(
                f"the item goes on for {rest_s:.0f} s; use `next` without `ended` to skip it",
                code="not_ended",
            )
    return True


def after_end(state: Playback, following: SetItem | None, now_s: float, lead_s: float) -> Playback:
    """Return the state after the end of an item: the `following` one, or stopped at the end."""
    if following is not None:
        return apply(state, following, now_s, lead_s=lead_s)
    end_s = state.duration_s if state.duration_s is not None else state.position_at(now_s)
    return apply(state, Pause(end_s), now_s)
