"""What goes over a link: encoded frames as binary messages, what they are as JSON text. Pure.

From the instance that has the publisher: first, and whenever it changes, a `Sending` as text; each
frame as one binary message. To it: `KEYFRAME` as text. It closes with `CLOSE_OVER` and an end's
reason when the broadcast is over; every other end is a loss, after which the link is made anew.
"""

import struct
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from mediaserver.kernel.errors import BadInput
from mediaserver.protocol.watching import EndReason
from mediaserver.rtc.encoded import EncodedFrame
from mediaserver.rtc.stats import MediaKind

VERSION = 1
MAX_FRAME_BYTES = 4 * 1024 * 1024
"""Of an encoded picture; a 4K keyframe has a quarter of it."""
KEYFRAME = "keyframe"
CLOSE_OVER = 4410
_HEADER = struct.Struct("!BBBxIqd")
"""Version, index of the codec, whether it is a keyframe, clock_hz, timestamp, captured_s."""
_CODECS: tuple[tuple[MediaKind, str], ...] = (
    ("audio", "opus"),
    ("video", "VP8"),
    ("video", "H264"),
    ("audio", "G722"),
    ("audio", "PCMU"),
    ("audio", "PCMA"),
)
_INDEX = {codec: index for index, codec in enumerate(_CODECS)}
MAX_MESSAGE_BYTES = _HEADER.size + MAX_FRAME_BYTES


class Sending(BaseModel):
    """What a broadcast sends, and which one it is."""

    model_config = ConfigDict(frozen=True)

    broadcast_id: str
    """Another one after a reconnect: the frames' times do not go on where the others ended."""
    codecs: dict[Literal["audio", "video"], str]


def pack(frame: EncodedFrame) -> bytes | None:
    """Return a frame as a message; None for one that cannot be sent (codec, size)."""
    index = _INDEX.get((frame.kind, frame.codec))
    if index is None or len(frame.data) > MAX_FRAME_BYTES:
        return None
    head = _HEADER.pack(
        VERSION, index, frame.keyframe, frame.clock_hz, frame.timestamp, frame.captured_s
    )
    return head + frame.data


def unpack(message: bytes) -> EncodedFrame:
    """Read a message. Raises BadInput."""
    try:
        version, index, keyframe, clock_hz, timestamp, captured_s = _HEADER.unpack_from(message)
        if version != VERSION:
            raise BadInput(f"frames of version {version} are not known here", code="bad_frame")
        kind, codec = _CODECS[index]
    except (struct.error, IndexError):
        raise BadInput("this is no frame", code="bad_frame") from None
    return EncodedFrame(
        kind=kind,
        codec=codec,
        timestamp=timestamp,
        clock_hz=clock_hz,
        keyframe=bool(keyframe),
        data=message[_HEADER.size :],
        captured_s=captured_s,
    )


def read_sending(text: str) -> Sending:
    """Read what is sent. Raises BadInput."""
    try:
        return Sending.model_validate_json(text)
    except ValidationError:
        raise BadInput("this does not say what is sent", code="bad_frame") from None


def read_reason(text: str) -> EndReason:
    """Read why a broadcast ended; `ended` where a newer server says something else."""
    return next((reason for reason in get_args(EndReason) if reason == text), "ended")
