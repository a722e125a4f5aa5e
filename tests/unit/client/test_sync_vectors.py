"""The recorded calls that the JavaScript client is held against are what this client answers."""

import json

from benchmarks import sync_vectors


def test_the_vectors_are_up_to_date() -> None:
    """If not: `python -m benchmarks.sync_vectors`, and look at what changed."""
    assert json.loads(sync_vectors.text()) == json.loads(sync_vectors.PATH.read_text("utf-8"))


def test_the_vectors_are_small_and_touch_everything() -> None:
    assert sync_vectors.PATH.stat().st_size < 200_000
    calls = [
        call for session in json.loads(sync_vectors.PATH.read_text()).values() for call in session
    ]
    assert {call[0] for call in calls} == {"ping", "pong", "restart", "update", "resync", "step"}
    steps = [call[3] for call in calls if call[0] == "step"]
    for field in range(1, 8):
        assert any(step[field] not in (None, False) for step in steps)
    assert any(call[0] == "step" and call[5] for call in calls)  # blocked
    assert {call[5] for call in calls if call[0] == "pong"} == {True, False}
