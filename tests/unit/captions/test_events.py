"""Revisions tell which words are new, and words join as their script does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.captions.events import Revision, Word, join_words


def word(text: str, start_s: float = 0.0) -> Word:
    return Word(text, start_s, start_s + 0.2, 0.9)


def revision(final: tuple[Word, ...], newly_final: int, tentative: tuple[Word, ...]) -> Revision:
    return Revision(
        utterance=0,
        final=final,
        newly_final=newly_final,
        tentative=tentative,
        complete=False,
        start_s=0.0,
        language="en",
        settled_s=0.0,
    )


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        ([], ""),
        (["Hello,", "world."], "Hello, world."),
        (["今日は", "いい", "天気。"], "今日はいい天気。"),
        (["OpenAI", "です"], "OpenAI です"),
        (["私", "は", "Ann", "です"], "私は Ann です"),
        (["a", "", "b"], "a b"),
    ],
)
def test_words_join_with_spaces_except_between_wide_characters(
    texts: list[str], joined: str
) -> None:
    assert join_words(texts) == joined


def test_korean_is_written_with_spaces_when_the_words_carry_them() -> None:
    assert join_words(["안녕 하세요", "a"]) == "안녕 하세요 a"


@given(st.lists(st.text("abcdé.,'", min_size=1, max_size=6), max_size=8))
def test_joined_words_of_a_spaced_script_split_into_the_same_words(texts: list[str]) -> None:
    assert join_words(texts).split() == texts


@given(st.integers(0, 6), st.data())
def test_new_words_are_the_last_of_the_final_ones(count: int, data: st.DataObject) -> None:
    final = tuple(word(f"w{i}", i) for i in range(count))
    newly = data.draw(st.integers(0, count))
    shown = revision(final, newly, (word("maybe", 9.0),))
    assert shown.new_words == final[count - newly :]
    assert shown.words == (*final, word("maybe", 9.0))
    assert shown.text == " ".join([*(w.text for w in final), "maybe"])


def test_korean_words_keep_their_spaces() -> None:
    assert join_words(["안녕하세요", "여러분"]) == "안녕하세요 여러분"
    assert join_words(["你", "好"]) == "你好"
