"""Final words only grow, and only on the evidence that the policy names."""

import string

from hypothesis import assume, given
from hypothesis import strategies as st

from mediaserver.captions.events import Word
from mediaserver.captions.policy import (
    HeardWord,
    PolicyParameters,
    UtterancePolicy,
    without_echo,
    without_loops,
    without_recital,
    without_squeezed,
    without_stray_marks,
)

P = PolicyParameters()
UNSURE = P.sure_probability - 0.1
"""Shown, but final only when two decodes agree."""


def heard(text: str, start_s: float, end_s: float, probability: float = 0.9) -> HeardWord:
    return HeardWord(Word(text, start_s, end_s, probability), tuple(text.encode()))


def say(
    sentence: str, start_s: float = 0.0, probability: float = 0.9, step_s: float = 0.4
) -> tuple[HeardWord, ...]:
    """A sentence of words that take 0.3 s each."""
    return tuple(
        heard(text, start_s + i * step_s, start_s + i * step_s + 0.3, probability)
        for i, text in enumerate(sentence.split())
    )


def texts(words: list[HeardWord] | tuple[HeardWord, ...]) -> list[str]:
    return [word.word.text for word in words]


def plausible(final: list[HeardWord], words: tuple[HeardWord, ...]) -> tuple[HeardWord, ...]:
    """What is taken of a hypothesis at all."""
    words = without_recital(final, without_echo(final, without_stray_marks(words)))
    return without_loops(without_squeezed(words))


@st.composite
def hypotheses(draw: st.DrawFn) -> tuple[HeardWord, ...]:
    """What a recogniser may say: few different words, times that mostly run forwards."""
    at_s, words = draw(st.floats(0.2, 20)), []
    for _ in range(draw(st.integers(0, 10))):
        at_s = max(0.0, at_s + draw(st.floats(-0.1, 0.6)))
        end_s = at_s + draw(st.floats(0, 0.6))
        words.append(
            heard(draw(st.sampled_from(["a", "A.", "bé", "b,", "c"])), at_s, end_s, draw(chances))
        )
        at_s = end_s
    return tuple(words)


chances = st.floats(0, 1)
updates = st.lists(
    st.tuples(hypotheses(), st.floats(0, 30), st.floats(0, 10), st.booleans()), max_size=12
)


@given(updates)
def test_final_words_only_grow_and_their_times_run_forwards(
    given_updates: list[tuple[tuple[HeardWord, ...], float, float, bool]],
) -> None:
    policy = UtterancePolicy()
    for words, heard_s, live_s, complete in given_updates:
        before = list(policy.final)
        count = policy.update(words, heard_s, complete=complete, live_s=live_s)
        assert policy.final[: len(before)] == before
        assert len(policy.final) == len(before) + count
        edge_s = 0.0
        for final in policy.final:
            assert edge_s <= final.word.start_s <= final.word.end_s
            edge_s = final.word.end_s
        assert policy.final_end_s == (edge_s if policy.final else None)


@given(updates, hypotheses(), st.floats(0, 30), st.floats(0, 10))
def test_nothing_is_final_without_evidence(
    before: list[tuple[tuple[HeardWord, ...], float, float, bool]],
    words: tuple[HeardWord, ...],
    heard_s: float,
    live_s: float,
) -> None:
    """A second writing of the rule: agreement, evidence or pressure; never the last word."""
    policy = UtterancePolicy()
    last: tuple[HeardWord, ...] = ()
    for given_words, given_s, given_live_s, complete in before:
        policy.update(given_words, given_s, complete=complete, live_s=given_live_s)
    last = policy._before
    kept = plausible(policy.final, words)
    count = policy.update(words, heard_s, complete=False, live_s=live_s)
    assert count <= max(0, len(kept) - 1)
    if live_s > P.max_live_s and len(kept) > 2:
        assert count == len(kept) - 2
        return
    for i in range(count):
        room_s = heard_s - kept[i].word.end_s
        agreed = i < len(last) and last[i].key == kept[i].key and room_s >= P.agreed_hold_s
        sure = kept[i].word.probability >= P.sure_probability and room_s >= P.sure_hold_s
        assert agreed or sure


@given(hypotheses(), hypotheses(), st.floats(0, 30))
def test_completion_makes_all_that_was_heard_final(
    first: tuple[HeardWord, ...], last: tuple[HeardWord, ...], heard_s: float
) -> None:
    policy = UtterancePolicy()
    policy.update(first, heard_s, complete=False)
    kept = plausible(policy.final, last)
    before = texts(policy.final)
    assert policy.update(last, heard_s, complete=True) == len(kept)
    assert texts(policy.final) == before + texts(kept)
    assert policy.tentative == ()
    assert policy.draft == ()


@given(hypotheses(), st.floats(0, 30), st.floats(0, 10))
def test_completing_as_shown_keeps_each_word_of_the_last_hypothesis_once(
    words: tuple[HeardWord, ...], heard_s: float, live_s: float
) -> None:
    policy = UtterancePolicy()
    count = policy.update(words, heard_s, complete=False, live_s=live_s)
    kept = texts(plausible([], words))
    assert policy.complete_as_shown() == len(kept) - count
    assert texts(policy.final) == kept
    assert policy.complete_as_shown() == 0


def test_two_decodes_that_agree_make_a_word_final() -> None:
    policy = UtterancePolicy()
    assert policy.update(say("one two three", 0.0, UNSURE), 1.3, complete=False) == 0
    assert texts(policy.tentative) == ["one", "two", "three"]
    assert policy.update(say("One, two tree four", 0.0, UNSURE), 1.8, complete=False) == 2
    assert texts(policy.final) == ["One,", "two"]  # as written last: case and commas may change


def test_agreement_waits_until_the_word_lies_behind_the_hold() -> None:
    policy = UtterancePolicy()
    words = say("one two", 0.0, UNSURE)
    end_s = words[0].word.end_s
    policy.update(words, end_s + P.agreed_hold_s - 0.01, complete=False)
    assert policy.update(words, end_s + P.agreed_hold_s - 0.01, complete=False) == 0
    assert policy.update(words, end_s + P.agreed_hold_s + 0.01, complete=False) == 1


def test_one_sure_decode_is_enough_behind_the_longer_hold() -> None:
    words = say("one two three", 0.0, P.sure_probability)
    assert UtterancePolicy().update(words, 0.3 + P.sure_hold_s - 0.01, complete=False) == 0
    assert UtterancePolicy().update(words, 0.3 + P.sure_hold_s + 0.01, complete=False) == 1


def test_a_word_before_an_unsure_one_is_not_sure() -> None:
    words = (heard("one", 0, 0.3, 0.99), heard("tool", 0.4, 0.7, 0.1), heard("x", 0.8, 0.9, 0.9))
    assert UtterancePolicy().update(words, 9.0, complete=False) == 0


def test_the_last_word_is_not_final_even_under_pressure() -> None:
    policy = UtterancePolicy()
    words = say("one two three four", 0.0, 0.2)
    assert policy.update(words, 60.0, complete=False, live_s=P.max_live_s + 0.1) == 2
    for _ in range(5):
        policy.update(words[2:], 60.0, complete=False, live_s=60.0)
    assert texts(policy.final) == ["one", "two", "three"]


def test_a_last_word_at_the_edge_of_the_audio_is_not_shown() -> None:
    policy = UtterancePolicy()
    policy.update(say("one two", 0.0, UNSURE), 0.75, complete=False)
    assert texts(policy.tentative) == ["one"]
    assert policy.complete_as_shown() == 2  # kept for the end though


def test_with_age_words_that_nothing_followed_become_final() -> None:
    policy = UtterancePolicy()
    policy.update(say("one two", 0.0, UNSURE), 6.0, complete=False)
    assert policy.next_start_s == 0.0
    assert policy.commit_until(0.5) == 1
    assert texts(policy.final) == ["one"]
    assert texts(policy.tentative) == ["two"]
    assert policy.next_start_s == 0.4
    assert policy.commit_until(4.0) == 1
    assert policy.next_start_s is None
    assert policy.complete_as_shown() == 0


@given(updates)
def test_what_is_shown_begins_with_what_the_next_hypothesis_has_to_confirm(
    given_updates: list[tuple[tuple[HeardWord, ...], float, float, bool]],
) -> None:
    policy = UtterancePolicy()
    for words, heard_s, live_s, complete in given_updates:
        policy.update(words, heard_s, complete=complete, live_s=live_s)
        tokens = tuple(token for word in policy.tentative for token in word.tokens)
        assert policy.draft[: len(tokens)] == tokens


def test_a_draft_is_the_hypothesis_behind_the_final_words() -> None:
    policy = UtterancePolicy()
    policy.update(say("one two three"), 1.2, complete=False)
    assert texts(policy.final) == ["one"]
    assert policy.draft == (*b"two", *b"three")


def test_what_one_utterance_left_another_can_adopt() -> None:
    first, second = UtterancePolicy(), UtterancePolicy()
    first.update(say("one two three", 0.0, UNSURE), 1.4, complete=False)
    second.adopt(first)
    assert first.complete_as_shown() == 0
    assert texts(second.tentative) == ["one", "two", "three"]
    assert second.update(say("one two three", 0.0, UNSURE), 1.9, complete=False) == 2


# ---- echoes


def test_an_echo_of_the_last_final_words_is_dropped() -> None:
    final = list(say("we the people"))
    again = say("The people, of", final[1].word.start_s + 0.1)
    assert texts(without_echo(final, again)) == ["of"]


def test_a_word_said_twice_by_a_person_is_kept() -> None:
    final = list(say("no"))
    assert texts(without_echo(final, say("no no", 0.5))) == ["no", "no"]


@given(hypotheses(), hypotheses())
def test_only_a_leading_repetition_of_at_most_five_words_is_dropped(
    final: tuple[HeardWord, ...], words: tuple[HeardWord, ...]
) -> None:
    kept = without_echo(list(final), words)
    count = len(words) - len(kept)
    assert count <= 5
    assert kept == words[count:]
    assert [w.key for w in words[:count]] == [w.key for w in final[len(final) - count :]]


# ---- marks


def test_a_comma_for_a_word_that_is_final_is_no_word() -> None:
    policy = UtterancePolicy()
    policy.update(say("may be considered as"), 1.6, complete=False)
    assert texts(policy.final) == ["may", "be"]
    policy.update((heard(",", 0.7, 0.7), *say("considered , as the", 0.8)), 9.9, complete=True)
    assert texts(policy.final) == ["may", "be", "considered", ",", "as", "the"]


@given(hypotheses())
def test_a_hypothesis_of_marks_alone_says_nothing(words: tuple[HeardWord, ...]) -> None:
    marks = (heard("…", 0.0, 0.1), heard("-", 0.1, 0.2))
    assert without_stray_marks(marks) == ()
    assert without_stray_marks(marks + words) == words


# ---- words without a place


def test_words_made_up_behind_the_speech_are_cut() -> None:
    said = say("this is all")
    made_up = tuple(heard(text, 1.2, 1.21) for text in ("Thanks", "for", "watching!"))
    assert without_squeezed(said + made_up) == said
    assert without_squeezed(made_up) == ()
    assert without_squeezed(said + made_up[:1]) == said + made_up[:1]  # a short word may be real
    assert without_squeezed(made_up + said) == made_up + said


@given(hypotheses())
def test_only_the_end_of_a_hypothesis_is_cut(words: tuple[HeardWord, ...]) -> None:
    kept = plausible([], words)
    assert kept == words[: len(kept)]


# ---- loops

keys = st.lists(
    st.tuples(st.text("abc", min_size=1, max_size=3), st.integers(1, 4)), max_size=5
).map(lambda runs: [letter for run, times in runs for letter in run * times])


def spelled(letters: list[str]) -> tuple[HeardWord, ...]:
    return tuple(heard(letter, i * 0.3, i * 0.3 + 0.2) for i, letter in enumerate(letters))


def loops(letters: list[str]) -> bool:
    for size in range(1, 13):
        needed = 4 if size == 1 else 3
        for start in range(len(letters) - size * needed + 1):
            run = letters[start : start + size]
            if letters[start : start + size * needed] == run * needed:
                return True
    return False


@given(keys)
def test_what_is_left_of_a_hypothesis_does_not_loop(letters: list[str]) -> None:
    kept = without_loops(spelled(letters))
    assert kept == spelled(letters)[: len(kept)]
    assert not loops(texts(kept))
    if not loops(letters):
        assert len(kept) == len(letters)


@given(
    st.lists(st.sampled_from(string.ascii_lowercase), min_size=0, max_size=5, unique=True),
    st.lists(st.sampled_from(string.ascii_uppercase), min_size=1, max_size=12, unique=True),
    st.integers(3, 9),
)
def test_a_phrase_that_repeats_is_said_once(
    before: list[str], phrase: list[str], times: int
) -> None:
    assume(len(phrase) > 1 or times > 3)
    folded = {letter.casefold() for letter in before}
    assume(not folded & {letter.casefold() for letter in phrase})
    kept = without_loops(spelled(before + phrase * times))
    assert texts(kept) == before + phrase


def test_three_equal_words_and_a_doubled_phrase_are_speech() -> None:
    for sentence in ("no no no", "I mean it I mean it", "bye bye bye now"):
        assert texts(without_loops(say(sentence))) == sentence.split()


def test_a_line_recited_faster_than_it_was_said_is_cut() -> None:
    final = list(say("feeds thy flame with fuel making a famine where abundance lies"))
    recited = say("thy self with fuel making a famine", start_s=5.0, step_s=0.05)
    recited = tuple(heard(w.word.text, w.word.start_s, w.word.start_s + 0.05) for w in recited)
    assert texts(without_recital(final, recited)) == ["thy", "self"]


def test_a_line_that_is_said_again_stays() -> None:
    final = list(say("feeds thy flame with fuel making a famine"))
    again = say("with fuel making a famine", start_s=5.0)
    assert without_recital(final, again) == again


def test_punctuation_alone_is_compared_as_written() -> None:
    assert heard("…", 0, 1).key == "…"
    assert heard("Don't!", 0, 1).key == "don't"
