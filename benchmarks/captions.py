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
import difflib
import functools
import json
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import jiwer
import soundfile
import websockets
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

CHUNK_S = 0.1
STAGGER_S = 0.37
"""Between the starts of two streams."""
LAST_MESSAGE_S = 90.0
"""How long to wait, after the audio, for the server to end the stream."""
TAIL_WORDS = 5

Server = Literal["deepgram", "whisperlive"]
Rows = list[tuple[float, dict[str, Any]]]
"""Seconds since the stream's first chunk, and the server's message."""


class NoClip(Exception):
    """There is no such recording on this machine."""


@dataclass(frozen=True)
class Clip:
    """A recording with its reference."""

    id: str
    language: str
    text: str
    words: tuple[tuple[str, float], ...]
    """Normalised words and their ends in the audio, seconds."""
    pcm: bytes
    """16 kHz mono, 16 bits."""

    @property
    def audio_s(self) -> float:
        return len(self.pcm) / 32000

    @property
    def normalise(self) -> Callable[[str], str]:
        return normaliser(self.language)


@dataclass(frozen=True)
class Score:
    """One stream's result."""

    wer: float
    display: list[float]
    commit: list[float]
    erasure: float
    tail: float
    lost: int


@dataclass(frozen=True)
class Figures:
    """Several streams' results together. Seconds; None where there is too little to tell."""

    server: str
    clip: str
    audio_s: float
    streams: int
    answered: int
    wer_max: float
    wer_mean: float
    display_p50: float | None
    display_p95: float | None
    display_p99: float | None
    commit_p50: float | None
    commit_p95: float | None
    commit_p99: float | None
    erasure: float
    tail_max: float
    lost: int


@functools.cache
def normaliser(language: str) -> Callable[[str], str]:
    normalise: Callable[[str], str] = (
        EnglishTextNormalizer() if language == "en" else BasicTextNormalizer()
    )
    return normalise


def clip_folders(given: Sequence[Path] = ()) -> list[Path]:
    """Folders with a manifest.json: those given, then shared/speech beside this repository."""
    near = [parent / "shared" / "speech" for parent in Path(__file__).resolve().parents[1:3]]
    return [folder for folder in (*given, *near) if (folder / "manifest.json").is_file()]


def load_clip(name: str, folders: Sequence[Path]) -> Clip:
    """Read a clip and its reference. Raises NoClip."""
    for folder in folders:
        for row in json.loads((folder / "manifest.json").read_text(encoding="utf-8")):
            if row["id"] == name:
                samples, rate = soundfile.read(folder / row["file"], dtype="int16")
                assert rate == 16000, "clips are 16 kHz"
                assert samples.ndim == 1, "clips are mono"
                words = tuple((word, float(end)) for word, end in row["words"])
                return Clip(name, row["language"], row["text"], words, samples.tobytes())
    raise NoClip(
        f"no clip named {name} in {[str(f) for f in folders]}: give --data a folder with a "
        "manifest.json (id, file, language, text, words with end times)"
    )


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


def history(server: Server, rows: Rows) -> list[tuple[float, str, str]]:
    """(time, committed text, shown text) after each message that changes either."""
    out: list[tuple[float, str, str]] = []
    final: dict[float, str] = {}
    done = ""
    for at, message in rows:
        if server == "whisperlive" and "segments" in message:
            for segment in message["segments"]:
                if segment.get("completed"):
                    final[float(segment["start"])] = segment["text"]
            done = " ".join(final[k] for k in sorted(final))
            rest = " ".join(s["text"] for s in message["segments"] if not s.get("completed"))
            out.append((at, done, f"{done} {rest}"))
        elif server == "deepgram" and message.get("type") == "Results":
            text = message["channel"]["alternatives"][0]["transcript"]
            if message["is_final"]:
                done = f"{done} {text}".strip()
                out.append((at, done, done))
            else:
                out.append((at, done, f"{done} {text}".strip()))
    return out


Snapshots = list[tuple[float, list[str]]]


def word_delays(snapshots: Snapshots, final: list[str], clip: Clip) -> list[float]:
    """Seconds from each correctly heard word's end until it stands for good."""
    settled: list[float | None] = []
    for i in range(len(final)):
        since: float | None = None
        for at, words in reversed(snapshots):
            if words[: i + 1] != final[: i + 1]:
                break
            since = at
        settled.append(since)
    match = difflib.SequenceMatcher(a=[w for w, _ in clip.words], b=final, autojunk=False)
    return [
        when - clip.words[i + k][1]
        for i, j, n in match.get_matching_blocks()
        for k in range(n)
        if (when := settled[j + k]) is not None
    ]


def score(server: Server, rows: Rows, clip: Clip) -> Score | None:
    """Judge one stream; None if it gave no committed text."""
    norm = clip.normalise
    seen = history(server, rows)
    if not seen or not seen[-1][1].strip():
        return None
    shown = [(at, norm(text).split()) for at, _, text in seen]
    committed = [(at, norm(text).split()) for at, text, _ in seen]
    erased = 0
    last: list[str] = []
    for _, words in shown:
        same = 0
        while same < min(len(words), len(last)) and words[same] == last[same]:
            same += 1
        erased, last = erased + len(last) - same, words
    return Score(
        wer=word_error_rate(clip, seen[-1][1]),
        display=word_delays(shown, shown[-1][1], clip),
        commit=word_delays(committed, committed[-1][1], clip),
        erasure=erased / max(1, len(last)),
        tail=rows[-1][0] - clip.audio_s,
        lost=lost_at_the_end(clip, committed[-1][1]),
    )


def word_error_rate(clip: Clip, text: str) -> float:
    """Return the word error rate of `text`, both sides normalised."""
    return float(jiwer.wer(clip.normalise(clip.text), clip.normalise(text)))


def lost_at_the_end(clip: Clip, committed: list[str]) -> int:
    """How many of the reference's last words have nothing opposite them in `committed`."""
    reference = clip.normalise(clip.text).split()
    match = difflib.SequenceMatcher(a=reference, b=committed, autojunk=False)
    first = len(reference) - TAIL_WORDS
    lost = 0
    for kind, a0, a1, b0, b1 in match.get_opcodes():
        if kind in ("delete", "replace"):
            uncovered = range(a0 + (b1 - b0), a1)  # a word heard wrongly is not a word lost
            lost += sum(at >= first for at in uncovered)
    return lost


def quantile(values: list[float], percent: int) -> float | None:
    """Return a percentile, rounded to hundredths; None for fewer than two values."""
    if len(values) < 2:
        return None
    return round(statistics.quantiles(values, n=100, method="inclusive")[percent - 1], 2)


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


def summary(server: Server, clip: Clip, streams: int, scored: list[Score]) -> Figures:
    """Put streams together; delays are pooled over all their words."""
    display = [delay for one in scored for delay in one.display]
    commit = [delay for one in scored for delay in one.commit]
    return Figures(
        server=server,
        clip=clip.id,
        audio_s=round(clip.audio_s, 1),
        streams=streams,
        answered=len(scored),
        wer_max=round(max(one.wer for one in scored), 4),
        wer_mean=round(statistics.mean(one.wer for one in scored), 4),
        display_p50=quantile(display, 50),
        display_p95=quantile(display, 95),
        display_p99=quantile(display, 99),
        commit_p50=quantile(commit, 50),
        commit_p95=quantile(commit, 95),
        commit_p99=quantile(commit, 99),
        erasure=round(statistics.mean(one.erasure for one in scored), 2),
        tail_max=round(max(one.tail for one in scored), 2),
        lost=sum(one.lost for one in scored),
    )


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
