"""The recogniser on CTranslate2: any faster-whisper model, on a CPU (int8) or CUDA (float16)."""

import math
import threading
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import numpy.typing as npt
import tokenizers
from faster_whisper.feature_extractor import FeatureExtractor
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens

from mediaserver.captions.events import Word
from mediaserver.captions.policy import HeardWord
from mediaserver.inference.worker.recogniser import Heard, Job

FRAMES_PER_S = 100
PAD_S = 0.7
"""Silence behind the window: without any, the decoder repeats itself."""
BUCKET_FRAMES = 50
MIN_FRAMES = 600
"""Shorter windows loop: speech of 2.4 s is repeated in windows of 3 to 5 s, and not in 6 s."""
PROMPT_STEP = 16
"""A batch needs prompts of one length, so they are cut to multiples of this."""
BEAMS = 5
TOKENS_PER_S = 6.0
SPARE_TOKENS = 8
SPACELESS_LANGUAGES = frozenset({"zh", "ja", "th", "lo", "my", "yue"})


@dataclass(frozen=True, slots=True)
class _Decoded:
    tokens: list[int]
    no_speech: float


class CTranslate2Recogniser:
    """Whisper with a window fitted to the audio instead of 30 s, in batches."""

    def __init__(self, folder: Path, device: str, threads: int) -> None:
        on_gpu = device == "cuda"
        self.device = device
        self.name = folder.name
        self.slots = 2 if on_gpu else max(1, min(threads, 8))
        self.max_batch = 32 if on_gpu else 4
        self.model = ctranslate2.models.Whisper(
            str(folder),
            device=device,
            compute_type="float16" if on_gpu else "int8",
            inter_threads=self.slots,
            intra_threads=1,
        )
        self.multilingual: bool = self.model.is_multilingual
        self._hf_tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._features = FeatureExtractor(feature_size=self.model.n_mels)
        self._suppressed = get_suppressed_tokens(self._tokenizer("en", False), [-1])
        self._lock = threading.Lock()

    def _tokenizer(self, language: str, translate: bool) -> Tokenizer:
        task = "translate" if translate else "transcribe"
        return Tokenizer(self._hf_tokenizer, self.multilingual, task=task, language=language)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Tokens of text, as they would follow other text."""
        return tuple(self._hf_tokenizer.encode(" " + text.strip(), add_special_tokens=False).ids)

    def recognise(self, jobs: list[Job]) -> list[Heard]:
        """Decode a batch: one encode, then one generate and align a group of equal prompts."""
        encoded = self._encode(jobs)
        detected = self._detect(jobs, encoded)
        languages = [
            job.language or (found[0] if found else "en")
            for job, found in zip(jobs, detected, strict=True)
        ]
        groups: dict[tuple[int, int, str, bool], list[int]] = defaultdict(list)
        for i, job in enumerate(jobs):
            keep = len(job.prompt) // PROMPT_STEP * PROMPT_STEP
            groups[keep, len(job.prefix), languages[i], job.translate].append(i)
        answers: dict[int, Heard] = {}
        for (keep, _, language, translate), members in groups.items():
            tokenizer = self._tokenizer(language, translate)
            part = encoded if len(members) == len(jobs) else encoded[members]
            chosen = [jobs[i] for i in members]
            decoded = self._generate(chosen, part, keep, tokenizer)
            words = self._align(chosen, part, decoded, tokenizer)
            for i, result, heard in zip(members, decoded, words, strict=True):
                answers[i] = Heard(heard, result.no_speech, language, detected[i])
        return [answers[i] for i in range(len(jobs))]

    def _encode(self, jobs: list[Job]) -> npt.NDArray[np.float32]:
        longest_s = max(len(job.samples) for job in jobs) / 16_000
        frames = math.ceil((longest_s + PAD_S) * FRAMES_PER_S / BUCKET_FRAMES) * BUCKET_FRAMES
        frames = min(max(frames, MIN_FRAMES), 3000)
        batch = np.empty((len(jobs), self.model.n_mels, frames), dtype=np.float32)
        for row, job in zip(batch, jobs, strict=True):
            padded = np.zeros(frames * 160, dtype=np.float32)
            count = min(len(job.samples), len(padded))
            padded[:count] = job.samples[len(job.samples) - count :]
            row[:] = self._features(padded, padding=160)[:, :frames]
        output = self.model.encode(ctranslate2.StorageView.from_array(batch), to_cpu=True)
        encoded: npt.NDArray[np.float32] = np.array(output).astype(np.float32)
        return encoded

    def _detect(
        self, jobs: list[Job], encoded: npt.NDArray[np.float32]
    ) -> list[tuple[str, float] | None]:
        wanted = [i for i, job in enumerate(jobs) if job.detect and self.multilingual]
        found: list[tuple[str, float] | None] = [None] * len(jobs)
        if wanted:
            # The utterances alone: earlier ones in their windows would speak for their language.
            own = [replace(jobs[i], samples=jobs[i].detection_samples) for i in wanted]
            cut = any(
                len(a.samples) < len(jobs[i].samples) for i, a in zip(wanted, own, strict=True)
            )
            heard = self._encode(own) if cut else encoded[wanted]
            view = ctranslate2.StorageView.from_array(heard)
            for i, ranking in zip(wanted, self.model.detect_language(view), strict=True):
                token, probability = ranking[0]
                found[i] = (token.strip("<|>"), float(probability))
        return found

    def _generate(
        self, jobs: list[Job], encoded: npt.NDArray[np.float32], keep: int, tokenizer: Tokenizer
    ) -> list[_Decoded]:
        prompts = []
        for job in jobs:
            before = [tokenizer.sot_prev, *job.prompt[len(job.prompt) - keep :]] if keep else []
            start = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
            prompts.append([*before, *start, *job.prefix])
        new = max(int(len(job.samples) / 16_000 * TOKENS_PER_S) + SPARE_TOKENS for job in jobs)
        results: list[Any] = self.model.generate(
            ctranslate2.StorageView.from_array(encoded),
            prompts,
            beam_size=BEAMS if all(job.thorough for job in jobs) else 1,
            max_length=min(448, max(len(prompts[0]) + new, 2 * new)),  # bounds by its half, too
            return_no_speech_prob=True,
            suppress_tokens=self._suppressed,
            suppress_blank=True,
        )
        return [
            _Decoded(
                _behind(job.prefix, [t for t in result.sequences_ids[0] if t < tokenizer.eot]),
                float(result.no_speech_prob),
            )
            for job, result in zip(jobs, results, strict=True)
        ]

    def _align(
        self,
        jobs: list[Job],
        encoded: npt.NDArray[np.float32],
        decoded: list[_Decoded],
        tokenizer: Tokenizer,
    ) -> list[tuple[HeardWord, ...]]:
        texts = [[*job.prefix, *result.tokens] for job, result in zip(jobs, decoded, strict=True)]
        frames = [min(encoded.shape[1] * 2, math.ceil(len(job.samples) / 160) + 10) for job in jobs]
        results = self.model.align(
            ctranslate2.StorageView.from_array(encoded), tokenizer.sot_sequence, texts, frames
        )
        return [
            words_of(job, text, result, tokenizer) if decode.tokens else ()
            for job, text, decode, result in zip(jobs, texts, decoded, results, strict=True)
        ]


def _behind(prefix: tuple[int, ...], tokens: list[int]) -> list[int]:
    """What follows the forced prefix, which CTranslate2 gives back with the rest."""
    return tokens[len(prefix) :] if tuple(tokens[: len(prefix)]) == prefix else tokens


def words_of(
    job: Job, text: list[int], alignment: Any, tokenizer: Tokenizer
) -> tuple[HeardWord, ...]:
    """Turn tokens and their alignment into words behind the job's prefix, in media time."""
    texts, pieces = tokenizer.split_to_word_tokens([*text, tokenizer.eot])
    token_frames, time_frames = np.array(alignment.alignments, dtype=np.int64).reshape(-1, 2).T
    jumps = np.pad(np.diff(token_frames), (1, 0), constant_values=1).astype(bool)
    begins = time_frames[jumps] / 50
    probabilities = alignment.text_token_probs
    words: list[HeardWord] = []
    at = 0
    for word_text, tokens in zip(texts[:-1], pieces[:-1], strict=True):
        first, at = at, at + len(tokens)
        if first < len(job.prefix) or at >= len(begins) + 1:
            continue
        start_s, end_s = (float(begins[min(i, len(begins) - 1)]) for i in (first, at))
        probability = float(np.mean(probabilities[first:at]))
        punctuation = not any(character.isalnum() for character in word_text)
        glued = punctuation or tokenizer.language_code not in SPACELESS_LANGUAGES
        if words and glued and not word_text.startswith(" "):
            last = words[-1].word
            word = Word(
                last.text + word_text.strip(),
                last.start_s,
                last.end_s if punctuation else job.start_s + end_s,
                last.probability if punctuation else min(last.probability, probability),
            )
            words[-1] = HeardWord(word, words[-1].tokens + tuple(tokens))
        elif word_text.strip():
            word = Word(word_text.strip(), job.start_s + start_s, job.start_s + end_s, probability)
            words.append(HeardWord(word, tuple(tokens)))
    return tuple(words)
