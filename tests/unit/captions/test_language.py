"""The language is latched early, and a change is followed within two utterances."""

from hypothesis import given
from hypothesis import strategies as st

from mediaserver.captions.language import (
    CONFIRM_PROBABILITY,
    LATCH_PROBABILITY,
    LATCH_SPEECH_S,
    SWITCH_PROBABILITY,
    SWITCH_SPEECH_S,
    LanguageLatch,
)

languages = st.sampled_from(["en", "es", "de", "zh"])
chances = st.floats(0, 1)


def latched(language: str = "en") -> LanguageLatch:
    latch = LanguageLatch()
    latch.detected(0, language, 0.99, 5.0)
    return latch


@given(st.lists(st.tuples(st.integers(0, 9), languages, chances, st.floats(0, 20)), max_size=20))
def test_a_told_language_is_never_questioned(
    detections: list[tuple[int, str, float, float]],
) -> None:
    latch = LanguageLatch(told="fr")
    for utterance, language, probability, speech_s in detections:
        assert not latch.wants_detection(utterance, speech_s, complete=True)
        latch.detected(utterance, language, probability, speech_s)
        assert latch.current == "fr"


def test_until_latched_every_decode_detects() -> None:
    latch = LanguageLatch()
    assert latch.current is None
    assert latch.wants_detection(0, 0.1, complete=False)
    assert latch.detected(0, "es", 0.99, LATCH_SPEECH_S - 0.1) == "es"  # too little speech
    assert latch.current is None
    assert latch.detected(0, "en", LATCH_PROBABILITY - 0.01, 9.0) == "en"  # too unsure
    assert latch.wants_detection(0, 9.0, complete=False)
    latch.detected(0, "en", LATCH_PROBABILITY, LATCH_SPEECH_S)
    assert latch.current == "en"
    assert not latch.wants_detection(0, 9.0, complete=True)


@given(st.lists(st.tuples(languages, chances, st.floats(0, 20)), max_size=20))
def test_each_utterance_is_asked_once_and_again_only_after_a_weak_dissent(
    detections: list[tuple[str, float, float]],
) -> None:
    latch = latched()
    for utterance, (language, probability, speech_s) in enumerate(detections, 1):
        wanted = latch.wants_detection(utterance, speech_s, complete=False)
        assert wanted == (speech_s >= SWITCH_SPEECH_S)
        if wanted:
            before = latch.current
            after = latch.detected(utterance, language, probability, speech_s)
            doubtful = language != before and after == before
            assert not latch.wants_detection(utterance, 1.9 * speech_s, complete=True)
            assert latch.wants_detection(utterance, 2.1 * speech_s, complete=False) == doubtful


def test_a_second_look_at_the_same_utterance_is_no_confirmation_unless_it_is_sure() -> None:
    latch = latched("en")
    assert latch.detected(1, "es", 0.7, 2.0) == "en"
    assert latch.detected(1, "es", 0.7, 4.0) == "en"
    assert latch.detected(1, "es", SWITCH_PROBABILITY, 8.0) == "es"
    latch = latched("en")
    latch.detected(1, "es", 0.7, 2.0)
    latch.detected(1, "es", 0.7, 4.0)
    assert latch.detected(2, "es", 0.7, 2.0) == "es"


def test_a_short_utterance_is_asked_when_it_is_complete() -> None:
    latch = latched()
    assert not latch.wants_detection(1, 1.2, complete=False)
    assert latch.wants_detection(1, 1.2, complete=True)
    assert not latch.wants_detection(1, 0.8, complete=True)


def test_a_strong_dissent_switches_at_once() -> None:
    latch = latched("en")
    assert latch.detected(1, "es", SWITCH_PROBABILITY, 3.0) == "es"
    assert latch.current == "es"


def test_a_weaker_dissent_switches_when_the_next_utterance_agrees() -> None:
    latch = latched("en")
    assert latch.detected(1, "es", CONFIRM_PROBABILITY, 3.0) == "en"
    assert latch.detected(2, "es", CONFIRM_PROBABILITY, 3.0) == "es"


def test_two_different_dissents_do_not_switch() -> None:
    latch = latched("en")
    latch.detected(1, "es", 0.7, 3.0)
    latch.detected(2, "de", 0.7, 3.0)
    assert latch.current == "en"
    latch.detected(3, "de", 0.7, 3.0)
    assert latch.current == "de"


def test_an_utterance_in_the_latched_language_clears_the_suspicion() -> None:
    latch = latched("en")
    latch.detected(1, "es", 0.7, 3.0)
    latch.detected(2, "en", 0.7, 3.0)
    latch.detected(3, "es", 0.7, 3.0)
    assert latch.current == "en"


@given(
    st.lists(st.tuples(languages, chances), max_size=20),
    languages,
    st.lists(st.floats(CONFIRM_PROBABILITY, 1), min_size=2, max_size=6),
)
def test_a_new_language_is_followed_within_two_utterances(
    before: list[tuple[str, float]], new: str, probabilities: list[float]
) -> None:
    """Whatever was heard before, two utterances that are fairly sure of one language suffice."""
    latch = latched()
    number = 0
    for number, (language, probability) in enumerate(before, 1):
        latch.detected(number, language, probability, 3.0)
    for i, probability in enumerate(probabilities):
        latch.detected(number + 1 + i, new, probability, 3.0)
        if i >= 1:
            assert latch.current == new


@given(st.lists(st.tuples(languages, st.floats(0, CONFIRM_PROBABILITY - 1e-6)), max_size=30))
def test_unsure_detections_never_change_the_language(detections: list[tuple[str, float]]) -> None:
    latch = latched("en")
    for utterance, (language, probability) in enumerate(detections, 1):
        assert latch.detected(utterance, language, probability, 3.0) == "en"


def test_a_latched_language_of_another_worker_goes_on() -> None:
    latch = LanguageLatch(None, "es")
    assert latch.current == "es"
    assert latch.wants_detection(7, 5.0, complete=False)
    assert latch.detected(7, "es", 0.5, 5.0) == "es"
