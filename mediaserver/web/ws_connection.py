"""One member's WebSocket: reads its messages, writes its outbox, and ends in good order."""

import asyncio
from collections.abc import Hashable
from dataclasses import replace

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from mediaserver.identity.principal import Principal
from mediaserver.kernel.errors import BadInput, MediaServerError, TooLarge, TooManyRequests
from mediaserver.kernel.logging import bind, get_logger
from mediaserver.kernel.tasks import TaskScope
from mediaserver.protocol import messages as m
from mediaserver.protocol import room_commands as c
from mediaserver.protocol import watching as w
from mediaserver.protocol.problems import ErrorMessage, problem_of
from mediaserver.protocol.rooms import Grants
from mediaserver.rooms.presence import Joined
from mediaserver.rooms.room import CLOSE_EXPIRED
from mediaserver.sessions.session import Session
from mediaserver.sessions.watching import MemberWatch
from mediaserver.web import keys
from mediaserver.web.floods import FloodGate
from mediaserver.web.sockets import ClientSocket
from mediaserver.web.ws_media import MemberMedia
from mediaserver.web.ws_out import SEND_TIMEOUT_S, MemberOut, Way
from mediaserver.web.ws_room import RoomDesk, name_of

log = get_logger(__name__)

CLOSE_S = 2.0
STOP_CLOSE_S = 0.5
"""As `CLOSE_S`, while the server stops: that is bounded for all together."""
METRICS_INTERVAL_S = 1.0
CLOSE_TIMEOUT_S = 30.0
PING_INTERVAL_S = 2.0
_REASONS = {CLOSE_EXPIRED: "expired", int(WSCloseCode.TRY_AGAIN_LATER): "lost"}
"""Of members that were sent away with these codes; the others `left`."""
_FREE = (m.Ping, m.Candidate, w.WatchCandidate, c.ClockPing)
"""Not counted against the member's messages, but against a wider bound of their own."""


class MemberConnection:
    """See the module's docstring. An `Attendee` of its room."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        app = request.app
        self._app = app
        self._clock = app[keys.CLOCK]
        self._gate = FloodGate(self._clock)
        self._socket = ClientSocket(request, socket, self._gate, self._clock, self._refuse)
        self._out = MemberOut(self._way_of, self._end, app[keys.FIGURES].dropped)
        self._closing: tuple[int, str] | None = None
        self._finishing = False
        self._writing: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    def entered(self, session: Session, joined: Joined, principal: Principal) -> None:
        """Take the place that the room gave."""
        assert session.room is not None
        self.session = session
        self._joined = joined
        self._scope = TaskScope(f"member {session.member_id}", on_failure=self._broken)
        self._media = MemberMedia(
            session,
            self._app[keys.PEERS],
            self._app[keys.DECODERS],
            MemberWatch(self._app[keys.WATCHING], session.room, joined.member, self._tell),
            self._scope,
            self._channel_text,
            self._report,
        )
        self._desk = RoomDesk(
            session.room,
            joined.member,
            principal,
            self._tell,
            self._end,
            self._app[keys.IDENTITY],
            self._app[keys.LIBRARY],
            self._scope,
            self._app[keys.ROOMS].now_s,
        )

    # ---- Attendee -----------------------------------------------------------------------------

    def deliver(self, message: m.ServerMessage, key: Hashable | None) -> None:
        """Queue a message: on its data channel where that is open, else on the socket."""
        self._out.put(message, key)

    def granted(self, grants: Grants) -> None:
        """End what is not allowed any more."""
        if self._out.begun:
            self._media.regranted(grants)
        if not grants.room_join:
            self.dismiss(4403, "you may not be in this room any more")

    def dismiss(self, code: int, reason: str) -> None:
        """The room sends the member away."""
        if self._out.begun:
            self._end(code, reason)
        else:
            self._closing = (code, reason)

    # ---- out ----------------------------------------------------------------------------------

    def _way_of(self, message: m.ServerMessage) -> Way:
        return self._media.way_of(message)

    def _tell(self, message: m.ServerMessage) -> None:
        self._out.put(message)

    def _report(self, error: MediaServerError, to: str | None = None) -> None:
        problem = problem_of(error, self.session.id)
        self._tell(ErrorMessage(problem=problem, in_reply_to=to))

    async def _measure(self) -> None:
        """Tell who publishes its figures, and everybody once how they stand."""
        while True:
            await asyncio.sleep(METRICS_INTERVAL_S)
            self._out.put(self._metrics(), "metrics")
            await self._media.publishing()

    def _metrics(self) -> m.Metrics:
        tracks = self.session.tracks
        delays = [t.stats.caption_delay_s for t in tracks if t.stats.caption_delay_s is not None]
        peer = self._media.stats()
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
            dropped=self._out.dropped + self._media.dropped,
        )

    # ---- in -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the member until it leaves, is lost, or is sent away."""
        self._out.begin([self._welcome(), *self._joined.so_far])
        self._joined = replace(self._joined, so_far=())
        self._writing = self._scope.spawn("write", self._out.run(self._socket))
        self._scope.spawn("measure", self._measure())
        self._scope.spawn("stop", self._stop_with_session())
        self._scope.spawn("credentials", self._desk.watch_credentials())
        if self._closing is not None and self._ending is None:
            self._ending = self._scope.spawn("end", self._send_away())
        reason = "lost"
        try:
            with bind(session_id=self.session.id):
                reading = self._scope.spawn("read", self._read())
            await asyncio.wait([reading])
            if not reading.cancelled():
                reason = reading.result()
            if self._closing is not None:
                reason = _REASONS.get(self._closing[0], "left")
        finally:
            if reason == "lost" and self._closing is None and self._left():
                reason = "left"  # aiohttp may cancel us before the reader's end is seen here
            await asyncio.shield(self._finish(reason))

    async def _read(self) -> str:
        """Take messages until the member leaves, is lost, or is sent away; return why it ended."""
        while self._closing is None:
            received = await self._socket.receive()
            if received is None:
                return "left" if self._left() else "lost"
            if not await self._take(received):
                return "left"
        return "left"

    def _left(self) -> bool:
        """Whether the other side closed in good order."""
        return self._socket.close_code in (WSCloseCode.OK, WSCloseCode.GOING_AWAY)

    def _welcome(self) -> m.Welcome:
        assert self.session.room is not None
        record = self._joined.member.record
        return m.Welcome(
            session_id=self.session.id,
            room=self.session.room.name,
            member_id=record.member_id,
            name=record.name,
            role=record.role,
            grants=self._joined.member.grants,
            log_id=self._joined.log_id,
            seq=self._joined.seq,
            resume_secret=self._joined.secret,
            expires_at=self._desk.principal.expires_at,
            ice_servers=self._app[keys.ICE_SERVERS],
            ping_interval_s=PING_INTERVAL_S,
        )

    async def _take(self, message: WSMessage) -> bool:
        """Handle one message; False when the member leaves."""
        about: str | None = None
        try:
            if message.type is WSMsgType.BINARY:
                about = "audio"
                await self._audio(message.data)
            elif message.type is WSMsgType.TEXT:
                parsed = self._parsed(message.data)
                about = name_of(parsed)
                self._count(parsed)
                return await self._handle(parsed)
        except TooLarge as error:
            self._end(error.ws_close_code, error.detail)
        except MediaServerError as error:
            self._refuse(error, about)
        return True

    async def _audio(self, data: bytes) -> None:
        """Raises what `MemberMedia.audio` raises, and TooManyRequests for too much of no use."""
        try:
            await self._media.audio(data)
        except BadInput:
            self._gate.check()
            raise

    def _parsed(self, text: str) -> m.ClientMessage:
        """Raises BadInput, TooLarge, and TooManyRequests for too many that cannot be read."""
        try:
            return m.parse_client_message(text)
        except BadInput:
            self._gate.check()
            raise

    def _count(self, message: m.ClientMessage) -> None:
        """Raises TooManyRequests."""
        if isinstance(message, _FREE):
            self._gate.check_free()
        else:
            self._gate.check()

    def _refuse(self, error: MediaServerError, about: str | None = None) -> None:
        self._report(error, about)
        if isinstance(error, TooManyRequests) and not self._gate.patient():
            self._end(WSCloseCode.POLICY_VIOLATION, "too many messages, for too long")

    async def _handle(self, message: m.ClientMessage) -> bool:
        match message:
            case m.Ping(id=id_):
                self._tell(m.Pong(id=id_, server_time=self._clock.wall_s(), seq=self._out.seq))
            case m.Offer():
                self._out.channels_anew()
                self._tell(await self._media.offer(message))
            case m.Candidate():
                await self._media.candidate(message)
            case m.AudioStart():
                self._tell(self._media.audio_start(message))
            case m.AudioStop():
                self._media.audio_stop()
            case m.Configure(options=options):
                self._media.configure(options)
            case m.Finalize():
                self._scope.spawn("finalize", self._finalize())
            case w.WatchOffer() | w.WatchCandidate() | w.WatchStop():
                self._media.watch.take(message, self._report)
            case m.Leave():
                return False
            case _:
                self._desk.take(message)
        return True

    async def _finalize(self) -> None:
        self._tell(await self._media.finalize())

    def _channel_text(self, label: str, text: str) -> None:
        """A text message came over a data channel: the same messages as on the socket."""
        self._scope.spawn(f"channel-{label}", self._take_channel(text))

    async def _take_channel(self, text: str) -> None:
        about: str | None = None
        try:
            parsed = self._parsed(text)
            about = name_of(parsed)
            self._count(parsed)
            if isinstance(parsed, m.Leave | m.Offer | m.AudioStart | w.WatchOffer):
                raise BadInput(f"`{parsed.type}` goes over the WebSocket")
            await self._handle(parsed)
        except MediaServerError as error:
            self._refuse(error, about)

    # ---- the end ------------------------------------------------------------------------------

    def _broken(self, name: str, error: BaseException) -> None:
        log.error("member.task_failed", task=name, error=type(error).__name__)

    def _end(self, code: int, detail: str) -> None:
        if self._closing is None:
            self._closing = (code, detail)
            self._ending = self._scope.spawn("end", self._send_away())

    async def _send_away(self) -> None:
        assert self._closing is not None
        code, detail = self._closing
        if code >= 4000:  # whoever reads is told why, and what became of its last commands
            await self._desk.answered(CLOSE_S / 2)
            self._out.close()
            if self._writing is not None:
                await asyncio.wait([self._writing], timeout=CLOSE_S / 2)
        await self._close_socket(code, detail)

    async def _close_socket(self, code: int, detail: str) -> None:
        stops = code == WSCloseCode.GOING_AWAY
        await self._socket.close(code, detail, STOP_CLOSE_S if stops else CLOSE_S)

    async def _stop_with_session(self) -> None:
        """The server ended the session: deliver what is pending, then say goodbye."""
        await self.session.ended.wait()
        if self._finishing:
            return
        self._out.close()
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=CLOSE_S)
        self._end(WSCloseCode.GOING_AWAY, "the server is stopping; connect again")

    async def _finish(self, reason: str) -> None:
        """Deliver what is pending (if somebody is still there to hear it) and let go of all."""
        self._finishing = True
        lost = reason == "lost"
        try:
            await self._media.stop(reason, CLOSE_TIMEOUT_S)
            await self.session.close(reason, CLOSE_TIMEOUT_S)
            if not lost and self._ending is None and not self._socket.closed:
                self._out.close()
                if self._writing is not None:
                    await asyncio.wait_for(self._writing, SEND_TIMEOUT_S)
        except TimeoutError:
            log.warning("member.goodbye_timeout", session_id=self.session.id)
        finally:
            await self._media.close(lost)
            if self._ending is not None:
                await asyncio.wait([self._ending], timeout=3 * CLOSE_S)
            await self._scope.aclose(timeout_s=2.0)
            if not self._socket.closed:
                await self._close_socket(WSCloseCode.OK, reason)
