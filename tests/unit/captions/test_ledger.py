"""Finals never change or vanish, and exactly the audio that none covers is kept for a replay."""

import random
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.captions.audio import SAMPLE_RATE_HZ, AudioChunk, Samples
from mediaserver.captions.events import Revision, Word
from mediaserver.captions.ledger import CONTEXT_WORDS, MAX_GAP_S, TrackLedger


def numbered(first: int, count: int) -> Samples:
    """Samples whose values say where in the track they are (exact in float32 up to 2^24)."""
    return np.arange(first, first + count, dtype=np.float32)


def revision(
    utterance: int,
    new: list[str],
    *,
    settled_s: float = 0.0,
    complete: bool = False,
    language: str = "en",
    tentative: tuple[str, ...] = (),
) -> Revision:
    """As the wire brings it: only the new final words."""
    words = tuple(Word(text, settled_s, settled_s, 0.9) for text in new)
    return Revision(
        utterance=utterance,
        final=words,
        newly_final=len(words),
        tentative=tuple(Word(text, settled_s, settled_s, 0.5) for text in tentative),
        complete=complete,
        start_s=0.0,
        language=language,
        settled_s=settled_s,
    )


def filled(seconds: float) -> TrackLedger:
    ledger = TrackLedger()
    ledger.take(AudioChunk(numbered(0, round(seconds * SAMPLE_RATE_HZ)), 0.0))
    return ledger


# ---- any sequence of events and losses


@dataclass
class Listener:
    """What a client saw: each utterance's final words may only grow, and end when complete."""

    seen: dict[int, tuple[Word, ...]] = field(default_factory=dict)
    complete: set[int] = field(default_factory=set)
    newest: int = -1
    count: int = 0

    def hear(self, whole: Revision) -> None:
        before = self.seen.get(whole.utterance, ())
        assert whole.utterance >= self.newest
        assert whole.utterance not in self.complete
        assert whole.final[: len(before)] == before
        assert whole.final == (*before, *whole.new_words)
        self.newest = whole.utterance
        self.seen[whole.utterance] = whole.final
        self.count += whole.newly_final
        if whole.complete:
            self.complete.add(whole.utterance)


steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["audio", "audio", "words", "words", "shown", "complete", "settle", "lost"]
        ),
        st.integers(0, 10**6),
    ),
    max_size=40,
)


@given(steps)
def test_finals_and_audio_hold_whatever_happens(given_steps: list[tuple[str, int]]) -> None:
    ledger, listener = TrackLedger(), Listener()
    samples, said, settled_s, utterance = 0, 0, 0.0, 0
    for kind, number in given_steps:
        chance = random.Random(number)
        if kind == "audio":
            count = chance.randint(0, SAMPLE_RATE_HZ)
            sent = ledger.take(AudioChunk(numbered(samples, count), samples / SAMPLE_RATE_HZ))
            np.testing.assert_array_equal(sent, numbered(samples, count))
            samples += count
        elif kind == "settle":
            settled_s = max(settled_s, chance.uniform(0, samples / SAMPLE_RATE_HZ))
            ledger.settle(settled_s)
        elif kind == "lost":
            point = ledger.resume()
            assert point.final_words == listener.seen.get(point.utterance, ())
            assert point.utterance not in listener.complete
            assert point.start_s == ledger.unsettled()[0]
            utterance = point.utterance  # the new worker counts on from there
        else:
            utterance += chance.random() < 0.2  # an utterance that held no words is not told
            settled_s = max(settled_s, chance.uniform(0, samples / SAMPLE_RATE_HZ))
            new = [f"w{said + i}" for i in range(0 if kind == "shown" else chance.randint(0, 3))]
            said += len(new)
            shown = ("perhaps",) if kind == "shown" else ()
            complete = kind == "complete"
            listener.hear(
                ledger.revise(
                    revision(
                        utterance, new, settled_s=settled_s, complete=complete, tentative=shown
                    )
                )
            )
            utterance += complete
        start_s, owed = ledger.unsettled()
        first = round(start_s * SAMPLE_RATE_HZ)
        assert start_s == pytest.approx(settled_s, abs=1 / SAMPLE_RATE_HZ)
        np.testing.assert_array_equal(owed, numbered(first, samples - first))
        assert ledger.owed_s == pytest.approx(len(owed) / SAMPLE_RATE_HZ, abs=1e-4)
        assert ledger.received_s == pytest.approx(samples / SAMPLE_RATE_HZ)
    every = [w.text for n in sorted(listener.seen) for w in listener.seen[n]]
    assert every == [f"w{i}" for i in range(said)]


def test_a_resume_in_mid_utterance_goes_on_with_its_final_words() -> None:
    ledger = filled(10.0)
    ledger.revise(revision(0, ["one", "two"], settled_s=2.0, complete=True))
    ledger.revise(revision(1, ["three"], settled_s=4.0, language="es"))
    point = ledger.resume()
    assert (point.start_s, point.utterance, point.language) == (4.0, 1, "es")
    assert [w.text for w in point.final_words] == ["three"]
    assert point.context == "one two"
    whole = ledger.revise(revision(1, ["four"], settled_s=5.0, complete=True))
    assert [w.text for w in whole.final] == ["three", "four"]
    assert whole.newly_final == 1
    assert ledger.resume().utterance == 2
    assert ledger.resume().context == "one two three four"


def test_the_context_is_bounded() -> None:
    ledger = filled(1.0)
    for utterance in range(30):
        ledger.revise(revision(utterance, [f"w{utterance}"] * 10, complete=True))
    assert len(ledger.resume().context.split()) == CONTEXT_WORDS


def test_settling_never_goes_back_nor_beyond_the_audio() -> None:
    ledger = filled(3.0)
    ledger.settle(2.0)
    ledger.settle(1.0)
    assert ledger.settled_s == 2.0
    ledger.settle(99.0)
    assert ledger.settled_s == 3.0
    ledger.take(AudioChunk(numbered(48_000, 16_000), 3.0))
    assert ledger.owed_s == pytest.approx(1.0)


def test_memory_shrinks_again_after_a_backlog() -> None:
    ledger = filled(100.0)
    ledger.settle(99.0)
    for i in range(300):
        ledger.take(AudioChunk(numbered(0, SAMPLE_RATE_HZ), 100.0 + i))
        ledger.settle(100.0 + i)
    assert ledger.audio.nbytes <= 4 * 8 * SAMPLE_RATE_HZ


# ---- gaps and jumps of the source's clock


def test_a_gap_becomes_silence() -> None:
    ledger = filled(1.0)
    sent = ledger.take(AudioChunk(numbered(5, 10), 1.5))
    assert len(sent) == SAMPLE_RATE_HZ // 2 + 10
    assert not sent[: SAMPLE_RATE_HZ // 2].any()
    assert ledger.received_s == pytest.approx(1.5 + 10 / SAMPLE_RATE_HZ)


def test_a_huge_gap_is_shortened_and_what_follows_keeps_its_distance() -> None:
    ledger = filled(1.0)
    ledger.take(AudioChunk(numbered(0, SAMPLE_RATE_HZ), 10_000.0))
    assert ledger.received_s == pytest.approx(1.0 + MAX_GAP_S + 1.0)
    ledger.take(AudioChunk(numbered(0, SAMPLE_RATE_HZ), 10_001.5))
    assert ledger.received_s == pytest.approx(1.0 + MAX_GAP_S + 1.0 + 0.5 + 1.0)


def test_a_clock_that_jumps_back_loses_nothing() -> None:
    ledger = filled(5.0)
    sent = ledger.take(AudioChunk(numbered(0, SAMPLE_RATE_HZ), 1.0))
    assert len(sent) == SAMPLE_RATE_HZ
    sent = ledger.take(AudioChunk(numbered(0, SAMPLE_RATE_HZ), 2.0))
    assert len(sent) == SAMPLE_RATE_HZ
    assert ledger.received_s == pytest.approx(7.0)


def test_rounding_of_times_neither_adds_nor_drops_samples() -> None:
    ledger = TrackLedger()
    for i in range(3000):
        ledger.take(AudioChunk(numbered(0, 320), round(i * 0.02, 3) + 0.0004 * (i % 2)))
    assert ledger.received_s == pytest.approx(60.0)


@given(st.lists(st.tuples(st.floats(-5, 60), st.integers(1, 4000)), max_size=30))
def test_every_sample_of_the_source_is_kept_in_order(chunks: list[tuple[float, int]]) -> None:
    ledger, first, at_s = TrackLedger(), 1, 0.0
    for jump_s, count in chunks:
        at_s += jump_s
        ledger.take(AudioChunk(numbered(first, count), at_s))
        first, at_s = first + count, at_s + count / SAMPLE_RATE_HZ
    kept = ledger.audio.slice(0.0, ledger.received_s)
    np.testing.assert_array_equal(kept[kept != 0], numbered(1, first - 1))
    assert len(kept) <= first + len(chunks) * (MAX_GAP_S * SAMPLE_RATE_HZ + 1)
