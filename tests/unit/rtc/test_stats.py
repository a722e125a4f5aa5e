"""Rates come from counters that only rise."""

from mediaserver.rtc.stats import PeerStats, StatsMeter, StreamCounters


def audio(**values: float) -> StreamCounters:
    defaults = {"packets_expected": 0, "packets_lost": 0, "payload_bytes": 0, "jitter_s": 0.0}
    return StreamCounters(kind="audio", **(defaults | values))  # type: ignore[arg-type]


def video(**values: float) -> StreamCounters:
    defaults = {"packets_expected": 0, "packets_lost": 0, "payload_bytes": 0, "jitter_s": 0.0}
    return StreamCounters(kind="video", **(defaults | values))  # type: ignore[arg-type]


def test_bitrates_are_those_since_the_last_measurement() -> None:
    meter = StatsMeter(now_s=0.0)
    meter.measure([audio(payload_bytes=4000), video(payload_bytes=50_000)], None, 1.0)
    stats = meter.measure([audio(payload_bytes=8000), video(payload_bytes=150_000)], 0.042, 2.0)
    assert stats.audio_kbps == 32.0
    assert stats.video_kbps == 800.0
    assert stats.round_trip_ms == 42.0


def test_loss_is_total_and_of_the_last_second() -> None:
    meter = StatsMeter(now_s=0.0)
    first = meter.measure([audio(packets_expected=50, packets_lost=10)], None, 1.0)
    second = meter.measure([audio(packets_expected=100, packets_lost=10)], None, 2.0)
    assert (first.packets_lost, first.loss_ratio) == (10, 0.2)
    assert (second.packets_lost, second.loss_ratio) == (10, 0.0)


def test_late_packets_make_no_negative_loss() -> None:
    meter = StatsMeter(now_s=0.0)
    meter.measure([audio(packets_expected=50, packets_lost=10)], None, 1.0)
    stats = meter.measure([audio(packets_expected=60, packets_lost=5)], None, 2.0)
    assert (stats.packets_lost, stats.loss_ratio) == (5, 0.0)


def test_the_jitter_is_the_audios_where_there_is_audio() -> None:
    meter = StatsMeter(now_s=0.0)
    both = [video(jitter_s=0.05), audio(jitter_s=0.003)]
    assert meter.measure(both, None, 1.0).jitter_ms == 3.0
    assert meter.measure([video(jitter_s=0.05)], None, 2.0).jitter_ms == 50.0


def test_nothing_received_is_all_zeros() -> None:
    assert StatsMeter(now_s=5.0).measure([], None, 6.0) == PeerStats()
