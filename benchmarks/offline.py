#!/usr/bin/env python3
"""Word error rate of faster-whisper offline (beam 5): what streaming is compared with.

Prints JSON: clip to word error rate. A process of its own, so that its memory goes with it.
With word times, as captions have them: faster-whisper then goes on after the last word instead of
the last segment, which spares it most of its repetitions (the sonnet: 0.11 instead of 0.25).
"""

import argparse
import json
import sys
from pathlib import Path

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel

from benchmarks.scoring import clip_folders, load_clip, word_error_rate


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("model", help="folder of a CTranslate2 Whisper model")
    p.add_argument("clips", nargs="+")
    p.add_argument("--data", type=Path, action="append", default=[])
    p.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    a = p.parse_args()
    cuda = a.device != "cpu" and ctranslate2.get_cuda_device_count() > 0
    model = WhisperModel(
        a.model, device="cuda" if cuda else "cpu", compute_type="float16" if cuda else "int8"
    )
    out = {}
    for name in a.clips:
        clip = load_clip(name, clip_folders(a.data))
        samples = np.frombuffer(clip.pcm, dtype="<i2").astype(np.float32) / 32768.0
        segments, _ = model.transcribe(
            samples, language=clip.language, beam_size=5, word_timestamps=True
        )
        out[name] = round(word_error_rate(clip, " ".join(part.text for part in segments)), 4)
    print(json.dumps(out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
