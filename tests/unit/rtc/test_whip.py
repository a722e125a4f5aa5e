"""WHIP's pure part: fragments, preconditions, links."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.kernel.errors import (
    BadInput,
    PreconditionFailed,
    PreconditionRequired,
    TooLarge,
    Unprocessable,
)
from mediaserver.protocol.messages import IceServer
from mediaserver.rtc.whip import (
    MAX_FRAGMENT_BYTES,
    check_if_match,
    ice_links,
    new_etag,
    new_resource_id,
    parse_fragment,
    transcript_link,
)

RFC_EXAMPLE = """a=ice-ufrag:EsAw
a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1
m=audio 9 RTP/AVP 0
a=mid:0
a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw
a=candidate:473322822 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active generation 0
a=end-of-candidates
""".replace("\n", "\r\n")


def test_the_rfcs_example_is_read() -> None:
    fragment = parse_fragment(RFC_EXAMPLE)
    assert (fragment.ufrag, fragment.pwd) == ("EsAw", "P2uYro0UCOQ4zxjKXaWCBui1")
    assert fragment.ended
    assert [(c.mid, c.mline_index) for c in fragment.candidates] == [("0", 0), ("0", 0)]
    assert fragment.candidates[0].line.startswith("candidate:1387637174 1 udp")


def test_candidates_belong_to_the_section_above_them() -> None:
    text = "m=audio 9 RTP/AVP 0\r\na=mid:a\r\na=candidate:1\r\nm=video 9 RTP/AVP 0\r\na=candidate:2"
    candidates = parse_fragment(text).candidates
    assert [(c.mid, c.mline_index) for c in candidates] == [("a", 0), (None, 1)]


def test_credentials_at_the_media_level_count_too() -> None:
    text = "m=audio 9 RTP/AVP 0\r\na=mid:0\r\na=ice-ufrag:abcd\r\na=candidate:1"
    assert parse_fragment(text).ufrag == "abcd"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\r\n\r\n",
        "hello",
        "v=0\r\na=candidate:1",
        "a=mid:0",
        "a=ice-ufrag:",
        "a=ice-ufrag:one1\r\na=ice-ufrag:two2",
        '{"candidate": ""}',
    ],
)
def test_what_is_no_fragment_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput):
        parse_fragment(text)


def test_a_huge_fragment_is_too_large() -> None:
    with pytest.raises(TooLarge):
        parse_fragment("a=candidate:1\r\n" * MAX_FRAGMENT_BYTES)


def test_other_credentials_are_a_restart_which_is_refused() -> None:
    fragment = parse_fragment(RFC_EXAMPLE)
    fragment.must_not_restart("EsAw", "P2uYro0UCOQ4zxjKXaWCBui1")
    with pytest.raises(Unprocessable, match="restart"):
        fragment.must_not_restart("Other", "P2uYro0UCOQ4zxjKXaWCBui1")
    parse_fragment("a=candidate:1").must_not_restart("any", "thing")


def test_a_patch_must_say_which_ice_session_it_is_for() -> None:
    etag = new_etag()
    with pytest.raises(PreconditionRequired):
        check_if_match(None, etag)
    for wrong in ('"other"', f"W/{etag}", etag.strip('"'), "", "*, x"):
        with pytest.raises(PreconditionFailed):
            check_if_match(wrong, etag)
    for right in (etag, f'"old", {etag}', "*", '"*"'):
        check_if_match(right, etag)


def test_names_cannot_be_guessed() -> None:
    assert len({new_resource_id() for _ in range(100)}) == 100
    assert len(new_resource_id()) > 30


def test_servers_become_links() -> None:
    links = ice_links(
        [
            IceServer(urls=("stun:stun.example.net",)),
            IceServer(
                urls=("turn:turn.example.net?transport=udp", "turns:turn.example.net"),
                username="user",
                credential='my"Pass\\word',
            ),
        ]
    )
    assert links == [
        '<stun:stun.example.net>; rel="ice-server"',
        '<turn:turn.example.net?transport=udp>; rel="ice-server"; username="user"; '
        'credential="my\\"Pass\\\\word"; credential-type="password"',
        '<turns:turn.example.net>; rel="ice-server"; username="user"; '
        'credential="my\\"Pass\\\\word"; credential-type="password"',
    ]


def test_a_header_cannot_be_broken_out_of() -> None:
    links = ice_links([IceServer(urls=("turn:x>\r\nEvil: 1",), username="a\r\nb", credential="\n")])
    assert "\r" not in links[0]
    assert "\n" not in links[0]
    assert links[0].count(">") == 1


def test_the_publisher_is_led_to_its_transcript() -> None:
    assert transcript_link("s_1").startswith("</api/v1/sessions/s_1/transcript.vtt>; rel=")


@given(st.text(max_size=500))
def test_no_text_breaks_the_parser(text: str) -> None:
    for candidate in (text, f"a={text}", f"{RFC_EXAMPLE}{text}"):
        try:
            parse_fragment(candidate)
        except BadInput:
            continue
