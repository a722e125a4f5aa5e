from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mediaserver.identity.rotation import (
    GRACE_MS,
    Family,
    rotate,
    successor_of,
    token_hash,
)

SECRET = b"s" * 32
NEW = Family(current="a", ends_ms=10**12)


def test_the_current_token_gives_a_successor() -> None:
    outcome, family = rotate(NEW, "a", "b", "n1", 1000)
    assert outcome == "rotated"
    assert family == replace(NEW, current="b", previous="a", nonce="n1", rotated_ms=1000)


def test_the_predecessor_gives_the_same_successor_within_the_grace() -> None:
    _, family = rotate(NEW, "a", "b", "n1", 1000)
    assert rotate(family, "a", "c", "n2", 1000 + GRACE_MS) == ("same", family)


def test_the_predecessor_after_the_grace_revokes_the_family() -> None:
    _, family = rotate(NEW, "a", "b", "n1", 1000)
    outcome, revoked = rotate(family, "a", "c", "n2", 1001 + GRACE_MS)
    assert outcome == "replayed"
    assert revoked is not None
    assert revoked.revoked
    assert rotate(revoked, "b", "d", "n3", 1002 + GRACE_MS)[0] == "revoked"


def test_the_grace_covers_the_immediate_predecessor_alone() -> None:
    _, family = rotate(NEW, "a", "b", "n1", 1000)
    _, family = rotate(family, "b", "c", "n2", 1001)
    assert rotate(family, "a", "x", "n3", 1002)[0] == "replayed"


def test_a_made_up_token_of_a_family_revokes_it_and_of_none_does_nothing() -> None:
    assert rotate(NEW, "guess", "b", "n", 1000)[0] == "replayed"
    assert rotate(None, "guess", "b", "n", 1000) == ("unknown", None)


def test_a_family_ends() -> None:
    assert rotate(replace(NEW, ends_ms=1000), "a", "b", "n", 1000)[0] == "unknown"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2 * GRACE_MS)), max_size=40))
def test_never_are_two_tokens_good_and_a_revoked_family_never_comes_back(
    steps: list[tuple[int, int]],
) -> None:
    """Whatever order tokens are shown in: one current token at most, and no way back."""
    family: Family | None = NEW
    issued, now, over = ["a"], 0, False
    for back, wait_ms in steps:
        now += wait_ms
        presented = issued[max(0, len(issued) - 1 - back)]
        successor = f"t{len(issued)}"
        outcome, family = rotate(family, presented, successor, f"n{len(issued)}", now)
        assert family is not None
        if over:
            assert outcome == "revoked"
        if outcome == "rotated":
            assert presented == issued[-1], "only the newest token rotates"
            issued.append(successor)
        if outcome == "same":
            assert presented == issued[-2]
        over = over or outcome == "replayed"
        assert family.current == issued[-1]


@given(st.text(max_size=60), st.text(max_size=20), st.text(max_size=20))
def test_a_successor_is_the_same_for_the_same_nonce_and_another_for_another(
    token: str, nonce: str, other: str
) -> None:
    successor = successor_of(SECRET, token, nonce)
    assert successor == successor_of(SECRET, token, nonce)
    assert successor.partition(".")[0] == token.partition(".")[0]
    if other != nonce:
        assert successor_of(SECRET, token, other) != successor
    assert successor_of(b"o" * 32, token, nonce) != successor
    assert len(token_hash(successor)) == 64
