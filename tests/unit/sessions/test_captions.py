"""A caption message says what a revision says, in rounded numbers."""

from hypothesis import given
from hypothesis import strategies as st

from mediaserver.captions.events import Revision, Word, join_words
from mediaserver.protocol.messages import Caption
from mediaserver.sessions.captions import caption_of

times = st.floats(0, 1e5)
words = st.builds(Word, st.text(min_size=1, max_size=8), times, times, st.floats(0, 1))


def described(revision: Revision) -> Caption:
    return caption_of(
        revision,
        seq=5,
        track_id="t_1",
        member_id="m_1",
        speaker="Ann",
        task="translate",
        track_began_at=1_700_000_000.0,
    )


@given(st.lists(words, max_size=5), st.lists(words, max_size=4), st.booleans())
def test_words_keep_their_order_and_their_finality(
    final: list[Word], tentative: list[Word], complete: bool
) -> None:
    revision = Revision(
        utterance=3,
        final=tuple(final),
        newly_final=0,
        tentative=() if complete else tuple(tentative),
        complete=complete,
        start_s=2.0,
        language="es",
        settled_s=0.0,
        end_s=9.0,
    )
    caption = described(revision)
    assert [w.text for w in caption.words] == [w.text for w in revision.words]
    assert [w.final for w in caption.words] == [True] * len(final) + [False] * (
        len(revision.words) - len(final)
    )
    assert caption.text == join_words(w.text for w in revision.words)
    assert caption.final == complete
    assert (caption.caption_id, caption.language, caption.task) == ("t_1.3", "es", "translate")
    assert Caption.model_validate_json(caption.model_dump_json()) == caption
    if not revision.words:
        assert caption.end_s == 9.0


def test_times_are_rounded_to_a_millisecond_and_placed_on_the_wall_clock() -> None:
    word = Word("a", 1.23456, 2.34567, 0.98765)
    caption = described(
        Revision(0, (word,), 1, (), False, 1.23456, "en", 2.34567),
    )
    assert (caption.words[0].start_s, caption.words[0].end_s) == (1.235, 2.346)
    assert (caption.start_s, caption.end_s) == (1.235, 2.346)
    assert caption.started_at == 1_700_000_001.235
