"""The benchmarks count what they say they count."""

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import run, servers, tables
from benchmarks.scoring import (
    Clip,
    Figures,
    Score,
    endpoint_delays,
    history,
    score,
    summary,
    word_error_rate,
)

WORDS = ["so", "we", "beat", "on", "boats", "against", "the", "current"]
CLIP = Clip(
    id="gatsby",
    language="en",
    text="So we beat on, boats against the current.",
    words=tuple((word, 0.5 * (n + 1)) for n, word in enumerate(WORDS)),
    pcm=bytes(32000 * 5),
)
USAGE = servers.Usage(1.0, 2.0, 100.0, 600.0)


def results(at: float, text: str, *, final: bool) -> tuple[float, dict[str, Any]]:
    alternatives = [{"transcript": text}]
    return at, {"type": "Results", "is_final": final, "channel": {"alternatives": alternatives}}


def test_delays_count_from_the_end_of_a_word_to_when_it_stands_for_good() -> None:
    rows = [
        results(1.5, "so he", final=False),
        results(2.0, "so we beat", final=False),
        results(3.0, "so we beat on", final=True),
        results(5.0, "boats against the current", final=True),
    ]
    scored = score("deepgram", rows, CLIP)
    assert scored is not None
    assert scored.wer == 0.0
    assert scored.display[:4] == pytest.approx([1.0, 1.0, 0.5, 1.0])  # so: 1.5; we: 2.0 - 1.0; …
    assert scored.commit[:4] == pytest.approx([2.5, 2.0, 1.5, 1.0])
    assert scored.erasure == pytest.approx(1 / 8)  # "he"
    assert scored.tail == pytest.approx(0.0)
    assert scored.lost == 0


def test_words_missing_at_the_end_are_lost_and_misheard_ones_are_not() -> None:
    cut = score("deepgram", [results(5.0, "so we beat on boats against", final=True)], CLIP)
    wrong = score(
        "deepgram", [results(5.0, "so we beat on boats against a curtain", final=True)], CLIP
    )
    assert cut is not None
    assert wrong is not None
    assert (cut.lost, wrong.lost) == (2, 0)


def test_whisperlive_segments_are_put_in_order() -> None:
    rows = [
        (1.0, {"segments": [{"start": "0", "text": "so we", "completed": False}]}),
        (2.0, {"segments": [
            {"start": "0", "text": "so we beat", "completed": True},
            {"start": "2.1", "text": "on", "completed": False},
        ]}),
    ]  # fmt: skip
    assert history("whisperlive", rows) == [
        (1.0, "", " so we"),
        (2.0, "so we beat", "so we beat on"),
    ]


def test_a_stream_without_final_text_has_no_score() -> None:
    assert score("deepgram", [results(1.0, "so", final=False)], CLIP) is None


def test_word_error_rate_ignores_case_and_punctuation() -> None:
    assert word_error_rate(CLIP, "SO WE BEAT ON BOATS AGAINST THE CURRENT") == 0.0
    assert word_error_rate(CLIP, "so we beat on boats against the") == pytest.approx(1 / 8)


# ---- the search for capacity ---------------------------------------------------------------


def figures(streams: int, commit_p95: float, answered: int | None = None) -> Figures:
    one = Score(0.0, [0.5] * 10, [commit_p95] * 10, 0.1, 0.5, 0)
    return summary("deepgram", CLIP, streams, [one] * (streams if answered is None else answered))


class ServerThatHolds(run.Bench):
    """Keeps up with so many streams, and no more."""

    def __init__(self, holds: int) -> None:
        super().__init__(tables.Results("test"), None, "deepgram", "")
        self.holds = holds
        self.tried: list[int] = []

    async def run(self, clip: Clip, streams: int, *, keep: bool = True) -> tables.Measured:
        self.tried.append(streams)
        measured = tables.Measured(figures(streams, 3.0 if streams <= self.holds else 9.0), USAGE)
        self.results.runs.append(measured)
        return measured


@pytest.mark.parametrize("holds", [0, 1, 3, 7, 8, 10, 13, 21, 40])
def test_the_search_finds_the_most_streams_in_a_few_runs(holds: int) -> None:
    bench = ServerThatHolds(holds)
    asyncio.run(bench.find_capacity(CLIP))
    assert bench.results.capacity is not None
    assert holds - max(1, holds // 8) <= bench.results.capacity <= holds
    assert len(bench.tried) <= run.MOST_CAPACITY_RUNS
    assert len(set(bench.tried)) == len(bench.tried)


def test_the_search_uses_what_was_measured_and_ends_at_its_bound() -> None:
    bench = ServerThatHolds(10_000)
    for streams in (1, 2, 4, 8):
        asyncio.run(bench.run(CLIP, streams))
    bench.tried.clear()
    asyncio.run(bench.find_capacity(CLIP))
    assert bench.tried == [10, 20, 40, 64]
    assert (bench.results.capacity, bench.results.capacity_more) == (64, True)


def test_streams_that_got_no_answer_do_not_count_as_kept_up_with() -> None:
    assert run._keeps_up(tables.Measured(figures(4, 1.0), USAGE))
    assert not run._keeps_up(tables.Measured(figures(4, 1.0, answered=3), USAGE))


# ---- tables and processes ------------------------------------------------------------------


def test_the_targets_table_says_what_is_met() -> None:
    ours = tables.Results("mediaserver", start_s=6.0, stop_s=7.0)
    ours.runs = [tables.Measured(figures(n, p95), USAGE) for n, p95 in ((1, 1.2), (8, 5.0))]
    ours.capacity = 12
    text = tables.targets(ours, None, {"gatsby": 0.0}, "gatsby")
    rows = {line.split("|")[1].strip(): line.split("|")[4].strip() for line in text.splitlines()}
    assert rows["streams with commit p95 under 4 s"] == "yes"
    assert rows["8 streams: commit p50 / p95, s"] == "no"
    assert rows["WER above offline, 1 / 8 streams"] == "yes"
    assert rows["start to /readyz, s"] == "yes"
    assert rows["Ctrl-C to the end, s"] == "no"
    assert "| gatsby | 8 |" in tables.latency(ours, {})


def test_cpu_time_and_memory_of_a_process_and_its_children_are_seen() -> None:
    burn = (
        "import time\nbegan = time.process_time()\n"
        "while time.process_time() - began < 0.3: pass\ntime.sleep(20)"
    )
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    process = servers._spawn([sys.executable, "-c", child], dict(os.environ), Path(os.devnull))
    running = servers.Running(process, "", Path(os.devnull), 0.0)
    try:
        deadline = time.monotonic() + 15
        while running.usage().worker_cpu_s < 0.3 and time.monotonic() < deadline:
            time.sleep(0.05)
        usage = running.usage()
        assert usage.worker_cpu_s >= 0.3
        assert usage.worker_mib > 3
        assert usage.app_mib > 3
    finally:
        running.stop()
    assert process.poll() is not None


def test_a_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIASERVER_NONSENSE", "1")
    with pytest.raises(servers.NotStarted, match="unknown setting"), servers.our_server():
        pass


def test_sections_are_those_of_the_help() -> None:
    assert run.__doc__
    for name in run.SECTIONS:
        assert f"\n  {name} " in run.__doc__


def test_an_endpoint_is_timed_from_the_end_of_the_last_word() -> None:
    rows = [
        results(2.3, "So we beat on,", final=True),
        results(2.6, "", final=True),
        results(4.5, "boats against the current.", final=True),
    ]
    for at, row in rows:
        row["speech_final"] = at != 2.3
    assert endpoint_delays(rows, WORDS, CLIP) == pytest.approx([0.6, 0.5])
