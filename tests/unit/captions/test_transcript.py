"""Cues hold for every stream of revisions that keeps the invariants of `Revision`."""

import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.captions.events import Revision, Word
from mediaserver.captions.transcript import (
    MAX_CUE_S,
    MAX_LINE_COLUMNS,
    PAUSE_S,
    Transcript,
    columns,
    ends_sentence,
    lay_out,
)


def word(text: str, start_s: float, end_s: float | None = None) -> Word:
    return Word(text, start_s, start_s + 0.3 if end_s is None else end_s, 0.9)


def revision(
    utterance: int, final: list[Word], newly_final: int, *, complete: bool = False
) -> Revision:
    end_s = final[-1].end_s if final else 0.0
    return Revision(
        utterance=utterance,
        final=tuple(final),
        newly_final=newly_final,
        tentative=(),
        complete=complete,
        start_s=final[0].start_s if final else 0.0,
        language="en",
        settled_s=end_s,
    )


def say(transcript: Transcript, sentence: str, start_s: float = 0.0, utterance: int = 1) -> None:
    words = [word(text, start_s + 0.4 * i) for i, text in enumerate(sentence.split())]
    transcript.add("t", "Ann", revision(utterance, words, len(words), complete=True))


# ---- the strategy: utterances of words that become final a few at a time, on some tracks

texts = st.one_of(
    st.sampled_from(
        ["so", "we", "went,", "there.", "Mr.", "Why?", "—", "hello", "incomprehensible"]
    ),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=60),
)
gaps = st.floats(0, 9, allow_nan=False)
lengths = st.floats(0, 9, allow_nan=False)


@st.composite
def utterances(draw: st.DrawFn) -> list[list[Word]]:
    at_s, said = 0.0, []
    for size in draw(st.lists(st.integers(0, 25), max_size=5)):
        words = []
        for _ in range(size):
            start_s = at_s + draw(gaps)
            at_s = start_s + draw(lengths)
            words.append(Word(draw(texts), start_s, at_s, 1.0))
        said.append(words)
    return said


def revisions(said: list[list[Word]], seed: int) -> Iterator[Revision]:
    chance = random.Random(seed)
    for number, words in enumerate(said):
        done = 0
        while done < len(words):
            more = chance.randint(0, len(words) - done)
            done += more
            yield revision(number, words[:done], more)
        yield revision(number, words, 0, complete=True)


def shown(text: str) -> str:
    clean = "".join(c if c.isprintable() or c.isspace() else "\ufffd" for c in text)
    return " ".join(clean.split())


@given(st.lists(utterances(), min_size=1, max_size=3), st.integers(0, 9))
def test_every_final_word_is_in_exactly_one_cue_in_order(
    tracks: list[list[list[Word]]], seed: int
) -> None:
    transcript = Transcript()
    streams = {f"t{i}": revisions(said, seed + i) for i, said in enumerate(tracks)}
    chance = random.Random(seed)
    while streams:
        track_id = chance.choice(sorted(streams))
        event = next(streams[track_id], None)
        if event is None:
            del streams[track_id]
        else:
            transcript.add(track_id, "Ann", event)
    transcript.close()
    for i, said in enumerate(tracks):
        expected = [shown(w.text) for words in said for w in words if shown(w.text)]
        cues = [cue for cue in transcript.cues_since() if cue.track_id == f"t{i}"]
        assert [w.text for cue in cues for w in cue.words] == expected


@given(utterances(), st.integers(0, 9))
def test_cues_of_a_track_rise_and_never_overlap(said: list[list[Word]], seed: int) -> None:
    transcript = Transcript()
    for event in revisions(said, seed):
        transcript.add("t", "Ann", event)
    cues = transcript.cues_since()
    for cue in cues:
        assert 0 < round(cue.end_s - cue.start_s, 3) <= MAX_CUE_S
        assert 1 <= len(cue.lines) <= 2
        longest = max(columns(w.text) for w in cue.words)
        assert all(columns(line) <= max(MAX_LINE_COLUMNS, longest) for line in cue.lines)
    for before, after in itertools.pairwise(cues):
        assert after.start_s >= before.end_s
        assert after.number == before.number + 1


@given(utterances(), st.integers(0, 9))
def test_a_closed_cue_never_changes(said: list[list[Word]], seed: int) -> None:
    transcript = Transcript()
    seen: tuple = ()  # type: ignore[type-arg]
    for event in revisions(said, seed):
        transcript.add("t", "Ann", event)
        now = transcript.cues_since()
        assert now[: len(seen)] == seen
        assert transcript.cues_since(len(seen)) == now[len(seen) :]
        seen = now
    transcript.close()
    assert transcript.cues_since()[: len(seen)] == seen


@given(utterances(), st.integers(0, 9))
def test_hearing_everything_twice_changes_nothing(said: list[list[Word]], seed: int) -> None:
    once, twice = Transcript(), Transcript()
    for event in revisions(said, seed):
        once.add("t", "Ann", event)
        twice.add("t", "Ann", event)
        twice.add("t", "Ann", event)
    assert once.document() == twice.document()


def test_a_sentence_ends_a_cue_and_a_short_one_shares_it() -> None:
    transcript = Transcript()
    say(transcript, "Yes. That is what I have always wanted. And then we left.")
    assert [cue.text for cue in transcript.cues_since()] == [
        "Yes. That is what I have always wanted.",
        "And then we left.",
    ]


def test_a_pause_ends_a_cue() -> None:
    transcript = Transcript()
    words = [word("wait", 1.0), word("here", 1.3 + PAUSE_S)]
    transcript.add("t", "", revision(1, words, 2, complete=True))
    assert [(cue.text, cue.start_s) for cue in transcript.cues_since()] == [
        ("wait", 1.0),
        ("here", 1.3 + PAUSE_S),
    ]


def test_a_full_cue_breaks_at_a_late_comma() -> None:
    transcript = Transcript()
    say(
        transcript,
        "in being comparatively modern for although the Chinese took impressions, from wood blocks",
    )
    first, second = transcript.cues_since()
    assert first.text.endswith("impressions,")
    assert second.text == "from wood blocks"


def test_lines_are_even_and_prefer_a_comma() -> None:
    even = "the invention of movable metal letters in the middle of"
    assert lay_out(even.split(" ")) == (
        "the invention of movable",
        "metal letters in the middle of",
    )
    comma = "and when at last he came, we had all gone home to bed"
    assert lay_out(comma.split(" ")) == ("and when at last he came,", "we had all gone home to bed")


def test_an_open_cue_is_in_the_snapshot_but_not_among_the_closed_ones() -> None:
    transcript = Transcript()
    transcript.add("t", "Ann", revision(1, [word("half", 0.0)], 1))
    assert transcript.cues_since() == ()
    (cue,) = transcript.cues()
    assert (cue.number, cue.text) == (0, "half")
    transcript.end_track("t")
    assert [c.number for c in transcript.cues_since()] == [1]


def test_a_track_is_placed_at_its_offset_in_the_session() -> None:
    transcript = Transcript()
    transcript.add("b", "Bob", revision(1, [word("later", 0.5)], 1, complete=True), offset_s=60.0)
    transcript.add("a", "Ann", revision(1, [word("early", 2.0)], 1, complete=True))
    assert [(c.text, c.start_s) for c in transcript.cues()] == [("early", 2.0), ("later", 60.5)]
    assert [c.text for c in transcript.cues_since()] == ["later", "early"]
    assert transcript.cues()[1].words[0].end_s == pytest.approx(60.8)


def test_the_oldest_cues_leave_when_there_are_too_many() -> None:
    transcript = Transcript(max_cues=3)
    for i in range(5):
        say(transcript, f"number {i}", start_s=10.0 * i, utterance=i)
    assert transcript.dropped_cues == 2
    assert [cue.number for cue in transcript.cues_since()] == [3, 4, 5]
    assert [cue.number for cue in transcript.cues_since(4)] == [5]
    assert [cue.number for cue in transcript.cues_since(1)] == [3, 4, 5]
    assert transcript.document().dropped_cues == 2


def test_listeners_hear_of_closed_cues_until_they_leave() -> None:
    transcript = Transcript()
    heard: list[int] = []
    leave = transcript.subscribe(lambda: heard.append(transcript.last_number))
    transcript.add("t", "Ann", revision(1, [word("half", 0.0)], 1))
    assert heard == []
    say(transcript, "one", start_s=5, utterance=2)
    assert heard == [2]  # the utterance before closed too
    leave()
    leave()
    transcript.close()
    assert heard == [2]
    transcript.add("t", "Ann", revision(3, [word("late", 9.0)], 1, complete=True))
    assert transcript.last_number == 2


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("end.", True),
        ("end.”", True),
        ("何？", True),
        ("Mr.", False),
        ("D.", False),
        ("3.", True),
        ("so", False),
        ("", False),
        (".", True),
    ],
)
def test_what_ends_a_sentence(text: str, ends: bool) -> None:
    assert ends_sentence(text) is ends


def test_wide_characters_take_two_columns() -> None:
    assert columns("日本") == 4
    assert columns("e\u0301") == 1
    transcript = Transcript()
    words = [word("字幕", 0.1 * i) for i in range(40)]
    transcript.add("t", "", revision(1, words, 40, complete=True))
    assert all(
        columns(line) <= MAX_LINE_COLUMNS for c in transcript.cues_since() for line in c.lines
    )
