"""Native FLAC (RFC 9639) from a byte stream, decoded frame by frame.

FFmpeg's parser waits for ten more frames before it gives one out, which is 2.5 s at 16 kHz. Here a
frame is over where the next one's header stands: right sync code, right CRC-8, right number.
"""

from collections.abc import Iterator

import av

from mediaserver.kernel.errors import BadInput, UnsupportedMedia
from mediaserver.rtc.pcm import Pcm, planar

_MAGIC = b"fLaC"
_STREAMINFO_BYTES = 34
_MAX_METADATA_BYTES = 16 * 1024 * 1024
"""Of one block (a cover picture, say)."""
_MAX_FRAME_BYTES = 2 * 1024 * 1024
_LOST_BYTES = 256 * 1024
"""Without the expected next frame after this much, any sound header is taken."""
_TOLERATED_IN_A_ROW = 8
_MAX_HEADER_BYTES = 16


class FlacSource:
    """Decodes FLAC as it comes, with its metadata or without (bare frames)."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._decoder = av.AudioCodecContext.create("flac", "r")
        self._in_metadata = True
        self._skip = 0
        self._scanned = 1
        self._next_number: int | None = None
        self._decoded = 0
        self._bad_in_a_row = 0

    def push(self, data: bytes) -> Iterator[Pcm]:
        """Yield the whole frames so far. Raises UnsupportedMedia if this is not FLAC."""
        self._buffer += data
        while self._in_metadata:
            if not self._metadata():
                return
        while (end := self._frame_end()) is not None:
            frame = bytes(self._buffer[:end])
            del self._buffer[:end]
            self._scanned = 1
            yield from self._decode(frame)

    def finish(self) -> Iterator[Pcm]:
        """Yield the last frame. Raises BadInput if there never was one."""
        if not self._in_metadata and self._buffer:
            yield from self._decode(bytes(self._buffer))
            self._buffer.clear()
        if not self._decoded:
            raise BadInput("the FLAC stream ended before any audio")

    def _metadata(self) -> bool:
        """Take one step through the metadata; False if more bytes are needed."""
        if self._skip:
            skipped = min(self._skip, len(self._buffer))
            del self._buffer[:skipped]
            self._skip -= skipped
            return not self._skip
        if len(self._buffer) < 4:
            return False
        if self._buffer[:4] == _MAGIC:
            del self._buffer[:4]
            return True
        if self._buffer[0] == 0xFF:  # bare frames, or the first one after the metadata
            self._in_metadata = False
            return True
        kind, size = self._buffer[0], int.from_bytes(self._buffer[1:4], "big")
        if kind & 0x7F > 6 or size > _MAX_METADATA_BYTES:
            raise UnsupportedMedia("not FLAC: its metadata makes no sense")
        if kind & 0x7F == 0:
            if len(self._buffer) < 4 + _STREAMINFO_BYTES:
                return False
            self._decoder.extradata = bytes(self._buffer[4 : 4 + _STREAMINFO_BYTES])
        self._skip = 4 + size
        return True

    def _frame_end(self) -> int | None:
        """Return where the frame at the front ends; None if that is not known yet."""
        if self._next_number is None:
            if len(self._buffer) < _MAX_HEADER_BYTES:
                return None
            first = _header(self._buffer, 0)
            if first is None:
                raise UnsupportedMedia("not FLAC: no frame where one begins")
            self._next_number = first[1]
        while True:
            at = self._buffer.find(0xFF, self._scanned)
            if at < 0 or at + _MAX_HEADER_BYTES > len(self._buffer):
                self._scanned = max(self._scanned, len(self._buffer) if at < 0 else at)
                break
            self._scanned = at + 1
            header = _header(self._buffer, at)
            if header is not None and (header[0] == self._next_number or at > _LOST_BYTES):
                self._next_number = header[1]
                return at
        if len(self._buffer) > _MAX_FRAME_BYTES:
            raise BadInput("a FLAC frame without an end")
        return None

    def _decode(self, frame: bytes) -> Iterator[Pcm]:
        try:
            frames = self._decoder.decode(av.Packet(frame))
        except av.FFmpegError:
            self._bad_in_a_row += 1
            if not self._decoded or self._bad_in_a_row > _TOLERATED_IN_A_ROW:
                raise BadInput("the FLAC frames cannot be decoded") from None
            return
        self._bad_in_a_row = 0
        self._decoded += 1
        for decoded in frames:
            yield Pcm(planar(decoded), decoded.sample_rate)


def _header(data: bytearray, at: int) -> tuple[int, int] | None:
    """Return a frame's number and the one its successor has; None if no header stands there.

    RFC 9639, section 9.1. With a fixed block size frames are numbered, else their first samples.
    """
    if data[at] != 0xFF or data[at + 1] & 0xFE != 0xF8:
        return None
    block_code, rate_code = data[at + 2] >> 4, data[at + 2] & 0x0F
    channel_code, reserved = data[at + 3] >> 4, data[at + 3] & 1
    if not block_code or rate_code == 0x0F or channel_code > 10 or reserved:
        return None
    number, end = _coded_number(data, at + 4)
    if number is None:
        return None
    samples = _block_samples(block_code, data, end)
    end += {6: 1, 7: 2}.get(block_code, 0) + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if _crc8(data[at:end]) != data[end]:
        return None
    variable = bool(data[at + 1] & 1)
    return number, number + (samples if variable else 1)


def _coded_number(data: bytearray, at: int) -> tuple[int | None, int]:
    """Return a number coded like UTF-8 (up to seven bytes), and where it ends."""
    first = data[at]
    if first < 0x80:
        return first, at + 1
    length = 8 - (first ^ 0xFF).bit_length()
    if length < 2 or length > 7:
        return None, at
    number = first & (0x7F >> length)
    for byte in data[at + 1 : at + length]:
        if byte & 0xC0 != 0x80:
            return None, at
        number = number << 6 | byte & 0x3F
    return number, at + length


def _block_samples(code: int, data: bytearray, at: int) -> int:
    match code:
        case 1:
            return 192
        case 2 | 3 | 4 | 5:
            return 144 << code
        case 6:
            return data[at] + 1
        case 7:
            return int.from_bytes(data[at : at + 2], "big") + 1
        case _:
            return 1 << code


def _crc8(data: bytearray) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1) ^ 0x07 if crc & 0x80 else crc << 1
        crc &= 0xFF
    return crc
