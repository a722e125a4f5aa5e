"""The audio buffer is a window onto the track: exact to the sample, and bounded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mediaserver.captions.audio import (
    SAMPLE_RATE_HZ,
    AudioBuffer,
    AudioChunk,
    Samples,
    from_s16,
    silence,
    to_s16,
)

MAX_COUNT = 30 * SAMPLE_RATE_HZ


def numbered(first: int, count: int) -> Samples:
    """Samples whose values say where in the track they are (exact in float32 up to 2^24)."""
    return np.arange(first, first + count, dtype=np.float32)


class BufferAgainstModel(RuleBasedStateMachine):
    """The model: two counters, since sample n of the track has the value n."""

    def __init__(self) -> None:
        super().__init__()
        self.origin_s = 1234.5
        self.buffer = AudioBuffer(self.origin_s)
        self.first = 0
        self.last = 0

    def at_s(self, sample: float) -> float:
        return self.origin_s + sample / SAMPLE_RATE_HZ

    @rule(count=st.one_of(st.integers(0, 2000), st.integers(0, MAX_COUNT // 8)))
    def append(self, count: int) -> None:
        self.buffer.append(numbered(self.last, count))
        self.last += count

    @rule(share=st.floats(-0.2, 1.2), jitter=st.floats(-0.4, 0.4))
    def trim(self, share: float, jitter: float) -> None:
        at = self.first + round(share * (self.last - self.first))
        self.buffer.trim(self.at_s(at + jitter))
        self.first = min(self.last, max(self.first, at))

    @rule(a=st.floats(-0.3, 1.3), b=st.floats(-0.3, 1.3), jitter=st.floats(-0.4, 0.4))
    def slice(self, a: float, b: float, jitter: float) -> None:
        length = self.last - self.first
        start, end = (self.first + round(share * length) for share in (a, b))
        got = self.buffer.slice(self.at_s(start + jitter), self.at_s(end + jitter))
        start, end = max(start, self.first), min(end, self.last)
        np.testing.assert_array_equal(got, numbered(start, max(0, end - start)))

    @precondition(lambda self: self.last > self.first)
    @rule()
    def a_slice_is_a_copy(self) -> None:
        self.buffer.slice(self.buffer.start_s, self.buffer.end_s)[:] = -1
        got = self.buffer.slice(self.buffer.start_s, self.buffer.end_s)
        np.testing.assert_array_equal(got, numbered(self.first, self.last - self.first))

    @invariant()
    def times_agree(self) -> None:
        assert self.buffer.start_s == pytest.approx(self.at_s(self.first), abs=1e-9)
        assert self.buffer.end_s == pytest.approx(self.at_s(self.last), abs=1e-9)


TestBufferAgainstModel = BufferAgainstModel.TestCase


def test_a_buffer_that_is_trimmed_does_not_grow() -> None:
    buffer = AudioBuffer()
    buffer.append(numbered(0, MAX_COUNT))
    for _ in range(600):
        buffer.append(numbered(0, 1600))
        buffer.trim(buffer.end_s - 2.0)
    assert buffer.end_s == pytest.approx(90.0)
    assert buffer.nbytes <= 4 * 8 * SAMPLE_RATE_HZ


@given(st.lists(st.floats(-1.5, 1.5, width=32), max_size=50))
def test_samples_survive_the_wire_but_for_clipping_and_rounding(values: list[float]) -> None:
    samples = np.array(values, dtype=np.float32)
    back = from_s16(to_s16(samples))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, np.clip(samples, -1, 1), atol=2 / 32767)


def test_half_a_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple"):
        from_s16(b"\x00\x01\x02")


def test_a_chunk_knows_where_it_ends() -> None:
    chunk = AudioChunk(numbered(0, 8000), 2.0)
    assert (chunk.duration_s, chunk.end_s) == (0.5, 2.5)


def test_silence_comes_before_what_follows_it() -> None:
    np.testing.assert_array_equal(silence(2, numbered(7, 2)), [0, 0, 7, 8])
