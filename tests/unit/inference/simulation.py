"""A speech worker on a virtual clock: real streams, ledgers and scheduling; scripted ears.

`Simulation` moves the clock from event to event and counts scripted computing time.
"""

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from mediaserver.captions.audio import SAMPLE_RATE_HZ, AudioChunk
from mediaserver.captions.events import (
    Flushed,
    Revision,
    Settled,
    SpeechBegan,
    SpeechEvent,
    Word,
)
from mediaserver.captions.ledger import TrackLedger
from mediaserver.inference.worker.dispatch import choose
from mediaserver.inference.worker.parameters import Resume, StreamOptions, StreamParameters
from mediaserver.inference.worker.recogniser import Job
from mediaserver.inference.worker.stream import SpeechStream
from tests.unit.inference.scripted import Script, ScriptedRecogniser, ScriptedVad

PIECE_S = 0.1
REPLAY_PIECE_S = 0.5


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
    max_owed_s: float = 0.0

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
        track.max_owed_s = max(track.max_owed_s, track.ledger.owed_s)
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
