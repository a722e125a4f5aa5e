"""From track events to Deepgram's messages: what a client pieces together is what was said."""

import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.captions.events import (
    Ended,
    Flushed,
    Revision,
    SpeechBegan,
    StatusChanged,
    TrackEvent,
    Word,
)
from mediaserver.protocol.deepgram import (
    ModelInfo,
    Results,
    ResultsMetadata,
    SpeechStarted,
    UtteranceEnd,
)
from mediaserver.sessions.deepgram import (
    ChannelMessage,
    ListenChannelWriter,
    ListenFeatures,
    UtteranceGap,
    plain,
)

METADATA = ResultsMetadata(
    request_id="r", model_info=ModelInfo(name="m", version="1", arch="whisper"), model_uuid="u"
)


def writer(**features: object) -> ListenChannelWriter:
    wanted = {"interim_results": True, **features}
    return ListenChannelWriter(0, 1, ListenFeatures(**wanted), METADATA)  # type: ignore[arg-type]


def words(text: str, start_s: float = 0.0) -> tuple[Word, ...]:
    return tuple(
        Word(part, start_s + 0.5 * i, start_s + 0.5 * i + 0.4, 0.8)
        for i, part in enumerate(text.split())
    )


def revision(
    final: tuple[Word, ...],
    newly_final: int = 0,
    tentative: tuple[Word, ...] = (),
    *,
    complete: bool = False,
    utterance: int = 0,
    endpoint: bool | None = None,
    end_s: float | None = None,
    language: str = "en",
) -> Revision:
    every = final + tentative
    heard_s = end_s if end_s is not None else (every[-1].end_s if every else 0.0)
    return Revision(
        utterance=utterance,
        final=final,
        newly_final=newly_final,
        tentative=tentative,
        complete=complete,
        start_s=every[0].start_s if every else 0.0,
        language=language,
        settled_s=heard_s if complete else (final[-1].end_s if final else 0.0),
        end_s=heard_s,
        endpoint=complete if endpoint is None else endpoint,
    )


def transcript(message: ChannelMessage) -> str:
    assert isinstance(message, Results)
    return message.channel.alternatives[0].transcript


def flags(messages: list[ChannelMessage]) -> list[tuple[str, bool, bool, bool]]:
    return [
        (transcript(m), m.is_final, m.speech_final, m.from_finalize)
        for m in messages
        if isinstance(m, Results)
    ]


def test_newly_final_words_come_as_final_and_the_others_as_interim() -> None:
    out = writer()
    w = words("one two three")
    assert flags(out.on(revision((), 0, w))) == [("one two three", False, False, False)]
    assert flags(out.on(revision(w[:1], 1, w[1:]))) == [
        ("one", True, False, False),
        ("two three", False, False, False),
    ]
    assert flags(out.on(revision(w, 2, complete=True))) == [("two three", True, True, False)]


def test_a_last_final_without_words_says_that_the_speaker_paused() -> None:
    out = writer()
    w = words("one two")
    out.on(revision(w, 2))
    [last] = out.on(revision(w, 0, complete=True, end_s=1.6))
    assert isinstance(last, Results)
    assert (transcript(last), last.is_final, last.speech_final) == ("", True, True)
    assert last.start == 0.9
    assert last.start + last.duration == pytest.approx(1.6)


def test_an_utterance_that_only_grew_long_is_no_pause() -> None:
    [last] = writer().on(revision(words("one"), 1, complete=True, endpoint=False))
    assert isinstance(last, Results)
    assert not last.speech_final


def test_what_was_no_speech_is_no_pause_but_takes_back_its_words() -> None:
    out = writer()
    out.on(revision((), 0, words("um")))
    assert flags(out.on(revision((), 0, complete=True))) == [("", True, False, False)]


def test_words_that_vanish_are_taken_back() -> None:
    out = writer()
    out.on(revision((), 0, words("um")))
    assert flags(out.on(revision((), 0))) == [("", False, False, False)]
    assert out.on(revision((), 0)) == []


def test_without_interim_results_only_finals_come() -> None:
    out = writer(interim_results=False)
    w = words("one two")
    assert out.on(revision((), 0, w)) == []
    assert flags(out.on(revision(w[:1], 1, w[1:]))) == [("one", True, False, False)]


def test_without_endpointing_nobody_pauses() -> None:
    assert flags(writer(speech_final=False).on(revision(words("a"), 1, complete=True))) == [
        ("a", True, False, False)
    ]


def test_transcripts_are_plain_unless_punctuation_is_asked_for() -> None:
    w = words("¿Well, $5.50 is “fair”, isn't it? — O'Neil said.")
    [plainly] = writer().on(revision(w, len(w), complete=True))
    assert transcript(plainly) == "well $5.50 is fair isn't it — o'neil said"
    [written] = writer(punctuated=True).on(revision(w, len(w), complete=True))
    assert transcript(written) == "¿Well, $5.50 is “fair”, isn't it? — O'Neil said."
    assert isinstance(plainly, Results)
    first = plainly.channel.alternatives[0].words[0]
    assert (first.word, first.punctuated_word, first.language) == ("well", "¿Well,", None)
    assert plainly.channel.alternatives[0].confidence == 0.8


def test_punctuation_can_be_switched_on_the_way() -> None:
    out = writer()
    out.change(punctuated=True)
    [result] = out.on(revision(words("Yes."), 1, complete=True))
    assert transcript(result) == "Yes."


def test_chinese_words_are_joined_without_spaces() -> None:
    [result] = writer().on(revision(words("你 好 。"), 3, complete=True, language="zh"))
    assert transcript(result) == "你好。"


def test_the_language_is_told_where_it_is_detected() -> None:
    [result] = writer(detects_language=True).on(
        revision(words("hola"), 1, complete=True, language="es")
    )
    assert isinstance(result, Results)
    assert result.channel.detected_language == "es"
    assert result.channel.alternatives[0].languages == ("es",)
    assert result.channel.alternatives[0].words[0].language == "es"


def test_speech_started_only_if_wanted() -> None:
    assert writer().on(SpeechBegan(1.25)) == []
    assert writer(vad_events=True).on(SpeechBegan(1.25)) == [
        SpeechStarted(channel=(0, 1), timestamp=1.25)
    ]


def test_finalize_is_answered_by_its_last_final_result() -> None:
    out = writer()
    w = words("one two")
    assert out.finalize() == 1
    assert flags(out.on(revision(w[:1], 1, w[1:]))) == [
        ("one", True, False, False),
        ("two", False, False, False),
    ]
    assert out.on(revision(w, 1, complete=True)) == []
    assert flags(out.on(Flushed(1))) == [("two", True, True, True)]
    assert flags(out.on(revision(words("on", 5), 1, utterance=1))) == [("on", True, False, False)]


def test_finalize_is_answered_even_when_nothing_is_left() -> None:
    out = writer()
    out.finalize()
    assert flags(out.on(Flushed(1))) == [("", True, False, True)]
    assert out.finalized(1) == []


def test_every_finalize_has_one_answer() -> None:
    out = writer()
    out.finalize()
    out.finalize()
    out.on(revision(words("one"), 1, complete=True))
    assert [f[3] for f in flags(out.on(Flushed(2)))] == [True, True]
    out.finalize()
    assert [f[3] for f in flags(out.on(Ended("ended")))] == [True]


def test_other_events_are_not_deepgrams() -> None:
    assert writer().on(StatusChanged("paused")) == []


def test_utterance_end_follows_the_last_final_word_after_the_gap() -> None:
    out = writer(utterance_end_s=1.0)
    w = words("one two")
    out.on(revision(w, 2, complete=True, end_s=1.4))
    assert out.heard(1.8) == []
    assert out.heard(1.91) == [UtteranceEnd(channel=(0, 1), last_word_end=0.9)]
    assert out.heard(5.0) == []


def test_utterance_end_comes_before_what_is_said_next() -> None:
    out = writer(utterance_end_s=1.0, vad_events=True)
    out.on(revision(words("one"), 1, complete=True))
    kinds = [type(m).__name__ for m in out.on(SpeechBegan(3.0))]
    assert kinds == ["UtteranceEnd", "SpeechStarted"]
    out = writer(utterance_end_s=1.0)
    out.on(revision(words("one"), 1, complete=True))
    later = words("two", 3.0)
    kinds = [type(m).__name__ for m in out.on(revision((), 0, later, utterance=1))]
    assert kinds == ["UtteranceEnd", "Results"]


def test_tentative_words_hold_utterance_end_back() -> None:
    out = writer(utterance_end_s=1.0)
    w = words("one two three four")
    out.on(revision(w[:1], 1, w[1:]))
    assert out.heard(1.9) == []
    out.on(revision(w, 3, complete=True))
    assert out.heard(2.95) == [UtteranceEnd(channel=(0, 1), last_word_end=1.9)]


def test_a_word_that_is_still_being_said_holds_utterance_end_back() -> None:
    out = writer(utterance_end_s=1.0)
    w = words("the exhibition")
    out.on(revision(w[:1], 1))
    assert out.heard(1.5) == []
    [result] = out.on(revision(w, 1, complete=True))
    assert transcript(result) == "exhibition"


def test_a_noise_that_keeps_the_utterance_open_does_not_hold_it_back_for_ever() -> None:
    out = writer(utterance_end_s=1.0)
    out.on(revision(words("the"), 1))
    assert out.heard(2.45) == [UtteranceEnd(channel=(0, 1), last_word_end=0.4)]


def test_no_utterance_end_unless_asked_for() -> None:
    out = writer()
    out.on(revision(words("one"), 1, complete=True))
    assert out.heard(60.0) == []


@given(
    gaps=st.lists(st.floats(0.0, 3.0), min_size=1, max_size=20),
    gap_s=st.floats(0.1, 2.0),
)
def test_each_gap_is_told_once_and_only_if_long_enough(gaps: list[float], gap_s: float) -> None:
    meter, now_s, told, expected = UtteranceGap(gap_s), 0.0, [], []
    for silence_s in gaps:
        word = Word("w", now_s, now_s + 0.3, 1.0)
        told.append(meter.final_word(word))
        until_s = word.end_s + silence_s
        for k in range(5):
            told.append(meter.reached(word.end_s + silence_s * k / 5))
        told.append(meter.reached(until_s))
        if until_s - word.end_s >= gap_s:
            expected.append(word.end_s)
        now_s = until_s
    assert [end_s for end_s in told if end_s is not None] == expected


# ---- properties ----------------------------------------------------------------------------


@dataclass
class Said:
    """What a simulated worker says, and the truth about it."""

    events: list[TrackEvent | None]
    words: list[str]
    finalizes: int


@st.composite
def speech(draw: st.DrawFn) -> Said:
    """Utterances that grow as a worker's do, by dice whose seed is all that is drawn."""
    dice = random.Random(draw(st.integers(0, 2**32)))
    events: list[TrackEvent | None] = []
    said: list[str] = []
    now_s, asked = 0.0, 0
    for utterance in range(dice.randint(1, 4)):
        every: list[Word] = []
        for i in range(dice.randint(0, 6)):
            start_s = now_s + dice.choice([0.0, 0.1, 0.25])
            now_s = start_s + dice.choice([0.05, 0.2, 0.6])
            every.append(Word(f"w{utterance}x{i}", start_s, now_s, 0.5))
        events.append(SpeechBegan(every[0].start_s if every else now_s))
        final = 0
        for _ in range(dice.randint(0, 5)):
            if dice.random() < 0.2:
                events.append(None)  # the client asks for finals
                asked += 1
            newly = dice.randint(0, len(every) - final)
            final += newly
            guessed = every[final : dice.randint(final, len(every))]
            guess = tuple(Word(f"guess{final}", w.start_s, w.end_s, 0.3) for w in guessed)
            events.append(revision(tuple(every[:final]), newly, guess, utterance=utterance))
        now_s += dice.choice([0.2, 0.6])
        left = len(every) - final
        events.append(revision(tuple(every), left, complete=True, utterance=utterance, end_s=now_s))
        said += [w.text for w in every]
        if dice.random() < 0.5:
            events.append(Flushed(asked))
        now_s += dice.choice([0.0, 0.5, 2.0])
    return Said([*events, Ended("ended")], said, asked)


@given(said=speech(), interim=st.booleans(), utterance_end_s=st.sampled_from([None, 0.4, 1.0]))
def test_what_the_client_pieces_together_is_what_was_said(
    said: Said, interim: bool, utterance_end_s: float | None
) -> None:
    out = writer(interim_results=interim, utterance_end_s=utterance_end_s, vad_events=True)
    messages: list[ChannelMessage] = []
    for event in said.events:
        if event is None:
            out.finalize()
        else:
            messages += out.on(event)
            if isinstance(event, Revision):
                messages += out.heard(event.end_s)
    results = [m for m in messages if isinstance(m, Results)]
    finals = [m for m in results if m.is_final]
    heard = [w.word for m in finals for w in m.channel.alternatives[0].words]
    assert heard == said.words
    assert " ".join(filter(None, (transcript(m) for m in finals))) == " ".join(said.words)
    assert sum(m.from_finalize for m in results) == said.finalizes
    assert interim or len(finals) == len(results)

    covered_s = 0.0
    known: set[str] = set()
    for m in results:
        words_in = [w.word for w in m.channel.alternatives[0].words]
        assert m.start == pytest.approx(covered_s, abs=1e-6)
        assert m.duration >= 0
        if m.is_final:
            covered_s = m.start + m.duration
            assert not known & set(words_in)
            known |= set(words_in)
        else:
            assert not known & set(words_in)
            assert (m.speech_final, m.from_finalize) == (False, False)
    starts = [m.timestamp for m in messages if isinstance(m, SpeechStarted)]
    assert starts == sorted(starts)
    ends = [m.last_word_end for m in messages if isinstance(m, UtteranceEnd)]
    assert ends == sorted(set(ends))


@given(st.text(min_size=1, max_size=20).filter(lambda text: not text.isspace()))
def test_a_plain_word_is_never_empty(text: str) -> None:
    assert plain(text)
