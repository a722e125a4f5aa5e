"""Backoff, flow control, feeds, the caption log, the timeline."""

import dataclasses
import random

import pytest
from mediaserver_client.backoff import Backoff
from mediaserver_client.errors import ReaderTooSlow
from mediaserver_client.feed import Feed
from mediaserver_client.flow import Flow
from mediaserver_client.log import CaptionLog, Cursor
from mediaserver_client.messages import Caption, Word
from mediaserver_client.timeline import Timeline


def caption(
    caption_id: str, text: str, *, final: bool, start_s: float = 0.0, track_id: str = "t"
) -> Caption:
    words = tuple(
        Word(text=w, start_s=start_s + n, end_s=start_s + n + 0.9, probability=1.0, final=final)
        for n, w in enumerate(text.split())
    )
    return Caption(
        seq=0, track_id=track_id, caption_id=caption_id, speaker="Ada", member_id="m",
        start_s=start_s, end_s=words[-1].end_s if words else start_s, language="en",
        task="transcribe", text=text, words=words, final=final,
    )  # fmt: skip


def read(log: CaptionLog, cursor: Cursor, *, finals_only: bool = False) -> list[str]:
    out = []
    while (found := log.next(cursor, finals_only=finals_only)) is not None:
        out.append(found.text)
    return out


def test_waits_double_up_to_a_bound_and_are_spread() -> None:
    backoff = Backoff(rng=random.Random(1))
    waits = [backoff.next_s() for _ in range(12)]
    for tries, wait in enumerate(waits):
        full = min(8.0, 0.25 * 2**tries)
        assert full / 2 <= wait <= full
    assert len(set(waits)) == len(waits)


def test_the_server_may_ask_for_a_longer_wait() -> None:
    assert Backoff().next_s(retry_after_s=30.0) == 30.0


def test_audio_flows_until_enough_waits_on_the_server() -> None:
    flow = Flow(now_s=0.0, most_waiting_s=20.0)
    flow.spend(20.0)
    assert flow.wait_s(0.5) > 0
    flow.heard(queue_depth_s=15.0, now_s=1.0)
    assert flow.wait_s(1.0) == 0.0
    flow.spend(5.0)
    assert flow.wait_s(1.5) > 0


def test_a_server_that_is_stuck_gets_no_more_audio() -> None:
    flow = Flow(now_s=0.0, most_waiting_s=20.0)
    for second in range(1, 100):
        flow.heard(queue_depth_s=25.0, now_s=float(second))
        assert flow.wait_s(second + 0.9) > 0


def test_without_metrics_audio_flows_at_the_speed_of_speech() -> None:
    flow = Flow(now_s=0.0, most_waiting_s=20.0)
    sent = 0.0
    for tenth in range(1000):
        if flow.wait_s(tenth / 10) == 0.0:
            flow.spend(0.5)
            sent += 0.5
    assert 95.0 < sent < 120.0


def test_a_feed_keeps_the_newest() -> None:
    feed: Feed[int] = Feed(3)
    for n in range(5):
        feed.put(n)
    assert feed.after(0) == (3, 2)
    assert feed.after(4) == (5, 4)
    assert feed.after(5) is None


def test_a_newer_partial_replaces_an_older_and_finals_come_once() -> None:
    log, cursor = CaptionLog(), Cursor()
    log.apply(caption("a", "so", final=False))
    log.apply(caption("a", "so we", final=False))
    assert read(log, cursor) == ["so we"]
    log.apply(caption("a", "so we beat", final=False))
    log.apply(caption("a", "so we beat on", final=True))
    log.apply(caption("b", "boats", final=False))
    assert read(log, cursor) == ["so we beat on", "boats"]
    assert read(log, cursor) == []


def test_a_caption_that_is_complete_changes_no_more() -> None:
    log, cursor = CaptionLog(), Cursor()
    assert log.apply(caption("a", "so we", final=True))
    assert not log.apply(caption("a", "so he", final=False))
    assert not log.apply(caption("a", "so he", final=True))
    assert read(log, cursor) == ["so we"]


def test_every_reader_gets_all_finals_and_a_very_late_one_is_told() -> None:
    log = CaptionLog(history=3)
    early = Cursor()
    for n in range(3):
        log.apply(caption(f"c{n}", f"text{n}", final=True))
    assert read(log, early, finals_only=True) == ["text0", "text1", "text2"]
    late = Cursor()
    log.apply(caption("c3", "text3", final=True))
    assert read(log, early) == ["text3"]
    with pytest.raises(ReaderTooSlow, match="1 captions"):
        log.next(late)
    assert read(log, late) == ["text1", "text2", "text3"]


def test_partials_of_a_track_that_is_gone_are_forgotten() -> None:
    log, cursor = CaptionLog(), Cursor()
    log.apply(caption("a", "so", final=False, track_id="gone"))
    log.drop_open("gone")
    assert read(log, cursor) == []
    assert log.open == ()


def test_tracks_are_placed_on_the_servers_clock() -> None:
    timeline = Timeline()
    mine = caption("a", "first", final=True, start_s=1.0, track_id="mine")
    theirs = caption("b", "second", final=True, start_s=0.5, track_id="theirs")
    timeline.heard(dataclasses.replace(mine, started_at=101.0), now_s=0.0)
    timeline.heard(theirs, now_s=105.0)  # an older server does not say: its end was said now
    last = caption("c", "third", final=True, start_s=9.0, track_id="mine")
    timeline.heard(dataclasses.replace(last, started_at=500.0), now_s=0.0)
    placed = timeline.arrange([theirs, last, mine])
    assert [c.text for c in placed] == ["first", "second", "third"]
    assert placed[0].start_s == 1.0
    assert placed[1].start_s == pytest.approx(4.1)
    assert placed[1].words[0].start_s == pytest.approx(4.1)
