"""A speech worker on a virtual clock: real streams, ledgers and scheduling; scripted ears.

Each stream's audio is loud where its script has a word and silent elsewhere. `ScriptedVad` hears
the loudness and `ScriptedRecogniser` knows the script, so what has to come out is known exactly.
`Simulation` moves the clock from event to event and counts scripted computing time.
"""

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from mediaserver.captions.audio import SAMPLE_RATE_HZ, AudioChunk, Samples
from mediaserver.captions.events import (
    Flushed,
    Revision,
    Settled,
    SpeechBegan,
    SpeechEvent,
    Word,
)
from mediaserver.captions.ledger import TrackLedger
from mediaserver.captions.policy import HeardWord
from mediaserver.inference.worker.dispatch import choose
from mediaserver.inference.worker.recogniser import Heard, Job
from mediaserver.inference.worker.stream import (
    Resume,
    SpeechStream,
    StreamOptions,
    StreamParameters,
)

FRAME_SAMPLES = 512
LOUDNESS = 0.5
FLICKER_S = 0.25
"""Words that end nearer than this to the end of a window that cuts speech may be misheard."""
PIECE_S = 0.1
REPLAY_PIECE_S = 0.5
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
        wrong = np.count_nonzero(truth != job.samples[: len(truth)])
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


# ---- the app's side of a track


@dataclass
class SimulatedTrack:
    """Does what `sessions.track.CaptionTrack` does, in virtual time."""

    id: str
    script: Script
    options: StreamOptions
    starts_at_s: float
    ledger: TrackLedger = field(default_factory=TrackLedger)
    log: list[tuple[float, Revision | SpeechBegan | Flushed]] = field(default_factory=list)
    requests: int = 0
    answered: int = 0
    input_ended: bool = False
    stream: SpeechStream | None = None
    done: bool = False

    def receive(self, now_s: float, event: SpeechEvent) -> None:
        match event:
            case Revision():
                whole = self.ledger.revise(replace(event, final=event.new_words))
                self.log.append((now_s, whole))
            case Settled(until_s):
                self.ledger.settle(until_s)
            case Flushed(request):
                self.answered = request
                self.log.append((now_s, event))
            case SpeechBegan():
                self.log.append((now_s, event))

    @property
    def revisions(self) -> list[tuple[float, Revision]]:
        return [(at_s, event) for at_s, event in self.log if isinstance(event, Revision)]

    @property
    def final_words(self) -> list[Word]:
        return [word for _, revision in self.revisions for word in revision.new_words]

    @property
    def final_texts(self) -> list[str]:
        return [word.text for word in self.final_words]

    def check_laws(self) -> None:
        """Finals never change or vanish; utterances follow each other; the complete one is last."""
        final: dict[int, tuple[Word, ...]] = {}
        complete: set[int] = set()
        newest = -1
        for _, r in self.revisions:
            before = final.get(r.utterance, ())
            assert r.utterance >= newest, "an utterance went back"
            assert r.utterance not in complete, "a complete utterance changed"
            assert r.final[: len(before)] == before, "a final word changed"
            assert r.newly_final == len(r.final) - len(before)
            assert not (r.complete and r.tentative)
            newest = r.utterance
            final[r.utterance] = r.final
            if r.complete:
                complete.add(r.utterance)
        edge_s = 0.0
        for word in self.final_words:
            assert word.end_s >= word.start_s >= edge_s - 0.25, f"time ran back at {word}"
            edge_s = word.end_s

    def commit_delays(self) -> list[float]:
        """Seconds from the end of each word, as it is spoken, to its final form."""
        spoken = {word.text: word.end_s for word in self.script.words}
        return [
            at_s - self.starts_at_s - spoken[word.text]
            for at_s, revision in self.revisions
            for word in revision.new_words
            if word.text in spoken
        ]


# ---- time


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds that a decode takes: a whole, and for each job and second of its window."""

    call_s: float = 0.03
    job_s: float = 0.05
    audio_s: float = 0.02

    def of(self, jobs: list[Job]) -> float:
        audio_s = sum(len(job.samples) for job in jobs) / SAMPLE_RATE_HZ
        return self.call_s + self.job_s * len(jobs) + self.audio_s * audio_s


class Simulation:
    """One worker (killed and started anew at will) and its tracks."""

    def __init__(
        self,
        recogniser: ScriptedRecogniser | None = None,
        *,
        cost: Cost | None = None,
        parameters: StreamParameters | None = None,
        wire_s: float = 0.005,
        piece_s: float = PIECE_S,
    ) -> None:
        self.recogniser = recogniser or ScriptedRecogniser()
        self.tracks: list[SimulatedTrack] = []
        self.decodes: list[tuple[float, Job]] = []
        self.now_s = 0.0
        self.computed_s = 0.0
        self._cost = cost or Cost()
        self._parameters = parameters
        self._wire_s = wire_s
        self._piece_s = piece_s
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = itertools.count()
        self._worker = 1
        """Number of the worker that lives; 0: none."""
        self._workers = 1
        self._free = self.recogniser.slots

    def add(
        self, script: Script, *, starts_at_s: float = 0.0, options: StreamOptions | None = None
    ) -> SimulatedTrack:
        """Add a track whose audio comes in real time."""
        track = SimulatedTrack(
            f"s{len(self.tracks)}", script, options or StreamOptions("en"), starts_at_s
        )
        self.tracks.append(track)
        self.recogniser.add(track.id, script)
        audio, piece = script.audio(), round(self._piece_s * SAMPLE_RATE_HZ)
        self.at(starts_at_s, lambda: self._connect(track))
        for first in range(0, len(audio), piece):
            chunk = AudioChunk(audio[first : first + piece], first / SAMPLE_RATE_HZ)
            self.at(starts_at_s + chunk.end_s, partial(self._push, track, chunk))
        self.at(starts_at_s + script.seconds + 0.001, lambda: self._end(track))
        return track

    def at(self, at_s: float, action: Callable[[], None]) -> None:
        """Do something at a time."""
        heapq.heappush(self._heap, (at_s, next(self._serial), action))

    def finalize(self, track: SimulatedTrack, at_s: float) -> None:
        """Ask for finals at a time."""
        self.at(at_s, lambda: self._finalize(track))

    def kill(self, at_s: float, down_s: float) -> None:
        """Kill the worker; another one is ready `down_s` later."""
        self.at(at_s, self._die)
        self.at(at_s + down_s, self._revive)

    def run(self) -> None:
        """Let time pass until nothing happens any more."""
        while self._heap:
            self.now_s, _, action = heapq.heappop(self._heap)
            action()
            self._dispatch()

    # ---- the app

    def _push(self, track: SimulatedTrack, chunk: AudioChunk) -> None:
        samples = track.ledger.take(chunk)
        self._to_worker(track, lambda stream: stream.push(samples))

    def _finalize(self, track: SimulatedTrack) -> None:
        track.requests += 1
        request = track.requests
        self._to_worker(track, lambda stream: stream.finalize(request))

    def _end(self, track: SimulatedTrack) -> None:
        track.input_ended = True
        self._to_worker(track, lambda stream: stream.end())

    def _connect(self, track: SimulatedTrack) -> None:
        if not self._worker or track.done:
            return
        point = track.ledger.resume()
        track.stream = SpeechStream(
            track.id,
            track.options,
            ScriptedVad(),
            self.recogniser.encode_text,
            self._parameters,
            Resume(
                point.start_s,
                point.utterance,
                point.final_words,
                point.context,
                point.language or None,
            ),
        )
        _, owed = track.ledger.unsettled()
        size = round(REPLAY_PIECE_S * SAMPLE_RATE_HZ)
        for i in range(math.ceil(len(owed) / size)):
            piece = owed[i * size : (i + 1) * size]
            self._to_worker(track, partial(SpeechStream.push, samples=piece))
        for request in range(track.answered + 1, track.requests + 1):
            self._to_worker(track, partial(SpeechStream.finalize, request=request))
        if track.input_ended:
            self._to_worker(track, lambda stream: stream.end())

    def _to_worker(
        self, track: SimulatedTrack, action: Callable[[SpeechStream], list[SpeechEvent]]
    ) -> None:
        stream, worker = track.stream, self._worker
        if stream is None or not worker:
            return

        def arrive() -> None:
            if self._worker == worker:
                self._to_app(track, stream, action(stream))

        self.at(self.now_s + self._wire_s, arrive)

    # ---- the worker

    def _to_app(
        self, track: SimulatedTrack, stream: SpeechStream, events: list[SpeechEvent]
    ) -> None:
        worker = self._worker

        def arrive() -> None:
            if self._worker == worker:  # else they were lost on the way
                for event in events:
                    track.receive(self.now_s, event)
                track.done = stream.done

        self.at(self.now_s + self._wire_s, arrive)

    def _die(self) -> None:
        self._worker = 0
        for track in self.tracks:
            track.stream = None

    def _revive(self) -> None:
        self._workers += 1
        self._worker = self._workers
        self._free = self.recogniser.slots
        for track in self.tracks:
            if track.starts_at_s <= self.now_s:
                self._connect(track)

    def _dispatch(self) -> None:
        while self._worker and self._free:
            streams = [t.stream for t in self.tracks if t.stream is not None]
            due = sum(1 for stream in streams if stream.lag_s() >= 0)
            share = -(-due // self.recogniser.slots)
            limit = max(1, min(self.recogniser.max_batch, share))
            pairs = [(s, job) for s in choose(streams, limit) if (job := s.next_job()) is not None]
            if not pairs:
                return
            self._decode(pairs)

    def _decode(self, pairs: list[tuple[SpeechStream, Job]]) -> None:
        jobs = [job for _, job in pairs]
        answers, seconds = self.recogniser.recognise(jobs), self._cost.of(jobs)
        self.decodes.extend((self.now_s, job) for job in jobs)
        self.computed_s += seconds
        self._free -= 1
        worker = self._worker

        def answer() -> None:
            if self._worker != worker:
                return
            self._free += 1
            tracks = {track.id: track for track in self.tracks}
            for (stream, job), heard in zip(pairs, answers, strict=True):
                self._to_app(tracks[stream.id], stream, stream.apply(job, heard))

        self.at(self.now_s + seconds, answer)
