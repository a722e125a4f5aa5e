"""Between caption events and the gRPC messages of ``rpc/speech.proto``."""

from collections.abc import Iterable

from mediaserver.captions.events import (
    Flushed,
    Revision,
    Settled,
    SpeechBegan,
    SpeechEvent,
    Word,
)
from mediaserver.inference.rpc import speech_pb2 as pb


def word_to_wire(word: Word) -> pb.Word:
    """A word as a message."""
    return pb.Word(
        text=word.text, start_s=word.start_s, end_s=word.end_s, probability=word.probability
    )


def words_from_wire(words: Iterable[pb.Word]) -> tuple[Word, ...]:
    """Words from messages."""
    return tuple(Word(w.text, w.start_s, w.end_s, w.probability) for w in words)


def event_to_wire(event: SpeechEvent, processed_s: float) -> pb.SpeechEvent:
    """An event as a message; of a revision's final words only the new ones travel."""
    message = pb.SpeechEvent(processed_s=processed_s)
    match event:
        case SpeechBegan(at_s):
            message.speech_began.at_s = at_s
        case Settled(until_s):
            message.settled.until_s = until_s
        case Flushed(request):
            message.flushed.request = request
        case Revision():
            message.revision.CopyFrom(
                pb.Revision(
                    utterance=event.utterance,
                    newly_final=[word_to_wire(w) for w in event.new_words],
                    tentative=[word_to_wire(w) for w in event.tentative],
                    complete=event.complete,
                    start_s=event.start_s,
                    language=event.language,
                    settled_s=event.settled_s,
                    end_s=event.end_s,
                    endpoint=event.endpoint,
                )
            )
    return message
