import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from mediaserver.kernel.logging import bind, configure, get_logger


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_has_event_time_level_logger_and_bound_ids(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("info", "json")
    log = get_logger("test.logging")
    with bind(session_id="s_1"):
        log.info("track.opened", track_id="t_1")
    log.debug("not.shown")
    log.info("outside")
    first, second = lines(capsys)
    assert first["event"] == "track.opened"
    assert (first["session_id"], first["track_id"]) == ("s_1", "t_1")
    assert (first["level"], first["logger"]) == ("info", "test.logging")
    assert "timestamp" in first
    assert "session_id" not in second


def test_what_looks_like_a_secret_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    get_logger("test").info("x", api_key="k1", Authorization="k2", sdp="v=0", ticket="k3", room="r")
    text = json.dumps(lines(capsys))
    assert "k1" not in text
    assert "k2" not in text
    assert "v=0" not in text
    assert '"room": "r"' in text


def test_other_libraries_lines_have_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    with bind(request_id="req_1"):
        logging.getLogger("somebody.else").warning("hello %s", "world")
    logging.getLogger("aioice").info("chatter")
    (line,) = lines(capsys)
    assert (line["event"], line["request_id"]) == ("hello world", "req_1")


def test_an_exception_is_logged_with_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    try:
        raise ValueError("inside")
    except ValueError as error:
        get_logger("test").error("task.failed", exc_info=error)
    (line,) = lines(capsys)
    assert "ValueError: inside" in str(line["exception"])


def test_the_console_form_is_readable(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "console")
    get_logger("test").info("server.started", port=8080)
    text = capsys.readouterr().err
    assert "server.started" in text
    assert "port=8080" in text
