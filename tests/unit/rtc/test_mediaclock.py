"""Audio and video of a sender on one clock, whatever its RTP times are."""

from itertools import pairwise

import pytest

from mediaserver.rtc.mediaclock import MAX_DISAGREEMENT_S, MediaClock, SenderTime

AUDIO_HZ, VIDEO_HZ = 48_000, 90_000


class Sender:
    """Sends audio every 20 ms and video every 40 ms, captured at the same times."""

    def __init__(self, audio_delay_s: float = 0.01, video_delay_s: float = 0.01) -> None:
        self.clock = MediaClock()
        self.audio_origin = 2**32 - 100_000
        self.video_origin = 2**32 - 1_000_000
        self.delays_s = {"audio": audio_delay_s, "video": video_delay_s}
        self.captured_s: dict[str, list[tuple[float, float]]] = {"audio": [], "video": []}
        self.timestamps: dict[str, list[int]] = {"audio": [], "video": []}

    def rtp(self, kind: str, at_s: float) -> int:
        origin, hz = (
            (self.audio_origin, AUDIO_HZ) if kind == "audio" else (self.video_origin, VIDEO_HZ)
        )
        return (origin + round(at_s * hz)) % 2**32

    def report(self, at_s: float, *, wrong_by_s: float = 0.0) -> None:
        self.clock.report("audio", SenderTime(1, self.rtp("audio", at_s), 3.9e9 + at_s))
        self.clock.report(
            "video", SenderTime(2, self.rtp("video", at_s), 3.9e9 + at_s + wrong_by_s)
        )

    def send(self, from_s: float, to_s: float) -> None:
        step = round(from_s / 0.02)
        while (at_s := step * 0.02) < to_s - 1e-9:
            self.one("audio", at_s)
            if step % 2 == 0:
                self.one("video", at_s)
            step += 1

    def one(self, kind: str, at_s: float) -> None:
        hz = AUDIO_HZ if kind == "audio" else VIDEO_HZ
        now_s = 1000.0 + at_s + self.delays_s[kind]
        placed = self.clock.place(
            "audio" if kind == "audio" else "video",
            1 if kind == "audio" else 2,
            self.rtp(kind, at_s),
            hz,
            now_s,
        )
        self.captured_s[kind].append((at_s, placed.captured_s))
        self.timestamps[kind].append(placed.timestamp)

    def skew_s(self) -> float:
        """How much later video is placed than audio of the same moment, at the end."""
        audio, video = (self.captured_s[kind][-1] for kind in ("audio", "video"))
        return (video[1] - video[0]) - (audio[1] - audio[0])


def test_timestamps_go_on_over_the_wrap() -> None:
    sender = Sender()
    sender.send(0.0, 20.0)
    steps = [b - a for a, b in pairwise(sender.timestamps["audio"])]
    assert set(steps) == {960}
    steps = [b - a for a, b in pairwise(sender.timestamps["video"])]
    assert set(steps) == {3600}


def test_without_reports_what_arrives_together_belongs_together() -> None:
    sender = Sender(0.01, 0.03)
    sender.send(0.0, 2.0)
    assert sender.skew_s() == pytest.approx(0.02, abs=0.005)
    assert not sender.clock.synchronised


def test_reports_put_both_kinds_on_one_clock() -> None:
    sender = Sender(0.01, 0.15)
    sender.send(0.0, 1.0)
    sender.report(0.9)
    sender.send(1.0, 2.0)
    assert sender.clock.synchronised
    assert sender.skew_s() == pytest.approx(0.0, abs=0.001)
    assert {b - a for a, b in pairwise(sender.timestamps["video"])} == {3600}, (
        "RTP time itself does not jump"
    )


def test_reports_that_came_before_the_media_count() -> None:
    sender = Sender(0.01, 0.15)
    sender.report(0.0)
    sender.send(0.0, 1.0)
    assert sender.skew_s() == pytest.approx(0.0, abs=0.001)


def test_a_report_of_one_kind_alone_changes_nothing() -> None:
    sender = Sender(0.01, 0.03)
    sender.clock.report("audio", SenderTime(1, sender.rtp("audio", 0.0), 3.9e9))
    sender.send(0.0, 1.0)
    assert not sender.clock.synchronised
    assert abs(sender.skew_s()) < 0.03


def test_reports_that_cannot_be_are_not_believed() -> None:
    sender = Sender()
    sender.send(0.0, 1.0)
    sender.report(0.9, wrong_by_s=2 * MAX_DISAGREEMENT_S)
    sender.send(1.0, 2.0)
    assert not sender.clock.synchronised
    assert abs(sender.skew_s()) < 0.01


def test_a_new_source_goes_on_where_the_old_one_would_be() -> None:
    clock = MediaClock()
    first = clock.place("video", 1, 5_000, VIDEO_HZ, 10.0)
    again = clock.place("video", 1, 8_600, VIDEO_HZ, 10.04)
    other = clock.place("video", 2, 4_000_000_000, VIDEO_HZ, 12.04)
    assert again.timestamp - first.timestamp == 3600
    assert other.timestamp - again.timestamp == pytest.approx(2 * VIDEO_HZ, abs=900)
    assert other.captured_s - again.captured_s == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("jump", [-1_000_000_000, -48_000 * 6, 48_000 * 6, 1_000_000_000])
def test_times_that_jump_are_a_new_beginning(jump: int) -> None:
    clock = MediaClock()
    last = clock.place("audio", 1, 2**31, AUDIO_HZ, 0.0)
    for number in range(1, 10):
        last = clock.place("audio", 1, 2**31 + number * 960, AUDIO_HZ, number * 0.02)
    after = clock.place("audio", 1, (2**31 + 9600 + jump) % 2**32, AUDIO_HZ, 0.2)
    assert 0 < after.timestamp - last.timestamp < 2000
    assert after.captured_s - last.captured_s == pytest.approx(0.02, abs=0.01)


def test_a_pause_stays_a_pause() -> None:
    for stands_still in (True, False):
        clock = MediaClock()
        before = clock.place("audio", 1, 1_000, AUDIO_HZ, 0.0)
        rtp_time = 1_960 if stands_still else 1_000 + 10 * AUDIO_HZ
        after = clock.place("audio", 1, rtp_time, AUDIO_HZ, 10.0)
        assert after.timestamp - before.timestamp == pytest.approx(10 * AUDIO_HZ, abs=960)
        assert after.captured_s - before.captured_s == pytest.approx(10.0, abs=0.02)


def test_a_track_that_begins_again_within_a_source_goes_on() -> None:
    """A sender whose track is replaced may count from 0 again, under the same SSRC."""
    clock = MediaClock()
    for number in range(20):
        last = clock.place("video", 1, number * 6000, VIDEO_HZ, number / 15)
    for number in range(20):
        placed = clock.place("video", 1, number * 6000, VIDEO_HZ, (20 + number) / 15)
        assert placed.timestamp - last.timestamp == pytest.approx(6000, abs=600)
        last = placed


def test_parts_of_a_picture_have_one_time_and_pictures_have_their_own() -> None:
    clock = MediaClock()
    times = [
        clock.place("video", 1, rtp_time, VIDEO_HZ, number * 0.04).timestamp
        for number, rtp_time in enumerate([0, 0, 7200, 3600, 10_800, 10_800])
    ]
    assert times[0] == times[1]
    assert times[4] == times[5]
    assert len(set(times)) == 4
    assert times == sorted(times)


def test_time_never_goes_back() -> None:
    clock = MediaClock()
    last = -1
    for number, rtp_time in enumerate([0, 3600, 7200, 3600, 10_800, 0]):
        placed = clock.place("video", 1, rtp_time, VIDEO_HZ, number * 0.04)
        assert placed.timestamp >= last
        last = placed.timestamp


def test_the_clock_follows_a_sender_whose_clock_drifts() -> None:
    clock = MediaClock()
    for number in range(200_000):  # more than an hour, 200 ppm too fast
        at_s = number * 0.02
        placed = clock.place("audio", 1, round(number * 960 * 1.0002) % 2**32, AUDIO_HZ, at_s)
    assert placed.captured_s == pytest.approx(at_s, abs=0.02)
