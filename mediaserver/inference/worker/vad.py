"""Silero voice activity detection, streaming: state is kept from call to call.

The ONNX model ships inside faster-whisper. It takes frames of 512 samples (32 ms) with the 64
samples before each, and an LSTM state.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mediaserver.captions.audio import SAMPLE_RATE_HZ, Samples

FRAME_SAMPLES = 512
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ
_CONTEXT_SAMPLES = 64


class VadModel:
    """The loaded model, shared by all streams of a worker."""

    def __init__(self) -> None:
        import faster_whisper
        import onnxruntime

        folder = Path(faster_whisper.__file__).parent / "assets"
        found = sorted(folder.glob("silero_vad*.onnx"))
        if not found:
            raise FileNotFoundError(f"no Silero model in {folder}; reinstall faster-whisper")
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(
            str(found[-1]), providers=["CPUExecutionProvider"], sess_options=options
        )


class StreamVad:
    """One stream's detector."""

    def __init__(self, model: VadModel) -> None:
        self._session = model.session
        self._h: npt.NDArray[np.float32] = np.zeros((1, 1, 128), dtype=np.float32)
        self._c: npt.NDArray[np.float32] = np.zeros((1, 1, 128), dtype=np.float32)
        self._context: Samples = np.zeros(_CONTEXT_SAMPLES, dtype=np.float32)
        self._rest: Samples = np.empty(0, dtype=np.float32)

    def feed(self, samples: Samples) -> Iterator[float]:
        """Yield the speech probability of each 32 ms frame completed by `samples`."""
        audio = np.concatenate([self._rest, samples])
        count = len(audio) // FRAME_SAMPLES
        self._rest = audio[count * FRAME_SAMPLES :].copy()
        if count == 0:
            return iter(())
        frames = audio[: count * FRAME_SAMPLES].reshape(count, FRAME_SAMPLES)
        tails = np.concatenate([self._context[None], frames[:-1, -_CONTEXT_SAMPLES:]])
        self._context = frames[-1, -_CONTEXT_SAMPLES:].copy()
        output, self._h, self._c = self._session.run(
            None,
            {"input": np.concatenate([tails, frames], axis=1), "h": self._h, "c": self._c},
        )
        return iter(np.asarray(output, dtype=np.float32).reshape(-1).tolist())

    def flush(self) -> Iterator[float]:
        """Complete the frame under way with silence."""
        if not len(self._rest):
            return iter(())
        return self.feed(np.zeros(FRAME_SAMPLES - len(self._rest), dtype=np.float32))
