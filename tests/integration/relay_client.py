"""Who broadcasts and who watches, over room sessions: plain aiortc peers on loopback."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import av
import numpy as np
from aiohttp import ClientSession
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCRtpReceiver
from aiortc.mediastreams import MediaStreamError

from tests.integration.room_client import Json, RoomMember
from tests.integration.webrtc_client import (
    RATE_HZ,
    Client,
    PictureTrack,
    SpeechTrack,
    until,
)
from tests.live import LiveServer

SIZE = (320, 240)


def tone(hz: float, seconds: float = 120.0) -> np.ndarray:
    """A sine at half of full scale, 48 kHz."""
    at = np.arange(int(RATE_HZ * seconds)) / RATE_HZ
    return np.asarray(0.5 * np.sin(2 * np.pi * hz * at), np.float32)


def tracks(hz: float = 440.0) -> tuple[SpeechTrack, PictureTrack]:
    """A tone, and moving pictures of `SIZE`."""
    return SpeechTrack(tone(hz), then_silence=True), PictureTrack(25, *SIZE)


class Camera:
    """A member's own peer, that sends."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.resource = ""
        """Of WHIP: the session's address."""

    @classmethod
    async def on(cls, member: RoomMember, *media: MediaStreamTrack) -> "Camera":
        """Begin to send over the member's session."""
        camera = cls(Client.new(*(media or tracks())))
        answers = len(member.told("answer"))
        await member.send("offer", sdp=await camera.client.offer())
        await member.wait(lambda: len(member.told("answer")) > answers)
        await camera.client.answer(member.told("answer")[-1]["sdp"])
        return camera

    @classmethod
    async def by_whip(cls, session: ClientSession, server: LiveServer, room: str) -> "Camera":
        """Begin to send by WHIP."""
        camera = cls(Client.new(*tracks(), data=False))
        headers = {"Content-Type": "application/sdp", **server.headers}
        url = f"{server.url}/whip/{room}?name=Studio"
        async with session.post(url, data=await camera.client.offer(), headers=headers) as response:
            assert response.status == 201, await response.text()
            camera.resource = server.url + response.headers["Location"]
            await camera.client.answer(await response.text())
        return camera

    async def off(self) -> None:
        await self.client.close()


class Screen:
    """A viewer: what it sees and hears."""

    def __init__(self, member: RoomMember) -> None:
        self.member = member
        self.asked_at = 0.0
        self.pictures: list[tuple[float, np.ndarray]] = []
        self.sound: list[tuple[float, np.ndarray]] = []
        self.connection: RTCPeerConnection | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def offer(self, *kinds: str) -> str:
        """Return an offer to receive, with all candidates."""
        client = Client.new(data=False)
        self.connection = client.connection
        for kind in kinds or ("audio", "video"):
            client.connection.addTransceiver(kind, direction="recvonly")
        client.connection.on("track", self._track)
        self.client = client
        return await client.offer()

    async def ask(self, member_id: str | None = None, timeout_s: float = 20.0) -> Json:
        """Offer; return the answer, or the error."""
        await self.off()
        return await self._asked(await self.offer(), member_id, timeout_s)

    async def _asked(self, sdp: str, member_id: str | None, timeout_s: float) -> Json:
        self.asked_at = time.monotonic()
        number = len(self.member.messages)
        id_ = f"w{number}"
        await self.member.send("watch.offer", sdp=sdp, member_id=member_id, id=id_)
        answer: Json = await self.member.wait(
            lambda: next((m for m in self.member.messages if m.get("in_reply_to") == id_), None),
            timeout_s,
        )
        return answer

    async def watch(self, member_id: str | None = None) -> Json:
        """Watch; it has to work."""
        answer = await self.ask(member_id)
        assert answer["type"] == "watch.answer", answer
        await self.client.answer(answer["sdp"])
        return answer

    async def refused(self, member_id: str | None = None) -> str:
        """Ask; it has to be refused. Returns the problem's code."""
        answer = await self.ask(member_id)
        assert answer["type"] == "error", answer
        return str(answer["problem"]["code"])

    def _track(self, track: MediaStreamTrack) -> None:
        self._tasks.append(asyncio.create_task(self._take(track)))

    async def _take(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame: Any = await track.recv()
            except MediaStreamError:
                return
            now_s = time.monotonic()
            if isinstance(frame, av.VideoFrame):
                self.pictures.append((now_s, frame.to_ndarray(format="gray")))
            else:
                self.sound.append((now_s, frame.to_ndarray()[0, ::2].astype(np.float32) / 32768))

    async def sees_and_hears(self, hz: float = 440.0, timeout_s: float = 20.0) -> float:
        """Wait for pictures and the tone; return how long after the offer both were there."""
        since = time.monotonic()
        await until(lambda: self._sees(since) and self._hears(since, hz), timeout_s)
        return time.monotonic() - self.asked_at

    async def sees(self, timeout_s: float = 20.0) -> None:
        """Wait for pictures."""
        since = time.monotonic()
        await until(lambda: self._sees(since), timeout_s)

    async def hears(self, hz: float = 440.0, timeout_s: float = 20.0) -> None:
        """Wait for the tone."""
        since = time.monotonic()
        await until(lambda: self._hears(since, hz), timeout_s)

    async def ask_with(self, kind: str, codec: str) -> Json:
        """As `ask`, with one section that offers one codec alone."""
        await self.off()
        client = self.client = Client.new(data=False)
        self.connection = client.connection
        transceiver = client.connection.addTransceiver(kind, direction="recvonly")
        known = RTCRtpReceiver.getCapabilities(kind)
        assert known is not None
        transceiver.setCodecPreferences([c for c in known.codecs if c.name == codec])
        return await self._asked(await client.offer(), None, 20.0)

    def _sees(self, since: float) -> bool:
        """Whether new pictures came that are those of `PictureTrack`: rows one brighter each."""
        new = [picture for at, picture in self.pictures if at > since]
        if len(new) < 5:
            return False
        assert new[-1].shape == SIZE[::-1]
        steps = np.diff(new[-1].astype(int).mean(axis=1))
        return bool(np.median(steps) == 1.0 or abs(np.median(steps) - 1.0) < 0.2)

    def _hears(self, since: float, hz: float) -> bool:
        heard = [piece for at, piece in self.sound if at > since]
        if len(heard) < 25:
            return False
        samples = np.concatenate(heard)[-RATE_HZ // 2 :]
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
        loudest = np.argmax(spectrum) * RATE_HZ / len(samples)
        return bool(np.sqrt(np.mean(samples**2)) > 0.1 and abs(loudest - hz) < 10)

    @property
    def silent_for_s(self) -> float:
        """How long no picture and no sound came."""
        last = max(
            [at for at, _ in self.pictures[-1:]] + [at for at, _ in self.sound[-1:]], default=0.0
        )
        return time.monotonic() - last

    async def off(self) -> None:
        """Close it without a word to the server."""
        if self.connection is not None:
            await self.connection.close()
            self.connection = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()


def broadcast_of(member: RoomMember, whose: str) -> Json | None:
    """What `member` was told last that somebody broadcasts."""
    found: Json | None = None
    for message in member.messages:
        if message["type"] == "room.snapshot":
            found = next(
                (m["broadcast"] for m in message["members"] if m["member_id"] == whose), None
            )
        elif message["type"] in ("member.joined", "member.updated"):
            if message["member"]["member_id"] == whose:
                found = message["member"]["broadcast"]
        elif message["type"] == "member.left" and message["member_id"] == whose:
            found = None
    return found


BOTH = {"audio": True, "video": True}


async def shows(member: RoomMember, whose: str, what: Json | None = BOTH) -> None:
    """Wait until `member` is told that somebody broadcasts this."""
    await member.until(lambda m: broadcast_of(m, whose) == what, 20.0)


async def ended(member: RoomMember, count: int = 1, timeout_s: float = 30.0) -> str:
    """Wait for the `count`th `watch.ended`; return its reason."""
    await member.wait(lambda: len(member.told("watch.ended")) >= count, timeout_s)
    return str(member.told("watch.ended")[count - 1]["reason"])


def figure(server: LiveServer, name: str) -> float:
    """A value of /metrics."""
    _, text = server.get("/metrics")
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, name
    return float(found.group(1))


LINKS_IN, LINKS_OUT = 'mediaserver_links{way="in"}', 'mediaserver_links{way="out"}'


async def becomes(server: LiveServer, name: str, value: float, timeout_s: float = 30.0) -> None:
    """Wait until /metrics says so."""
    async with asyncio.timeout(timeout_s):
        while await asyncio.to_thread(figure, server, name) != value:
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def screen(member: RoomMember) -> AsyncIterator[Screen]:
    """A viewer of the member's; it is closed at the end."""
    shown = Screen(member)
    try:
        yield shown
    finally:
        await shown.off()


@contextlib.asynccontextmanager
async def camera(member: RoomMember, *media: MediaStreamTrack) -> AsyncIterator[Camera]:
    """The member broadcasts."""
    sending = await Camera.on(member, *media)
    try:
        yield sending
    finally:
        await sending.off()
