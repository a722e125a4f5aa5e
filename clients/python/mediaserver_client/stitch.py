"""One sequence of captions out of several connections. Pure.

When a connection breaks, the audio since the start of the unfinished utterance is sent again (or,
between utterances, the last seconds of the one before): `resume_at_s`. What then comes begins
with words that are known, under a new `caption_id` and with times from zero. `Stitcher` shifts the
times, finds where the repeated words end, and goes on under the old `caption_id`: a word that was
final stays as it was, and no word comes twice.
"""

import dataclasses
from dataclasses import dataclass

from mediaserver_client.messages import Caption, Word

LEAD_S = 0.2
"""Audio sent again before the start of the unfinished utterance."""
OVERLAP_S = 8.0
"""At most about this much of an unfinished utterance that is already final is sent again."""
RECAP_S = 2.5
"""How much of a complete utterance is sent again when no other has begun."""
NEAR_S = 0.3
"""How far word times of two runs may differ."""


@dataclass
class _Resumed:
    """What was under way when a connection broke."""

    into: Caption | None
    """The unfinished utterance as the user saw it last; None between two utterances."""
    carry: tuple[Word, ...]
    """Final words that will be heard again."""

    def joined(self, caption: Caption, rest: tuple[Word, ...]) -> Caption:
        """Return `caption` with `rest` after what was known, under the id that was known."""
        if self.into is None:
            start_s = rest[0].start_s if rest else caption.start_s
            joined = _with_words(caption, rest, final=caption.final)
            return dataclasses.replace(joined, start_s=start_s)
        joined = _with_words(caption, _final_words(self.into) + rest, final=caption.final)
        return dataclasses.replace(
            joined, caption_id=self.into.caption_id, start_s=self.into.start_s
        )


class Stitcher:
    """The captions of one publication. `restart` before each connection's track."""

    def __init__(self) -> None:
        self.track_id: str | None = None
        """What captions shall name as their track; None leaves what the server says."""
        self._start_s = 0.0
        self._open: Caption | None = None
        self._last: tuple[Word, ...] = ()
        """The words of the newest complete utterance that had some."""
        self._resumed: _Resumed | None = None
        self._repeated: dict[str, int] = {}

    @property
    def settled_s(self) -> float:
        """The end of the last final word."""
        final = _final_words(self._open) if self._open is not None else ()
        words = final or self._last
        return words[-1].end_s if words else 0.0

    @property
    def resume_at_s(self) -> float:
        """From where the audio has to be sent again if the connection broke now."""
        before_s = self._last[-1].end_s if self._last else 0.0
        if self._open is None or not self._open.words:
            return _recent(self._last, RECAP_S)[0].start_s if self._last else 0.0
        first_s = self._open.start_s - LEAD_S
        if (final := _final_words(self._open)) and final[-1].end_s - first_s > OVERLAP_S:
            first_s = _recent(final, OVERLAP_S)[0].start_s
        return max(before_s, first_s)

    def restart(self, start_s: float) -> None:
        """A new track begins, whose time zero is `start_s`."""
        self._start_s = start_s
        self._repeated.clear()
        self._resumed = None
        known = _final_words(self._open) if self._open is not None else self._last
        carry = tuple(word for word in known if word.end_s > start_s + NEAR_S / 10)
        if self._open is not None or carry:
            self._resumed = _Resumed(self._open, carry)

    def apply(self, caption: Caption) -> Caption | None:
        """Return `caption` as the user should see it; None if it only repeats what is known."""
        caption = self._placed(caption)
        resumed = self._resumed
        if resumed is None:
            return self._note(caption)
        rest = caption.words[self._count_repeated(caption, resumed.carry) :]
        if not rest:
            if not caption.final:
                return None
            heard_s = caption.words[-1].end_s if caption.words else caption.end_s
            left = tuple(word for word in resumed.carry if word.end_s > heard_s + NEAR_S)
            if left:  # the next utterance repeats the remainder
                resumed.carry = left
                return None
            if resumed.into is None:  # all of it was known
                self._resumed = None
                return None
        return self._note(resumed.joined(caption, rest))

    def finish(self) -> Caption | None:
        """Close what a track's end left open: its final words are all there will be."""
        if self._open is None:
            return None
        return self._note(_with_words(self._open, _final_words(self._open), final=True))

    def _placed(self, caption: Caption) -> Caption:
        by = self._start_s
        return dataclasses.replace(
            caption,
            track_id=self.track_id or caption.track_id,
            start_s=caption.start_s + by,
            end_s=caption.end_s + by,
            words=tuple(
                dataclasses.replace(word, start_s=word.start_s + by, end_s=word.end_s + by)
                for word in caption.words
            ),
        )

    def _note(self, caption: Caption) -> Caption:
        if caption.final:
            self._open = self._resumed = None
            self._last = caption.words or self._last
        else:
            self._open = caption
        return caption

    def _count_repeated(self, caption: Caption, carry: tuple[Word, ...]) -> int:
        """How many words at the start of `caption` repeat `carry`."""
        if (latched := self._repeated.get(caption.caption_id)) is not None:
            return latched
        if not carry or not caption.words:
            return 0
        if caption.words[-1].end_s < carry[-1].end_s - NEAR_S:
            return len(caption.words)  # it has not got beyond them yet
        count = _overlap(carry, caption.words)
        if len(_final_words(caption)) > count:
            self._repeated[caption.caption_id] = count  # a word beyond is out as final: keep to it
        return count


def _recent(words: tuple[Word, ...], seconds: float) -> tuple[Word, ...]:
    """Return the words of the last `seconds`; at least the last word."""
    since_s = words[-1].end_s - seconds
    return tuple(word for word in words if word.start_s >= since_s) or words[-1:]


def _final_words(caption: Caption) -> tuple[Word, ...]:
    return tuple(word for word in caption.words if word.final)


def _with_words(caption: Caption, words: tuple[Word, ...], *, final: bool) -> Caption:
    text = " ".join(word.text for word in words)
    return dataclasses.replace(caption, words=words, text=text, final=final)


def _overlap(carry: tuple[Word, ...], words: tuple[Word, ...]) -> int:
    """How many of `words` say `carry` again: least edits, then closest in time."""
    ends_s = carry[-1].end_s
    said, heard = [_plain(word) for word in carry], [_plain(word) for word in words]
    row = list(range(len(heard) + 1))
    for word in said:
        above, row = row, [row[0] + 1]
        for at, other in enumerate(heard):
            row.append(min(above[at] + (word != other), above[at + 1] + 1, row[at] + 1))
    off_s = [max(0.0, ends_s - words[0].start_s)] + [abs(w.end_s - ends_s) for w in words]
    return min(range(len(row)), key=lambda count: row[count] + min(3.0, off_s[count]))


def _plain(word: Word) -> str:
    return "".join(letter for letter in word.text.casefold() if letter.isalnum())
