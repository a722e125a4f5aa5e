"""When a recognised word may be called final. Pure.

Each decode of the live window gives the words that follow the final ones. A word becomes final,
from left to right, on the first of:

- agreement: the decode before said the same word at the same place (LocalAgreement-2, Polák et
  al. 2022), and the word ends `agreed_hold_s` before the end of what was heard;
- evidence: the model is sure of it and of what follows, and it ends `sure_hold_s` before the end
  (so one decode is enough);
- pressure: the live window is about to outgrow its bound;
- age: nothing followed it for seconds, though a voice went on (`commit_until`);
- completion: the utterance is over.

Otherwise the last word of a hypothesis does not become final before completion: a word cut by the
window's end and its punctuation are known only when something follows.
"""

import re
from dataclasses import dataclass, field

from mediaserver.captions.events import Word

SQUEEZED_S = 0.06
RECITAL_WORDS = 4
"""So many words in a row, known from among the last RECITAL_REACH,"""
RECITAL_REACH = 40
RECITAL_SPEED = 0.6
"""in less than this part of the time that they took before, are recited, not heard."""
_KEEP = re.compile(r"[^\w']+")


@dataclass(frozen=True, slots=True)
class HeardWord:
    """A word of a hypothesis, with the tokens that spell it."""

    word: Word
    tokens: tuple[int, ...]

    @property
    def key(self) -> str:
        """What is compared: case and punctuation do not count."""
        text = self.word.text.casefold()
        return _KEEP.sub("", text) or text


@dataclass(frozen=True, slots=True)
class PolicyParameters:
    """Tuned by benchmarks (docs/speech-engine.md)."""

    agreed_hold_s: float = 0.3
    sure_hold_s: float = 0.8
    sure_probability: float = 0.7
    weak_hold_s: float = 1.2
    """Agreement on a word less probable than `firm_probability` needs this much room."""
    firm_probability: float = 0.5
    max_live_s: float = 6.0
    """Uncommitted audio beyond this is committed, all but the last two words."""
    show_hold_s: float = 0.1
    """A tentative last word that ends nearer to the end of what was heard is not shown."""
    show_probability: float = 0.5
    """Less probable tentative words are shown once two decodes agree on them,"""
    show_anyway_s: float = 1.2
    """or when they end this long before the end of what was heard."""
    no_speech_probability: float = 0.6
    weak_probability: float = 0.35
    """With no_speech above its limit, hypotheses weaker than this on average are not words."""


@dataclass(slots=True)
class UtterancePolicy:
    """The words of one utterance: `final` only grows, `tentative` is replaced at each decode."""

    parameters: PolicyParameters = field(default_factory=PolicyParameters)
    final: list[HeardWord] = field(default_factory=list)
    tentative: tuple[HeardWord, ...] = ()
    _before: tuple[HeardWord, ...] = ()

    @property
    def final_end_s(self) -> float | None:
        """End of the last final word."""
        return self.final[-1].word.end_s if self.final else None

    def update(
        self, heard: tuple[HeardWord, ...], heard_s: float, *, complete: bool, live_s: float = 0.0
    ) -> int:
        """Take a new hypothesis of what follows the final words; return how many became final.

        `heard_s` is the end of the audio that the decode saw, `live_s` how much of it no final
        word covers.
        """
        words = without_echo(self.final, without_stray_marks(heard))
        words = without_loops(without_squeezed(without_recital(self.final, words)))
        count = len(words) if complete else self._committable(words, heard_s, live_s)
        self.final.extend(_in_order(words[:count], self.final_end_s))
        rest, before = words[count:], self._before[count:]
        self._before = rest
        self.tentative = self._shown(rest, before, heard_s)
        return count

    def newest(self, count: int) -> list[HeardWord]:
        """The last `count` final words."""
        return self.final[len(self.final) - count :]

    def complete_as_shown(self) -> int:
        """Make what is left of the last hypothesis final; return how many words that were."""
        rest = self._before
        self.final.extend(_in_order(rest, self.final_end_s))
        self._before = self.tentative = ()
        return len(rest)

    def commit_until(self, until_s: float) -> int:
        """Make the words that ended before `until_s` final, since nothing followed them.

        Returns how many.
        """
        count = 0
        while count < len(self._before) and self._before[count].word.end_s <= until_s:
            count += 1
        self.final.extend(_in_order(self._before[:count], self.final_end_s))
        self._before, self.tentative = self._before[count:], self.tentative[count:]
        return count

    @property
    def next_start_s(self) -> float | None:
        """Where the last hypothesis goes on behind the final words."""
        return self._before[0].word.start_s if self._before else None

    def adopt(self, before: "UtterancePolicy") -> None:
        """Go on with what another utterance had not made final."""
        self._before, self.tentative = before._before, before.tentative
        before._before = before.tentative = ()

    @property
    def draft(self) -> tuple[int, ...]:
        """Tokens of the last hypothesis behind the final words: a guess at the next one."""
        return tuple(token for word in self._before for token in word.tokens)

    def _committable(self, words: tuple[HeardWord, ...], heard_s: float, live_s: float) -> int:
        p = self.parameters
        if live_s > p.max_live_s and len(words) > 2:
            return len(words) - 2
        count = 0
        for i, word in enumerate(words[:-1]):
            room_s = heard_s - word.word.end_s
            firm = word.word.probability >= p.firm_probability
            agreed = (
                i < len(self._before)
                and self._before[i].key == word.key
                and room_s >= (p.agreed_hold_s if firm else p.weak_hold_s)
            )
            sure = (
                word.word.probability >= p.sure_probability
                and words[i + 1].word.probability >= p.sure_probability / 2
                and room_s >= p.sure_hold_s
            )
            if not (agreed or sure):
                break
            count = i + 1
        return count

    def _shown(
        self, rest: tuple[HeardWord, ...], before: tuple[HeardWord, ...], heard_s: float
    ) -> tuple[HeardWord, ...]:
        """What is likely to stay: up to the first word that may well change."""
        p = self.parameters
        for i, word in enumerate(rest):
            room_s = heard_s - word.word.end_s
            agreed = i < len(before) and before[i].key == word.key
            likely = agreed or word.word.probability >= p.show_probability
            if room_s < p.show_hold_s or not (likely or room_s >= p.show_anyway_s):
                return rest[:i]
        return rest


def without_stray_marks(heard: tuple[HeardWord, ...]) -> tuple[HeardWord, ...]:
    """Drop leading words that are punctuation alone.

    They belong to the word before, which is final without them.
    """
    for i, word in enumerate(heard):
        if any(character.isalnum() for character in word.word.text):
            return heard[i:]
    return ()


def without_echo(final: list[HeardWord], heard: tuple[HeardWord, ...]) -> tuple[HeardWord, ...]:
    """Drop up to five leading words that repeat the last final ones at the same time.

    A cut that leaves the end of a final word in the window makes the model say it again; said
    twice by a person, the second comes later.
    """
    if not final or not heard:
        return heard
    edge_s = final[-1].word.end_s
    for n in range(min(5, len(final), len(heard)), 0, -1):
        same = all(a.key == b.key for a, b in zip(final[-n:], heard[:n], strict=True))
        if same and heard[n - 1].word.end_s <= edge_s + 0.12 * n:
            return heard[n:]
    return heard


def without_recital(final: list[HeardWord], heard: tuple[HeardWord, ...]) -> tuple[HeardWord, ...]:
    """Cut a hypothesis where it says again, in much less time, what was said just before.

    After a few words that occurred before, Whisper may go on with what followed them then.
    """
    words = [*final[-RECITAL_REACH:], *heard]
    keys = [word.key for word in words]
    first = len(words) - len(heard)
    for at in range(max(first, RECITAL_WORDS), len(words) - RECITAL_WORDS + 1):
        for before in range(at - RECITAL_WORDS + 1):
            if keys[before : before + RECITAL_WORDS] == keys[at : at + RECITAL_WORDS] and (
                _span_s(words, at) < RECITAL_SPEED * _span_s(words, before)
            ):
                return heard[: at - first]
    return heard


def _span_s(words: list[HeardWord], at: int) -> float:
    return words[at + RECITAL_WORDS - 1].word.end_s - words[at].word.start_s


def without_squeezed(words: tuple[HeardWord, ...]) -> tuple[HeardWord, ...]:
    """Cut a hypothesis where words begin that have no place in the audio.

    What Whisper makes up behind the end of speech is aligned to one moment: two or more words
    within less than SQUEEZED_S each, up to the end of the hypothesis.
    """
    keep = len(words)
    while keep and words[keep - 1].word.end_s - words[keep - 1].word.start_s < SQUEEZED_S:
        keep -= 1
    return words[:keep] if len(words) - keep >= 2 else words


def without_loops(words: tuple[HeardWord, ...]) -> tuple[HeardWord, ...]:
    """Cut a hypothesis at the second repeat of a run of words said three times or more.

    Whisper loops when its window ends in mid-word; four equal words in a row, or a phrase three
    times over, is taken for that.
    """
    keys = [word.key for word in words]
    for size in range(1, min(12, len(keys) // 3) + 1):
        needed = 4 if size == 1 else 3
        for start in range(len(keys) - size * needed + 1):
            run = keys[start : start + size]
            if all(
                keys[start + size * k : start + size * (k + 1)] == run for k in range(1, needed)
            ):
                return without_loops(words[: start + size])  # before it another may have begun
    return words


def _in_order(words: tuple[HeardWord, ...], after_s: float | None) -> list[HeardWord]:
    """Words with times that do not run backwards (alignment is good to about 0.1 s)."""
    ordered = []
    edge_s = after_s
    for heard in words:
        word = heard.word
        if edge_s is not None and word.start_s < edge_s:
            word = Word(word.text, edge_s, max(edge_s, word.end_s), word.probability)
            heard = HeardWord(word, heard.tokens)
        edge_s = word.end_s
        ordered.append(heard)
    return ordered
