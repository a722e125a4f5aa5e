"""Frames over a link come out as they went in; what is no frame is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.kernel.errors import BadInput
from mediaserver.relay.wire import (
    MAX_FRAME_BYTES,
    Sending,
    pack,
    read_reason,
    read_sending,
    unpack,
)
from mediaserver.rtc.encoded import EncodedFrame
from tests.unit.relay.sources import picture

CODECS = [
    ("audio", "opus"),
    ("audio", "G722"),
    ("audio", "PCMU"),
    ("audio", "PCMA"),
    ("video", "VP8"),
    ("video", "H264"),
]
frames = st.builds(
    lambda codec, **more: EncodedFrame(kind=codec[0], codec=codec[1], **more),
    st.sampled_from(CODECS),
    timestamp=st.integers(-(2**63), 2**63 - 1),
    clock_hz=st.integers(1, 2**32 - 1),
    keyframe=st.booleans(),
    data=st.binary(max_size=2000),
    captured_s=st.floats(allow_nan=False),
)


@given(frames)
def test_a_frame_comes_out_as_it_went_in(frame: EncodedFrame) -> None:
    message = pack(frame)
    assert message is not None
    assert unpack(message) == frame


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_are_refused(data: bytes) -> None:
    try:
        frame = unpack(data)
    except BadInput:
        return
    packed = pack(frame)
    assert packed is not None
    assert unpack(packed) == frame or math.isnan(frame.captured_s)


def test_what_cannot_be_sent_is_left_out() -> None:
    assert pack(picture(0, size=MAX_FRAME_BYTES)) is not None
    assert pack(picture(0, size=MAX_FRAME_BYTES + 1)) is None
    odd = EncodedFrame("video", "AV1", 0, 90_000, True, b"x", 0.0)
    assert pack(odd) is None


def test_what_is_sent_is_told() -> None:
    sending = Sending(broadcast_id="b_1", codecs={"audio": "opus"})
    assert read_sending(sending.model_dump_json()) == sending
    for wrong in ("", "{}", '{"broadcast_id":1}', '{"broadcast_id":"b","codecs":{"text":"x"}}'):
        with pytest.raises(BadInput):
            read_sending(wrong)


def test_a_reason_of_a_newer_server_is_an_end() -> None:
    assert read_reason("left") == "left"
    assert read_reason("evaporated") == "ended"
