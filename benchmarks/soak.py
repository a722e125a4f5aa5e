#!/usr/bin/env python3
"""Does anything grow? An hour of speech through one session, then 500 sessions, in MiB resident.

    python -m benchmarks.soak                          an hour, as fast as the engine takes it
    python -m benchmarks.soak --minutes 10 --sessions 100

A real server, one session of `WS /v1/listen` that hears a clip over and over; audio is sent ahead
of real time, a piece at a time, and `Finalize` after each round says that all of it was heard. Then
sessions are opened and closed, ten at a time, each with two seconds of speech.
"""

import argparse
import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import websockets

from benchmarks.scoring import Clip, NoClip, clip_folders, load_clip
from benchmarks.servers import NotStarted, Running, our_server

RATE_HZ = 16_000
PIECE_S = 6.0
ROUND_TIMEOUT_S = 300.0
SESSIONS_AT_ONCE = 10
SETTLE_S = 5.0


@dataclass(frozen=True)
class Sample:
    """How much is resident after so much audio or so many sessions."""

    after: str
    app_mib: float
    worker_mib: float


def listen_url(running: Running, clip: Clip) -> str:
    """The address of a session that hears `clip`."""
    options = f"encoding=linear16&sample_rate={RATE_HZ}&language={clip.language}"
    return f"{running.ws_url}/v1/listen?{options}&interim_results=true"


async def hear(socket: websockets.ClientConnection, pcm: bytes) -> int:
    """Send a round of audio and wait until all of it is final; return the finals' words."""
    piece = int(PIECE_S * RATE_HZ) * 2
    words = 0
    for first in range(0, len(pcm), piece):
        await socket.send(pcm[first : first + piece])
        await socket.send(json.dumps({"type": "Finalize"}))
        done = False
        while not done:
            message = json.loads(await asyncio.wait_for(socket.recv(), ROUND_TIMEOUT_S))
            if message.get("type") == "Results" and message["is_final"]:
                words += len(message["channel"]["alternatives"][0]["words"])
                done = message.get("from_finalize", False)
    return words


async def one_long_session(running: Running, clip: Clip, minutes: float) -> list[Sample]:
    """Resident memory about every five minutes of audio."""
    samples: list[Sample] = []
    heard_s, told_s = 0.0, -300.0
    async with websockets.connect(listen_url(running, clip), max_size=None) as socket:
        while heard_s < minutes * 60:
            words = await hear(socket, clip.pcm)
            heard_s += clip.audio_s
            if not words:
                raise RuntimeError(f"no words came after {heard_s:.0f} s of audio")
            if heard_s - told_s >= 300:
                told_s = heard_s
                samples.append(sample(running, f"{heard_s / 60:.0f} min"))
        await socket.send(json.dumps({"type": "CloseStream"}))
        async for _ in socket:
            pass
    return samples


async def connected(url: str) -> websockets.ClientConnection:
    """Connect; where the server is full, ask again when it says."""
    while True:
        try:
            return await websockets.connect(url)
        except websockets.InvalidStatus as refusal:
            if refusal.response.status_code != 503:
                raise
            await asyncio.sleep(float(refusal.response.headers["Retry-After"]))


async def short_session(running: Running, clip: Clip, gate: asyncio.Semaphore) -> None:
    """Two seconds of speech, then goodbye."""
    async with gate, await connected(listen_url(running, clip)) as socket:
        await socket.send(clip.pcm[: 2 * RATE_HZ * 2])
        await socket.send(json.dumps({"type": "CloseStream"}))
        async for _ in socket:
            pass


async def many_sessions(running: Running, clip: Clip, count: int) -> list[Sample]:
    """Resident memory before, and after each fifth of the sessions."""
    samples = [sample(running, "0 sessions")]
    gate = asyncio.Semaphore(SESSIONS_AT_ONCE)
    part = max(1, count // 5)
    for done in range(part, count + 1, part):
        await asyncio.gather(*(short_session(running, clip, gate) for _ in range(part)))
        await asyncio.sleep(SETTLE_S)
        samples.append(sample(running, f"{done} sessions"))
    return samples


def sample(running: Running, after: str) -> Sample:
    usage = running.usage()
    print(f"[{time.strftime('%H:%M:%S')}] {after}: {usage}", file=sys.stderr, flush=True)
    return Sample(after, usage.app_mib, usage.worker_mib)


def table(samples: list[Sample]) -> str:
    rows = [f"| {s.after} | {s.app_mib:.0f} | {s.worker_mib:.0f} |" for s in samples]
    return "\n".join(["| after | app, MiB | worker, MiB |", "|---|---|---|", *rows])


def main() -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--minutes", type=float, default=60.0)
    p.add_argument("--sessions", type=int, default=500)
    p.add_argument("--clip", default="lj001-a")
    p.add_argument("--data", type=Path, action="append", default=[], help="folder with clips")
    o = p.parse_args()
    try:
        clip = load_clip(o.clip, clip_folders(o.data))
        with our_server() as running:
            if o.minutes:
                print(table(asyncio.run(one_long_session(running, clip, o.minutes))), flush=True)
            if o.sessions:
                print(table(asyncio.run(many_sessions(running, clip, o.sessions))), flush=True)
    except (NoClip, NotStarted) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
