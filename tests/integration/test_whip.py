"""WHIP over HTTP: RFC 9725's table, and FFmpeg as an independent publisher."""

import asyncio
import datetime
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import structlog
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, make_mocked_request
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.captions.audio import SAMPLE_RATE_HZ, AudioChunk
from mediaserver.kernel.errors import BadInput, Overloaded, Unavailable
from mediaserver.protocol.messages import CaptionOptions, Chat, IceServer
from mediaserver.rtc.peer import Peers, RtcConfig
from mediaserver.rtc.sdp import MAX_SDP_BYTES, WHIP_RULES, check_offer
from mediaserver.rtc.whip import FRAGMENT_TYPE, MAX_FRAGMENT_BYTES
from mediaserver.settings import Settings
from mediaserver.web import keys, whip
from mediaserver.web.application import new_application
from mediaserver.web.openapi import build
from mediaserver.web.routing import MountedRoutes, mount
from tests.integration.webrtc_client import (
    Client,
    PictureTrack,
    SpeechTrack,
    at_48_khz,
    delay_and_correlation,
    speech,
    to_16_khz,
    until,
)
from tests.live import LiveServer
from tests.speech import Clip
from tests.unit.rtc.offers import FFMPEG_WHIP

KEY = "0123456789abcdef0123"
SDP = {"Content-Type": "application/sdp"}
TRICKLE = {"Content-Type": FRAGMENT_TYPE}


class FakeTrack:
    """Keeps what is pushed."""

    def __init__(self, options: CaptionOptions) -> None:
        self.options = options
        self.chunks: list[AudioChunk] = []

    def push(self, chunk: AudioChunk) -> None:
        self.chunks.append(chunk)

    @property
    def heard(self) -> np.ndarray:
        out = np.zeros(round(self.chunks[-1].end_s * SAMPLE_RATE_HZ) + 1, np.float32)
        for chunk in self.chunks:
            at = round(chunk.start_s * SAMPLE_RATE_HZ)
            out[at : at + len(chunk.samples)] = chunk.samples
        return out

    @property
    def audio_s(self) -> float:
        return sum(chunk.duration_s for chunk in self.chunks)


class FakeSession:
    """A session without a speech worker."""

    def __init__(self, number: int, room: str | None, name: str, deliver: Any) -> None:
        self.id = f"s_{number}"
        self.room, self.name, self.deliver = room, name, deliver
        self.tracks: list[FakeTrack] = []
        self.closed_with: list[str] = []
        self.full = False

    def open_track(self, options: CaptionOptions) -> FakeTrack:
        if self.full:
            raise Overloaded("all streams are taken", retry_after_s=7)
        self.tracks.append(FakeTrack(options))
        return self.tracks[-1]

    async def close(self, reason: str = "ended") -> None:
        self.closed_with.append(reason)


class FakeSessions:
    """Opens fake sessions, unless it is told to refuse."""

    def __init__(self) -> None:
        self.sessions: list[FakeSession] = []
        self.draining = False
        self.full = False

    def open(self, *, kind: str, room: str | None, name: str, deliver: Any = None) -> FakeSession:
        assert kind == "whip"
        if self.draining:
            raise Unavailable("this server is stopping", retry_after_s=5)
        session = FakeSession(len(self.sessions), room, name, deliver)
        session.full = self.full
        self.sessions.append(session)
        return session


class Server:
    """A small application that serves WHIP alone."""

    def __init__(
        self, client: TestClient[web.Request, web.Application], fake: FakeSessions
    ) -> None:
        self.client, self.fake = client, fake
        self.peers: Peers = client.app[keys.PEERS]

    @property
    def session(self) -> FakeSession:
        return self.fake.sessions[-1]

    @property
    def url(self) -> str:
        return str(self.client.make_url("/whip/studio"))

    async def post(self, sdp: str, path: str = "/whip/studio", **more: Any) -> Any:
        return await self.client.post(path, data=sdp, headers=SDP | more.pop("headers", {}), **more)


Start = Callable[..., Awaitable[Server]]


@pytest.fixture
async def start(aiohttp_client: Any) -> AsyncIterator[Start]:
    servers: list[Server] = []

    async def serve(
        config: RtcConfig | None = None, ice: tuple[IceServer, ...] = (), **settings: Any
    ) -> Server:
        app = new_application(Settings(**settings))
        fake = FakeSessions()
        app[keys.SESSIONS] = fake  # type: ignore[assignment]
        app[keys.PEERS] = Peers(config or RtcConfig(ice_interfaces=("127.0.0.1",)))
        app[keys.ICE_SERVERS] = ice
        app.on_response_prepare.append(whip.add_cors)
        mount(app, [whip.routes()])
        servers.append(Server(await aiohttp_client(app), fake))
        return servers[-1]

    yield serve
    for server in servers:
        await server.peers.aclose()


async def problem(response: Any, status: int) -> dict[str, Any]:
    assert response.status == status
    assert response.content_type == "application/problem+json"
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    body: dict[str, Any] = await response.json()
    assert body["detail"]
    return body


# ---- the table of RFC 9725 ---------------------------------------------------------------------


async def test_publishing_is_answered_with_201_and_speech_is_captioned(start: Start) -> None:
    server = await start()
    spoken = speech(2.0)
    client = Client.new(SpeechTrack(spoken, then_silence=True), PictureTrack(), data=False)
    for transceiver in client.connection.getTransceivers():
        transceiver.direction = "sendonly"
    response = await server.post(
        await client.offer(), "/whip/studio?name=Anna&language=en&task=translate"
    )
    assert response.status == 201
    assert response.headers["Content-Type"] == "application/sdp"
    assert response.headers["Location"].startswith("/whip/studio/whip_")
    assert len(response.headers["Location"]) > len("/whip/studio/") + 30
    assert response.headers["ETag"].startswith('"')
    assert "s_0/transcript.vtt" in response.headers["Link"]
    assert "ice-server" not in response.headers["Link"]
    answer = await response.text()
    assert answer.count("a=recvonly") == 2
    assert "a=candidate" in answer
    await client.answer(answer)

    assert (server.session.room, server.session.name) == ("studio", "Anna")
    track = server.session.tracks[0]
    assert (track.options.language, track.options.task) == ("en", "translate")
    await until(lambda: track.audio_s > 1.9)
    _, correlation = delay_and_correlation(track.heard, to_16_khz(spoken))
    assert correlation > 0.9

    gone = await server.client.delete(response.headers["Location"], headers={"If-Match": '"x"'})
    assert gone.status == 200
    assert len(server.peers) == 0
    await until(lambda: server.session.closed_with == ["left"])
    again = await server.client.delete(response.headers["Location"])
    assert again.status == 200
    await problem(await server.client.get(response.headers["Location"]), 404)
    await client.close()


async def test_defaults_are_those_of_a_publisher_without_a_name(start: Start) -> None:
    server = await start()
    assert (await server.post(FFMPEG_WHIP)).status == 201
    assert server.session.name == "publisher"
    assert server.session.tracks[0].options == CaptionOptions()


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", ""])
async def test_another_content_type_is_unsupported(start: Start, content_type: str) -> None:
    server = await start()
    headers = {"Content-Type": content_type} if content_type else None
    response = await server.client.post("/whip/studio", data=b"v=0", headers=headers)
    assert "application/sdp" in (await problem(response, 415))["detail"]


async def test_bad_sdp_is_400_and_an_unusable_section_422_and_neither_leaves_a_peer(
    start: Start,
) -> None:
    server = await start()
    await problem(await server.post("hello"), 400)
    await problem(await server.client.post("/whip/studio", data=b"\xff\xfe", headers=SDP), 400)
    error = await problem(await server.post(FFMPEG_WHIP.replace("H264/90000", "AV1/90000")), 422)
    assert "AV1" in error["detail"]
    await problem(await server.post(FFMPEG_WHIP.replace("a=sendonly", "a=recvonly")), 422)
    await until(lambda: len(server.peers) == 0)
    assert server.fake.sessions == []


async def test_a_huge_body_is_413_without_being_read(start: Start) -> None:
    server = await start()
    await problem(await server.post("v=0" + "x" * MAX_SDP_BYTES), 413)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536

    response = await server.client.post("/whip/studio", data=endless(), headers=SDP)
    await problem(response, 413)


async def test_overload_and_draining_are_503_with_retry_after(start: Start) -> None:
    server = await start()
    server.fake.draining = True
    response = await server.post(FFMPEG_WHIP)
    assert response.headers["Retry-After"] == "5"
    await problem(response, 503)
    server.fake.draining, server.fake.full = False, True
    response = await server.post(FFMPEG_WHIP)
    assert response.headers["Retry-After"] == "7"
    await problem(response, 503)
    await until(lambda: len(server.peers) == 0)
    await until(lambda: server.session.closed_with == ["failed"])
    await server.peers.aclose()
    await problem(await server.post(FFMPEG_WHIP), 503)


@pytest.mark.parametrize("path", ["/whip/no%20room", "/whip/-x", "/whip/" + "a" * 65])
async def test_a_bad_room_is_400(start: Start, path: str) -> None:
    server = await start()
    await problem(await server.post(FFMPEG_WHIP, path), 400)


@pytest.mark.parametrize("query", ["language=english", "task=summarise", "name=" + "x" * 81])
async def test_bad_options_are_400_and_named(start: Start, query: str) -> None:
    server = await start()
    error = await problem(await server.post(FFMPEG_WHIP, f"/whip/studio?{query}"), 400)
    assert query.partition("=")[0] in error["detail"]


async def test_servers_for_ice_are_told_by_link_headers(start: Start) -> None:
    turn = IceServer(urls=("turn:127.0.0.1:9",), username="user", credential="secret")
    server = await start(ice=(IceServer(urls=("stun:127.0.0.1:9",)), turn))
    response = await server.post(FFMPEG_WHIP)
    links = response.headers.getall("Link")
    assert '<stun:127.0.0.1:9>; rel="ice-server"' in links
    assert any('username="user"; credential="secret"' in link for link in links)


async def test_options_tell_what_is_taken_even_without_the_key(start: Start) -> None:
    server = await start(api_key=KEY)
    for path, header, value in (
        ("/whip/studio", "Accept-Post", "application/sdp"),
        ("/whip/studio/x", "Accept-Patch", FRAGMENT_TYPE),
    ):
        response = await server.client.options(path)
        assert response.status == 200
        assert response.headers[header] == value
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        exposed = response.headers["Access-Control-Expose-Headers"]
        assert {"Location", "ETag", "Link"} <= set(exposed.split(", "))
        assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
        assert response.headers["Access-Control-Allow-Methods"] == response.headers["Allow"]
        assert await response.text() == ""


async def test_everything_else_needs_the_key_where_there_is_one(start: Start) -> None:
    server = await start(api_key=KEY)
    await problem(await server.post(FFMPEG_WHIP), 401)
    bearer = {"Authorization": f"Bearer {KEY}"}
    response = await server.post(FFMPEG_WHIP, headers=bearer | {"Origin": "https://studio.example"})
    assert response.status == 201
    location = response.headers["Location"]
    await problem(await server.client.delete(location), 401)
    assert (await server.client.delete(location, headers=bearer)).status == 200


async def test_other_methods_are_405(start: Start) -> None:
    server = await start()
    await problem(await server.client.get("/whip/studio"), 405)
    await problem(await server.client.put("/whip/studio", data=b""), 405)
    location = (await server.post(FFMPEG_WHIP)).headers["Location"]
    await problem(await server.client.post(location, data=b""), 405)


async def test_a_get_of_the_resource_is_empty(start: Start) -> None:
    server = await start()
    published = await server.post(FFMPEG_WHIP)
    for method in ("GET", "HEAD"):
        response = await server.client.request(method, published.headers["Location"])
        assert response.status == 204
        assert await response.read() == b""
        assert response.headers["ETag"] == published.headers["ETag"]
    await problem(await server.client.get("/whip/studio/whip_nothing"), 404)
    elsewhere = published.headers["Location"].replace("studio", "kitchen")
    await problem(await server.client.get(elsewhere), 404)


async def test_candidates_are_trickled_by_patch(start: Start) -> None:
    server = await start()
    client = Client.new(SpeechTrack(speech(1.0), then_silence=True), data=False)
    offer = await client.offer()
    bare = "".join(
        line
        for line in offer.splitlines(keepends=True)
        if not line.startswith(("a=candidate", "a=end-of"))
    )
    candidate = next(line for line in offer.splitlines() if line.startswith("a=candidate"))
    published = await server.post(bare.replace("a=sendrecv", "a=sendonly"))
    location, etag = published.headers["Location"], published.headers["ETag"]
    checked = check_offer(bare)
    head = f"a=ice-ufrag:{checked.ufrag}\r\na=ice-pwd:{checked.pwd}\r\n"
    fragment = head + f"m=audio 9 RTP/AVP 0\r\na=mid:0\r\n{candidate}\r\na=end-of-candidates\r\n"

    async def patch(body: str, **headers: str) -> Any:
        return await server.client.patch(location, data=body, headers=TRICKLE | headers)

    await problem(await patch(fragment), 428)
    await problem(await patch(fragment, **{"If-Match": '"stale"'}), 412)
    await problem(await server.client.patch(location, data=fragment, headers=SDP), 415)
    await problem(await patch("nonsense", **{"If-Match": etag}), 400)
    await problem(await patch("a=candidate:1 2 3", **{"If-Match": etag}), 400)
    await problem(await patch("a=x\r\n" * MAX_FRAGMENT_BYTES, **{"If-Match": etag}), 413)
    restart = "a=ice-ufrag:Anew\r\na=ice-pwd:AnewAnewAnewAnewAnewAnew\r\n"
    assert "restart" in (await problem(await patch(restart, **{"If-Match": "*"}), 422))["detail"]

    taken = await patch(fragment, **{"If-Match": etag})
    assert taken.status == 204
    assert "ETag" not in taken.headers
    await client.answer(await published.text())
    await until(lambda: server.session.tracks[0].chunks)
    await client.close()
    await until(lambda: server.session.closed_with == ["left"])


async def test_a_publisher_that_never_connects_is_let_go(start: Start) -> None:
    server = await start(RtcConfig(ice_interfaces=("127.0.0.1",), connect_timeout_s=0.5))
    published = await server.post(FFMPEG_WHIP)
    await until(lambda: server.session.closed_with == ["failed"], 3)
    await problem(await server.client.get(published.headers["Location"]), 404)
    assert len(server.peers) == 0


async def test_a_publisher_with_a_data_channel_hears_the_room_and_cannot_speak(
    start: Start,
) -> None:
    server = await start()
    client = Client.new(SpeechTrack(speech(1.0), then_silence=True))
    await client.answer(await (await server.post(await client.offer())).text())
    await until(lambda: len(client.channels) == 3)
    chat = Chat(seq=1, id="c1", member_id="m1", name="Bo", text="hello", sent_at=0.0)
    server.session.deliver(chat, None)
    client.channels["captions"].send('{"type":"chat.send","text":"no"}')
    await until(lambda: client.received["chat"] and client.received["captions"])
    assert json.loads(client.received["chat"][0])["text"] == "hello"
    assert json.loads(client.received["captions"][0])["problem"]["status"] == 400
    await client.close()


def test_the_routes_are_documented() -> None:
    paths = build(MountedRoutes([whip.routes()]))["paths"]
    assert set(paths["/whip/{room}"]) >= {"post", "options"}
    assert set(paths["/whip/{room}/{resource}"]) >= {"get", "patch", "delete", "options"}


@given(st.text(max_size=300))
def test_a_name_is_taken_or_refused_with_400(name: str) -> None:
    request = make_mocked_request("POST", "/whip/studio?" + urlencode({"name": name}))
    try:
        taken = whip._name_of(request)
    except BadInput:
        return
    assert 0 < len(taken) <= 80


# ---- FFmpeg ------------------------------------------------------------------------------------

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


async def finish(process: "subprocess.Popen[str]", timeout_s: float = 10) -> tuple[int, str]:
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
        await until(lambda: server.fake.sessions and server.session.tracks[0].chunks, 10)
        peer = next(iter(server.peers._peers))
        with peer.videos["1"].open_viewer() as viewer:
            picture = await asyncio.wait_for(viewer.frame(), 5)
        assert (picture.width, picture.height) == (320, 240)
        track = server.session.tracks[0]
        await until(lambda: track.audio_s > 3.0, 8)
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
    await until(lambda: server.session.closed_with == ["left"], 6)


async def test_ffmpegs_own_certificate_is_named_in_the_log_with_what_to_do(
    start: Start, tmp_path: Path
) -> None:
    server = await start()
    with structlog.testing.capture_logs() as logs:
        process = publisher(server.url, {}, speech(1.0), tmp_path, 1.0)
        code, _ = await finish(process, 15)
        await until(lambda: server.session.closed_with == ["failed"])
    assert code != 0
    causes = [entry["cause"] for entry in logs if entry["event"] == "peer.connect_failed"]
    if not causes:
        pytest.skip("this FFmpeg makes itself a certificate that OpenSSL takes")
    assert "secp224r1" in causes[0]
    assert "-cert_file" in causes[0]


async def test_the_offer_in_these_tests_is_what_ffmpeg_sends() -> None:
    assert check_offer(FFMPEG_WHIP, WHIP_RULES).sections[0].kind == "audio"


# ---- the whole way -----------------------------------------------------------------------------


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
            async with asyncio.timeout(recorded.duration_s + 30):
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
