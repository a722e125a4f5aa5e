#!/usr/bin/env python3
"""Stream speech in real time to a live caption server and score what comes back.

    captions.py --server deepgram    ws://127.0.0.1:8080 --clip lj001-a --streams 8
    captions.py --server whisperlive ws://127.0.0.1:9090 --clip lj001-a --streams 4

`deepgram` is this project's /v1/listen (the Deepgram live protocol); `whisperlive` is a WhisperLive
server. Needs: websockets, soundfile, jiwer, whisper-normalizer.

Every figure counts the server's own computing time, on the clock of the machine that runs this:
  WER         of the committed text, both sides through Whisper's text normaliser (English) or its
              basic one
  display     seconds from a word's end in the audio until it is shown and never changes again
  commit      the same until the server has declared it final
  erasure     shown words that were later changed, per final word
  tail        seconds from the end of the audio to the last message
  lost        words of the reference's last five that the committed text does not have (a stream's
              end is where servers lose words), over all streams
"""

import argparse
import asyncio
import functools
import json
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import websockets

from benchmarks.scoring import (
    Clip,
    Figures,
    NoClip,
    Rows,
    Score,
    Server,
    clip_folders,
    load_clip,
    score,
    summary,
)

CHUNK_S = 0.1
STAGGER_S = 0.37
"""Between the starts of two streams."""
LAST_MESSAGE_S = 90.0
"""How long to wait, after the audio, for the server to end the stream."""


async def stream(
    server: Server,
    base: str,
    clip: Clip,
    *,
    key: str | None = None,
    delay_s: float = 0.0,
    tail_s: float = 15.0,
) -> Rows:
    """Send `clip` in real time; return what came back, in the order received."""
    await asyncio.sleep(delay_s)
    headers = {"Authorization": f"Token {key}"} if key else {}
    url = base
    if server == "deepgram":
        url = (
            f"{base}/v1/listen?encoding=linear16&sample_rate=16000&channels=1"
            f"&interim_results=true&language={clip.language}"
        )
    rows: Rows = []
    async with websockets.connect(
        url, max_size=None, ping_interval=None, additional_headers=headers
    ) as ws:
        if server == "whisperlive":
            async with asyncio.timeout(120):
                await _ask_whisperlive(ws, clip.language)
        start = time.perf_counter()

        async def receive() -> None:
            try:
                async for message in ws:
                    if isinstance(message, str):
                        rows.append((time.perf_counter() - start, json.loads(message)))
            except websockets.ConnectionClosed:
                pass

        receiver = asyncio.create_task(receive())
        step = int(CHUNK_S * 32000)
        for at in range(0, len(clip.pcm), step):
            await asyncio.sleep(max(0.0, start + at / 32000 - time.perf_counter()))
            await ws.send(clip.pcm[at : at + step])
        if server == "whisperlive":  # its end marker closes at once, so let it finish first
            await asyncio.sleep(tail_s)
            await ws.send(b"END_OF_AUDIO")
        else:
            await ws.send(json.dumps({"type": "CloseStream"}))
        await asyncio.wait([receiver], timeout=LAST_MESSAGE_S)
        receiver.cancel()
    return rows


async def _ask_whisperlive(ws: websockets.ClientConnection, language: str) -> None:
    hello = {
        "uid": str(uuid.uuid4()),
        "language": language,
        "task": "transcribe",
        "model": "base",
        "use_vad": True,
        "send_last_n_segments": 10,
        "no_speech_thresh": 0.45,
        "clip_audio": False,
        "same_output_threshold": 10,
        "audio_format": "int16",
        "word_timestamps": False,
    }
    await ws.send(json.dumps(hello))
    while json.loads(await ws.recv()).get("message") != "SERVER_READY":
        pass


async def measure(
    server: Server,
    base: str,
    clip: Clip,
    streams: int,
    *,
    key: str | None = None,
    tail_s: float = 15.0,
    say: Callable[[str], None] = print,
) -> Figures | None:
    """Run `streams` streams at once; None if none gave committed text."""
    results = await asyncio.gather(
        *(
            stream(server, base, clip, key=key, delay_s=STAGGER_S * i, tail_s=tail_s)
            for i in range(streams)
        ),
        return_exceptions=True,
    )
    scored: list[Score] = []
    for rows in results:
        if isinstance(rows, BaseException):
            say(f"stream failed: {repr(rows)[:200]}")
        elif (one := score(server, rows, clip)) is not None:
            scored.append(one)
        else:
            say("stream gave no committed text")
    return summary(server, clip, streams, scored) if scored else None


def main() -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("url")
    p.add_argument("--server", choices=["deepgram", "whisperlive"], default="deepgram")
    p.add_argument("--clip", default="lj001-a")
    p.add_argument("--streams", type=int, default=1)
    p.add_argument("--key", default=None)
    p.add_argument("--tail", type=float, default=15, help="WhisperLive: seconds before its end")
    p.add_argument("--data", type=Path, action="append", default=[], help="folder with clips")
    p.add_argument("--json", type=Path, default=None, help="write the figures here; - prints them")
    a = p.parse_args()
    try:
        clip = load_clip(a.clip, clip_folders(a.data))
    except NoClip as error:
        print(error, file=sys.stderr)
        return 2
    note = functools.partial(print, file=sys.stderr)
    figures = asyncio.run(
        measure(a.server, a.url, clip, a.streams, key=a.key, tail_s=a.tail, say=note)
    )
    if figures is None:
        print("no stream gave committed text", file=sys.stderr)
        return 1
    if a.json == Path("-"):
        print(json.dumps(asdict(figures)))
        return 0
    print("  ".join(f"{name}={value}" for name, value in asdict(figures).items()))
    if a.json is not None:
        a.json.write_text(json.dumps(asdict(figures)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
