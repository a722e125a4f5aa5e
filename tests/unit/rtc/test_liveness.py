"""A silent peer is noticed in time, a healthy one never, whatever this process does meanwhile."""

from mediaserver.rtc.liveness import Liveness, RoundTrip


def test_a_peer_that_answers_lives() -> None:
    liveness = Liveness(dead_after_s=4.5, tick_s=0.5, now_s=0.0)
    for tick in range(1, 200):
        if tick % 4 == 0:
            liveness.heard(tick * 0.5)
        assert liveness.tick(tick * 0.5)


def test_a_silent_peer_is_dead_within_five_seconds() -> None:
    liveness = Liveness(dead_after_s=4.5, tick_s=0.5, now_s=0.0)
    ticks = [liveness.tick(i * 0.5) for i in range(1, 12)]
    assert ticks.index(False) * 0.5 + 0.5 <= 5.0


def test_our_own_pause_is_not_the_peers_silence() -> None:
    liveness = Liveness(dead_after_s=4.5, tick_s=0.5, now_s=0.0)
    assert liveness.tick(0.5)
    assert liveness.tick(30.0)  # this process stood still for half a minute
    assert liveness.tick(30.5)
    liveness.heard(30.6)
    assert liveness.tick(31.0)


def test_after_our_pause_silence_counts_again() -> None:
    liveness = Liveness(dead_after_s=4.5, tick_s=0.5, now_s=0.0)
    liveness.tick(30.0)
    ticks = [liveness.tick(30.0 + i * 0.5) for i in range(1, 11)]
    assert not ticks[-1]


def test_the_round_trip_is_a_median_so_one_repetition_does_not_show() -> None:
    round_trip = RoundTrip()
    assert round_trip.seconds is None
    for sample in (0.030, 0.031, 0.532, 0.029, 0.030):
        round_trip.add(sample)
    assert round_trip.seconds == 0.030


def test_the_round_trip_follows_a_change() -> None:
    round_trip = RoundTrip()
    for sample in (0.03,) * 5 + (0.2,) * 5:
        round_trip.add(sample)
    assert round_trip.seconds == 0.2
