from hypothesis import given
from hypothesis import strategies as st

from mediaserver.identity.gcra import Quota, decide

QUOTA = Quota("default", 100, 60)
SECOND = 1_000_000

quotas = st.builds(
    Quota, st.just("q"), st.integers(min_value=1, max_value=200), st.sampled_from([1, 10, 60])
)
gaps = st.lists(st.integers(min_value=0, max_value=3 * SECOND), max_size=300)


def run(quota: Quota, times: list[int]) -> list[int]:
    """Times (microseconds) of the requests that were allowed."""
    arrival, allowed = None, []
    for now in times:
        decided = decide(quota, arrival, now)
        arrival = decided.arrival_us
        if decided.allowed:
            allowed.append(now)
    return allowed


def times_of(gaps: list[int]) -> list[int]:
    now, times = 1_700_000_000 * SECOND, []
    for gap in gaps:
        now += gap
        times.append(now)
    return times


def test_a_whole_quota_is_allowed_at_once_and_not_one_more() -> None:
    now = 1_700_000_000 * SECOND
    assert len(run(QUOTA, [now] * 150)) == 100


def test_headers_say_what_is_left_and_when_it_is_whole_again() -> None:
    """The example of the reference: 50 of 100 in a minute are used at once."""
    arrival = None
    now = 1_700_000_000 * SECOND
    for _ in range(50):
        decided = decide(QUOTA, arrival, now)
        arrival = decided.arrival_us
    assert QUOTA.policy == '"default";q=100;w=60'
    assert decided.state == '"default";r=50;t=30'


def test_after_the_time_told_the_quota_is_whole() -> None:
    now = 1_700_000_000 * SECOND
    arrival = None
    for _ in range(100):
        arrival = decide(QUOTA, arrival, now).arrival_us
    refused = decide(QUOTA, arrival, now)
    assert (refused.allowed, refused.remaining, refused.reset_s) == (False, 0, 60)
    later = now + refused.reset_s * SECOND
    assert len(run(QUOTA, [later] * 150)) == 100


@given(quotas, gaps)
def test_no_window_ever_lets_through_more_than_a_burst_and_the_rate(
    quota: Quota, gaps: list[int]
) -> None:
    allowed = run(quota, times_of(gaps))
    for i, start in enumerate(allowed):
        for j in range(i, len(allowed)):
            span_us = allowed[j] - start
            assert j - i + 1 <= quota.requests + span_us // quota.interval_us + 1


@given(quotas, gaps)
def test_whoever_keeps_to_the_rate_is_never_refused(quota: Quota, gaps: list[int]) -> None:
    patient = [max(gap, quota.interval_us) for gap in gaps]
    assert len(run(quota, times_of(patient))) == len(gaps)


@given(quotas, gaps)
def test_a_refused_request_costs_nothing(quota: Quota, gaps: list[int]) -> None:
    arrival = None
    for now in times_of(gaps):
        decided = decide(quota, arrival, now)
        if not decided.allowed:
            assert decided.arrival_us == arrival
            assert decided.remaining == 0
        assert 0 <= decided.remaining < quota.requests
        assert 0 <= decided.reset_s <= quota.window_s + 1
        arrival = decided.arrival_us
