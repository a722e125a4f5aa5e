#!/usr/bin/env python3
"""Start the peer that captions are measured against: WhisperLive with cross-client batching.

It has an environment of its own, because its pins are not ours:

    python -m venv peer && . peer/bin/activate
    pip install torch==2.13.0
    pip install --no-deps whisper-live==0.10.0
    pip install --no-deps --no-binary openai-whisper openai-whisper==20250625
    pip install faster-whisper==1.2.1 websockets websocket-client scipy numba soundfile librosa \
        fastapi uvicorn python-multipart tiktoken tqdm kaldialign
    HF_HUB_OFFLINE=1 OMP_NUM_THREADS=2 python peer_whisperlive.py MODEL_DIR [PORT]

MODEL_DIR is the same CTranslate2 whisper-base folder that our server uses (int8 on the CPU). Its
model loads at the first connection: stream one short clip before measuring. `make bench` does all
this when MEDIASERVER_BENCH_PEER_PYTHON names that environment's python.
"""

import sys

from whisper_live.server import TranscriptionServer

if __name__ == "__main__":
    TranscriptionServer().run(
        "127.0.0.1",
        int(sys.argv[2]) if len(sys.argv) > 2 else 9090,
        backend="faster_whisper",
        faster_whisper_custom_model_path=sys.argv[1],
        single_model=True,
        max_clients=64,
        max_connection_time=86400,
        batch_enabled=True,
        batch_max_queue_wait_s=1e9,
        batch_max_admissions_per_s=1e9,
    )
