"""WAV from a byte stream: a header, then samples, as far as they came.

FFmpeg's demuxer first reads 64 KiB (2 s of 16 kHz speech) in search of S/PDIF, and takes the
lengths in the header at their word. A live stream's header says 0, or the largest number.
Sources: RIFF/WAVE (Microsoft/IBM 1991), WAVEFORMATEXTENSIBLE, EBU Tech 3306 (RF64).
"""

import struct
from collections.abc import Iterator

from mediaserver.kernel.errors import BadInput, UnsupportedMedia
from mediaserver.rtc.pcm import Pcm, RawSource, SampleFormat

_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_FORMATS: dict[tuple[int, int], SampleFormat] = {
    (_PCM, 8): "u8",
    (_PCM, 16): "s16",
    (_PCM, 24): "s24",
    (_PCM, 32): "s32",
    (_FLOAT, 32): "f32",
    (_FLOAT, 64): "f64",
    (_ALAW, 8): "alaw",
    (_MULAW, 8): "mulaw",
}
_ENDLESS_BYTES = 0x7FFF_0000
"""A length from here on (or 0) means that the writer did not know it."""
_MAX_FORMAT_BYTES = 4096


class WavSource:
    """Decodes WAV as it comes; a second file that follows the first is decoded as well."""

    def __init__(self) -> None:
        self._buffer = b""
        self._samples: RawSource | None = None
        self._in_data = False
        self._left: int | None = 0
        """Bytes of the present chunk that are still to come; None without an end."""

    def push(self, data: bytes) -> Iterator[Pcm]:
        """Yield the samples so far. Raises BadInput, or UnsupportedMedia for another codec."""
        self._buffer += data
        while self._buffer:
            if self._left is None or self._left > 0:
                size = len(self._buffer) if self._left is None else self._left
                body, self._buffer = self._buffer[:size], self._buffer[size:]
                if self._left is not None:
                    self._left -= len(body)
                if self._in_data and self._samples is not None:
                    yield from self._samples.push(body)
            elif not self._next_chunk():
                return

    def finish(self) -> Iterator[Pcm]:
        """Yield nothing more. Raises BadInput if no sample was ever reached."""
        if self._samples is None:
            raise BadInput("the WAV ended before its samples began")
        return iter(())

    def _next_chunk(self) -> bool:
        """Read a chunk's head (and all of `fmt `); False if more bytes are needed."""
        head = self._buffer[:12]
        if head[:4] in (b"RIFF", b"RF64"):
            if len(head) < 12:
                return False
            if head[8:] != b"WAVE":
                raise UnsupportedMedia("a RIFF file that is not WAV")
            self._buffer, self._in_data = self._buffer[12:], False
            return True
        if len(head) < 8:
            return False
        name, size = struct.unpack_from("<4sI", head)
        if not all(0x20 <= byte < 0x7F for byte in name):
            return self._beyond_the_end()
        if name == b"fmt ":
            return self._format(size)
        self._in_data = name == b"data"
        if self._in_data and self._samples is None:
            raise BadInput("a WAV without a format chunk before its samples")
        endless = self._in_data and (size == 0 or size >= _ENDLESS_BYTES)
        self._left = None if endless else size + size % 2
        self._buffer = self._buffer[8:]
        return True

    def _beyond_the_end(self) -> bool:
        """Take what follows a too small length for more samples; the header was written early."""
        if self._samples is None:
            raise BadInput("a damaged WAV: what follows its head is no chunk")
        self._in_data, self._left = True, None
        return True

    def _format(self, size: int) -> bool:
        if not 16 <= size <= _MAX_FORMAT_BYTES:
            raise BadInput(f"a WAV format chunk of {size} bytes")
        end = 8 + size + size % 2
        if len(self._buffer) < end:
            return False
        chunk, self._buffer = self._buffer[8 : 8 + size], self._buffer[end:]
        tag, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
        if tag == _EXTENSIBLE and size >= 26:
            (tag,) = struct.unpack_from("<H", chunk, 24)  # the GUID begins with the plain tag
        sample_format = _FORMATS.get((tag, bits))
        if sample_format is None:
            raise UnsupportedMedia(
                f"WAV with codec {tag:#06x} at {bits} bits; PCM, float, A-law and mu-law work"
            )
        if not channels:
            raise BadInput("a WAV with no channels")
        self._samples = RawSource(sample_format, rate_hz, channels)
        return True
