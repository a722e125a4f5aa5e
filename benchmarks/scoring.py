"""Recordings with references, and how a caption server's messages are judged."""

import difflib
import functools
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jiwer
import soundfile
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

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
    endpoint: list[float] = field(default_factory=list)
    """From the end of the last word before a pause to `speech_final` (deepgram only)."""


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
    endpoint_p50: float | None = None
    endpoint_p95: float | None = None


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


def endpoint_delays(rows: Rows, final: list[str], clip: Clip) -> list[float]:
    """Seconds from the end of the last word before each `speech_final` to that message."""
    place = {
        j + k: i + k
        for i, j, n in difflib.SequenceMatcher(
            a=[w for w, _ in clip.words], b=final, autojunk=False
        ).get_matching_blocks()
        for k in range(n)
    }
    delays: list[float] = []
    said = ""
    for at, message in rows:
        if message.get("type") != "Results" or not message["is_final"]:
            continue
        said = f"{said} {message['channel']['alternatives'][0]['transcript']}".strip()
        last = place.get(len(clip.normalise(said).split()) - 1)
        if message.get("speech_final") and last is not None:
            delays.append(at - clip.words[last][1])
    return delays


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
        endpoint=endpoint_delays(rows, committed[-1][1], clip) if server == "deepgram" else [],
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


def summary(server: Server, clip: Clip, streams: int, scored: list[Score]) -> Figures:
    """Put streams together; delays are pooled over all their words."""
    display = [delay for one in scored for delay in one.display]
    commit = [delay for one in scored for delay in one.commit]
    endpoint = [delay for one in scored for delay in one.endpoint]
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
        endpoint_p50=quantile(endpoint, 50),
        endpoint_p95=quantile(endpoint, 95),
    )
