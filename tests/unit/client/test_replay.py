"""The audio kept for a reconnect."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mediaserver_client.replay import ReplayBuffer


def buffer(keep_s: float = 2.0, ahead_s: float = 1.0) -> ReplayBuffer:
    return ReplayBuffer(frame_bytes=2, sample_rate_hz=10, keep_s=keep_s, ahead_s=ahead_s)


def drain(kept: ReplayBuffer) -> bytes:
    out = b""
    while pcm := kept.take():
        out += pcm
    return out


def numbered(first: int, count: int) -> bytes:
    return b"".join(n.to_bytes(2, "little") for n in range(first, first + count))


def test_audio_comes_out_as_it_went_in() -> None:
    kept = buffer()
    kept.put(numbered(0, 7))
    kept.put(numbered(7, 5))
    assert drain(kept) == numbered(0, 12)
    assert kept.all_sent
    assert kept.sent_s == kept.end_s == pytest.approx(1.2)


def test_a_rewind_sends_again_from_the_middle_of_a_chunk() -> None:
    kept = buffer()
    kept.put(numbered(0, 10))
    drain(kept)
    kept.put(numbered(10, 5))
    assert kept.rewind(0.4) == pytest.approx(0.4)
    assert drain(kept) == numbered(4, 11)
    assert kept.forgotten_s == 0


def test_what_finals_cover_is_forgotten() -> None:
    kept = buffer()
    for first in range(0, 20, 5):
        kept.put(numbered(first, 5))
    drain(kept)
    kept.settle(1.2)
    assert kept.kept_from_s == pytest.approx(1.0)
    assert kept.rewind(1.2) == pytest.approx(1.2)


def test_audio_that_was_not_sent_is_never_forgotten() -> None:
    kept = buffer()
    kept.put(numbered(0, 30))
    kept.settle(3.0)
    assert drain(kept) == numbered(0, 30)


def test_a_rewind_beyond_what_is_kept_begins_at_the_oldest_and_counts_the_loss() -> None:
    kept = buffer(keep_s=1.0)
    for first in range(0, 40, 5):
        kept.put(numbered(first, 5))
        drain(kept)
    begins_s = kept.rewind(0.0)
    assert begins_s == pytest.approx(3.0)
    assert kept.forgotten_s == pytest.approx(3.0)


def test_it_is_full_when_enough_waits() -> None:
    kept = buffer(ahead_s=1.0)
    kept.put(numbered(0, 9))
    assert not kept.full
    kept.put(numbered(9, 1))
    assert kept.full
    kept.take()
    assert not kept.full


def test_half_a_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="half a frame"):
        buffer().put(b"abc")


@given(st.lists(st.tuples(st.integers(1, 30), st.booleans(), st.floats(0, 20)), max_size=30))
def test_whatever_happens_the_audio_taken_is_a_run_of_the_audio_put(
    steps: list[tuple[int, bool, float]],
) -> None:
    kept = buffer(keep_s=3.0)
    total = 0
    for count, rewinds, at_s in steps:
        kept.put(numbered(total, count))
        total += count
        position = round(kept.sent_s * 10)
        if rewinds:
            kept.settle(at_s)
            position = round(kept.rewind(at_s) * 10)
        assert drain(kept) == numbered(position, total - position)
