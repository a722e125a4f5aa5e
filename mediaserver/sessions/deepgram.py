"""From a track's events to Deepgram's messages. Pure: audio time in, messages out.

One `ListenChannelWriter` serves one channel. Final results hold exactly the newly final words;
an interim result holds the tentative ones, which all come after them. `start` of a result is
where the last final one of the channel ended, so that results cover the audio without overlap.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mediaserver.captions.events import (
    Ended,
    Flushed,
    Revision,
    SpeechBegan,
    TrackEvent,
    Word,
    join_words,
)
from mediaserver.protocol.deepgram import (
    Alternative,
    ListenChannel,
    ListenWord,
    Results,
    ResultsMetadata,
    SpeechStarted,
    UtteranceEnd,
)

_DIGITS = 3
_LONGEST_WORD_S = 1.0
_PUNCTUATION = '.,!?;:…"“”„«»‹›()[]{}¿¡—–-、。，！？；：「」『』（）'
"""Taken off a word's ends (not `$`, `%` or an apostrophe, which are part of the word)."""

ChannelMessage = Results | SpeechStarted | UtteranceEnd


def plain(text: str) -> str:
    """Return a word in lower case without its punctuation (or the sign itself, if it is one)."""
    return text.strip(_PUNCTUATION).lower() or text.lower()


@dataclass(frozen=True, slots=True)
class ListenFeatures:
    """What the client wants to be told, and how."""

    interim_results: bool = False
    speech_final: bool = True
    """False where endpointing is switched off."""
    vad_events: bool = False
    utterance_end_s: float | None = None
    punctuated: bool = False
    detects_language: bool = False


class UtteranceGap:
    """Says when no word has followed the last final one for long enough. Times are audio time."""

    def __init__(self, gap_s: float | None) -> None:
        self._gap_s = gap_s
        self._last_word_end_s: float | None = None
        """None before the first word, and once its gap has been told."""

    def final_word(self, word: Word) -> float | None:
        """Take the next final word; return the end of the one before if a gap lies between."""
        ended_s = self.reached(word.start_s)
        self._last_word_end_s = word.end_s
        return ended_s

    def reached(self, until_s: float) -> float | None:
        """No word lies before `until_s`: return the last word's end if that makes a gap."""
        last_s = self._last_word_end_s
        if self._gap_s is None or last_s is None or until_s - last_s < self._gap_s:
            return None
        self._last_word_end_s = None
        return last_s


class ListenChannelWriter:
    """Writes the messages of one channel."""

    def __init__(
        self, channel: int, channels: int, features: ListenFeatures, metadata: ResultsMetadata
    ) -> None:
        self._index = (channel, channels)
        self._features = features
        self._metadata = metadata
        self._gap = UtteranceGap(features.utterance_end_s)
        self._covered_s = 0.0
        self._tentative = False
        """Whether tentative words are known (and shown, if interim results are wanted)."""
        self._speaking = False
        """Whether an utterance is open: its next word may be under way, and not be known yet."""
        self._language = ""
        self._asked = 0
        self._answered = 0
        self._held: Results | None = None
        """The newest final result while `Finalize` is not answered: it may be the answer."""

    def change(self, *, punctuated: bool) -> None:
        """Write with punctuation, or without, from now on."""
        self._features = replace(self._features, punctuated=punctuated)

    def on(self, event: TrackEvent) -> list[ChannelMessage]:
        """Return what `event` makes of it."""
        match event:
            case Revision():
                return self._in_order(self._revised(event))
            case SpeechBegan(at_s):
                return self._in_order(self._speech_began(at_s))
            case Flushed(request):
                return self.finalized(request)
            case Ended():
                return self.finalized(self._asked) or self._release()
            case _:
                return []

    def heard(self, until_s: float) -> list[ChannelMessage]:
        """All audio before `until_s` has been transcribed."""
        if self._tentative:
            return []
        return self._in_order(self._utterance_end(self._gap.reached(self._wordless(until_s))))

    def finalize(self) -> int:
        """`Finalize` came: return its number. Exactly one result will answer it."""
        self._asked += 1
        return self._asked

    def finalized(self, request: int) -> list[ChannelMessage]:
        """All audio before finalize request `request` (and those before it) is final."""
        messages: list[ChannelMessage] = []
        while self._answered < min(request, self._asked):
            self._answered += 1
            answer = self._held or self._results((), is_final=True, end_s=self._covered_s)
            self._held = None
            messages.append(answer.model_copy(update={"from_finalize": True}))
        return messages

    def _in_order(self, messages: Iterable[ChannelMessage]) -> list[ChannelMessage]:
        """Hold back the newest final result while a `Finalize` waits for its answer."""
        if self._answered == self._asked:
            return list(messages)
        out: list[ChannelMessage] = []
        for message in messages:
            out += self._release()
            if isinstance(message, Results) and message.is_final:
                self._held = message
            else:
                out.append(message)
        return out

    def _release(self) -> list[ChannelMessage]:
        held, self._held = self._held, None
        return [] if held is None else [held]

    def _wordless(self, until_s: float) -> float:
        """Return until when there is certainly no word, if none is known before `until_s`."""
        return until_s - _LONGEST_WORD_S if self._speaking else until_s

    def _speech_began(self, at_s: float) -> list[ChannelMessage]:
        self._speaking = True
        messages = self._utterance_end(self._gap.reached(at_s))
        if self._features.vad_events:
            messages.append(SpeechStarted(channel=self._index, timestamp=round(at_s, _DIGITS)))
        return messages

    def _utterance_end(self, last_word_end_s: float | None) -> list[ChannelMessage]:
        if last_word_end_s is None:
            return []
        end_s = round(last_word_end_s, _DIGITS)
        return [UtteranceEnd(channel=self._index, last_word_end=end_s)]

    def _revised(self, revision: Revision) -> list[ChannelMessage]:
        self._language = revision.language
        messages: list[ChannelMessage] = []
        for word in revision.new_words:
            messages += self._utterance_end(self._gap.final_word(word))
        if revision.newly_final or revision.complete:
            messages.append(self._final(revision))
        tentative = () if revision.complete else revision.tentative
        self._speaking = not revision.complete
        heard_s = tentative[0].start_s if tentative else self._wordless(revision.end_s)
        messages += self._utterance_end(self._gap.reached(heard_s))
        # an interim result without words takes back those that were shown
        shown_vanish = self._tentative and not revision.newly_final and not revision.complete
        if self._features.interim_results and (tentative or shown_vanish):
            end_s = max([revision.end_s, *(word.end_s for word in tentative)])
            messages.append(self._results(tentative, is_final=False, end_s=end_s))
        self._tentative = bool(tentative)
        return messages

    def _final(self, revision: Revision) -> Results:
        new = revision.new_words
        ends = [word.end_s for word in new]
        if revision.complete:
            ends.append(revision.settled_s)
        paused = revision.complete and revision.endpoint and bool(revision.final)
        final = self._results(
            new,
            is_final=True,
            end_s=max([self._covered_s, *ends]),
            speech_final=paused and self._features.speech_final,
        )
        self._covered_s = max([self._covered_s, *ends])
        return final

    def _results(
        self,
        words: tuple[Word, ...],
        *,
        is_final: bool,
        end_s: float,
        speech_final: bool = False,
    ) -> Results:
        language = self._language if self._features.detects_language and self._language else None
        start = round(self._covered_s, _DIGITS)
        end = max(start, round(end_s, _DIGITS))
        shown = tuple(_word(word, language) for word in words)
        texts = (w.punctuated_word if self._features.punctuated else w.word for w in shown)
        confidence = sum(w.probability for w in words) / len(words) if words else 0.0
        alternative = Alternative(
            transcript=join_words(texts),
            confidence=round(confidence, _DIGITS),
            words=shown,
            languages=None if language is None else (language,),
        )
        return Results(
            channel_index=self._index,
            start=start,
            duration=round(end - start, _DIGITS),
            is_final=is_final,
            speech_final=speech_final,
            from_finalize=False,
            channel=ListenChannel(alternatives=(alternative,), detected_language=language),
            metadata=self._metadata,
        )


def _word(word: Word, language: str | None) -> ListenWord:
    return ListenWord(
        word=plain(word.text),
        start=round(word.start_s, _DIGITS),
        end=round(word.end_s, _DIGITS),
        confidence=round(word.probability, _DIGITS),
        punctuated_word=word.text,
        language=language,
    )
