"""One stream's decode: what is known, what is tried, what the model says to it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mediaserver.inference.worker.whisper.alignment import combine_heads, first_frames
from mediaserver.inference.worker.whisper.backend import FRAMES_PER_S, EncodedAudio, Predictions
from mediaserver.inference.worker.whisper.weights import FloatArray, Vocabulary

Task = Literal["transcribe", "translate"]
Finish = Literal["end", "length", "repetition"]
Source = Literal["prefix", "draft", "new"]

REDRAFT_REACH = 8
"""How many draft tokens ahead the text may meet the draft again."""
LONGEST_REPEATED = 40
"""Longest phrase, in tokens, whose repetition is looked for."""
LONG_PHRASE = 8
"""From this many tokens on nobody says a phrase twice without a pause for breath."""


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """One stream's window, and all that is known about its text. Tokens are text tokens only."""

    audio: EncodedAudio
    max_new_tokens: int
    """Bound on tokens behind the prefix: about 6 a second of audio and a few."""
    language: str = "en"
    """A code that the model knows. Models for English alone ignore it."""
    task: Task = "transcribe"
    prompt: Sequence[int] = ()
    """Text before the window; only its end is used if it is longer than the model allows."""
    prefix: Sequence[int] = ()
    """Text that the window begins with, not to be questioned."""
    draft: Sequence[int] = ()
    """What probably follows the prefix. Where it is wrong it changes nothing."""
    draft_tolerance: float = 0.0
    """A draft's token stands if its log-probability is at most this much below the best one's.
    0 gives exactly the greedy text; more lets text flicker less."""
    beams: int = 1
    """Above 1, the text from the first doubtful token on is searched with so many beams."""
    doubtful: float = 0.5
    """Tokens less probable than this are doubtful."""
    score_prefix: bool = False
    """Whether the prefix's tokens get probabilities too (about 0.15 ms each, whisper-base)."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a window's text. Times are seconds from the window's start."""

    id: int
    source: Source
    probability: float | None
    """0 to 1; None for a prefix that was not scored."""
    margin: float | None
    """Log-probability above the best other token's; negative for a tolerated draft."""
    start_s: float
    end_s: float
    frame: int
    """The frame (20 ms) that the alignment heads looked at most when it was predicted."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a window says."""

    tokens: tuple[Token, ...]
    """The prefix, then what follows it."""
    finish: Finish
    """Whether the model ended the text, the bound did, or a loop was cut off (to one round)."""
    no_speech_probability: float
    """0 to 1, as the model says it at the start of transcript."""
    draft_accepted: int
    """How many of the draft's tokens stand, those met again included."""
    steps: int
    """Passes through the decoder."""


@dataclass(slots=True)
class Hypothesis:
    """A growing text: `pending` goes through the decoder, `absorb` takes what it says."""

    request: DecodeRequest
    vocabulary: Vocabulary
    text_positions: int
    head: tuple[int, ...] = field(init=False)
    """The tokens before the text: prompt and control tokens."""
    pending: list[int] = field(init=False)
    """Tokens to run next: certain ones, then tried ones."""
    certain: int = field(init=False)
    """How many of the pending tokens are not in question."""
    scored_from: int = field(init=False)
    """The first pending token whose prediction matters."""
    text_from: int = field(init=False)
    """The first pending token that predicts text."""
    start_row: int | None = field(init=False)
    """Where the start of transcript is pending; None after the first pass."""
    known: int = 0
    """Tokens that the cache holds for good; also the next token's position."""
    finish: Finish | None = None
    steps: int = 0
    no_speech_probability: float = 0.0
    text: list[int] = field(init=False)
    sources: list[Source] = field(init=False)
    probabilities: list[float | None] = field(init=False)
    margins: list[float | None] = field(init=False)
    attention: list[FloatArray] = field(default_factory=list)
    _draft_at: int = 0

    def __post_init__(self) -> None:
        request, vocabulary = self.request, self.vocabulary
        for part in (request.prompt, request.prefix, request.draft):
            if any(not 0 <= token < vocabulary.end_of_text for token in part):
                raise ValueError("prompt, prefix and draft may hold text tokens only")
        start = [vocabulary.start_of_transcript]
        if vocabulary.languages:
            if request.language not in vocabulary.languages:
                raise ValueError(f"the speech model does not know the language {request.language}")
            task = vocabulary.transcribe if request.task == "transcribe" else vocabulary.translate
            start += [vocabulary.languages[request.language], task]
        start.append(vocabulary.no_timestamps)
        prefix = list(request.prefix)
        room = self.text_positions - len(start) - len(prefix) - request.max_new_tokens - 1
        if room < 0:
            raise ValueError(f"the text may have at most {self.text_positions} tokens")
        room = min(room, self.text_positions // 2)
        prompt = list(request.prompt)[-(room - 1) :] if room > 1 else []
        before = [vocabulary.start_of_previous, *prompt] if prompt else []
        self.start_row = len(before)
        self.text_from = len(before) + len(start) - 1
        self.head = (*before, *start)
        self.certain = len(self.head) + len(prefix)
        self.scored_from = self.text_from if request.score_prefix else self.certain - 1
        self.pending = [*before, *start, *prefix, *request.draft[: request.max_new_tokens]]
        self.text = []
        self.sources, self.probabilities, self.margins = [], [], []
        if not request.score_prefix:
            for token in prefix:
                self._say(token, "prefix", None, None)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to run."""
        return self.finish is not None

    def expected(self) -> list[int]:
        """For each scored row the token that is tried behind it; 0 where none is."""
        return [*self.pending[self.scored_from + 1 :], 0]

    def begins_text(self) -> list[bool]:
        """For each scored row whether the whole text begins behind it."""
        begins = [False] * (len(self.pending) - self.scored_from)
        if self.start_row is not None and not self.request.prefix:
            begins[0] = True
        return begins

    def hear_start(self, special_scores: FloatArray) -> None:
        """Take the special tokens' scores [special tokens] at the start of transcript."""
        # Hardly anything but languages and no-speech is likely here: text is left out.
        silence = special_scores[self.vocabulary.no_speech - self.vocabulary.end_of_text]
        peak = special_scores.max()
        total = float(np.exp(special_scores - peak).sum())
        self.no_speech_probability = math.exp(float(silence - peak)) / total

    def absorb(self, says: Predictions, attention: FloatArray) -> int:
        """Take the results of the pending tokens.

        Args:
            says: of the scored rows.
            attention: [heads, at least the pending tokens, at least the audio's frames].

        Returns:
            How many of the pending tokens stand.
        """
        self.steps += 1
        stand = self._judge(says)
        self.attention.append(attention[:, self.text_from : stand, : self.request.audio.frames])
        self.known += stand
        self.start_row = None
        self.scored_from = self.text_from = 0
        if self.finish is None:
            self._check_bounds()
        if self.finish is None:
            tried = self._meet_draft()
            self.pending, self.certain = [self.text[-1], *tried], 1
        else:
            self.pending = []
        return stand

    def _judge(self, says: Predictions) -> int:
        """Walk the scored rows as far as the tried tokens hold, then take one new token."""
        stand = self.certain
        tolerance = self.request.draft_tolerance
        for row, at in enumerate(range(self.scored_from, len(self.pending))):
            best, best_log = int(says.best[row]), float(says.best_log_probability[row])
            if at + 1 < len(self.pending):
                token, log = self.pending[at + 1], float(says.expected_log_probability[row])
                margin = float(says.margin[row]) if token == best else log - best_log
                if at + 1 < self.certain:
                    self._say(token, "prefix", log, margin)
                    continue
                if token == best or log >= best_log - tolerance:
                    self._say(token, "draft", log, margin)
                    self._draft_at += 1
                    stand += 1
                    continue
            if best == self.vocabulary.end_of_text:
                self.finish = "end"
            else:
                self._say(best, "new", best_log, float(says.margin[row]))
            break
        return stand

    def _say(
        self, token: int, source: Source, log_probability: float | None, margin: float | None
    ) -> None:
        self.text.append(token)
        self.sources.append(source)
        self.probabilities.append(None if log_probability is None else math.exp(log_probability))
        self.margins.append(margin)

    def _check_bounds(self) -> None:
        repeated = one_round(self.text, len(self.request.prefix))
        if repeated is not None:
            self.finish = "repetition"
        elif len(self.text) - len(self.request.prefix) >= self.request.max_new_tokens:
            self.finish = "length"
            repeated = len(self.request.prefix) + self.request.max_new_tokens
        if repeated is not None:
            for column in (self.text, self.sources, self.probabilities, self.margins):
                del column[repeated:]

    def _meet_draft(self) -> Sequence[int]:
        """What to try behind the newest token: the draft's rest, if it has that token near."""
        draft = self.request.draft
        for at in range(self._draft_at, min(self._draft_at + REDRAFT_REACH, len(draft))):
            if draft[at] == self.text[-1]:
                self._draft_at = at + 1
                room = len(self.request.prefix) + self.request.max_new_tokens - len(self.text)
                return draft[at + 1 : at + 1 + room]
        return ()

    @property
    def first_doubtful(self) -> int | None:
        """The first token behind the prefix that the model was not sure of."""
        for at in range(len(self.request.prefix), len(self.text)):
            if (self.probabilities[at] or 0.0) < self.request.doubtful:
                return at
        return None

    def replace_tail(
        self,
        first: int,
        tokens: Sequence[int],
        logs: Sequence[float],
        attention: FloatArray,
        *,
        ended: bool,
    ) -> None:
        """Put another text from token `first` on: found by a search, with its log-probabilities
        and the attention of the rows that predicted it [heads, rows, frames]."""
        for column in (self.text, self.sources, self.probabilities, self.margins):
            del column[first:]
        for token, log in zip(tokens, logs, strict=False):  # logs has the end of text, too
            self._say(token, "new", log, None)
        before = np.concatenate(self.attention, axis=1)[:, :first]
        self.attention = [before, attention]
        self.finish = "end" if ended else "length"

    def result(self) -> Decoded:
        """The finished text with its times."""
        assert self.finish is not None
        audio, text = self.request.audio, self.text
        attention = np.concatenate(self.attention, axis=1)[:, : len(text) + 1]
        attention = attention[:, :, : audio.speech_frames]
        salience = combine_heads(attention)
        begins = [*first_frames(salience).tolist(), audio.speech_frames]
        frames = salience.argmax(axis=1).tolist()
        tokens = tuple(
            Token(
                id=token,
                source=self.sources[i],
                probability=self.probabilities[i],
                margin=self.margins[i],
                start_s=begins[i] / FRAMES_PER_S,
                end_s=begins[i + 1] / FRAMES_PER_S,
                frame=frames[i],
            )
            for i, token in enumerate(text)
        )
        accepted = self.sources.count("draft")
        return Decoded(tokens, self.finish, self.no_speech_probability, accepted, self.steps)


def one_round(tokens: Sequence[int], begin: int) -> int | None:
    """Where to cut a text that loops: the length at which its phrase has been said once.

    A loop is one token said five times in a row, a phrase of up to seven tokens said three times,
    or a longer one said twice, anywhere behind `begin`.
    """
    count = len(tokens)
    for length in range(1, min(LONGEST_REPEATED, (count - begin) // 2) + 1):
        rounds = 5 if length == 1 else 3 if length < LONG_PHRASE else 2
        same = 0
        for at in range(begin + length, count):
            same = same + 1 if tokens[at] == tokens[at - length] else 0
            if same == length * (rounds - 1):
                return at + 1 - length * (rounds - 1)
    return None
