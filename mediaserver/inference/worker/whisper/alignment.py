"""When each token was said, from where the alignment heads look.

The path is that of openai-whisper's `find_alignment` (timing.py) without its filter and with
one move less: every token takes at least one frame. One pass of array operations a frame, not
one Python step a cell. Its error, and that of other estimates, is in docs/speech-engine.md.
"""

import numpy as np

from mediaserver.inference.worker.whisper.backend import IntArray
from mediaserver.inference.worker.whisper.weights import FloatArray


def combine_heads(attention: FloatArray) -> FloatArray:
    """Attention [heads, rows, frames] -> [rows, frames]: how much each row stands out at a frame.

    Each head is normalised over the rows, so that frames at which every token looks (the first,
    mostly) do not count.
    """
    mean = attention.mean(axis=1, keepdims=True)
    spread = attention.std(axis=1, keepdims=True)
    combined: FloatArray = ((attention - mean) / (spread + 1e-9)).mean(axis=0)
    return combined


def first_frames(salience: FloatArray) -> IntArray:
    """Where each row begins on the best monotone path: [rows, frames] -> [rows].

    The path starts in the first row at frame 0 and ends in the last row at the last frame; with
    more rows than frames the last ones share the last frame.
    """
    rows, frames = salience.shape
    reachable = min(rows, frames)
    gain = np.ascontiguousarray(salience.T)
    best = np.full(rows, -np.inf, np.float32)
    best[0] = gain[0, 0]
    advanced = np.zeros((frames, rows), np.bool_)
    for frame in range(1, frames):
        come = advanced[frame, 1:]
        np.greater(best[:-1], best[1:], out=come)
        best[1:] = np.where(come, best[:-1], best[1:])
        best += gain[frame]
    starts = np.full(rows, frames - 1, np.int64)
    starts[0] = 0
    row = reachable - 1
    for frame in range(frames - 1, 0, -1):
        if row and advanced[frame, row]:
            starts[row] = frame
            row -= 1
    return starts
