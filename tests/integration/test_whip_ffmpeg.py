"""FFmpeg's whip muxer as an independent publisher, up to captions on a real server."""

import asyncio
import datetime
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import structlog
from aiohttp import ClientSession
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mediaserver.rtc.sdp import WHIP_RULES, check_offer
from tests.integration.webrtc_client import (
    at_48_khz,
    delay_and_correlation,
    speech,
    to_16_khz,
    until,
)
from tests.integration.whip_server import (
    KEY,
    Start,
    start,
)
from tests.live import LiveServer
from tests.speech import Clip
from tests.unit.rtc.offers import FFMPEG_WHIP

__all__ = ["start"]


PUBLISH = r"""
import fractions, json, sys, time
import av
import numpy as np

url, options, path, seconds = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], float(sys.argv[4])
samples = np.load(path)
container = av.open(url, "w", format="whip", options=options)
audio = container.add_stream("libopus", rate=48000)
audio.layout = "stereo"
video = container.add_stream("libx264", rate=25)
video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
video.codec_context.gop_size = 25
video.codec_context.options = {"profile": "baseline", "tune": "zerolatency", "bf": "0"}
started, at = time.time(), 0
for number in range(int(25 * seconds)):
    gray = np.full((240, 320), 40 + number % 100, np.uint8)
    picture = av.VideoFrame.from_ndarray(gray, format="gray").reformat(format="yuv420p")
    picture.pts, picture.time_base = number, fractions.Fraction(1, 25)
    for packet in video.encode(picture):
        container.mux(packet)
    for _ in range(2):
        pcm = np.zeros(960, np.int16)
        piece = (samples[at : at + 960] * 32767).astype(np.int16)
        pcm[: len(piece)] = piece
        frame = av.AudioFrame.from_ndarray(np.repeat(pcm, 2)[None, :], "s16", "stereo")
        frame.sample_rate, frame.pts = 48000, at
        at += 960
        for packet in audio.encode(frame):
            container.mux(packet)
    time.sleep(max(0.0, started + (number + 1) / 25 - time.time()))
container.close()
"""


def certificate(folder: Path) -> dict[str, str]:
    """Make a self-signed certificate on P-256, as FFmpeg's users are told to."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "whip")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(signed.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    return {"cert_file": str(folder / "cert.pem"), "key_file": str(folder / "key.pem")}


def publisher(url: str, options: dict[str, str], samples: np.ndarray, folder: Path, seconds: float):  # type: ignore[no-untyped-def]
    """Start FFmpeg's muxer in a process of its own (it holds Python's lock while it connects)."""
    np.save(folder / "speech.npy", samples)
    arguments = [url, json.dumps(options), str(folder / "speech.npy"), str(seconds)]
    return subprocess.Popen(
        [sys.executable, "-c", PUBLISH, *arguments], stderr=subprocess.PIPE, text=True
    )


async def finish(process: "subprocess.Popen[str]", timeout_s: float = 60) -> tuple[int, str]:
    try:
        _, errors = await asyncio.to_thread(process.communicate, timeout=timeout_s)
    finally:
        process.kill()
    return process.returncode, errors


async def test_ffmpeg_publishes_speech_and_pictures(start: Start, tmp_path: Path) -> None:
    server = await start(api_key=KEY)
    spoken = speech(3.0)
    options = certificate(tmp_path) | {"authorization": KEY}
    process = publisher(f"{server.url}?name=FFmpeg", options, spoken, tmp_path, 4.0)
    try:
        await until(lambda: server.fake.sessions and server.session.tracks[0].chunks, 40)
        peer = next(iter(server.peers._peers))
        with peer.videos["1"].open_viewer() as viewer:
            picture = await asyncio.wait_for(viewer.frame(), 20)
        assert (picture.width, picture.height) == (320, 240)
        track = server.session.tracks[0]
        await until(lambda: track.audio_s > 3.0)
        figures = peer.stats()
    finally:
        code, errors = await finish(process)
    assert code == 0, errors
    assert server.session.name == "FFmpeg"
    delay_s, correlation = delay_and_correlation(track.heard, to_16_khz(spoken))
    assert correlation > 0.9
    assert abs(delay_s) < 0.1
    assert figures.audio_kbps > 10
    assert figures.video_kbps > 1
    assert figures.round_trip_ms is None  # FFmpeg answers no STUN checks once it is connected
    await until(lambda: server.session.closed_with == ["left"])


async def test_ffmpegs_own_certificate_is_named_in_the_log_with_what_to_do(
    start: Start, tmp_path: Path
) -> None:
    server = await start()
    with structlog.testing.capture_logs() as logs:
        process = publisher(server.url, {}, speech(1.0), tmp_path, 1.0)
        code, _ = await finish(process)
        await until(lambda: server.session.closed_with == ["failed"])
    assert code != 0
    causes = [entry["cause"] for entry in logs if entry["event"] == "peer.connect_failed"]
    if not causes:
        pytest.skip("this FFmpeg makes itself a certificate that OpenSSL takes")
    assert "secp224r1" in causes[0]
    assert "-cert_file" in causes[0]


async def test_the_offer_in_these_tests_is_what_ffmpeg_sends() -> None:
    assert check_offer(FFMPEG_WHIP, WHIP_RULES).sections[0].kind == "audio"


async def test_ffmpegs_speech_becomes_captions_on_a_real_server(
    live_server: LiveServer, speech_clip: Callable[[str], Clip], tmp_path: Path
) -> None:
    recorded = speech_clip("jfk")
    spoken = at_48_khz(recorded.samples)
    url = f"{live_server.url}/whip/ffmpeg?language=en"
    options = certificate(tmp_path)
    if live_server.key:
        options["authorization"] = live_server.key
    process = publisher(url, options, spoken, tmp_path, recorded.duration_s + 1.0)
    async with ClientSession(headers=live_server.headers) as http:
        socket = await http.ws_connect(f"{live_server.ws_url}/ws?room=ffmpeg&name=reader")
        said: dict[str, str] = {}
        try:
            async with asyncio.timeout(recorded.duration_s + 60):
                async for message in socket:
                    told = json.loads(message.data)
                    if told["type"] == "caption" and told["final"]:
                        said[told["caption_id"]] = told["text"]
                    if told["type"] == "track.ended":
                        break
        finally:
            await socket.close()
            code, errors = await finish(process)
    assert code == 0, errors
    assert recorded.wer(" ".join(said.values())) < 0.25
