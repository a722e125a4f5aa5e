"""Events cross the wire whole; of a revision's final words only the new ones travel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.captions.events import Flushed, Revision, Settled, SpeechBegan, Word
from mediaserver.inference.rpc import speech_pb2 as pb
from mediaserver.inference.wire import event_to_wire, word_to_wire, words_from_wire

times = st.floats(0, 1e6)
words = st.builds(Word, st.text(max_size=12), times, times, st.floats(0, 1, width=32))


def over_the_wire(message: pb.SpeechEvent) -> pb.SpeechEvent:
    return pb.SpeechEvent.FromString(message.SerializeToString())


@given(st.lists(words, max_size=5))
def test_words_come_back_as_they_were(given_words: list[Word]) -> None:
    wire = [pb.Word.FromString(word_to_wire(w).SerializeToString()) for w in given_words]
    assert words_from_wire(wire) == tuple(given_words)


@given(st.lists(words, max_size=6), st.lists(words, max_size=3), st.data())
def test_a_revision_carries_only_its_new_final_words(
    final: list[Word], tentative: list[Word], data: st.DataObject
) -> None:
    newly = data.draw(st.integers(0, len(final)))
    event = Revision(
        utterance=7,
        final=tuple(final),
        newly_final=newly,
        tentative=tuple(tentative),
        complete=data.draw(st.booleans()),
        start_s=1.25,
        language="es",
        settled_s=2.5,
        end_s=3.75,
        endpoint=data.draw(st.booleans()),
    )
    wire = over_the_wire(event_to_wire(event, 4.5))
    assert wire.WhichOneof("kind") == "revision"
    assert wire.processed_s == 4.5
    got = wire.revision
    assert words_from_wire(got.newly_final) == event.new_words
    assert words_from_wire(got.tentative) == event.tentative
    assert (got.utterance, got.complete, got.endpoint) == (7, event.complete, event.endpoint)
    assert (got.start_s, got.language, got.settled_s, got.end_s) == (1.25, "es", 2.5, 3.75)


@pytest.mark.parametrize("event", [SpeechBegan(1.5), Settled(2.5), Flushed(3)])
def test_other_events_keep_their_one_value(event: SpeechBegan | Settled | Flushed) -> None:
    wire = over_the_wire(event_to_wire(event, 0.0))
    match event:
        case SpeechBegan(at_s):
            assert wire.speech_began.at_s == at_s
        case Settled(until_s):
            assert wire.settled.until_s == until_s
        case Flushed(request):
            assert wire.flushed.request == request
