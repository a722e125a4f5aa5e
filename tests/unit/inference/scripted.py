"""Scripts of what is said, and ears that hear exactly that.

A stream's audio is loud where its script has a word and silent elsewhere. `ScriptedVad` hears the
loudness and `ScriptedRecogniser` knows the script, so what has to come out is known exactly.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mediaserver.captions.audio import SAMPLE_RATE_HZ, Samples
from mediaserver.captions.events import Word
from mediaserver.captions.policy import HeardWord
from mediaserver.inference.worker.recogniser import Heard, Job

FRAME_SAMPLES = 512
LOUDNESS = 0.5
FLICKER_S = 0.25
"""Words that end nearer than this to the end of a window that cuts speech may be misheard."""
MAX_WINDOW_S = 30.0
"""No Whisper model takes more."""


# ---- scripts


@dataclass(frozen=True, slots=True)
class ScriptedWord:
    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Script:
    """What is said on a track, and where there is a noise that the detector takes for a voice."""

    words: tuple[ScriptedWord, ...]
    seconds: float
    noise: tuple[tuple[float, float], ...] = ()

    @property
    def texts(self) -> list[str]:
        return [word.text for word in self.words]

    def audio(self) -> Samples:
        samples = np.zeros(round(self.seconds * SAMPLE_RATE_HZ), dtype=np.float32)
        for start_s, end_s in [*((w.start_s, w.end_s) for w in self.words), *self.noise]:
            samples[round(start_s * SAMPLE_RATE_HZ) : round(end_s * SAMPLE_RATE_HZ)] = LOUDNESS
        return samples


def random_script(
    seed: int, seconds: float, pause_s: tuple[float, float] = (0.6, 2.0), most_words: int = 10
) -> Script:
    """Utterances of 1 to `most_words` words, each word different; a sentence end now and then."""
    chance = random.Random(seed)
    words: list[ScriptedWord] = []
    at_s = chance.uniform(0.2, 1.0)
    while True:
        for _ in range(chance.randint(1, most_words)):
            end_s = at_s + chance.uniform(0.18, 0.5)
            if end_s > seconds - 0.1:
                return Script(tuple(words), seconds)
            stop = "." if chance.random() < 0.15 else ""
            words.append(ScriptedWord(f"w{len(words)}{stop}", at_s, end_s))
            at_s = end_s + chance.choice([0.0, 0.0, 0.03, 0.2])
        at_s += chance.uniform(*pause_s)


# ---- ears


class ScriptedVad:
    """Hears loudness, in frames of 32 ms like Silero."""

    def __init__(self) -> None:
        self._rest: Samples = np.empty(0, dtype=np.float32)

    def feed(self, samples: Samples) -> Iterator[float]:
        audio = np.concatenate([self._rest, samples])
        count = len(audio) // FRAME_SAMPLES
        self._rest = audio[count * FRAME_SAMPLES :]
        frames = np.abs(audio[: count * FRAME_SAMPLES]).reshape(count, FRAME_SAMPLES)
        return iter((frames.mean(axis=1) / LOUDNESS).tolist())

    def flush(self) -> Iterator[float]:
        if not len(self._rest):
            return iter(())
        return self.feed(np.zeros(FRAME_SAMPLES - len(self._rest), dtype=np.float32))


class ScriptedRecogniser:
    """Hears the words of which more than half lies in the window, with errors near its open end.

    Word times are off by up to `jitter_s`, and a word cut by the window's end is misheard. Every
    word is one token. `noise_words` are heard in windows that hold no word of the script.
    """

    name = "scripted"
    device = "cpu"
    multilingual = True

    def __init__(
        self, *, slots: int = 2, max_batch: int = 4, jitter_s: float = 0.04, seed: int = 0
    ) -> None:
        self.slots = slots
        self.max_batch = max_batch
        self.scripts: dict[str, Script] = {}
        self.jobs: list[Job] = []
        self.language: Callable[[Job], tuple[str, float]] = lambda job: ("en", 0.99)
        self.noise_words: tuple[str, ...] = ()
        self.no_speech_probability = 0.02
        self.noise_probability = 0.2
        self._jitter_s = jitter_s
        self._seed = seed
        self._vocabulary: dict[str, int] = {}
        self._audio: dict[str, Samples] = {}

    def add(self, stream_id: str, script: Script) -> None:
        self.scripts[stream_id] = script
        self._audio[stream_id] = script.audio()

    def encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(
            self._vocabulary.setdefault(word, len(self._vocabulary)) for word in text.split()
        )

    def recognise(self, jobs: list[Job]) -> list[Heard]:
        self.jobs.extend(jobs)
        return [self._hear(job) for job in jobs]

    def _hear(self, job: Job) -> Heard:
        self._check_window(job)
        script = self.scripts[job.stream_id]
        detected = self.language(job) if job.detect else None
        heard = [word for word in script.words if _share_inside(word, job) > 0.5]
        words = [self._as_heard(word, job) for word in heard]
        if not words and self.noise_words:
            words = self._noise(job)
        else:
            words = words[self._said_already(job, heard) :]
        return Heard(
            words=tuple(words),
            no_speech_probability=self.no_speech_probability,
            language=job.language or (detected[0] if detected else "en"),
            detected=detected,
        )

    def _check_window(self, job: Job) -> None:
        """The window must be the track's audio at the place that the job says."""
        first = round(job.start_s * SAMPLE_RATE_HZ)
        truth = self._audio[job.stream_id][first : first + len(job.samples)]
        assert len(job.samples) <= MAX_WINDOW_S * SAMPLE_RATE_HZ
        assert len(truth) >= len(job.samples) - 1
        wrong = np.count_nonzero(np.abs(truth - job.samples[: len(truth)]) > 0.01)
        assert wrong <= 4 * (1 + len(truth) / SAMPLE_RATE_HZ * 10)  # a shift of one sample

    def _said_already(self, job: Job, heard: list[ScriptedWord]) -> int:
        """How many of `heard` the prefix covers: a forced prefix is not said again."""
        forced = set(job.prefix)
        covered = [i for i, w in enumerate(heard) if self._vocabulary.get(w.text) in forced]
        return covered[-1] + 1 if covered else 0

    def _as_heard(self, word: ScriptedWord, job: Job) -> HeardWord:
        chance = random.Random(f"{self._seed} {word.text} {job.end_s:.3f} {job.start_s:.3f}")
        start_s, end_s = (
            min(max(at_s + chance.uniform(-self._jitter_s, self._jitter_s), job.start_s), job.end_s)
            for at_s in (word.start_s, word.end_s)
        )
        cut = word.end_s > job.end_s + 0.01
        near = job.end_s - word.end_s < FLICKER_S and self._speech_goes_on(job)
        flickers = near and chance.random() < 0.3
        text, probability = word.text, chance.uniform(0.75, 1.0)
        if not job.final and (cut or flickers):
            text, probability = f"{word.text}?{job.end_s:.2f}", chance.uniform(0.1, 0.6)
        return HeardWord(
            Word(text, start_s, max(start_s, end_s), probability), self.encode_text(text)
        )

    def _speech_goes_on(self, job: Job) -> bool:
        """Whether the window ends in a word or close behind one."""
        words = self.scripts[job.stream_id].words
        return any(w.start_s < job.end_s and w.end_s > job.end_s - 0.08 for w in words)

    def _noise(self, job: Job) -> list[HeardWord]:
        step_s = (job.end_s - job.start_s) / (len(self.noise_words) + 1)
        return [
            HeardWord(
                Word(text, job.start_s + i * step_s, job.start_s + i * step_s + step_s / 2, p),
                self.encode_text(text),
            )
            for p in (self.noise_probability,)
            for i, text in enumerate(self.noise_words)
        ]


def _share_inside(word: ScriptedWord, job: Job) -> float:
    inside_s = min(word.end_s, job.end_s) - max(word.start_s, job.start_s)
    return inside_s / (word.end_s - word.start_s)
