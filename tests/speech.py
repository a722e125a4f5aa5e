"""Recorded speech for tests, and how to score what was understood of it.

Clips come from ``../shared/speech`` beside the checkout. Where that is missing, recordings of
Debian's pocketsphinx-testdata (LibriVox, with transcripts) stand in under the same names. No
recording is part of the repository.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jiwer
import numpy as np
import numpy.typing as npt
import soundfile
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

RATE_HZ = 16_000
SHARED = Path(__file__).resolve().parents[2] / "shared" / "speech"
DEBIAN = Path("/usr/share/pocketsphinx/test/data/librivox")
PAUSE_S = 0.35
"""Between recordings that are joined."""

_STAND_INS = {
    "lj001-0001": ("0870",),
    "lj001-0003": ("0920",),
    "lj001-0005": ("0890",),
    "lj001-0012": ("0880", "0930"),
    "jfk": ("0870", "0880"),
    "lj001-a": ("0870", "0880", "0890", "0920", "0930"),
    "sonnet1": ("0890", "0920", "0930"),
}


@dataclass(frozen=True)
class Clip:
    """A recording with what is said in it."""

    name: str
    samples: npt.NDArray[np.float32]
    """16 kHz mono."""
    text: str
    words: tuple[tuple[str, float], ...]
    """(word, where it ends in seconds); empty where nobody measured it."""
    language: str
    path: Path | None = None
    """The file, where one file has it all."""

    @property
    def duration_s(self) -> float:
        return len(self.samples) / RATE_HZ

    @property
    def pcm(self) -> bytes:
        """16-bit little-endian."""
        return (np.clip(self.samples, -1, 1) * 32767).astype("<i2").tobytes()

    def wer(self, heard: str) -> float:
        """Word error rate of `heard`, both sides normalised as Whisper's authors do."""
        return word_error_rate(self.text, heard, self.language)


class NoSuchClip(LookupError):
    """The recording is not on this machine."""


@cache
def clip(name: str) -> Clip:
    """Return a clip by its name in the manifest. Raises NoSuchClip."""
    manifest = SHARED / "manifest.json"
    if manifest.is_file():
        for row in json.loads(manifest.read_text()):
            if row["id"] == name:
                path = SHARED / row["file"]
                words = tuple((word, float(end_s)) for word, end_s in row["words"])
                return Clip(name, read(path), row["text"], words, row["language"], path)
    if name not in _STAND_INS or not DEBIAN.is_dir():
        raise NoSuchClip(f"no recording {name}: neither {SHARED} nor pocketsphinx-testdata has it")
    return _stand_in(name)


def _stand_in(name: str) -> Clip:
    said = {}
    for line in (DEBIAN / "transcription").read_text().splitlines():
        text, _, identity = line.rpartition("(")
        said[identity.rstrip(") ")[-4:]] = text.replace("<s>", "").replace("</s>", "").strip()
    pause = np.zeros(round(PAUSE_S * RATE_HZ), np.float32)
    paths = [DEBIAN / f"sense_and_sensibility_01_austen_64kb-{n}.wav" for n in _STAND_INS[name]]
    parts = [part for path in paths for part in (read(path), pause)]
    text = " ".join(said[number] for number in _STAND_INS[name])
    path = paths[0] if len(paths) == 1 else None
    return Clip(name, np.concatenate(parts[:-1]), text, (), "en", path)


def read(path: Path) -> npt.NDArray[np.float32]:
    """Read a 16 kHz mono file."""
    samples, rate_hz = soundfile.read(path, dtype="float32")
    assert rate_hz == RATE_HZ
    assert samples.ndim == 1
    return np.asarray(samples, np.float32)


def word_error_rate(reference: str, heard: str, language: str = "en") -> float:
    """Substitutions, deletions and insertions per reference word."""
    normalise = EnglishTextNormalizer() if language == "en" else BasicTextNormalizer()
    wanted, got = normalise(reference), normalise(heard)
    return float(jiwer.wer(wanted, got)) if got.strip() else 1.0
