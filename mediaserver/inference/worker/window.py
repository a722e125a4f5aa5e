"""The live window of a stream: where it starts, and the text that is known before its live part.

Its front holds final words (`said`), which the decoder gets as forced prefix; what was said before
the window is in the prompt. A window only grows until it is cut, so that what the recogniser
computed of it (`memory`) can be kept.
"""

from collections import deque
from collections.abc import Iterable

from mediaserver.captions.policy import HeardWord
from mediaserver.inference.worker.parameters import StreamParameters


class LiveWindow:
    """See the module's docstring. Times are media time."""

    def __init__(self, start_s: float, parameters: StreamParameters) -> None:
        self.start_s = start_s
        self.prompt: tuple[int, ...] = ()
        """Tokens of what was said before the window."""
        self.memory: object | None = None
        """What the recogniser keeps of the window as it begins now."""
        self._said: deque[HeardWord] = deque(maxlen=200)
        self._parameters = parameters

    @property
    def prefix(self) -> tuple[int, ...]:
        """Tokens of the final words that the window begins with."""
        return tuple(token for word in self._said for token in word.tokens)

    @property
    def said_until_s(self) -> float | None:
        """End of the last final word in the window."""
        return self._said[-1].word.end_s if self._said else None

    def join(self, start_s: float) -> None:
        """Let a new utterance begin: with what was said just before, or, after a gap, afresh."""
        last_s = self.said_until_s
        if last_s is None or start_s - last_s > self._parameters.context_gap_s:
            self.pass_all(start_s)

    def add(self, words: Iterable[HeardWord]) -> None:
        """Take words that became final, and cut the window where enough lies before them."""
        self._said.extend(words)
        if not self._said:
            return
        from_s = self._said[-1].word.end_s - self._parameters.context_s
        passed = [h for h in self._said if h.word.start_s < from_s]
        if passed and passed[-1].word.end_s - self.start_s >= self._parameters.cut_step_s:
            self._pass(len(passed), passed[-1].word.end_s)

    def pass_all(self, to_s: float) -> None:
        """Move the window's start to `to_s` and all its final words to the prompt."""
        self._pass(len(self._said), to_s)

    def forget_text(self) -> None:
        """What was said in another language is no context: start at what is not final."""
        edge_s = self.said_until_s
        self._said.clear()
        self.prompt = ()
        if edge_s is not None:
            self._start(edge_s)

    def remember(self, words: Iterable[HeardWord]) -> None:
        """Put words behind the prompt, which keeps the newest."""
        tokens = (token for word in words for token in word.tokens)
        self.prompt = (*self.prompt, *tokens)[-self._parameters.prompt_tokens :]

    def _pass(self, count: int, to_s: float) -> None:
        self.remember([self._said.popleft() for _ in range(count)])
        self._start(to_s)

    def _start(self, at_s: float) -> None:
        if at_s > self.start_s:
            self.start_s, self.memory = at_s, None
