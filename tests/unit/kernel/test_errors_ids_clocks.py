import re
import time

from hypothesis import given
from hypothesis import strategies as st

from mediaserver.kernel import errors
from mediaserver.kernel.clocks import SystemClock
from mediaserver.kernel.errors import MediaServerError
from mediaserver.kernel.ids import new_id
from mediaserver.protocol.problems import problem_of


def tree(kind: type[MediaServerError] = MediaServerError) -> list[type[MediaServerError]]:
    return [kind, *(c for sub in kind.__subclasses__() for c in tree(sub))]


def test_every_error_of_the_kernel_is_in_the_drawn_tree_with_its_status() -> None:
    drawn = errors.__doc__ or ""
    own = [kind for kind in tree() if kind.__module__ == errors.__name__]
    for kind in own[1:]:
        assert kind.__name__ in drawn
        if kind not in (errors.SlowConsumer, errors.ConfigurationError):
            assert re.search(rf"{kind.__name__}\s+{kind.status}\b", drawn), kind


def test_codes_are_stable_words_and_only_temporary_errors_are_retryable() -> None:
    own = [kind for kind in tree() if kind.__module__ == errors.__name__]
    assert len({kind.code for kind in own}) == len(own)
    for kind in own:
        assert re.fullmatch(r"[a-z_]+", kind.code)
        assert 400 <= kind.status <= 599
        assert (
            kind.ws_close_code == 1003
            or 1007 <= kind.ws_close_code <= 1015
            or kind.ws_close_code > 4000
        )
        assert kind.retryable == (kind.status in (408, 423, 429, 503))


def test_an_error_becomes_a_problem_with_all_it_knows() -> None:
    error = errors.Overloaded("all slots are taken", code="full", retry_after_s=3.0)
    problem = problem_of(error, "req_1")
    assert problem.model_dump() == {
        "type": "urn:mediaserver:problem:full",
        "title": "Overloaded",
        "status": 503,
        "detail": "all slots are taken",
        "code": "full",
        "retryable": True,
        "retry_after_s": 3.0,
        "instance": "req_1",
    }


@given(st.integers(1, 64))
def test_ids_are_url_safe_and_differ(length: int) -> None:
    one, two = new_id("s", length), new_id("s", length)
    assert re.fullmatch(rf"s_[a-z0-9]{{{length}}}", one)
    assert one != two or length < 8


def test_the_system_clock_has_two_times() -> None:
    clock = SystemClock()
    before = clock.monotonic_s()
    assert abs(clock.wall_s() - time.time()) < 1
    assert clock.monotonic_s() >= before
