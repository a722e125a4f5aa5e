"""Audio as the caption engine takes it: 16 kHz mono float32."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ = 16_000

Samples = npt.NDArray[np.float32]
"""Shape (n,), 16 kHz mono, -1 to 1."""


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """A run of samples at a place in a track."""

    samples: Samples
    start_s: float
    """Media time of the first sample: seconds since the first sample of the track."""

    @property
    def duration_s(self) -> float:
        """Seconds of audio in the chunk."""
        return len(self.samples) / SAMPLE_RATE_HZ

    @property
    def end_s(self) -> float:
        """Media time just after the last sample."""
        return self.start_s + self.duration_s


def to_s16(samples: Samples) -> bytes:
    """Return `samples` as little-endian 16-bit PCM, clipped."""
    return (np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2").tobytes()


def from_s16(pcm: bytes) -> Samples:
    """Return little-endian 16-bit mono PCM as float32. Raises ValueError for half a sample."""
    return np.frombuffer(pcm, dtype="<i2").astype(np.float32) / 32768.0
