"""Whisper's log-mel spectrogram, of growing windows: what was computed once is kept.

The same figures as faster-whisper's `FeatureExtractor` gives for the window followed by silence,
whose steps are not computed at all.
"""

import numpy as np
import numpy.typing as npt
from faster_whisper.feature_extractor import FeatureExtractor

from mediaserver.captions.audio import SAMPLE_RATE_HZ, Samples

FloatArray = npt.NDArray[np.float32]

STEPS_PER_S = 100
HOP = SAMPLE_RATE_HZ // STEPS_PER_S
SPAN = 400
"""Samples that a step looks at, centred on it."""
SILENCE = -10.0
"""Logarithm of a step's power without any sound, before it is scaled."""
RANGE = 8.0
"""Powers of ten below the loudest value that make a difference."""


class LogMel:
    """The spectrogram's filters, for a model of so many bands."""

    def __init__(self, bands: int) -> None:
        filters = FeatureExtractor.get_mel_filters(SAMPLE_RATE_HZ, SPAN, bands)
        self._filters: FloatArray = filters.astype(np.float32)
        self._window: FloatArray = np.hanning(SPAN + 1)[:-1].astype(np.float32)

    def powers(self, samples: Samples, known: FloatArray | None = None) -> FloatArray:
        """Logarithms of the powers [bands, steps] of all steps that hear some of `samples`.

        `known` are those of a window that began at the same sample and was no longer.
        """
        count = -(-(len(samples) + SPAN // 2) // HOP)
        first = min(known.shape[1], settled_steps(len(samples))) if known is not None else 0
        padded = np.zeros((count - 1) * HOP + SPAN, dtype=np.float32)
        padded[SPAN // 2 : SPAN // 2 + len(samples)] = samples
        mirrored = samples[SPAN // 2 : 0 : -1]
        padded[SPAN // 2 - len(mirrored) : SPAN // 2] = mirrored
        steps = np.lib.stride_tricks.sliding_window_view(padded, SPAN)[first * HOP :: HOP]
        spectrum = np.fft.rfft(steps * self._window, axis=1).astype(np.complex64)
        power = self._filters @ (spectrum.real**2 + spectrum.imag**2).T
        fresh: FloatArray = np.log10(np.maximum(power, 10.0**SILENCE), dtype=np.float32)
        if known is None or not first:
            return fresh
        return np.concatenate([known[:, :first], fresh], axis=1)


def settled_steps(samples: int) -> int:
    """How many steps of a window of so many samples stay the same when it grows."""
    return max(0, (samples - SPAN // 2) // HOP + 1)


def scaled(powers: FloatArray, steps: int) -> FloatArray:
    """The model's input [bands, steps]: `powers` followed by silence."""
    mel = np.full((len(powers), steps), SILENCE, dtype=np.float32)
    count = min(steps, powers.shape[1])
    mel[:, :count] = powers[:, :count]
    scaled: FloatArray = (np.maximum(mel, mel.max() - RANGE) + 4.0) / 4.0
    return scaled
