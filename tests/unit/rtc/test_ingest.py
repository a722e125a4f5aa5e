"""Real Opus packets become chunks at their media time, whatever happens to them on the way."""

import asyncio
import itertools
import random

import av
import numpy as np
import pytest
from aiortc.codecs.g711 import PcmuEncoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mediaserver.captions.audio import SAMPLE_RATE_HZ, AudioChunk
from mediaserver.kernel.clocks import SystemClock
from mediaserver.kernel.tasks import TaskScope
from mediaserver.rtc.ingest import (
    IDLE_AFTER_S,
    IDLE_SILENCE_S,
    INBOX_PACKETS,
    AudioIngest,
    AudioPacket,
    AudioTrack,
)

FRAME = 960
FRAME_S = 0.02


def melody(seconds: float) -> np.ndarray:
    """A tone that rises from 300 to 1500 Hz, so that every moment sounds different."""
    t = np.arange(int(48_000 * seconds)) / 48_000
    return (0.4 * np.sin(2 * np.pi * (300 * t + 600 * t * t / seconds))).astype(np.float32)


def opus_packets(samples: np.ndarray, ssrc: int = 7, first: int = 65_500) -> list[AudioPacket]:
    """Encode 48 kHz samples; sequence numbers and timestamps begin just before they wrap."""
    encoder = av.CodecContext.create("libopus", "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "mono", "s16"
    encoder.bit_rate = 64_000
    payloads = []
    for i in range(0, len(samples) - FRAME + 1, FRAME):
        pcm = (samples[i : i + FRAME] * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm[None, :], format="s16", layout="mono")
        frame.sample_rate = 48_000
        payloads += [bytes(packet) for packet in encoder.encode(frame)]
    return [
        AudioPacket(
            ssrc=ssrc,
            sequence_number=(first + i) % 65_536,
            timestamp=(2**32 - 4000 + i * FRAME) % 2**32,
            payload=payload,
            codec="opus",
            clock_hz=48_000,
        )
        for i, payload in enumerate(payloads)
    ]


PACKETS = opus_packets(melody(2.0))


def whole(chunks: list[AudioChunk]) -> np.ndarray:
    out = np.zeros(round(chunks[-1].end_s * SAMPLE_RATE_HZ) + 1, np.float32)
    for chunk in chunks:
        at = round(chunk.start_s * SAMPLE_RATE_HZ)
        out[at : at + len(chunk.samples)] = chunk.samples
    return out


def ingest(packets: list[AudioPacket], at_s: list[float] | None = None) -> list[AudioChunk]:
    chunks: list[AudioChunk] = []
    subject = AudioIngest(chunks.append)
    for i, packet in enumerate(packets):
        subject.receive(packet, at_s[i] if at_s else i * FRAME_S)
    subject.end()
    return chunks


REFERENCE = whole(ingest(PACKETS))


def test_speech_comes_out_whole_in_chunks_of_60_ms() -> None:
    chunks = ingest(PACKETS)
    assert sum(chunk.duration_s for chunk in chunks) == pytest.approx(2.0, abs=0.03)
    assert chunks[3].duration_s == pytest.approx(0.06, abs=0.002)
    for earlier, later in itertools.pairwise(chunks):
        assert later.start_s == pytest.approx(earlier.end_s, abs=1e-6)
    sent = melody(2.0)[::3]
    delay = 104  # Opus' lookahead: 6.5 ms
    size = len(REFERENCE) - delay - 1600
    assert np.corrcoef(REFERENCE[delay : delay + size], sent[:size])[0, 1] > 0.98


def test_a_lost_packet_is_silence_at_its_place_and_shifts_nothing() -> None:
    lost = {30, 31, 60}
    packets = [p for i, p in enumerate(PACKETS) if i not in lost]
    at_s = [i * FRAME_S for i in range(len(PACKETS)) if i not in lost]
    heard = whole(ingest(packets, at_s))
    assert len(heard) == pytest.approx(len(REFERENCE), abs=32)
    hole = slice(int(0.605 * SAMPLE_RATE_HZ), int(0.635 * SAMPLE_RATE_HZ))
    assert np.abs(heard[hole]).max() == 0.0
    later = slice(int(1.4 * SAMPLE_RATE_HZ), int(1.9 * SAMPLE_RATE_HZ))
    assert np.corrcoef(heard[later], REFERENCE[later])[0, 1] > 0.99


def test_a_loss_delays_what_follows_by_no_more_than_100_ms_and_only_once() -> None:
    arrivals: list[tuple[float, float]] = []
    now_s = 0.0
    subject = AudioIngest(lambda chunk: arrivals.append((now_s, chunk.end_s)))
    for i, packet in enumerate(PACKETS):
        now_s = i * FRAME_S
        if i != 30:
            subject.receive(packet, now_s)
    delays = [at_s + FRAME_S - end_s for at_s, end_s in arrivals]
    assert max(delays) < 0.1 + 0.06
    assert all(
        delay < 0.07 for (at_s, _), delay in zip(arrivals, delays, strict=True) if at_s > 0.9
    )


def test_packets_out_of_order_come_out_as_if_in_order() -> None:
    packets = list(PACKETS)
    for i in range(5, len(packets) - 1, 7):
        packets[i], packets[i + 1] = packets[i + 1], packets[i]
    assert np.array_equal(whole(ingest(packets)), REFERENCE)


def test_doubled_packets_are_heard_once() -> None:
    packets = [p for packet in PACKETS for p in (packet, packet)]
    at_s = [i * FRAME_S / 2 for i in range(len(packets))]
    assert np.array_equal(whole(ingest(packets, at_s)), REFERENCE)


def test_a_pause_in_the_timestamps_is_a_pause_in_media_time() -> None:
    shifted = [
        p
        if i < 50
        else AudioPacket(
            p.ssrc, p.sequence_number, (p.timestamp + 2 * 48_000) % 2**32, p.payload, "opus", 48_000
        )
        for i, p in enumerate(PACKETS)
    ]
    at_s = [i * FRAME_S + (2.0 if i >= 50 else 0.0) for i in range(len(PACKETS))]
    chunks = ingest(shifted, at_s)
    starts = [later.start_s - earlier.end_s for earlier, later in itertools.pairwise(chunks)]
    assert max(starts) == pytest.approx(2.0, abs=0.03)
    assert chunks[-1].end_s == pytest.approx(4.0, abs=0.05)


def test_while_nothing_comes_silence_does_so_that_finals_are_not_held_up() -> None:
    chunks: list[AudioChunk] = []
    subject = AudioIngest(chunks.append)
    for i, packet in enumerate(PACKETS[:50]):
        subject.receive(packet, i * FRAME_S)
    now_s = 50 * FRAME_S
    while now_s < 30:
        now_s += 0.1
        subject.tick(now_s)
    assert subject.idle
    silent = [chunk for chunk in chunks if chunk.start_s > 1.1]
    assert all(not chunk.samples.any() for chunk in silent)
    assert chunks[-1].end_s == pytest.approx(1.0 + IDLE_SILENCE_S, abs=0.2)
    for i, packet in enumerate(PACKETS[50:]):
        subject.receive(packet, 30.0 + i * FRAME_S)
    subject.end()
    assert chunks[-1].end_s == pytest.approx(31.0, abs=0.1)
    assert all(b.start_s >= a.end_s - 1e-6 for a, b in itertools.pairwise(chunks))


def test_a_short_pause_of_the_network_makes_no_silence() -> None:
    chunks: list[AudioChunk] = []
    subject = AudioIngest(chunks.append)
    for i, packet in enumerate(PACKETS[:50]):
        subject.receive(packet, i * FRAME_S)
    for tick in range(1, int(IDLE_AFTER_S * 10) - 1):
        subject.tick(1.0 + tick * 0.1)
    for packet in PACKETS[50:]:
        subject.receive(packet, 1.0 + IDLE_AFTER_S - 0.15)
    subject.end()
    assert np.corrcoef(whole(chunks)[: len(REFERENCE)], REFERENCE)[0, 1] > 0.99


def test_what_is_not_opus_is_skipped_and_counted() -> None:
    chunks: list[AudioChunk] = []
    subject = AudioIngest(chunks.append)
    for i, packet in enumerate(PACKETS):
        bad = AudioPacket(
            packet.ssrc, packet.sequence_number, packet.timestamp, b"\xff" * 3, "opus", 48_000
        )
        subject.receive(bad if i == 20 else packet, i * FRAME_S)
    subject.end()
    assert subject.undecodable == 1
    assert chunks[-1].end_s == pytest.approx(2.0, abs=0.03)


def test_a_second_source_at_once_is_left_out_and_a_later_one_is_heard() -> None:
    other = opus_packets(melody(1.0), ssrc=8, first=100)
    mixed = [p for pair in zip(PACKETS[:50], other, strict=False) for p in pair]
    chunks = ingest(mixed, [i * FRAME_S / 2 for i in range(len(mixed))])
    assert sum(chunk.duration_s for chunk in chunks) == pytest.approx(1.0, abs=0.05)
    later = ingest(PACKETS[:50] + other, [i * FRAME_S + 0.5 * (i >= 50) for i in range(100)])
    assert later[-1].end_s == pytest.approx(2.5, abs=0.05)


def test_the_codec_may_change_on_the_way() -> None:
    encoder = PcmuEncoder()
    tone = (np.sin(np.arange(8000) / 4) * 8000).astype(np.int16)
    packets = []
    for i in range(50):
        frame = av.AudioFrame.from_ndarray(tone[None, i * 160 : i * 160 + 160], "s16", "mono")
        frame.sample_rate, frame.pts = 8000, i * 160
        payloads, _ = encoder.encode(frame)
        packets += [AudioPacket(7, (65_500 + 50 + i) % 65_536, i * 160, payloads[0], "pcmu", 8000)]
    chunks = ingest(PACKETS[:50] + packets)
    assert chunks[-1].end_s == pytest.approx(2.0, abs=0.05)
    assert sum(chunk.duration_s for chunk in chunks) == pytest.approx(2.0, abs=0.05)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32))
def test_whatever_the_network_does_chunks_come_in_order_and_none_overlap(seed: int) -> None:
    dice = random.Random(seed)
    packets = [p for p in PACKETS if dice.random() > 0.2]
    packets += [dice.choice(PACKETS) for _ in range(5)]
    for _ in range(10):
        i, j = dice.randrange(len(packets)), dice.randrange(len(packets))
        packets[i], packets[j] = packets[j], packets[i]
    now_s, at_s = 0.0, []
    for _ in packets:
        now_s += dice.choice([0.0, 0.02, 0.02, 0.2, 1.5])
        at_s.append(now_s)
    chunks = ingest(packets, at_s)
    for earlier, later in itertools.pairwise(chunks):
        assert later.start_s >= earlier.end_s - 1e-6
    assert all(len(chunk.samples) for chunk in chunks)


async def test_a_track_hands_on_all_that_came_before_its_end() -> None:
    chunks: list[AudioChunk] = []
    async with TaskScope("test") as scope:
        track = AudioTrack("0", scope, SystemClock(), chunks.append)
        for packet in PACKETS[:40]:
            track._inbox.put_nowait(packet)
        await track.end()
    assert sum(chunk.duration_s for chunk in chunks) == pytest.approx(0.8, abs=0.01)


async def test_the_inbox_is_bounded() -> None:
    async with TaskScope("test") as scope:
        track = AudioTrack("0", scope, SystemClock(), lambda _: None)
        for packet in itertools.islice(itertools.cycle(PACKETS), 5 * INBOX_PACKETS):
            track._inbox.put_nowait(packet)
        assert len(track._inbox) == INBOX_PACKETS
        assert track.dropped == 4 * INBOX_PACKETS
        await asyncio.sleep(0)
