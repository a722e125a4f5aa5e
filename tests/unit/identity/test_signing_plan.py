from hypothesis import given
from hypothesis import strategies as st

from mediaserver.identity.signing_plan import (
    LONGEST_TOKEN_S,
    PUBLISH_AHEAD_S,
    SIGNS_S,
    KeyTimes,
    plan,
)

T0 = 1_700_000_000.0


def test_the_first_key_signs_at_once() -> None:
    first = plan([], T0)
    assert first.create == KeyTimes(1, T0)
    assert plan([KeyTimes(1, T0)], T0).signing == 1


def test_a_successor_is_published_before_it_signs() -> None:
    keys = [KeyTimes(1, T0)]
    assert plan(keys, T0 + SIGNS_S - PUBLISH_AHEAD_S - 1).create is None
    now = T0 + SIGNS_S - PUBLISH_AHEAD_S
    successor = plan(keys, now).create
    assert successor == KeyTimes(2, T0 + SIGNS_S)
    keys.append(successor)
    assert plan(keys, now).signing == 1
    assert plan(keys, now).create is None
    assert plan(keys, T0 + SIGNS_S).signing == 2


def test_a_key_is_retired_when_all_that_it_signed_has_expired() -> None:
    keys = [KeyTimes(1, T0), KeyTimes(2, T0 + SIGNS_S)]
    end = T0 + SIGNS_S + LONGEST_TOKEN_S
    assert plan(keys, end - 1).retire == ()
    assert plan(keys, end).retire == (1,)


def test_a_hurried_successor_is_published_ahead_too() -> None:
    assert plan([KeyTimes(1, T0)], T0 + 5, hurry=True).create == KeyTimes(
        2, T0 + 5 + PUBLISH_AHEAD_S
    )


def test_an_instance_whose_clock_is_late_signs_with_the_first_key() -> None:
    assert plan([KeyTimes(1, T0)], T0 - 3).signing == 1


@given(st.lists(st.floats(min_value=0, max_value=20 * 86_400), min_size=1, max_size=60))
def test_whatever_the_instances_do_what_was_signed_can_be_verified(steps: list[float]) -> None:
    """Look at the plan at random times: no token outlives its key, no key signs unpublished."""
    keys: dict[int, KeyTimes] = {}
    published: dict[int, float] = {}
    signed: list[tuple[int, float]] = []
    now = T0
    for step in steps:
        now += step
        todo = plan(list(keys.values()), now)
        if todo.create is not None:
            keys[todo.create.number] = todo.create
            published[todo.create.number] = now
        for number in todo.retire:
            del keys[number]
            assert all(at + LONGEST_TOKEN_S <= now for key, at in signed if key == number)
        todo = plan(list(keys.values()), now)
        assert todo.signing in keys
        if todo.signing != 1:
            assert now - published[todo.signing] >= PUBLISH_AHEAD_S
        signed.append((todo.signing, now))
