"""``WS /ws``: a room session. Messages of `protocol.messages`; binary messages are audio."""

import asyncio
from collections.abc import Hashable

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web
from pydantic import TypeAdapter, ValidationError

from mediaserver.kernel.channels import ChannelClosed, Outbox
from mediaserver.kernel.errors import BadInput, MediaServerError, SlowConsumer, TooLarge
from mediaserver.kernel.logging import bind, get_logger
from mediaserver.kernel.tasks import TaskScope
from mediaserver.protocol import messages as m
from mediaserver.protocol.problems import ErrorMessage, problem_of
from mediaserver.protocol.rooms import Grants
from mediaserver.sessions.publishing import AudioPublisher, PeerPublisher
from mediaserver.sessions.session import Session
from mediaserver.web import keys
from mediaserver.web.routing import Content, Parameter, Routes

log = get_logger(__name__)

OUTBOX_CAPACITY = 1000
HEARTBEAT_S = 3.0
"""aiohttp pings this often and takes a member for gone half of it later: 4.5 s at most."""
SEND_TIMEOUT_S = 10.0
RECEIVE_LIMIT_BYTES = 12 * 1024 * 1024
"""What aiohttp takes before it drops the connection without a word; our own limits lie below, so
that who exceeds them is told."""
CLOSE_S = 2.0
METRICS_INTERVAL_S = 1.0
CLOSE_TIMEOUT_S = 30.0
PING_INTERVAL_S = 2.0

_room: TypeAdapter[str] = TypeAdapter(m.RoomName)


class MemberConnection:
    """One member's WebSocket: reads its messages, writes its outbox, owns what it publishes."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        app = request.app
        self._socket = socket
        self._clock = app[keys.CLOCK]
        self._peers = app[keys.PEERS]
        self._decoders = app[keys.DECODERS]
        self._figures = app[keys.FIGURES]
        self._ice_servers = app[keys.ICE_SERVERS]
        self._outbox: Outbox[str] = Outbox(OUTBOX_CAPACITY)
        self._audio: AudioPublisher | None = None
        self._stopping: set[asyncio.Task[None]] = set()
        """Audio that was stopped and whose finals are pending."""
        self._peer: PeerPublisher | None = None
        self._early_candidates: list[m.Candidate] = []
        self._closing: tuple[int, str] | None = None
        self._finishing = False
        self._before_welcome: list[tuple[m.ServerMessage, Hashable | None]] | None = []
        self._transport = request.transport
        self._writing: asyncio.Task[None] | None = None
        room, name = room_and_name(request)
        self.session: Session = app[keys.SESSIONS].open(
            kind="ws", room=room, name=name, deliver=self.deliver
        )
        self._scope = TaskScope(f"member {self.session.member_id}", on_failure=self._broken)

    # ---- out ----------------------------------------------------------------------------------

    def deliver(self, message: m.ServerMessage, key: Hashable | None) -> None:
        """Queue a message: on its data channel where that is open, else on the socket."""
        if self._before_welcome is not None:
            self._before_welcome.append((message, key))
            return
        if self._peer is not None and self._peer.send(message, key):
            return
        try:
            self._outbox.put(message.model_dump_json(), key)
        except SlowConsumer as error:
            self._figures.dropped("outbox")
            self._end(error.ws_close_code, error.detail)

    def _tell(self, message: m.ServerMessage) -> None:
        self.deliver(message, None)

    def _report(self, error: MediaServerError, to: str | None = None) -> None:
        problem = problem_of(error, self.session.id)
        self._tell(ErrorMessage(problem=problem, in_reply_to=to))

    async def _write(self) -> None:
        while True:
            try:
                text = await self._outbox.get()
            except ChannelClosed:
                return
            try:
                # not wait_for: up to Python 3.11 that swallows a cancellation now and then
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await self._socket.send_str(text)
            except TimeoutError:
                self._end(WSCloseCode.TRY_AGAIN_LATER, "messages are not read")
                return
            except ConnectionError:
                return  # the reader notices

    async def _measure(self) -> None:
        while True:
            await asyncio.sleep(METRICS_INTERVAL_S)
            self.deliver(self._metrics(), "metrics")

    def _metrics(self) -> m.Metrics:
        tracks = self.session.tracks
        delays = [t.stats.caption_delay_s for t in tracks if t.stats.caption_delay_s is not None]
        peer = self._peer.stats() if self._peer is not None else None
        return m.Metrics(
            at=self._clock.wall_s(),
            audio_kbps=peer.audio_kbps if peer else 0.0,
            video_kbps=peer.video_kbps if peer else 0.0,
            jitter_ms=peer.jitter_ms if peer else 0.0,
            packets_lost=peer.packets_lost if peer else 0,
            loss_ratio=peer.loss_ratio if peer else 0.0,
            round_trip_ms=peer.round_trip_ms if peer else None,
            caption_delay_ms=round(max(delays) * 1000) if delays else None,
            queue_depth_s=round(sum(t.waiting_s for t in tracks), 2),
            dropped=self._outbox.dropped + (self._peer.dropped if self._peer else 0),
        )

    # ---- in -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the member until it leaves, is lost, or is sent away."""
        early, self._before_welcome = self._before_welcome or [], None
        self._tell(self._welcome())
        for told, key in early:  # how things stand in the room
            self.deliver(told, key)
        self._writing = self._scope.spawn("write", self._write())
        self._scope.spawn("measure", self._measure())
        self._scope.spawn("stop", self._stop_with_session())
        reason = "lost"
        try:
            with bind(session_id=self.session.id):
                async for message in self._socket:
                    if not await self._take(message):
                        reason = "left"
                        break
                if self._socket.close_code in (WSCloseCode.OK, WSCloseCode.GOING_AWAY):
                    reason = "left"
        finally:
            await asyncio.shield(self._finish(reason))

    def _welcome(self) -> m.Welcome:
        assert self.session.room is not None
        return m.Welcome(
            session_id=self.session.id,
            room=self.session.room.name,
            member_id=self.session.member_id,
            name=self.session.name,
            role="member",
            grants=Grants(room_join=True, can_publish=True, can_subscribe=True, can_chat=True),
            log_id="",
            seq=0,
            resume_secret="",
            ice_servers=self._ice_servers,
            ping_interval_s=PING_INTERVAL_S,
        )

    async def _take(self, message: WSMessage) -> bool:
        """Handle one message; False when the member leaves."""
        kind: str | None = None
        try:
            if message.type is WSMsgType.BINARY:
                kind = "audio"
                if len(message.data) > m.MAX_AUDIO_MESSAGE_BYTES:
                    raise TooLarge(
                        f"a binary message of {len(message.data)} bytes; the limit is "
                        f"{m.MAX_AUDIO_MESSAGE_BYTES}"
                    )
                await self._take_audio(message.data)
            elif message.type is WSMsgType.TEXT:
                parsed = m.parse_client_message(message.data)
                kind = parsed.type
                return await self._handle(parsed)
            elif message.type is WSMsgType.ERROR:
                return True  # the iteration ends by itself
        except TooLarge as error:
            self._end(error.ws_close_code, error.detail)
        except MediaServerError as error:
            self._report(error, kind)
        return True

    async def _handle(self, message: m.ClientMessage) -> bool:
        match message:
            case m.Ping(id=id_):
                self._tell(m.Pong(id=id_, server_time=self._clock.wall_s()))
            case m.Offer():
                await self._offer(message)
            case m.Candidate():
                await self._candidate(message)
            case m.AudioStart():
                await self._audio_start(message)
            case m.AudioStop():
                self._audio_stop()
            case m.Configure(options=options):
                if self._peer is not None:
                    self._peer.configure(options)
                for track in self.session.tracks:
                    track.configure(options)
            case m.Finalize():
                self._scope.spawn("finalize", self._finalize())
            case m.ChatSend():
                self._chat(message)
            case m.Leave():
                return False
            case _:
                raise BadInput(f"`{message.type}` is not served by this version yet")
        return True

    async def _offer(self, message: m.Offer) -> None:
        if self._peer is None or self._peer.over:
            self._peer = PeerPublisher(
                self._peers, self.session, message.options, self._channel_text, self._report
            )
            early, self._early_candidates = self._early_candidates, []
            answer = await self._peer.accept(message.sdp)
            for candidate in early:
                await self._candidate(candidate)
        else:
            answer = await self._peer.accept(message.sdp)
        self._outbox.put(m.Answer(sdp=answer).model_dump_json())

    async def _candidate(self, message: m.Candidate) -> None:
        if self._peer is None:
            if len(self._early_candidates) >= 50:
                raise BadInput("50 candidates came before any offer")
            self._early_candidates.append(message)
            return
        await self._peer.add_candidate(message.candidate, message.sdp_mid, message.sdp_mline_index)

    async def _audio_start(self, message: m.AudioStart) -> None:
        self._stop_audio("ended")
        self._audio = AudioPublisher(self.session, message, self._decoders)
        self._tell(m.AudioStarted(track_id=self._audio.track.id))

    async def _take_audio(self, data: bytes) -> None:
        if self._audio is None:
            raise BadInput("a binary message before `audio.start`; send that first")
        try:
            await self._audio.feed(data)
        except MediaServerError as error:
            if not error.retryable:
                self._stop_audio("failed")
            raise

    def _audio_stop(self) -> None:
        if self._audio is None:
            raise BadInput("`audio.stop` without `audio.start`")
        self._stop_audio("ended")

    def _stop_audio(self, reason: str) -> None:
        """End the audio, if any. Its finals may take a while; the member is served meanwhile."""
        audio, self._audio = self._audio, None
        if audio is not None:
            task = self._scope.spawn("audio-stop", audio.close(reason))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    async def _finalize(self) -> None:
        tracks = self.session.tracks
        if self._audio is not None:
            await self._audio.flush()
        await asyncio.gather(*(track.finalize() for track in tracks))
        self._tell(m.Finalized(track_id=tracks[0].id if len(tracks) == 1 else None))

    def _chat(self, message: m.ChatSend) -> None:
        room = self.session.room
        assert room is not None
        seq = room.next_seq()
        room.chat(
            m.Chat(
                seq=seq,
                id=f"c{seq}",
                client_id=message.id,
                member_id=self.session.member_id,
                name=self.session.name,
                text=message.text,
                sent_at=self._clock.wall_s(),
            )
        )

    def _channel_text(self, label: str, text: str) -> None:
        """A text message came over a data channel: the same messages as on the socket."""
        self._scope.spawn(f"channel-{label}", self._take_channel(text))

    async def _take_channel(self, text: str) -> None:
        try:
            parsed = m.parse_client_message(text)
            if isinstance(parsed, m.Leave | m.Offer | m.AudioStart):
                raise BadInput(f"`{parsed.type}` goes over the WebSocket")
            await self._handle(parsed)
        except MediaServerError as error:
            self._report(error)

    # ---- the end ------------------------------------------------------------------------------

    def _broken(self, name: str, error: BaseException) -> None:
        log.error("member.task_failed", task=name, error=type(error).__name__)

    def _end(self, code: int, detail: str) -> None:
        if self._closing is None:
            self._closing = (code, detail)
            self._scope.spawn("end", self._send_away())

    async def _send_away(self) -> None:
        assert self._closing is not None
        await self._close_socket(*self._closing)

    async def _close_socket(self, code: int, detail: str) -> None:
        """Close with a reason; who does not read is cut off."""
        transport = self._transport
        # in a task of its own: after a send that was cancelled aiohttp cancels who drains next
        async with TaskScope("close") as scope:
            message = detail.encode()[:123].decode(errors="ignore").encode()
            closing = scope.spawn("close", self._socket.close(code=code, message=message))
            await asyncio.wait([closing], timeout=CLOSE_S)
        if transport is not None and transport.get_write_buffer_size():
            transport.abort()

    async def _stop_with_session(self) -> None:
        """The server ended the session: deliver what is pending, then say goodbye."""
        await self.session.ended.wait()
        if self._finishing:
            return
        self._outbox.close()
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=CLOSE_S)
        self._end(WSCloseCode.GOING_AWAY, "the server is stopping; connect again")

    async def _finish(self, reason: str) -> None:
        """Deliver what is pending (if somebody is still there to hear it) and let go of all."""
        self._finishing = True
        lost = reason == "lost"
        try:
            if self._peer is not None:
                await self._peer.stop_audio()
            self._stop_audio(reason)
            if self._stopping:
                await asyncio.wait(self._stopping, timeout=CLOSE_TIMEOUT_S)
            await self.session.close(reason, CLOSE_TIMEOUT_S)
            if not lost and not self._socket.closed:
                self._outbox.close()
                if self._writing is not None:
                    await asyncio.wait_for(self._writing, SEND_TIMEOUT_S)
        except TimeoutError:
            log.warning("member.goodbye_timeout", session_id=self.session.id)
        finally:
            if self._peer is not None:
                await self._peer.close("left" if not lost else "lost")
            await self._scope.aclose(timeout_s=2.0)
            if not self._socket.closed:
                await self._close_socket(WSCloseCode.OK, reason)


def room_and_name(request: web.Request) -> tuple[str, str]:
    """Read `room` and `name` from the query. Raises BadInput."""
    try:
        room = _room.validate_python(request.query.get("room", "lobby"))
    except ValidationError:
        raise BadInput(
            "room: 1 to 64 letters, digits, dots, dashes or underscores, not a dash first",
            code="bad_room",
        ) from None
    name = " ".join(request.query.get("name", "").split())[: m.MAX_NAME_CHARACTERS]
    return room, name or "guest"


async def _ws(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse(
        heartbeat=HEARTBEAT_S,
        max_msg_size=RECEIVE_LIMIT_BYTES,
        timeout=2.0,
        protocols=("token",),
    )
    connection = MemberConnection(request, socket)
    try:
        await socket.prepare(request)
    except BaseException:
        await connection.session.close("failed", 1.0)
        raise
    await connection.run()
    return socket


def routes() -> Routes:
    """``WS /ws``."""
    return Routes("sessions").add(
        "GET",
        "/ws",
        _ws,
        summary="A room session (WebSocket)",
        scope="rooms",
        description="JSON messages and binary audio; docs/protocol.md describes them all.",
        parameters=(
            Parameter("room", "The room to join; `lobby` if none is named", str),
            Parameter("name", "The name others see", str),
        ),
        responses={101: Content("The WebSocket is open")},
    )
