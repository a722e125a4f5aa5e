"""Raw Opus: one packet (RFC 6716) a message, without any container."""

from collections.abc import Iterator

import av

from mediaserver.kernel.errors import UnsupportedMedia
from mediaserver.rtc.pcm import Pcm, planar

_SAMPLE_RATE_HZ = 48_000
"""Opus decodes to 48 kHz, whatever it was made from."""
_TOLERATED_IN_A_ROW = 25
"""Undecodable packets before the stream is taken for something else (0.5 s at 20 ms)."""


class OpusSource:
    """Decodes Opus packets. A bad packet is skipped; a stream of bad packets is an error.

    libopus is asked for, not FFmpeg's own decoder: only it keeps a packet's exact duration.
    """

    def __init__(self, channels: int) -> None:
        if channels not in (1, 2):
            raise UnsupportedMedia(
                f"raw Opus packets have one or two channels, not {channels}; "
                "use Ogg or WebM for more"
            )
        self._decoder = av.AudioCodecContext.create("libopus", "r")
        self._decoder.sample_rate = _SAMPLE_RATE_HZ
        self._decoder.layout = "mono" if channels == 1 else "stereo"
        self._decoded = 0
        self._bad_in_a_row = 0

    def push(self, data: bytes) -> Iterator[Pcm]:
        """Yield the audio of one packet. Raises UnsupportedMedia if this cannot be Opus."""
        if not data:
            return
        try:
            frames = self._decoder.decode(av.Packet(data))
        except av.FFmpegError:
            self._bad_in_a_row += 1
            if not self._decoded or self._bad_in_a_row > _TOLERATED_IN_A_ROW:
                raise UnsupportedMedia(
                    "not an Opus packet; with encoding=opus each message is exactly one packet, "
                    "and Ogg or WebM files are sent without `encoding`"
                ) from None
            return
        self._bad_in_a_row = 0
        self._decoded += 1
        for frame in frames:
            yield Pcm(planar(frame), _SAMPLE_RATE_HZ)

    def finish(self) -> Iterator[Pcm]:
        """Yield nothing: every packet was decoded as it came."""
        return iter(())
