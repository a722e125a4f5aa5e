"""Candidates are read in every form that clients send them, and only useful ones kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.kernel.errors import BadInput
from mediaserver.rtc.candidates import parse_candidate

HOST = "candidate:1 1 udp 2130706431 192.0.2.1 50000 typ host"


@pytest.mark.parametrize("line", [HOST, f"a={HOST}", HOST.removeprefix("candidate:")])
def test_a_candidate_is_read_with_and_without_its_prefix(line: str) -> None:
    candidate = parse_candidate(line, "0", None)
    assert candidate is not None
    assert (candidate.ip, candidate.port, candidate.sdpMid) == ("192.0.2.1", 50000, "0")


def test_a_browsers_candidate_with_all_its_extensions_is_read() -> None:
    line = (
        "candidate:842163049 1 udp 1677729535 203.0.113.5 46154 typ srflx raddr 10.0.0.17 "
        "rport 46154 generation 0 ufrag EEtu network-id 3 network-cost 10"
    )
    candidate = parse_candidate(line, None, 0)
    assert candidate is not None
    assert (candidate.type, candidate.relatedAddress) == ("srflx", "10.0.0.17")


def test_without_a_section_it_belongs_to_the_first() -> None:
    candidate = parse_candidate(HOST, None, None)
    assert candidate is not None
    assert candidate.sdpMLineIndex == 0


@pytest.mark.parametrize("line", [None, "", "  ", "candidate:"])
def test_end_of_candidates_is_none(line: str | None) -> None:
    assert parse_candidate(line, "0", None) is None


@pytest.mark.parametrize(
    "line",
    [
        HOST.replace("udp", "tcp"),
        HOST.replace("192.0.2.1", "4f1c6a3e.local"),
        HOST.replace("192.0.2.1", "0.0.0.0"),
        HOST.replace("192.0.2.1", "239.1.2.3"),
        HOST.replace("192.0.2.1", "255.255.255.255"),
        HOST.replace("192.0.2.1", "::"),
        HOST.replace("50000", "0"),
        HOST.replace("50000", "65536"),
        HOST.replace("1 1 udp", "1 2 udp"),
        HOST.replace("typ host", "typ prflx"),
    ],
)
def test_what_leads_nowhere_is_left_out(line: str) -> None:
    assert parse_candidate(line, "0", None) is None


@pytest.mark.parametrize("line", ["nonsense", "candidate:1 1 udp", HOST.replace("50000", "many")])
def test_what_is_no_candidate_is_bad_input(line: str) -> None:
    with pytest.raises(BadInput, match="candidate:1 1 udp"):
        parse_candidate(line, "0", None)


@given(st.text(max_size=300))
def test_no_text_breaks_the_parser(line: str) -> None:
    for text in (line, f"candidate:{line}", f"{HOST} {line}"):
        try:
            parse_candidate(text, line, None)
        except BadInput:
            continue
