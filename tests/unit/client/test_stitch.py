"""Captions across broken connections: every word once, no final word changed."""

import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mediaserver_client.log import CaptionLog
from mediaserver_client.messages import Caption, from_json
from mediaserver_client.replay import ReplayBuffer
from mediaserver_client.stitch import Stitcher

from tests.unit.client.scripted import ScriptedTrack, Spoken, pcm_of, speech

RATE_HZ = 100


class Publisher:
    """What a publication does, without a network: buffer, stitcher, log, and checks on the way."""

    def __init__(self, words: list[Spoken]) -> None:
        self.words = words
        self.log = CaptionLog()
        self.stitcher = Stitcher()
        self.buffer = ReplayBuffer(frame_bytes=2, sample_rate_hz=RATE_HZ)
        self.shown: dict[str, Caption] = {}
        self.connections = 0

    def connect(self, vary: Any = None) -> None:
        self.connections += 1
        start_s = self.buffer.rewind(self.stitcher.resume_at_s)
        self.stitcher.restart(start_s)
        self.track = ScriptedTrack(f"t{self.connections}", self.words, rate_hz=RATE_HZ)
        if vary is not None:
            self.track.vary = vary
        self.send()

    def feed(self, pcm: bytes) -> None:
        self.buffer.put(pcm)
        self.send()

    def send(self) -> None:
        while pcm := self.buffer.take():
            self.track.pcm += pcm
            self.hear(self.track.captions())

    def hear(self, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            caption = self.stitcher.apply(from_json(Caption, message))
            if caption is not None:
                self.show(caption)
            self.buffer.settle(self.stitcher.resume_at_s)

    def show(self, caption: Caption) -> None:
        before = self.shown.get(caption.caption_id)
        if before is not None:
            final = [word for word in before.words if word.final]
            assert list(caption.words[: len(final)]) == final, "a final word changed"
            assert not before.final, "a complete caption changed"
        self.shown[caption.caption_id] = caption
        self.log.apply(caption)

    def end(self) -> None:
        self.hear(self.track.captions(end=True))
        if (rest := self.stitcher.finish()) is not None:
            self.show(rest)

    @property
    def said(self) -> list[str]:
        return [word.text for caption in self.log.finals for word in caption.words]


def publish(words: list[Spoken], cuts_s: list[float], vary: Any = None) -> Publisher:
    pcm = pcm_of(words, rate_hz=RATE_HZ)
    publisher = Publisher(words)
    publisher.connect()
    cuts = sorted(cuts_s)
    for at in range(0, len(pcm), 20):
        while cuts and cuts[0] <= at / 2 / RATE_HZ:
            cuts.pop(0)
            publisher.connect(vary)
        publisher.feed(pcm[at : at + 20])
    publisher.end()
    return publisher


DICKENS = speech(
    "It was the best of times, it was the worst of times, it was the age of wisdom. "
    "It was the age of foolishness. It was the epoch of belief, it was the epoch of incredulity. "
    "It was the season of Light."
)


def test_without_a_break_captions_pass_as_they_are() -> None:
    published = publish(DICKENS, [])
    assert published.said == [word.text for word in DICKENS]
    assert [c.caption_id for c in published.log.finals] == ["t1.0", "t1.1", "t1.2", "t1.3"]


def test_a_break_in_mid_sentence_goes_on_in_the_same_caption() -> None:
    published = publish(DICKENS, [3.0])
    assert published.said == [word.text for word in DICKENS]
    first = published.log.finals[0]
    assert first.caption_id == "t1.0"
    assert first.text.startswith("It was the best")
    assert first.text.endswith("age of wisdom.")
    times = [word.start_s for caption in published.log.finals for word in caption.words]
    assert times == pytest.approx([word.start_s for word in DICKENS], abs=0.06)


def test_a_break_between_utterances_repeats_none() -> None:
    end_s = next(word.end_s for word in DICKENS if word.text == "wisdom.")
    for wait_s in (0.3, 0.55, 0.7, 0.9, 1.1):
        published = publish(DICKENS, [end_s + wait_s])
        assert published.said == [word.text for word in DICKENS], f"{wait_s} s after the end"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 22), max_size=5))
@example([0.0])
@example([21.9])
def test_wherever_it_breaks_every_word_comes_once(cuts_s: list[float]) -> None:
    published = publish(DICKENS, cuts_s)
    assert published.said == [word.text for word in DICKENS]
    assert published.buffer.forgotten_s == 0


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "no", "yes.", "the", "end."]), min_size=1, max_size=40),
    st.lists(st.floats(0, 20), min_size=1, max_size=3),
)
def test_words_that_repeat_themselves_are_not_confused(
    tokens: list[str], cuts_s: list[float]
) -> None:
    words = speech(" ".join(tokens))
    assert publish(words, cuts_s).said == tokens


@settings(max_examples=50, deadline=None)
@given(st.floats(0.5, 20), st.integers(0, 10_000))
def test_a_second_hearing_may_place_words_a_little_differently(cut_s: float, seed: int) -> None:
    def vary(word: Spoken) -> Spoken:
        off_s = random.Random(f"{seed} {word}").uniform(-0.08, 0.08)
        return Spoken(word.text, max(0.0, word.start_s + off_s), word.end_s + off_s)

    published = publish(DICKENS, [cut_s], vary)
    assert published.said == [word.text for word in DICKENS]


def test_a_second_hearing_may_write_words_differently() -> None:
    cut_s = next(word.end_s for word in DICKENS if word.text == "wisdom.")
    written = {"best": "beast", "times,": "time", "worst": "wurst"}
    published = publish(
        DICKENS, [cut_s], lambda w: Spoken(written.get(w.text, w.text), w.start_s, w.end_s)
    )
    assert published.said == [word.text for word in DICKENS]


def test_a_long_utterance_is_resumed_near_its_end() -> None:
    words = speech(" ".join(f"w{n}" for n in range(100)))
    published = Publisher(words)
    published.connect()
    pcm = pcm_of(words, rate_hz=RATE_HZ)
    published.feed(pcm[: 25 * 2 * RATE_HZ])
    assert 15.5 < published.stitcher.resume_at_s < 18
    published.connect()
    published.feed(pcm[25 * 2 * RATE_HZ :])
    published.end()
    assert published.said == [word.text for word in words]
    assert len(published.log.finals) == 1


def test_an_utterance_that_is_not_heard_again_is_closed_with_its_final_words() -> None:
    published = Publisher(DICKENS)
    published.connect()
    published.feed(pcm_of(DICKENS, rate_hz=RATE_HZ)[: 3 * 2 * RATE_HZ])
    assert not published.log.finals
    published.connect(None)
    published.track.pcm.clear()
    published.end()
    assert published.said == [w.text for w in DICKENS[: len(published.said)]]
    assert len(published.said) > 3
