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


class AudioBuffer:
    """The part of a track that may still be needed: grows at the end, is trimmed at the front."""

    def __init__(self, start_s: float = 0.0) -> None:
        self._origin_s = start_s
        self._first = 0
        """Samples between the origin and the first kept one."""
        self._store: Samples = np.empty(SAMPLE_RATE_HZ * 8, dtype=np.float32)
        self._begin = 0
        self._length = 0

    @property
    def start_s(self) -> float:
        """Media time of the first kept sample."""
        return self._origin_s + self._first / SAMPLE_RATE_HZ

    @property
    def end_s(self) -> float:
        """Media time just after the last sample."""
        return self._origin_s + (self._first + self._length) / SAMPLE_RATE_HZ

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self._store.nbytes

    def append(self, samples: Samples) -> None:
        """Add samples behind the last one."""
        need = self._length + len(samples)
        if self._begin + need > len(self._store):
            capacity = len(self._store)
            while capacity < need * 2:
                capacity *= 2
            while capacity > SAMPLE_RATE_HZ * 8 and capacity > need * 4:
                capacity //= 2
            store = np.empty(capacity, dtype=np.float32)
            store[: self._length] = self._store[self._begin : self._begin + self._length]
            self._store, self._begin = store, 0
        at = self._begin + self._length
        self._store[at : at + len(samples)] = samples
        self._length = need

    def slice(self, start_s: float, end_s: float) -> Samples:
        """Return a copy of the samples between two media times, as far as they are kept."""
        first = max(0, round((start_s - self.start_s) * SAMPLE_RATE_HZ))
        last = min(self._length, round((end_s - self.start_s) * SAMPLE_RATE_HZ))
        return self._store[self._begin + first : self._begin + max(first, last)].copy()

    def trim(self, before_s: float) -> None:
        """Forget what lies before `before_s`."""
        count = min(self._length, max(0, round((before_s - self.start_s) * SAMPLE_RATE_HZ)))
        self._first += count
        self._begin += count
        self._length -= count


def silence(count: int, followed_by: Samples) -> Samples:
    """Return `count` zero samples and then `followed_by`."""
    return np.concatenate([np.zeros(count, dtype=np.float32), followed_by])
