#!/usr/bin/env python3
"""What Whisper's encoder and decoder cost on a CPU: ours against CTranslate2.

    python benchmarks/decoder.py --model data/models/whisper-base --speech ../shared/speech

Costs are CPU time of this process (core-milliseconds), the best of several runs, so that other
work on the machine disturbs little. Needs the development extras (jiwer, soundfile,
whisper-normalizer).
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import ctranslate2
import jiwer
import numpy as np
import soundfile
import tokenizers
from faster_whisper.feature_extractor import FeatureExtractor
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from mediaserver.inference.worker.whisper.decoder import WhisperDecoder
from mediaserver.inference.worker.whisper.hypothesis import DecodeRequest, one_round

HZ, PAD_S = 16_000, 0.7
KEPT_OPEN_S, WINDOW_S = 2.0, 8.0
FLOWING = list(range(11000, 11030))


@dataclass
class Step:
    """What a backend says to one window: new tokens and their ends within it."""

    tokens: list[int]
    ends_s: list[float]


@dataclass
class Window:
    """One window of a stream and its known text."""

    mel: np.ndarray
    begin_s: float
    seconds: float
    language: str
    prompt: list[int] = field(default_factory=list)
    prefix: list[int] = field(default_factory=list)
    draft: list[int] = field(default_factory=list)

    @property
    def new_tokens(self) -> int:
        return int(self.seconds * 6) + 8


class Ours:
    def __init__(self, model: Path, threads: int, reuse: bool = True) -> None:
        self.decoder = WhisperDecoder.open(model, threads=threads)
        self.reuse = reuse
        self.heard: tuple[float, Any] = (-1.0, None)

    def begin(self) -> None:
        self.heard = (-1.0, None)

    def encode(self, mel: np.ndarray) -> Any:
        return self.decoder.encode(mel)

    def known(self, audio: Any, count: int) -> None:
        request = DecodeRequest(audio, 1, prefix=FLOWING[:26])
        self.decoder.decode([request] * count)

    def steps(self, audio: Any, count: int, steps: int) -> None:
        batch = self.decoder.backend.batch([audio] * count)
        for at in range(steps):
            shape = (count, 1)
            mask = np.ones((count, 1, at + 1), np.bool_)
            batch.step(np.full(shape, 11000), np.full(shape, at), mask, np.arange(count))
            batch.predict(range(count), np.zeros(count, np.int64), np.zeros(count, np.bool_))

    def step(self, window: Window) -> Step:
        before = self.heard[1] if self.reuse and self.heard[0] == window.begin_s else None
        audio = self.decoder.encode(window.mel, round(window.seconds * 50), before)
        self.heard = (window.begin_s, audio)
        request = DecodeRequest(
            audio,
            window.new_tokens,
            window.language,
            prompt=window.prompt,
            prefix=window.prefix,
            draft=window.draft,
        )
        tokens = self.decoder.decode([request])[0].tokens[len(window.prefix) :]
        return Step([token.id for token in tokens], [token.end_s for token in tokens])


class CTranslate2:
    def __init__(self, model: Path, threads: int) -> None:
        self.model = ctranslate2.models.Whisper(
            str(model), compute_type="int8", intra_threads=threads
        )
        vocabulary = (model / "vocabulary.txt").read_text("utf-8").split("\n")
        self.ids = {token: i for i, token in enumerate(vocabulary) if token.startswith("<|")}

    def begin(self) -> None:
        pass

    def encode(self, mel: np.ndarray) -> Any:
        return self.model.encode(ctranslate2.StorageView.from_array(mel[None]))

    def start(self, language: str) -> list[int]:
        names = ("startoftranscript", language, "transcribe", "notimestamps")
        return [self.ids[f"<|{name}|>"] for name in names]

    def generate(self, audio: Any, prompts: list[list[int]], new: int, **options: Any) -> Any:
        # `generate` stops at half of `max_length`, or at all of it less the prompt.
        length = max(2 * new, len(prompts[0]) + new)
        return self.model.generate(audio, prompts, beam_size=1, max_length=length, **options)

    def repeat(self, audio: Any, count: int) -> Any:
        array = np.ascontiguousarray(np.repeat(np.array(audio), count, axis=0))
        return ctranslate2.StorageView.from_array(array)

    def known(self, audio: Any, count: int) -> None:
        prompt = [*self.start("en"), *FLOWING[:26]]
        self.generate(self.repeat(audio, count), [prompt] * count, 1)

    def steps(self, audio: Any, count: int, steps: int) -> None:
        never_ending = {"suppress_tokens": [-1, self.ids["<|endoftext|>"]]}
        prompts = [self.start("en")] * count
        self.generate(self.repeat(audio, count), prompts, steps, **never_ending)

    def step(self, window: Window) -> Step:
        audio = self.encode(window.mel)
        start = self.start(window.language)
        before = [self.ids["<|startofprev|>"], *window.prompt] if window.prompt else []
        prompts = [[*before, *start, *window.prefix]]
        found = self.generate(audio, prompts, window.new_tokens)[0].sequences_ids[0]
        text = [token for token in found if token < self.ids["<|endoftext|>"]]  # with the prefix
        text = text[: one_round(text, len(window.prefix))]
        tokens = text[len(window.prefix) :]
        aligned = self.model.align(audio, start[:-1], [text], [round(window.seconds * 100)])[0]
        begins: dict[int, float] = {}
        for token, frame in aligned.alignments:
            begins.setdefault(token, frame / 50)
        first = len(window.prefix)
        ends = [begins.get(first + i + 1, window.seconds) for i in range(len(tokens))]
        return Step(tokens, ends)


def cost_ms(action: Callable[[], object], runs: int = 8) -> float:
    action()
    best = float("inf")
    for _ in range(runs):
        began = time.process_time()
        action()
        best = min(best, time.process_time() - began)
    return best * 1e3


FEATURES = FeatureExtractor()


def log_mel(samples: np.ndarray) -> np.ndarray:
    steps = int((len(samples) / HZ + PAD_S) * 50) * 2
    padded = np.zeros(steps * HZ // 100, np.float32)
    padded[: len(samples)] = samples
    return np.ascontiguousarray(FEATURES(padded, padding=160)[:, :steps])


def stream(
    backend: Ours | CTranslate2, samples: np.ndarray, language: str, step_s: float
) -> list[int]:
    """Decode every step, as a live caption engine does; words older than 2 s are final."""
    said: list[int] = []
    window_from = 0.0
    prefix: list[tuple[int, float]] = []
    draft: list[int] = []
    total_s = len(samples) / HZ
    backend.begin()
    for now in [*np.arange(step_s, total_s, step_s).tolist(), total_s]:
        part = samples[int(window_from * HZ) : int(now * HZ)]
        window = Window(log_mel(part), window_from, len(part) / HZ, language, said[-40:])
        window.prefix, window.draft = [token for token, _ in prefix], draft
        heard = backend.step(window)
        rows = list(zip(heard.tokens, heard.ends_s, strict=True))
        final = [row for row in rows if now == total_s or row[1] < window.seconds - KEPT_OPEN_S]
        prefix += final
        draft = heard.tokens[len(final) :]
        if now == total_s:
            said += [token for token, _ in prefix]
        elif window.seconds > WINDOW_S:
            cut_s = window.seconds - WINDOW_S / 2
            gone = [row for row in prefix if row[1] < cut_s]
            said += [token for token, _ in gone]
            moved = max(gone[-1][1] if gone else 0.0, window.seconds - 1.5 * WINDOW_S)
            prefix = [(token, end - moved) for token, end in prefix[len(gone) :]]
            window_from += moved
    return said


def table(title: str, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    print(f"\n{title}\n\n| {' | '.join(names)} |\n|{'---|' * len(names)}", flush=True)
    for row in rows:
        cells = (f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row)
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    backends: list[Any] = [
        CTranslate2(options.model, options.threads),
        Ours(options.model, options.threads),
    ]
    names = ["", "CTranslate2", "ours"]
    clips = json.loads((options.speech / "manifest.json").read_text("utf-8"))
    audio = {c["id"]: soundfile.read(options.speech / c["file"], dtype="float32")[0] for c in clips}
    speech = audio["lj001-a"]
    mels = {s: log_mel(speech[: int((s - PAD_S) * HZ)]) for s in (2, 3, 4, 6, 8, 10)}
    table(
        f"Encoder, core-ms a window of so many seconds ({options.threads} thread)",
        names,
        ([s, *(cost_ms(partial(b.encode, mel)) for b in backends)] for s, mel in mels.items()),
    )
    encoded = [b.encode(mels[4]) for b in backends]
    rows: list[list[object]] = []
    for count in (1, 4, 8):
        costs = [
            cost_ms(partial(backend.known, window, count))
            for backend, window in zip(backends, encoded, strict=True)
        ]
        rows.append([f"30 known tokens and one new, {count} streams", *costs])
    for count in (1, 4, 8):
        costs = [
            (cost_ms(partial(b.steps, e, count, 24)) - cost_ms(partial(b.steps, e, count, 4))) / 20
            for b, e in zip(backends, encoded, strict=True)
        ]
        rows.append([f"one more token, {count} streams", *costs])
    table("Decoder, core-ms, 4 s window", names, rows)
    live: list[Ours | CTranslate2] = [*backends, Ours(options.model, options.threads, reuse=False)]
    for step_s in (1.0, 0.5):
        table(
            f"Live, {step_s} s steps, features and word times included: core-ms a step, WER",
            ["", "CTranslate2", "WER", "ours", "WER", "ours without reuse", "WER"],
            streams(clips, audio, live, options.model, step_s),
        )


def streams(
    clips: Sequence[dict[str, Any]],
    audio: dict[str, np.ndarray],
    backends: Sequence[Ours | CTranslate2],
    model: Path,
    step_s: float,
) -> Iterable[list[object]]:
    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    for clip in clips:
        normal = BasicTextNormalizer() if clip["language"] != "en" else EnglishTextNormalizer()
        row: list[object] = [clip["id"]]
        for backend in backends:
            began = time.process_time()
            said = stream(backend, audio[clip["id"]], clip["language"], step_s)
            spent = time.process_time() - began
            row.append(1e3 * spent / np.ceil(clip["seconds"] / step_s))
            row.append(f"{jiwer.wer(normal(clip['text']), normal(tokenizer.decode(said))):.3f}")
        yield row


if __name__ == "__main__":
    main()
