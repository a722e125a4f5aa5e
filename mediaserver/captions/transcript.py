"""A session's transcript: its final words, put into cues that never change once they are written.

A cue is at most two lines of about 42 columns and 7 s. It ends at the end of a sentence, at a
pause, when it is full (then at a comma, if there is one late enough), and with its utterance; from
then on it is closed for good. Cues of one track never overlap. Times are seconds of the session:
a track's media time plus the place of its first sample in the session.

Memory: a word takes about 250 bytes, so an hour of one voice about 2 MB. Above `max_cues` the
oldest cues leave, and `dropped_cues` counts them.
"""

import unicodedata
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

from mediaserver.captions.events import Revision, Word, join_words

MAX_LINE_COLUMNS = 42
MAX_CUE_S = 7.0
MIN_CUE_S = 0.7
"""A shorter cue is shown this long, so that it can be read."""
PAUSE_S = 1.2
"""A silence between two words that ends a cue."""
MAX_CUES = 40_000
"""About 40 hours of one voice that never pauses."""

_SENTENCE_ENDS = ".?!…。？！"
_CLAUSE_ENDS = ",;:،、，；："
_CLOSERS = "\"'”’»)]}」』）"
_ABBREVIATIONS = frozenset(
    {"dr.", "mr.", "mrs.", "ms.", "prof.", "st.", "sr.", "sra.", "vs.", "no."}
)
_SHORT_SENTENCE_COLUMNS = 24
"""A sentence shorter than this shares its cue with the next one."""


@dataclass(frozen=True, slots=True)
class Cue:
    """Words shown together. Closed: it never changes."""

    number: int
    """1 for the first of the session; numbers stay when old cues are dropped."""
    track_id: str
    speaker: str
    language: str
    start_s: float
    end_s: float
    words: tuple[Word, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """The text, in lines."""
        return lay_out([word.text for word in self.words])

    @property
    def text(self) -> str:
        """The text, in one line."""
        return join_words(word.text for word in self.words)


@dataclass(frozen=True, slots=True)
class TranscriptDocument:
    """A whole transcript as plain data, to be kept as JSON."""

    cues: tuple[Cue, ...]
    dropped_cues: int = 0
    closed: bool = True


def columns(text: str) -> int:
    """Width of `text`: wide (CJK) characters take two columns, combining ones none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def lay_out(texts: list[str]) -> tuple[str, ...]:
    """Put words into one line, or into the two most even ones that fit.

    Words that fit no two lines (`fits` says so) are given two lines all the same.
    """
    whole = join_words(texts)
    if columns(whole) <= MAX_LINE_COLUMNS or len(texts) < 2:
        return (whole,)
    best: tuple[float, tuple[str, str]] | None = None
    for i in range(1, len(texts)):
        pair = join_words(texts[:i]), join_words(texts[i:])
        widths = columns(pair[0]), columns(pair[1])
        over = sum(max(0, width - MAX_LINE_COLUMNS) for width in widths)
        at_clause = texts[i - 1][-1:] in _CLAUSE_ENDS + _SENTENCE_ENDS
        cost = 100 * over + abs(widths[0] - widths[1]) - (6 if at_clause else 0)
        if best is None or cost < best[0]:
            best = cost, pair
    assert best is not None
    return best[1]


def fits(texts: list[str]) -> bool:
    """Whether the words fit two lines."""
    return all(columns(line) <= MAX_LINE_COLUMNS for line in lay_out(texts))


def ends_sentence(text: str) -> bool:
    """Whether a word ends a sentence; initials and common abbreviations do not."""
    bare = text.rstrip(_CLOSERS)
    if not bare or bare[-1] not in _SENTENCE_ENDS:
        return False
    initial = len(bare) == 2 and bare[0].isalpha() and bare[1] == "."
    return not initial and bare.lower() not in _ABBREVIATIONS


@dataclass(slots=True)
class _OpenCue:
    """What the next cue of a track will hold."""

    speaker: str
    utterance: int = -1
    taken: int = 0
    """Final words of the utterance that are in the transcript."""
    language: str = ""
    words: list[Word] = field(default_factory=list)
    floor_s: float = 0.0
    """Where the track's last closed cue ended."""

    def must_close_before(self, word: Word) -> bool:
        if not self.words:
            return False
        return (
            word.start_s - self.words[-1].end_s >= PAUSE_S
            or max(word.end_s, word.start_s) - self.words[0].start_s > MAX_CUE_S
            or not fits([*(w.text for w in self.words), word.text])
        )

    def may_close_after_sentence(self) -> bool:
        text = join_words(word.text for word in self.words)
        return ends_sentence(self.words[-1].text) and columns(text) >= _SHORT_SENTENCE_COLUMNS

    def split_when_full(self) -> int:
        """How many words to close: up to the last comma in the second half, else all."""
        for i in range(len(self.words) - 1, len(self.words) // 2, -1):
            text = self.words[i - 1].text
            if text.rstrip(_CLOSERS)[-1:] in _CLAUSE_ENDS or ends_sentence(text):
                return i
        return len(self.words)


class Transcript:
    """Collects finals and closes cues. Listeners are called whenever cues were closed."""

    def __init__(self, max_cues: int = MAX_CUES) -> None:
        self.dropped_cues = 0
        self.closed = False
        self._cues: deque[Cue] = deque()
        self._max_cues = max_cues
        self._open: dict[str, _OpenCue] = {}
        self._listeners: list[Callable[[], None]] = []

    @property
    def last_number(self) -> int:
        """Number of the newest closed cue; 0 before the first."""
        return self.dropped_cues + len(self._cues)

    def add(
        self, track_id: str, speaker: str, revision: Revision, *, offset_s: float = 0.0
    ) -> None:
        """Take the final words of `revision` that were not there before.

        `offset_s` is where the track's first sample lies in the session. After `close` it is
        ignored.
        """
        if self.closed:
            return
        before = self.last_number
        cue = self._open.setdefault(track_id, _OpenCue(speaker))
        if revision.utterance < cue.utterance:
            return  # a replay of what is already here
        if revision.utterance > cue.utterance:
            self._close(track_id, cue, len(cue.words))
            cue.utterance, cue.taken = revision.utterance, 0
        for word in revision.final[cue.taken :]:
            self._add_word(track_id, cue, _placed(word, offset_s), speaker, revision.language)
        cue.taken = max(cue.taken, len(revision.final))
        if revision.complete:
            self._close(track_id, cue, len(cue.words))
        if self.last_number != before:
            self._tell()

    def end_track(self, track_id: str) -> None:
        """Close the track's cue; no more words of it come."""
        cue = self._open.pop(track_id, None)
        if cue is not None and cue.words:
            self._close(track_id, cue, len(cue.words))
            self._tell()

    def close(self) -> None:
        """Close all cues: the session is over. Listeners are told, even if there is nothing new."""
        if self.closed:
            return
        for track_id in list(self._open):
            self.end_track(track_id)
        self.closed = True
        self._tell()

    def cues_since(self, number: int = 0) -> tuple[Cue, ...]:
        """Return the closed cues after cue `number`, in the order in which they were closed."""
        return tuple(islice(self._cues, max(0, number - self.dropped_cues), None))

    def cues(self) -> tuple[Cue, ...]:
        """Return all cues by start time, with those still open as they are now (number 0)."""
        still_open = (
            self._make(track_id, cue, cue.words, number=0)
            for track_id, cue in self._open.items()
            if cue.words
        )
        return in_order((*self._cues, *still_open))

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` when cues were closed and at the end; returns how to stop that."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def document(self) -> TranscriptDocument:
        """Return everything as plain data (open cues included, as `cues` has them)."""
        return TranscriptDocument(self.cues(), self.dropped_cues, self.closed)

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            listener()

    def _add_word(
        self, track_id: str, cue: _OpenCue, word: Word, speaker: str, language: str
    ) -> None:
        if not word.text:
            return
        pause = bool(cue.words) and word.start_s - cue.words[-1].end_s >= PAUSE_S
        while cue.must_close_before(word):
            count = len(cue.words) if pause else cue.split_when_full()
            self._close(track_id, cue, count)
        cue.speaker, cue.language = speaker, language
        cue.words.append(word)
        if cue.may_close_after_sentence():
            self._close(track_id, cue, len(cue.words))

    def _close(self, track_id: str, cue: _OpenCue, count: int) -> None:
        """Close a cue of the first `count` open words."""
        if not count:
            return
        closed = self._make(track_id, cue, cue.words[:count], number=self.last_number + 1)
        cue.floor_s = closed.end_s
        del cue.words[:count]
        if len(self._cues) >= self._max_cues:
            self._cues.popleft()
            self.dropped_cues += 1
        self._cues.append(closed)

    def _make(self, track_id: str, cue: _OpenCue, words: list[Word], number: int) -> Cue:
        start_s = max(cue.floor_s, words[0].start_s)
        spoken_s = max(word.end_s for word in words)
        end_s = min(start_s + MAX_CUE_S, max(spoken_s, start_s + MIN_CUE_S))
        return Cue(
            number,
            track_id,
            cue.speaker,
            cue.language,
            round(start_s, 3),
            round(end_s, 3),
            tuple(words),
        )


def in_order(cues: Iterable[Cue]) -> tuple[Cue, ...]:
    """Sort cues by start time; open ones (number 0) come last among equals."""
    return tuple(sorted(cues, key=lambda cue: (cue.start_s, cue.number or 1 << 60)))


def _placed(word: Word, offset_s: float) -> Word:
    """Return `word` in session time, with white space and control characters made harmless."""
    text = "".join(c if c.isprintable() or c.isspace() else "\ufffd" for c in word.text)
    text = " ".join(text.split())
    start_s = round(word.start_s + offset_s, 3)
    return Word(text, start_s, max(start_s, round(word.end_s + offset_s, 3)), word.probability)
