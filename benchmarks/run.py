#!/usr/bin/env python3
"""Run the benchmarks and print their tables as Markdown (`make bench`).

    python -m benchmarks.run                 everything: about 22 minutes, 37 with the peer
    python -m benchmarks.run --quick         one short clip, 1 and 4 streams: about a minute
    python -m benchmarks.run --only latency --only accuracy

It starts a real server on a free loopback port and streams real speech to it in real time.

  latency    1, 2, 4 and 8 streams of lj001-a at once
  capacity   the most streams whose words are final within 4 s for 95 of 100
  accuracy   the other clips (a sonnet; Spanish), one stream each
  decoder    what encoding and decoding cost by themselves (benchmarks/decoder.py)
  rooms      members, chat and slow readers over two servers (benchmarks/rooms.py)
  relay      what passing a live broadcast on to viewers costs (benchmarks/relay.py)

Word error rates stand beside those of faster-whisper offline (beam 5, word times, same model),
computed in the same run.

The peer: WhisperLive in an environment of its own (benchmarks/peer_whisperlive.py says how to
make it), named by MEDIASERVER_BENCH_PEER_PYTHON, or a running one by --peer ws://HOST:PORT.
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.captions import measure
from benchmarks.scoring import Clip, NoClip, Server, clip_folders, load_clip
from benchmarks.servers import NotStarted, Running, Usage, our_server, whisperlive
from benchmarks.tables import (
    CAPACITY_COMMIT_P95_S,
    Measured,
    Results,
    latency,
    memory,
    targets,
)
from mediaserver.inference.registry import ModelRegistry
from mediaserver.kernel.errors import ConfigurationError
from mediaserver.settings import load_settings

SECTIONS = ("latency", "capacity", "accuracy", "decoder", "rooms", "relay")
PARTS = {
    "rooms": "rooms: two servers, members at both",
    "relay": "relay: one broadcast, 0 to 10 viewers",
}
"""Sections that need neither the model nor clips."""
STREAMS = (1, 2, 4, 8)
LATENCY_CLIP = "lj001-a"
ACCURACY_CLIPS = ("sonnet1", "captain-veneno.es")
QUICK_CLIP, QUICK_STREAMS = "lj001-0001", (1, 4)
WARM_UP_CLIP = "lj001-0005"
AIM_STREAMS = 10
"""The target, and where the search for capacity begins."""
MOST_STREAMS = 64
MOST_CAPACITY_RUNS = 6
RUN_SPARE_S = 180.0
"""A run may take this much longer than its audio; then it is given up."""
DECODER_TIMEOUT_S = 900.0
PART_TIMEOUT_S = 300.0
SETTLE_S = 3.0
"""Between two runs."""


class Bench:
    """One server under measurement."""

    def __init__(self, results: Results, running: Running | None, server: Server, url: str) -> None:
        self.results, self._running, self._server, self._url = results, running, server, url

    async def run(self, clip: Clip, streams: int, *, keep: bool = True) -> Measured | None:
        """Measure `streams` streams of `clip` at once."""
        say(f"{self.results.name}: {clip.id}, {streams} stream(s), {clip.audio_s:.0f} s of audio")
        before = self._usage()
        try:
            async with asyncio.timeout(clip.audio_s + RUN_SPARE_S):
                figures = await measure(self._server, self._url, clip, streams, say=say)
        except TimeoutError:
            say("given up: it took too long")
            figures = None
        if figures is None:
            return None
        after = self._usage()
        used = Usage(
            after.app_cpu_s - before.app_cpu_s,
            after.worker_cpu_s - before.worker_cpu_s,
            after.app_mib,
            after.worker_mib,
        )
        measured = Measured(figures, used)
        if keep:
            self.results.runs.append(measured)
        say(f"  commit p95 {figures.commit_p95} s, WER {figures.wer_mean:.3f}")
        await asyncio.sleep(SETTLE_S)
        return measured

    def _usage(self) -> Usage:
        return self._running.usage() if self._running is not None else Usage(0, 0, 0, 0)

    async def find_capacity(self, clip: Clip) -> None:
        """Find the most streams with commit p95 under the bound: the aim, doubles, then halves."""
        known = {m.figures.streams: _keeps_up(m) for m in self.results.runs if _is(m, clip)}
        for _ in range(MOST_CAPACITY_RUNS):
            good = max((n for n, ok in known.items() if ok), default=0)
            bad = min((n for n, ok in known.items() if not ok and n > good), default=None)
            if good >= MOST_STREAMS or (bad is not None and bad - good <= max(1, good // 8)):
                break
            if bad is None:
                streams = min(good * 2, MOST_STREAMS) if good >= AIM_STREAMS else AIM_STREAMS
            else:
                streams = max(1, (good + bad) // 2)
            measured = await self.run(clip, streams)
            known[streams] = measured is not None and _keeps_up(measured)
        self.results.capacity = max((n for n, ok in known.items() if ok), default=0)
        self.results.capacity_more = all(known.values())


def _is(measured: Measured, clip: Clip) -> bool:
    return measured.figures.clip == clip.id


def _keeps_up(measured: Measured) -> bool:
    f = measured.figures
    return (
        f.answered == f.streams
        and f.commit_p95 is not None
        and f.commit_p95 < CAPACITY_COMMIT_P95_S
    )


async def sections(bench: Bench, options: argparse.Namespace, clips: dict[str, Clip]) -> None:
    """Run what was asked for on one server."""
    if WARM_UP_CLIP in clips:
        await bench.run(clips[WARM_UP_CLIP], 1, keep=False)
    if options.quick:
        for streams in QUICK_STREAMS:
            await bench.run(clips[QUICK_CLIP], streams)
        return
    if "latency" in options.only:
        for streams in STREAMS:
            await bench.run(clips[LATENCY_CLIP], streams)
    if "capacity" in options.only:
        await bench.find_capacity(clips[LATENCY_CLIP])
    if "accuracy" in options.only:
        for name in ACCURACY_CLIPS:
            await bench.run(clips[name], 1)


def measure_ours(options: argparse.Namespace, clips: dict[str, Clip]) -> Results:
    results = Results("mediaserver")
    with our_server() as running:
        results.start_s = running.start_s
        results.idle = running.usage()
        say(f"mediaserver is ready after {running.start_s:.1f} s")
        asyncio.run(sections(Bench(results, running, "deepgram", running.ws_url), options, clips))
        results.after = running.usage()
        results.stop_s = running.stop()
    return results


def measure_peer(
    options: argparse.Namespace, clips: dict[str, Clip], model: Path, python: str | None
) -> Results | None:
    """Measure WhisperLive where there is one."""
    results = Results("WhisperLive, batching")
    if options.peer not in ("auto", "none"):
        asyncio.run(sections(Bench(results, None, "whisperlive", options.peer), options, clips))
        return results
    if options.peer == "none" or not python:
        say("no peer: MEDIASERVER_BENCH_PEER_PYTHON names none (benchmarks/peer_whisperlive.py)")
        return None
    with whisperlive(python, model) as running:
        results.start_s = running.start_s
        bench = Bench(results, running, "whisperlive", running.ws_url)
        asyncio.run(sections(bench, options, clips))
    return results


def offline_rates(model: Path, clips: Sequence[str], folders: Sequence[Path]) -> dict[str, float]:
    """Word error rates of faster-whisper offline, in a process of its own."""
    say(f"offline word error rates of {', '.join(clips)}")
    command = [sys.executable, "-m", "benchmarks.offline", str(model), *clips]
    command += [part for folder in folders for part in ("--data", str(folder))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        say(f"offline transcription failed: {done.stderr[-500:]}")
        return {}
    rates: dict[str, float] = json.loads(done.stdout)
    return rates


def run_part(name: str) -> int:
    """Print the tables of a benchmark in a process of its own; return its exit code."""
    say(PARTS[name])
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    try:
        return subprocess.run(command, timeout=PART_TIMEOUT_S, check=False).returncode
    except subprocess.TimeoutExpired as error:
        say(f"benchmarks/{name}.py failed: {error}")
        return 1


def run_decoder(model: Path, folder: Path) -> None:
    """Print the tables of benchmarks/decoder.py, in a process of its own."""
    say("decoder: encoder and decoder by themselves")
    command = [sys.executable, "-m", "benchmarks.decoder", "--model", str(model)]
    command += ["--speech", str(folder)]
    try:
        subprocess.run(command, timeout=DECODER_TIMEOUT_S, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        say(f"benchmarks/decoder.py failed: {error}")


def say(text: str) -> None:
    """Progress, apart from the tables."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def report(ours: Results, peer: Results | None, offline: dict[str, float], clip: str) -> str:
    """All tables as Markdown."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [
        f"Seconds from the end of a word in the audio; {cores} cores, {platform.machine()}, "
        "client on the same machine.\n",
        targets(ours, peer, offline, clip),
        f"\n### {ours.name}\n\n" + latency(ours, offline),
        "\n" + memory(ours),
    ]
    if peer is not None:
        parts.append(f"\n### {peer.name}\n\n" + latency(peer, offline))
    return "\n".join(parts)


def main() -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--quick", action="store_true", help="a short clip, 1 and 4 streams")
    p.add_argument("--only", action="append", choices=SECTIONS, help="may be given several times")
    p.add_argument("--peer", default="auto", help="auto, none, or ws://HOST:PORT of a running one")
    p.add_argument("--data", type=Path, action="append", default=[], help="folder with clips")
    p.add_argument("--json", type=Path, help="write all figures here too")
    options = p.parse_args()
    # Taken out of the environment: the server refuses MEDIASERVER_ names that it does not know.
    peer_python = os.environ.pop("MEDIASERVER_BENCH_PEER_PYTHON", None)
    options.only = options.only or list(SECTIONS)
    if set(options.only) <= set(PARTS):
        return max(run_part(name) for name in options.only)
    clip = QUICK_CLIP if options.quick else LATENCY_CLIP
    names = [clip] if options.quick else [clip, *ACCURACY_CLIPS]
    folders = clip_folders(options.data)
    try:
        clips = {name: load_clip(name, folders) for name in {*names, WARM_UP_CLIP}}
        settings = load_settings()
        model = ModelRegistry(settings.data_dir).locate(settings.speech_model)
        ours = measure_ours(options, clips)
        peer = measure_peer(options, clips, model, peer_python)
    except (NoClip, NotStarted, ConfigurationError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    offline = offline_rates(model, names, folders)
    print(report(ours, peer, offline, clip), flush=True)
    if "decoder" in options.only and not options.quick:
        run_decoder(model, folders[0])
    for name in PARTS:
        if name in options.only and not options.quick:
            run_part(name)
    if options.json is not None:
        figures = {"offline": offline, "ours": asdict(ours), "peer": peer and asdict(peer)}
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
