"""The recogniser on our own decoder: what is known is not decoded again."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tokenizers
from faster_whisper.tokenizer import Tokenizer

from mediaserver.captions.audio import SAMPLE_RATE_HZ
from mediaserver.captions.events import Word
from mediaserver.captions.policy import HeardWord
from mediaserver.inference.worker.features import (
    STEPS_PER_S,
    FloatArray,
    LogMel,
    scaled,
    settled_steps,
)
from mediaserver.inference.worker.recogniser import Heard, Job
from mediaserver.inference.worker.whisper.backend import EncodedAudio
from mediaserver.inference.worker.whisper.decoder import WhisperDecoder
from mediaserver.inference.worker.whisper.hypothesis import Decoded, DecodeRequest
from mediaserver.inference.worker.whisper.hypothesis import Token as HeardToken
from mediaserver.inference.worker.whisper.weights import read_weights

PAD_S = 0.7
"""Silence behind the window: without any, the decoder repeats itself."""
BUCKET_STEPS = 20
MIN_STEPS = 600
"""Shorter windows loop: speech of 2.4 s is repeated in windows of 3 to 5 s, and not in 6 s."""
MAX_STEPS = 3000
BEAMS = 5
DOUBTFUL = 0.6
"""A thorough decode searches from the first token on that is less probable than this."""
TOKENS_PER_S = 6.0
SPARE_TOKENS = 8
SPACELESS_LANGUAGES = frozenset({"zh", "ja", "th", "lo", "my", "yue"})


@dataclass(frozen=True, slots=True)
class _Memory:
    """Of a window, for the time when it has grown."""

    powers: FloatArray
    audio: EncodedAudio


class WhisperRecogniser:
    """Whisper with fitted windows; known tokens in one pass, drafts verified, streams batched."""

    def __init__(self, folder: Path, device: str, threads: int) -> None:
        self.device = device
        self.name = folder.name
        self.slots = 2 if device == "cuda" else max(1, min(threads, 8))
        self.max_batch = 32 if device == "cuda" else 4
        self.decoder = WhisperDecoder.open(folder)
        self.multilingual = bool(self.decoder.vocabulary.languages)
        self._hf_tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._log_mel = LogMel(read_weights(folder).dimensions.mel_bands)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Tokens of text, as they would follow other text."""
        return tuple(self._hf_tokenizer.encode(" " + text.strip(), add_special_tokens=False).ids)

    def recognise(self, jobs: list[Job]) -> list[Heard]:
        """Encode each window, then decode all together."""
        encoded = [self._encode(job) for job in jobs]
        audio = [one for one, _ in encoded]
        detected = self._detect(jobs, audio)
        languages = [
            job.language or (found[0] if found else "en")
            for job, found in zip(jobs, detected, strict=True)
        ]
        requests = [
            DecodeRequest(
                audio=one,
                max_new_tokens=int(len(job.samples) / SAMPLE_RATE_HZ * TOKENS_PER_S) + SPARE_TOKENS,
                language=language,
                task="translate" if job.translate else "transcribe",
                prompt=job.prompt,
                prefix=job.prefix,
                draft=job.draft,
                beams=BEAMS if job.thorough else 1,
                doubtful=DOUBTFUL,
            )
            for job, one, language in zip(jobs, audio, languages, strict=True)
        ]
        return [
            Heard(
                self._words(job, decoded, language),
                decoded.no_speech_probability,
                language,
                found,
                memory,
            )
            for job, decoded, language, found, (_, memory) in zip(
                jobs, self.decoder.decode(requests), languages, detected, encoded, strict=True
            )
        ]

    def _encode(self, job: Job) -> tuple[EncodedAudio, _Memory]:
        seconds = len(job.samples) / SAMPLE_RATE_HZ
        steps = math.ceil((seconds + PAD_S) * STEPS_PER_S / BUCKET_STEPS) * BUCKET_STEPS
        steps = min(max(steps, MIN_STEPS), MAX_STEPS)
        before = job.memory if isinstance(job.memory, _Memory) else None
        powers = self._log_mel.powers(job.samples, before.powers if before else None)
        audio = self.decoder.encode(
            scaled(powers, steps),
            min(steps // 2, math.ceil(seconds * 50) + 5),
            before.audio if before else None,
        )
        return audio, _Memory(powers[:, : settled_steps(len(job.samples))], audio)

    def _encode_own(self, job: Job, audio: EncodedAudio) -> EncodedAudio:
        """The utterance alone: earlier ones in its window would speak for their language."""
        own = job.detection_samples
        if len(own) == len(job.samples) or not len(own):
            return audio
        return self._encode(replace(job, samples=own, memory=None))[0]

    def _detect(self, jobs: list[Job], audio: list[EncodedAudio]) -> list[tuple[str, float] | None]:
        wanted = [i for i, job in enumerate(jobs) if job.detect and self.multilingual]
        found: list[tuple[str, float] | None] = [None] * len(jobs)
        if wanted:
            own = [self._encode_own(jobs[i], audio[i]) for i in wanted]
            rankings = self.decoder.detect_language(own)
            for i, ranking in zip(wanted, rankings, strict=True):
                found[i] = next(iter(ranking.items()))
        return found

    def _words(self, job: Job, decoded: Decoded, language: str) -> tuple[HeardWord, ...]:
        tokens = [token for token in decoded.tokens if token.source != "prefix"]
        if not tokens:
            return ()
        tokenizer = Tokenizer(
            self._hf_tokenizer, self.multilingual, task="transcribe", language=language
        )
        texts, pieces = tokenizer.split_to_word_tokens([t.id for t in tokens] + [tokenizer.eot])
        words: list[HeardWord] = []
        at = 0
        for text, ids in zip(texts[:-1], pieces[:-1], strict=True):
            own = tokens[at : at + len(ids)]
            at += len(ids)
            _append(words, text, own, job.start_s, language in SPACELESS_LANGUAGES)
        return tuple(words)


def _append(
    words: list[HeardWord], text: str, tokens: list[HeardToken], start_s: float, spaceless: bool
) -> None:
    """Add a word to `words`, or glue it to the last one where no space parts them."""
    if not text.strip():
        return
    probability = float(np.mean([t.probability or 0.0 for t in tokens]))
    ids = tuple(t.id for t in tokens)
    end_s = start_s + tokens[-1].end_s
    punctuation = not any(character.isalnum() for character in text)
    if words and not text.startswith(" ") and (punctuation or not spaceless):
        last = words[-1].word
        word = Word(
            last.text + text.strip(),
            last.start_s,
            last.end_s if punctuation else end_s,
            last.probability if punctuation else min(last.probability, probability),
        )
        words[-1] = HeardWord(word, words[-1].tokens + ids)
    else:
        word = Word(text.strip(), start_s + tokens[0].start_s, end_s, probability)
        words.append(HeardWord(word, ids))
