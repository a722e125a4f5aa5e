"""When a signing key is made, published, used and retired. Pure.

A key is published in the JWKS for `PUBLISH_AHEAD_S` before anything is signed with it, so that
every instance (and every cache of the JWKS) has it by then. It signs for `SIGNS_S`. After its
successor took over it is kept for `LONGEST_TOKEN_S`, so that what it signed stays good.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

PUBLISH_AHEAD_S = 3600.0
SIGNS_S = 30 * 86_400.0
LONGEST_TOKEN_S = 31 * 86_400.0
"""Of invitations, with a day to spare; access tokens live 15 minutes."""


@dataclass(frozen=True, slots=True)
class KeyTimes:
    """A key, as far as the plan is concerned. Unix seconds."""

    number: int
    """1, 2, 3, … in the order in which they sign."""
    signs_from: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done now."""

    signing: int | None
    """Number of the key to sign with; None while there is none at all."""
    create: KeyTimes | None
    """A key to make."""
    retire: tuple[int, ...]
    """Keys whose tokens have all expired."""


def plan(keys: Sequence[KeyTimes], now: float, *, hurry: bool = False) -> Plan:
    """Return what is to be done with `keys`; `hurry` publishes a successor now."""
    ordered = sorted(keys, key=lambda key: key.number)
    if not ordered:
        return Plan(signing=None, create=KeyTimes(1, now), retire=())
    newest = ordered[-1]
    active = [key for key in ordered if key.signs_from <= now]
    signing = active[-1] if active else ordered[0]
    ends = newest.signs_from + SIGNS_S
    create = None
    if newest.signs_from <= now and (hurry or now >= ends - PUBLISH_AHEAD_S):
        starts = now + PUBLISH_AHEAD_S
        create = KeyTimes(newest.number + 1, starts if hurry else max(starts, ends))
    retire = tuple(
        key.number
        for key, successor in pairwise(ordered)
        if successor.signs_from + LONGEST_TOKEN_S <= now
    )
    return Plan(signing.number, create, retire)
