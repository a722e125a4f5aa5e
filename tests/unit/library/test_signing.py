"""Signed addresses: a known answer, nothing that was changed passes, times are exact."""

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.kernel.errors import BadInput, Forbidden, Gone
from mediaserver.library.signing import (
    DAY_S,
    MAX_SKEW_S,
    Checked,
    canonical_path,
    check_session,
    check_url,
    sign_session,
    sign_url,
)

SECRET = bytes(range(32))
NOW_S = 1_763_700_000.5
PATH = "/media/videos/v_1/video-a.mp4"
PREFIX = "/media/videos/v_1/"

names = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/\\"), min_size=1
).filter(lambda name: name not in (".", ".."))
subjects = st.none() | st.from_regex(r"[A-Za-z0-9._:@-]{1,64}", fullmatch=True).filter(
    lambda subject: subject != "-"
)


def split(url: str) -> tuple[str, dict[str, str]]:
    parts = urlsplit(url)
    return parts.path, dict(parse_qsl(parts.query, strict_parsing=True))


def expect_refused(path: str, query: dict[str, str], now_s: float = NOW_S) -> None:
    with pytest.raises(Forbidden) as caught:
        check_url(canonical_path(path), query, secret=SECRET, now_s=now_s)
    assert caught.value.specific_code == "bad_signature"


def test_the_signature_is_the_documented_one() -> None:
    signed = sign_url(PATH, secret=SECRET, now_s=NOW_S, expires_in=300, subject="ann@x")
    assert signed.kid == "d20413"
    assert signed.exp == 1_763_700_300
    day_key = hmac.new(SECRET, b"mediaserver media 1\nd20413", hashlib.sha256).digest()
    text = b"v1\nmedia\nd20413\n1763700300\nann@x\n/media/videos/v_1/video-a.mp4"
    wanted = urlsafe_b64encode(hmac.new(day_key, text, hashlib.sha256).digest()).rstrip(b"=")
    assert signed.url == (f"{PATH}?exp=1763700300&kid=d20413&sub=ann%40x&sig={wanted.decode()}")


@given(st.lists(names, min_size=1, max_size=5), subjects, st.integers(1, 3600))
def test_what_is_signed_is_right_until_it_expires(
    segments: list[str], subject: str | None, expires_in: int
) -> None:
    path = "/" + "/".join(segments)
    signed = sign_url(path, secret=SECRET, now_s=NOW_S, expires_in=expires_in, subject=subject)
    raw_path, query = split(signed.url)
    assert canonical_path(raw_path) == path
    for now_s in (NOW_S, signed.exp - 0.001):
        assert check_url(path, query, secret=SECRET, now_s=now_s) == Checked(subject)
    with pytest.raises(Gone) as caught:
        check_url(path, query, secret=SECRET, now_s=signed.exp)
    assert caught.value.specific_code == "url_expired"


@pytest.mark.parametrize(
    "change",
    [
        {"exp": "1763709999"},
        {"exp": "01763700300"},
        {"exp": "+1763700300"},
        {"exp": "١٧٦٣٧٠٠٣٠٠"},
        {"exp": ""},
        {"kid": "d20412"},
        {"kid": "d020413"},
        {"kid": "20413"},
        {"kid": "d20413\n"},
        {"sub": "bob"},
        {"sub": "-"},
        {"sub": ""},
        {"sig": "A" * 43},
        {"sig": ""},
        {"sig": "ä" * 43},
        {"sig": "\udc80" * 43},
        {"sig": "A" * 10_000},
    ],
)
@pytest.mark.parametrize("subject", ["ann", None])
def test_no_field_can_be_changed(change: dict[str, str], subject: str | None) -> None:
    signed = sign_url(PATH, secret=SECRET, now_s=NOW_S, expires_in=300, subject=subject)
    path, query = split(signed.url)
    if query | change != query:
        expect_refused(path, query | change)


@pytest.mark.parametrize("field", ["exp", "kid", "sub", "sig"])
def test_no_field_can_be_left_out(field: str) -> None:
    signed = sign_url(PATH, secret=SECRET, now_s=NOW_S, expires_in=300, subject="ann")
    path, query = split(signed.url)
    del query[field]
    expect_refused(path, query)


@given(st.integers(0, 255))
def test_no_bit_of_the_signature_can_be_changed(bit: int) -> None:
    signed = sign_url(PATH, secret=SECRET, now_s=NOW_S, expires_in=300)
    path, query = split(signed.url)
    digest = bytearray(urlsafe_b64decode(query["sig"] + "="))
    digest[bit // 8] ^= 1 << bit % 8
    query["sig"] = urlsafe_b64encode(digest).decode().rstrip("=")
    expect_refused(path, query)


def test_a_signature_is_for_one_path_one_secret_and_one_audience() -> None:
    path, query = split(sign_url(PATH, secret=SECRET, now_s=NOW_S, expires_in=300).url)
    for other in (path + "x", path[:-1], path + "/", "/media/videos/v_2/video-a.mp4", PREFIX):
        expect_refused(other, query)
    with pytest.raises(Forbidden):
        check_url(path, query, secret=bytes(32), now_s=NOW_S)
    session = f"{query['kid']}.{query['exp']}.{query['sig']}."
    with pytest.raises(Forbidden):
        check_session(session, path, PREFIX, secret=SECRET, now_s=NOW_S)


@pytest.mark.parametrize(
    "path",
    [
        "/media/videos/v_1/../v_1/video-a.mp4",
        "/media/videos/v_1/%2e%2e/v_1/video-a.mp4",
        "/media/videos/v_1/./video-a.mp4",
        "/media//videos/v_1/video-a.mp4",
        "//media/videos/v_1/video-a.mp4",
        "/media/videos/v_1%2fvideo-a.mp4",
        "/media/videos/v_1%2Fvideo-a.mp4",
        "/media/videos/v_1%5cvideo-a.mp4",
        "/media/videos/v_1\\video-a.mp4",
        "/media/videos/v_1/video-a.mp4%00",
        "/media/videos/v_1/video-a.mp4\0",
        "/media/videos/v_1/video-a.mp4%0a",
        "/media/videos/v_1/%ff.mp4",
        "media/videos/v_1/video-a.mp4",
        "",
    ],
)
def test_a_path_that_can_be_read_in_two_ways_is_refused(path: str) -> None:
    with pytest.raises(Forbidden) as caught:
        canonical_path(path)
    assert caught.value.specific_code == "bad_signature"


def test_a_path_is_decoded_once() -> None:
    assert canonical_path("/a/%41") == "/a/A"
    assert canonical_path("/a/%2541") == "/a/%41"
    assert canonical_path("/a/%252f") == "/a/%2f"


@pytest.mark.parametrize("path", ["a", "/a/../b", "/a//b", "/a\\b", "/a\n", "/a\0"])
def test_an_unclear_path_is_not_signed(path: str) -> None:
    with pytest.raises(BadInput):
        sign_url(path, secret=SECRET, now_s=NOW_S, expires_in=300)


@pytest.mark.parametrize("subject", ["", "-", "a b", "a\nb", "a" * 65, "ä"])
def test_a_subject_that_cannot_be_signed_is_refused(subject: str) -> None:
    with pytest.raises(BadInput):
        sign_url(PATH, secret=SECRET, now_s=NOW_S, expires_in=300, subject=subject)
    with pytest.raises(BadInput):
        sign_session(PREFIX, secret=SECRET, now_s=NOW_S, expires_in=300, subject=subject)


def test_a_session_is_good_below_its_prefix_and_nowhere_else() -> None:
    value = sign_session("/a/b/", secret=SECRET, now_s=NOW_S, expires_in=60, subject="ann@x")
    for path in ("/a/b/c", "/a/b/c/d.mp4"):
        checked = check_session(value, path, "/a/b/", secret=SECRET, now_s=NOW_S)
        assert checked == Checked("ann@x")
    for path, prefix in (
        ("/a/bc", "/a/b/"),
        ("/a/b", "/a/b/"),
        ("/a/bc/d", "/a/bc/"),
        ("/a/b/c", "/a/"),
        ("/a/b/../c", "/a/b/"),
        ("/a/b//c", "/a/b/"),
    ):
        with pytest.raises(Forbidden):
            check_session(value, path, prefix, secret=SECRET, now_s=NOW_S)
    with pytest.raises(Gone):
        check_session(value, "/a/b/c", "/a/b/", secret=SECRET, now_s=NOW_S + 60)
    for prefix in ("/a/b", "a/", "", "/a//"):
        with pytest.raises(BadInput):
            sign_session(prefix, secret=SECRET, now_s=NOW_S, expires_in=60)


@given(st.integers(0, 200), st.characters(codec="utf-8"))
def test_no_character_of_a_session_can_be_changed(place: int, other: str) -> None:
    value = sign_session(PREFIX, secret=SECRET, now_s=NOW_S, expires_in=60, subject="ann")
    place %= len(value)
    changed = value[:place] + other + value[place + 1 :]
    if changed != value:
        with pytest.raises(Forbidden):
            check_session(changed, PATH, PREFIX, secret=SECRET, now_s=NOW_S)


@given(st.text())
def test_any_text_for_a_cookie_is_refused(value: str) -> None:
    with pytest.raises(Forbidden):
        check_session(value, PATH, PREFIX, secret=SECRET, now_s=NOW_S)


def test_keys_change_daily_and_overlap() -> None:
    midnight_s = 20_413 * DAY_S
    late = sign_url(PATH, secret=SECRET, now_s=midnight_s - 1, expires_in=3 * DAY_S)
    early = sign_url(PATH, secret=SECRET, now_s=midnight_s, expires_in=300)
    assert (late.kid, early.kid) == ("d20412", "d20413")
    path, query = split(late.url)
    for now_s in (midnight_s, midnight_s + DAY_S - 0.001):
        check_url(path, query, secret=SECRET, now_s=now_s)
    expect_refused(path, query, midnight_s + DAY_S)
    path, query = split(early.url)  # by an instance whose clock is ahead
    check_url(path, query, secret=SECRET, now_s=midnight_s - MAX_SKEW_S)
    expect_refused(path, query, midnight_s - MAX_SKEW_S - 1)
