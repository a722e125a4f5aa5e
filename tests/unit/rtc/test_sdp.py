"""Offers are taken as a whole or refused with an error that says what to change."""

import random

import pytest
from aiortc.sdp import SessionDescription
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mediaserver.kernel.errors import BadInput, MediaServerError, TooLarge, Unprocessable
from mediaserver.rtc.sdp import (
    MAX_SDP_BYTES,
    SESSION_RULES,
    VIEWER_RULES,
    WHIP_RULES,
    Offer,
    check_offer,
    finish_answer,
)
from tests.unit.rtc.offers import CHROMIUM, CHROMIUM_VIEWER, FFMPEG_WHIP, FINGERPRINT


def refused(text: str, **options: object) -> MediaServerError:
    with pytest.raises(MediaServerError) as caught:
        check_offer(text, **options)  # type: ignore[arg-type]
    assert caught.value.detail
    return caught.value


def without(text: str, *starts: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(starts))


def test_a_browsers_offer_is_taken() -> None:
    offer = check_offer(CHROMIUM)
    assert [(s.mid, s.kind, s.sends) for s in offer.sections] == [
        ("0", "audio", True),
        ("1", "video", True),
        ("2", "application", False),
    ]
    assert offer.has_data
    assert (offer.ufrag, offer.pwd) == ("EsAw", "bP+XJMM09aR8AiX1jdukzR6Y")


def test_ffmpegs_whip_offer_is_taken() -> None:
    offer = check_offer(FFMPEG_WHIP, WHIP_RULES)
    assert [s.sends for s in offer.sections] == [True, True]
    assert not offer.has_data


def test_only_candidates_that_can_lead_anywhere_are_kept_and_none_stays_in_the_sdp() -> None:
    offer = check_offer(CHROMIUM)
    assert [(c.ip, c.port) for c in offer.candidates] == [("192.0.2.7", 46243)]
    assert "a=candidate" not in offer.sdp


def test_what_comes_out_reads_as_what_went_in() -> None:
    before = SessionDescription.parse(CHROMIUM)
    after = SessionDescription.parse(check_offer(CHROMIUM).sdp)
    for one, two in zip(before.media, after.media, strict=True):
        assert two.rtp.codecs == one.rtp.codecs
        assert two.rtp.headerExtensions == one.rtp.headerExtensions
        assert [s.ssrc for s in two.ssrc] == [s.ssrc for s in one.ssrc]
        assert (two.ice, two.dtls) == (one.ice, one.dtls)
        assert two.direction == (one.direction or "sendrecv")
        assert (two.rtcp_mux, two.sctp_port) == (one.rtcp_mux, one.sctp_port)


@pytest.mark.parametrize(
    "text", ["", "hello", "{}", '{"type":"offer"}', "v=0\r\n", "v=0\x00", "v=1\r\n", "\ud800"]
)
def test_what_is_no_sdp_is_bad_input(text: str) -> None:
    assert refused(text).status == 400


def test_a_huge_offer_is_too_large() -> None:
    assert isinstance(refused(CHROMIUM + "a=x\r\n" * MAX_SDP_BYTES), TooLarge)


def test_too_many_sections_are_refused() -> None:
    section = CHROMIUM[CHROMIUM.index("m=video") : CHROMIUM.index("m=application")]
    assert refused(CHROMIUM + section * 20).status == 422


def test_an_offer_without_audio_and_data_has_nothing_to_do_here() -> None:
    video_only = (
        CHROMIUM[: CHROMIUM.index("m=audio")].replace("0 1 2", "1")
        + (CHROMIUM[CHROMIUM.index("m=video") : CHROMIUM.index("m=application")])
    )
    assert refused(video_only).specific_code == "no_audio"


def test_a_listener_with_only_a_data_channel_is_taken_in_a_session_but_not_by_whip() -> None:
    data_only = (
        CHROMIUM[: CHROMIUM.index("m=audio")].replace("0 1 2", "2")
        + (CHROMIUM[CHROMIUM.index("m=application") :])
    )
    assert check_offer(data_only, SESSION_RULES).has_data
    assert refused(data_only, rules=WHIP_RULES).specific_code == "no_audio"


def test_whip_sections_must_send() -> None:
    error = refused(FFMPEG_WHIP.replace("a=sendonly", "a=recvonly"), rules=WHIP_RULES)
    assert (error.status, error.specific_code) == (422, "not_sending")


def test_whip_takes_one_track_a_kind() -> None:
    audio = FFMPEG_WHIP[FFMPEG_WHIP.index("m=audio") : FFMPEG_WHIP.index("m=video")]
    second = audio.replace("a=mid:0", "a=mid:2").replace("1459265483", "77")
    offer = FFMPEG_WHIP.replace("BUNDLE 0 1", "BUNDLE 0 1 2") + second
    assert refused(offer, rules=WHIP_RULES).specific_code == "too_many_tracks"
    assert len(check_offer(offer, SESSION_RULES).sections) == 3


def test_a_viewers_offer_is_taken_with_the_codecs_it_can_decode() -> None:
    offer = check_offer(CHROMIUM_VIEWER, VIEWER_RULES)
    assert [(s.kind, s.sends, s.codecs) for s in offer.sections] == [
        ("audio", False, ("opus", "G722", "PCMU", "PCMA")),
        ("video", False, ("VP8", "H264")),
    ]
    video = CHROMIUM_VIEWER.index("m=video")
    one = CHROMIUM_VIEWER[:video].replace("BUNDLE 0 1", "BUNDLE 0")
    assert [s.kind for s in check_offer(one, VIEWER_RULES).sections] == ["audio"]


def test_a_viewer_receives_one_track_a_kind_and_has_no_channel() -> None:
    for direction in ("sendonly", "inactive"):
        offer = CHROMIUM_VIEWER.replace("a=recvonly", f"a={direction}", 1)
        assert refused(offer, rules=VIEWER_RULES).specific_code == "not_receiving"
    assert refused(CHROMIUM, rules=VIEWER_RULES).specific_code == "unusable"
    video = CHROMIUM_VIEWER[CHROMIUM_VIEWER.index("m=video") :].replace("a=mid:1", "a=mid:2")
    two = CHROMIUM_VIEWER.replace("BUNDLE 0 1", "BUNDLE 0 1 2") + video
    assert refused(two, rules=VIEWER_RULES).specific_code == "too_many_tracks"


def test_two_tracks_of_a_kind_need_ssrcs_to_be_told_apart() -> None:
    audio = FFMPEG_WHIP[FFMPEG_WHIP.index("m=audio") : FFMPEG_WHIP.index("m=video")]
    second = without(audio.replace("a=mid:0", "a=mid:2"), "a=ssrc")
    offer = FFMPEG_WHIP.replace("BUNDLE 0 1", "BUNDLE 0 1 2") + second
    assert refused(offer).specific_code == "no_ssrc"


def test_unknown_codecs_are_named_with_those_that_are_spoken() -> None:
    error = refused(FFMPEG_WHIP.replace("opus/48000/2", "AAC/48000/2"))
    assert error.status == 422
    assert "AAC" in error.detail
    assert "Opus" in error.detail
    video = refused(FFMPEG_WHIP.replace("profile-level-id=42000d", "profile-level-id=640c1f"))
    assert "H264" in video.detail
    assert "42e01f" in video.detail


@pytest.mark.parametrize(
    ("start", "status"),
    [
        ("a=group:BUNDLE", 422),
        ("a=rtcp-mux", 422),
        ("a=mid", 400),
        ("a=ice-ufrag", 400),
        ("a=ice-pwd", 400),
        ("a=fingerprint", 400),
        ("a=setup", 400),
        ("a=rtpmap", 422),
        ("a=sctp-port", 400),
        ("m=", 400),
    ],
)
def test_each_line_that_is_needed_is_asked_for(start: str, status: int) -> None:
    text = without(CHROMIUM, start)
    if start == "a=rtpmap":
        text = without(text, "a=fmtp", "a=rtcp-fb")
    assert refused(text).status == status


def test_sections_that_are_not_bundled_are_named() -> None:
    error = refused(CHROMIUM.replace("BUNDLE 0 1 2", "BUNDLE 0 2"))
    assert error.specific_code == "no_bundle"
    assert error.detail.endswith(": 1")


def test_bundled_sections_with_transports_of_their_own_are_refused() -> None:
    second = CHROMIUM.rindex("a=ice-ufrag:EsAw")
    error = refused(CHROMIUM[:second] + CHROMIUM[second:].replace("EsAw", "Other", 1))
    assert error.specific_code == "no_bundle"


def test_an_old_digest_is_refused() -> None:
    line = CHROMIUM[CHROMIUM.index("a=fingerprint") :].split("\r\n")[0]
    old = "a=fingerprint:sha-1 " + ":".join(["AB"] * 20)
    assert refused(CHROMIUM.replace(line, old)).specific_code == "bad_fingerprint"


def test_the_order_of_the_bundle_is_that_of_the_sections() -> None:
    offer = check_offer(CHROMIUM.replace("BUNDLE 0 1 2", "BUNDLE 2 1 0"))
    assert "a=group:BUNDLE 0 1 2" in offer.sdp


def test_a_direction_that_is_left_out_is_that_of_the_session_or_sendrecv() -> None:
    silent = without(FFMPEG_WHIP, "a=sendonly")
    assert check_offer(silent).sections[0].sends
    inactive = silent.replace("t=0 0", "t=0 0\r\na=inactive")
    assert refused(inactive).specific_code == "no_audio"


def test_bundle_only_sections_may_leave_out_the_transport() -> None:
    start = CHROMIUM.index("m=video")
    video = without(CHROMIUM[start:], "a=ice-", "a=fingerprint", "a=setup")
    video = video.replace("m=video 9", "m=video 0").replace("a=mid:1", "a=mid:1\r\na=bundle-only")
    offer = check_offer(CHROMIUM[:start] + video)
    assert not any(section.stopped for section in offer.sections)


def test_a_stopped_section_is_refused_in_the_answer_and_harms_no_other() -> None:
    start, end = CHROMIUM.index("m=video"), CHROMIUM.index("m=application")
    stopped = "m=video 0 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\na=mid:1\r\n"
    text = CHROMIUM[:start].replace("BUNDLE 0 1 2", "BUNDLE 0 2") + stopped + CHROMIUM[end:]
    offer = check_offer(text)
    assert [section.stopped for section in offer.sections] == [False, True, False]
    answer = finish_answer(offer.sdp, offer)
    assert "m=video 0 " in answer
    assert "m=audio 9 " in answer
    assert "a=group:BUNDLE 0 2\r\n" in answer


def test_the_answer_says_once_that_candidates_may_be_trickled() -> None:
    offer = check_offer(CHROMIUM)
    answer = finish_answer(offer.sdp, offer)
    session = answer[: answer.index("m=")]
    assert session.count("a=ice-options:trickle\r\n") == 1
    SessionDescription.parse(answer)


DATA = """m=application 9 UDP/DTLS/SCTP webrtc-datachannel
a=ice-ufrag:a4d7a7e3
a=ice-pwd:9e7f0c14d2e9e06c9d5f1c4a1f2b3c4d
a=fingerprint:sha-256 @
a=setup:passive
a=mid:9
a=sctp-port:5000
""".replace("@", FINGERPRINT).replace("\n", "\r\n")


def test_a_renegotiation_may_add_and_silence_tracks() -> None:
    first = check_offer(FFMPEG_WHIP)
    later = FFMPEG_WHIP.replace("a=sendonly", "a=inactive", 1).replace("E 0 1", "E 0 1 9") + DATA
    sections = check_offer(later, previous=first).sections
    assert [(section.mid, section.sends) for section in sections] == [
        ("0", False),
        ("1", True),
        ("9", False),
    ]


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("a=ice-ufrag:EsAw", "a=ice-ufrag:New1", "ice_restart"),
        ("DA:7B:57", "00:11:22", "dtls_restart"),
        ("a=mid:1\r\n", "a=mid:7\r\n", "sections_changed"),
    ],
)
def test_a_renegotiation_that_starts_anew_is_refused(old: str, new: str, code: str) -> None:
    first = check_offer(CHROMIUM)
    text = CHROMIUM.replace(old, new).replace("BUNDLE 0 1 2", "BUNDLE 0 1 2 7")
    error = refused(text, previous=first)
    assert isinstance(error, Unprocessable)
    assert error.specific_code == code


def outcome(text: str, previous: Offer | None = None) -> None:
    """An offer is taken or refused; nothing else may happen."""
    for rules in (SESSION_RULES, WHIP_RULES):
        try:
            offer = check_offer(text, rules, previous)
        except BadInput:
            continue
        SessionDescription.parse(offer.sdp)
        finish_answer(offer.sdp, offer)


@given(st.text(max_size=2000))
def test_no_text_breaks_the_check(text: str) -> None:
    outcome(text)
    outcome("v=0\r\n" + text)


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6))
@example(0, 1)
def test_no_damage_to_a_real_offer_breaks_the_check(seed: int, times: int) -> None:
    dice = random.Random(seed)
    lines = dice.choice([CHROMIUM, FFMPEG_WHIP]).split("\r\n")
    for _ in range(times):
        at = dice.randrange(len(lines))
        match dice.randrange(6):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, dice.choice(lines))
            case 2:
                line = lines[at]
                cut = dice.randrange(len(line) + 1)
                lines[at] = line[:cut]
            case 3:
                other = dice.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            case 4:
                words = lines[at].split(" ")
                words[dice.randrange(len(words))] = dice.choice(
                    ["", "0", "-1", "99999999999999999999", "é", "a:b:c", "/", "x=y", "*"]
                )
                lines[at] = " ".join(words)
            case _:
                line = lines[at]
                place = dice.randrange(len(line) + 1)
                lines[at] = line[:place] + chr(dice.randrange(32, 127)) + line[place + 1 :]
        if not lines:
            break
    outcome("\r\n".join(lines), check_offer(CHROMIUM) if dice.random() < 0.3 else None)
