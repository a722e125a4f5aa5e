#!/usr/bin/env python3
"""Replay speech through the caption engine in virtual time: what one change to it gives.

    python -m benchmarks.engine_replay --streams 8 --clip lj001-a --clip sonnet1
    python -m benchmarks.engine_replay --set context_s=6.0 --set policy.agreed_hold_s=0.5

Streams, scheduling and recogniser are the real ones; the clock is made of the audio's time and of
the CPU time that each decode took here, so that other work on the machine disturbs little and
nobody waits. No network, app or client: `benchmarks.run` measures those too. Per row: word errors,
delays from a word's end in the audio, erasure (benchmarks/captions.py), CPU seconds of the model
per second of audio and stream, decodes per second and stream, mean batch and window.
"""

import argparse
import dataclasses
import heapq
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.captions import STAGGER_S
from benchmarks.scoring import (
    Clip,
    Rows,
    Score,
    clip_folders,
    load_clip,
    score,
    summary,
)
from mediaserver.captions.events import Revision, SpeechEvent
from mediaserver.inference.registry import ModelRegistry
from mediaserver.inference.worker.admission import LEISURE_DELAY_S, QueueDelay
from mediaserver.inference.worker.dispatch import choose, fair_share
from mediaserver.inference.worker.main import WorkerConfig, load
from mediaserver.inference.worker.parameters import StreamOptions, StreamParameters
from mediaserver.inference.worker.recogniser import Job, Recogniser
from mediaserver.inference.worker.stream import SpeechStream
from mediaserver.inference.worker.vad import StreamVad, VadModel
from mediaserver.settings import load_settings

PIECE = 1600
"""Samples of one push: 0.1 s."""


@dataclass
class Replay:
    """One run of `clip` on so many streams."""

    recogniser: Recogniser
    clip: Clip
    streams: int
    parameters: StreamParameters
    options: StreamOptions
    slowness: float = 1.0
    """Of the machine that is imagined, against this one."""
    verbose: bool = False
    thorough: bool = True
    """Whether decodes search with beams while the queue is short, as the worker's do."""
    rows: list[Rows] = field(default_factory=list)
    computed_s: float = 0.0
    batches: list[int] = field(default_factory=list)
    windows_s: list[float] = field(default_factory=list)

    def run(self) -> list[Score]:
        """Let time pass until all streams are done."""
        self.rows = [[] for _ in range(self.streams)]
        self._heap: list[tuple[float, int, Callable[[float], None]]] = []
        self._serial = itertools.count()
        self._free = self.recogniser.slots
        self._delay = QueueDelay()
        self._due_since: dict[SpeechStream, float] = {}
        vad = VadModel()
        self._tracks = [
            SpeechStream(
                str(i), self.options, StreamVad(vad), self.recogniser.encode_text, self.parameters
            )
            for i in range(self.streams)
        ]
        audio = np.frombuffer(self.clip.pcm, dtype="<i2").astype(np.float32) / 32768.0
        for i, track in enumerate(self._tracks):
            self._schedule(i, track, audio)
        while self._heap:
            now_s, _, action = heapq.heappop(self._heap)
            action(now_s)
            self._dispatch(now_s)
        scores = [score("deepgram", rows, self.clip) for rows in self.rows]
        return [one for one in scores if one is not None]

    def _at(self, at_s: float, action: Callable[[float], None]) -> None:
        heapq.heappush(self._heap, (at_s, next(self._serial), action))

    def _schedule(self, i: int, track: SpeechStream, audio: Any) -> None:
        for first in range(0, len(audio), PIECE):
            piece = audio[first : first + PIECE]
            at_s = (first + len(piece)) / 16_000 + STAGGER_S * i

            def hear(now: float, piece: Any = piece) -> None:
                self._tell(i, now, track.push(piece))

            self._at(at_s, hear)
        end_s = len(audio) / 16_000 + STAGGER_S * i + 0.001
        self._at(end_s, lambda now: self._tell(i, now, track.end()))

    def _dispatch(self, now_s: float) -> None:
        for track in self._tracks:
            if track.lag_s() >= 0:
                self._due_since.setdefault(track, now_s)
        while self._free:
            limit = fair_share(self._tracks, self.recogniser)
            pairs = [
                (track, job)
                for track in choose(self._tracks, limit)
                if (job := track.next_job()) is not None
            ]
            if not pairs:
                return
            self._decode(now_s, pairs)

    def _decode(self, now_s: float, pairs: list[tuple[SpeechStream, Job]]) -> None:
        for track, _ in pairs:
            self._delay.note(now_s - self._due_since.pop(track, now_s), now_s)
        thorough = self.thorough and self._delay.at(now_s) < LEISURE_DELAY_S
        pairs = [(track, dataclasses.replace(job, thorough=thorough)) for track, job in pairs]
        began = time.process_time()
        answers = self.recogniser.recognise([job for _, job in pairs])
        took_s = (time.process_time() - began) * self.slowness
        self.computed_s += took_s
        self.batches.append(len(pairs))
        self.windows_s += [len(job.samples) / 16_000 for _, job in pairs]
        self._free -= 1

        def answer(at_s: float) -> None:
            self._free += 1
            for (track, job), heard in zip(pairs, answers, strict=True):
                self._tell(int(track.id), at_s, track.apply(job, heard))

        self._at(now_s + took_s, answer)

    def _tell(self, i: int, now_s: float, events: list[SpeechEvent]) -> None:
        own_s = now_s - STAGGER_S * i
        for event in events:
            if not isinstance(event, Revision):
                continue
            if event.newly_final or event.complete:
                ended = event.complete and event.endpoint
                texts = [w.text for w in event.new_words]
                self._result(i, own_s, texts, final=True, ended=ended)
            if not event.complete:
                self._result(i, own_s, [w.text for w in event.tentative], final=False)

    def _result(
        self, i: int, at_s: float, words: list[str], *, final: bool, ended: bool = False
    ) -> None:
        text = " ".join(words)
        channel = {"alternatives": [{"transcript": text}]}
        message = {"type": "Results", "is_final": final, "speech_final": ended, "channel": channel}
        self.rows[i].append((at_s, message))
        if self.verbose and i == 0 and text:
            print(f"{at_s:7.2f} {'final' if final else '     '} {text}")


def with_settings(parameters: StreamParameters, settings: Sequence[str]) -> StreamParameters:
    """Change parameters: `name=value`, or `policy.name=value`."""
    for setting in settings:
        name, _, value = setting.partition("=")
        if name.startswith("policy."):
            policy = dataclasses.replace(
                parameters.policy, **{name.removeprefix("policy."): float(value)}
            )
            parameters = dataclasses.replace(parameters, policy=policy)
        else:
            kind = type(getattr(parameters, name))
            parameters = dataclasses.replace(parameters, **{name: kind(value)})
    return parameters


def row(replay: Replay, scores: Sequence[Score]) -> str:
    """One line of the table."""
    f = summary("deepgram", replay.clip, replay.streams, list(scores))
    audio_s = replay.clip.audio_s * replay.streams
    decodes = len(replay.windows_s)
    return (
        f"| {f.clip} | {f.streams} | {f.wer_mean:.3f} ({f.wer_max:.3f}) "
        f"| {f.display_p50} / {f.display_p95} | {f.commit_p50} / {f.commit_p95} "
        f"| {f.endpoint_p50} / {f.endpoint_p95} | {f.erasure} "
        f"| {replay.computed_s / audio_s:.3f} | {decodes / audio_s:.2f} "
        f"| {statistics.mean(replay.batches):.1f} | {statistics.mean(replay.windows_s):.1f} |"
    )


def main() -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--clip", action="append", help="default: lj001-a")
    p.add_argument("--streams", type=int, action="append", help="default: 1")
    p.add_argument("--set", action="append", default=[], help="a parameter, NAME=VALUE")
    p.add_argument("--slowness", type=float, default=1.0, help="of the imagined machine")
    p.add_argument("--data", type=Path, action="append", default=[], help="folder with clips")
    p.add_argument("--model", type=Path, help="a model's folder; default: the server's")
    p.add_argument("--translate", action="store_true")
    p.add_argument("--detect", action="store_true", help="do not tell the language")
    p.add_argument("--quick", action="store_true", help="no beams, however short the queue is")
    p.add_argument("--verbose", action="store_true", help="print what the first stream says")
    o = p.parse_args()
    if o.model is None:
        settings = load_settings()
        o.model = ModelRegistry(settings.data_dir).locate(settings.speech_model)
    recogniser = load(WorkerConfig(listen="", model=o.model, device="cpu"))
    parameters = with_settings(StreamParameters(), o.set)
    print(
        "| clip | streams | WER mean (worst) | display p50 / p95 | commit p50 / p95 "
        "| endpoint p50 / p95 | erasure | CPU | decodes | batch | window |\n" + "|---" * 11 + "|"
    )
    for name in o.clip or ["lj001-a"]:
        clip = load_clip(name, clip_folders(o.data))
        options = StreamOptions(None if o.detect else clip.language, o.translate)
        for streams in o.streams or [1]:
            replay = Replay(
                recogniser,
                clip,
                streams,
                parameters,
                options,
                o.slowness,
                o.verbose,
                thorough=not o.quick,
            )
            print(row(replay, replay.run()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
