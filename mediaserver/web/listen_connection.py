"""One ``/v1/listen`` connection: three tasks (read, feed, write) between the socket and the tracks.

The reader puts messages into the inbox, the feeder decodes them in order, the writer sends the
outbox. Whatever ends the connection does so by one `Ending`; the first one counts.
"""

import asyncio
import datetime
from dataclasses import dataclass
from typing import assert_never

from aiohttp import WSCloseCode, WSMsgType, web

from mediaserver.captions.events import Ended, TrackEvent
from mediaserver.kernel.channels import ChannelClosed, Outbox
from mediaserver.kernel.errors import (
    BadInput,
    MediaServerError,
    SlowConsumer,
    TooLarge,
    TooManyRequests,
)
from mediaserver.kernel.logging import bind, get_logger
from mediaserver.kernel.tasks import TaskScope
from mediaserver.protocol.deepgram import (
    MAX_MESSAGE_BYTES,
    ClientMessage,
    CloseStream,
    Configure,
    ConfigureFailure,
    ConfigureSuccess,
    Finalize,
    KeepAlive,
    ListenError,
    ListenMessage,
    Metadata,
    Results,
    ResultsMetadata,
    parse_listen_message,
)
from mediaserver.protocol.deepgram_query import ListenQuery
from mediaserver.rtc.audio import DecoderPool
from mediaserver.sessions.deepgram import ChannelMessage
from mediaserver.sessions.session import Session
from mediaserver.web import keys
from mediaserver.web.floods import FloodGate
from mediaserver.web.listen_channels import ListenChannels
from mediaserver.web.listen_inbox import Inbox, ListenLimits
from mediaserver.web.sockets import TAKEN_AT_ONCE, ClientSocket

log = get_logger(__name__)

_MESSAGE_OVERHEAD_BYTES = 128
_LOOK_FOR_GAPS_S = 0.1
_LET_GO_S = 5.0
_STOPPING_CLOSE_S = 0.3
_FEATURES = ("punctuate", "smart_format")
_MAX_ECHO_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection ends."""

    code: int = WSCloseCode.OK
    reason: str = ""
    error: ListenError | None = None
    session_reason: str = "ended"
    listens: bool = True
    """Whether the client is still there and reads: then it gets what is pending first."""


_GONE = Ending(WSCloseCode.ABNORMAL_CLOSURE, "gone", session_reason="lost", listens=False)
_LEFT = Ending(WSCloseCode.OK, "left", session_reason="left", listens=False)
_STOPPING = Ending(WSCloseCode.GOING_AWAY, "the server is stopping; connect again")
_FLOODS = Ending(
    WSCloseCode.POLICY_VIOLATION,
    "TOO_MANY_REQUESTS: too many messages, for too long",
    session_reason="failed",
    listens=False,
)


def _failure(code: int, variant: str, description: str) -> Ending:
    error = ListenError(variant=variant, description=description)
    return Ending(code, f"{variant}: {description}", error, session_reason="failed")


def _ending_of(error: MediaServerError) -> Ending:
    if isinstance(error, BadInput) and not isinstance(error, TooLarge):
        return _failure(WSCloseCode.POLICY_VIOLATION, "DATA-0000", error.detail)
    return _failure(error.ws_close_code, error.specific_code.upper(), error.detail)


def _too_large(size: int) -> TooLarge:
    return TooLarge(f"a message of {size} bytes; the limit is {MAX_MESSAGE_BYTES}")


class ListenConnection:
    """Serves one client from the upgrade to the close."""

    def __init__(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        session: Session,
        query: ListenQuery,
        pool: DecoderPool,
        metadata: ResultsMetadata,
        limits: ListenLimits,
    ) -> None:
        clock = request.app[keys.CLOCK]
        self._gate = FloodGate(clock)
        self._socket = ClientSocket(request, socket, self._gate, clock, self._flooded)
        self._session = session
        self._metadata = metadata
        self._limits = limits
        self._watches_gaps = query.utterance_end_ms is not None
        self._features = {"punctuate": query.punctuate, "smart_format": query.smart_format}
        self._created = datetime.datetime.now(datetime.UTC)
        self._inbox: Inbox[bytes | Finalize | Configure | Ending] = Inbox(limits.inbox_bytes)
        self._outbox: Outbox[ListenMessage] = Outbox(limits.outbox_messages)
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._track_failed = False
        self._scope = TaskScope(f"listen {metadata.request_id}", on_failure=self._task_failed)
        self._channels = ListenChannels(
            session, query, pool, metadata, limits, self._tell_all, self._heard
        )

    async def run(self) -> None:
        """Serve until the client is done, is lost, or is sent away; then clean up."""
        with bind(request_id=self._metadata.request_id, session_id=self._session.id):
            writing = self._scope.spawn("write", self._write())
            self._scope.spawn("read", self._read())
            feeding = self._scope.spawn("feed", self._feed())
            if self._watches_gaps:
                self._scope.spawn("gaps", self._note_gaps())
            ending = _GONE
            try:
                ending = await self._ending
                await _cancel(feeding)
                if ending.listens:
                    ending = await self._say_goodbye(ending, writing)
                await self._close_socket(ending)
            finally:
                await asyncio.shield(self.release(ending.session_reason))
            log.info(
                "listen.closed",
                code=int(ending.code),
                audio_s=round(self._channels.duration_s, 1),
                dropped=self._outbox.dropped,
            )

    async def release(self, session_reason: str) -> None:
        """Give back all that is held. The session's pending finals still go to its transcript."""
        self._outbox.close()
        self._inbox.close()
        await self._scope.aclose(_LET_GO_S)
        await self._channels.close()
        await self._session.close(session_reason, self._limits.drain_s)

    # ---- in

    async def _read(self) -> None:
        idle_s: float | None = self._limits.idle_s
        while True:
            try:
                message = await self._socket.receive(idle_s)
            except TimeoutError:
                idle_s = None
                description = f"no audio and no KeepAlive for {self._limits.idle_s:g} s"
                await self._inbox.put(_failure(WSCloseCode.INTERNAL_ERROR, "NET-0001", description))
                continue  # read on, so that pings are answered while the last finals come
            if message is None:
                ok = self._socket.close_code == WSCloseCode.OK
                await self._inbox.put(_LEFT if ok else _GONE)
                return
            if len(message.data) > MAX_MESSAGE_BYTES:
                idle_s = None
                await self._inbox.put(_ending_of(_too_large(len(message.data))))
                continue
            match message.type:
                case WSMsgType.BINARY if message.data:
                    size = len(message.data) + _MESSAGE_OVERHEAD_BYTES
                    await self._inbox.put(message.data, size)
                case WSMsgType.BINARY:
                    idle_s = None
                    await self._inbox.put(Ending())
                case WSMsgType.TEXT:
                    if await self._take_text(message.data):
                        idle_s = None

    async def _take_text(self, text: str) -> bool:
        """Handle a text message; True when it says that no more audio comes."""
        try:
            message = self._parsed(text)
        except TooManyRequests as error:
            self._flooded(error, text)
            return False
        except BadInput as error:
            self._report(error, text)
            return False
        match message:
            case KeepAlive():
                return False
            case CloseStream():
                await self._inbox.put(Ending())
                return True
            case Finalize() | Configure():
                await self._inbox.put(message, len(text) + _MESSAGE_OVERHEAD_BYTES)
                return False
            case never:
                assert_never(never)

    def _parsed(self, text: str) -> ClientMessage:
        """Read a message and count it. Raises BadInput, TooManyRequests."""
        try:
            message = parse_listen_message(text)
        except BadInput:
            self._gate.check_free()
            raise
        if not isinstance(message, CloseStream):
            self._gate.check_free()
        return message

    def _flooded(self, error: TooManyRequests, text: str = "") -> None:
        self._report(error, text)
        if not self._gate.patient():
            self._end(_FLOODS)

    async def _feed(self) -> None:
        """Take the inbox in order until it says how to end."""
        taken = 0
        try:
            while True:
                taken += 1
                if taken % TAKEN_AT_ONCE == 0:
                    await asyncio.sleep(0)  # others have their turn
                match await self._inbox.get():
                    case bytes() as data:
                        await self._channels.feed(data)
                    case Finalize() as finalize:
                        self._finalize(finalize)
                    case Configure() as configure:
                        self._configure(configure)
                    case Ending() as ending:
                        self._inbox.close()
                        await self._channels.flush()
                        self._end(ending)
                        return
        except MediaServerError as error:
            log.info("listen.refused", code=error.specific_code)
            self._end(_ending_of(error))

    def _finalize(self, message: Finalize) -> None:
        try:
            answering = self._channels.finalize(message.channel)
        except MediaServerError as error:
            self._report(error, message.model_dump_json())
            return
        self._scope.spawn("finalize", answering)

    def _configure(self, message: Configure) -> None:
        features = message.features or {}
        unknown = [name for name in features if name not in _FEATURES]
        if message.keyterms is not None or unknown:
            refused = "keyterms" if message.keyterms is not None else unknown[0]
            self._tell(
                ConfigureFailure(
                    request_id=self._metadata.request_id,
                    code="CONFIGURE_KEYTERMS_NOT_SUPPORTED"
                    if refused == "keyterms"
                    else "CONFIGURE_INTERNAL_ERROR",
                    description=f"{refused[:60]} cannot be configured here; "
                    f"{' and '.join(_FEATURES)} can",
                )
            )
            return
        self._features |= features
        self._channels.configure(punctuated=any(self._features.values()))
        self._tell(ConfigureSuccess(request_id=self._metadata.request_id))

    async def _note_gaps(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_FOR_GAPS_S)
            self._channels.note_gaps()

    # ---- out

    def _tell_all(self, messages: list[ChannelMessage]) -> None:
        for message in messages:
            self._tell(message)

    def _tell(self, message: ListenMessage) -> None:
        """Queue a message; a newer interim result replaces an unsent one of its channel."""
        try:
            if isinstance(message, Results):
                key = ("interim", message.channel_index[0])
                if message.is_final:
                    self._outbox.discard(key)
                    self._outbox.put(message)
                else:
                    self._outbox.put(message, key)
            else:
                self._outbox.put(message)
        except SlowConsumer as error:
            self._send_away(error)

    def _report(self, error: MediaServerError, text: str) -> None:
        self._tell(
            ListenError(
                variant="SchemaError",
                description=error.detail,
                message=text[:_MAX_ECHO_CHARACTERS],
            )
        )

    def _heard(self, event: TrackEvent) -> None:
        if isinstance(event, Ended):
            self._track_failed |= event.reason == "failed"
            self._end(_STOPPING)  # if it is not we who end it, it is the server

    async def _write(self) -> None:
        while True:
            try:
                message = await self._outbox.get()
            except ChannelClosed:
                return
            text = message.model_dump_json(exclude_none=True)
            try:
                await self._socket.send(text, self._limits.send_s)
            except TimeoutError:
                self._send_away(SlowConsumer("messages are not read"))
                return
            except ConnectionError:
                return  # the reader notices as well

    # ---- the end

    def _end(self, ending: Ending) -> None:
        if not self._ending.done():
            self._ending.set_result(ending)

    def _send_away(self, error: SlowConsumer) -> None:
        self._end(Ending(error.ws_close_code, error.detail, session_reason="lost", listens=False))

    def _task_failed(self, _name: str, _error: BaseException) -> None:
        self._end(_failure(WSCloseCode.INTERNAL_ERROR, "INTERNAL", "the server failed"))

    async def _say_goodbye(self, ending: Ending, writing: asyncio.Task[None]) -> Ending:
        """Send the pending finals and the last words."""
        await self._session.close(ending.session_reason, self._limits.drain_s)
        if self._track_failed and ending.error is None:
            ending = _failure(
                WSCloseCode.INTERNAL_ERROR, "NET-0000", "the last words could not be transcribed"
            )
        if ending.error is None:
            self._channels.note_end()
        self._tell(ending.error if ending.error is not None else self._last_words())
        self._outbox.close()
        await asyncio.wait([writing], timeout=self._limits.send_s)
        return ending

    def _last_words(self) -> Metadata:
        uuid = self._metadata.model_uuid
        created = self._created.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return Metadata(
            request_id=self._metadata.request_id,
            sha256=self._channels.sha256,
            created=created,
            duration=round(self._channels.duration_s, 3),
            channels=len(self._channels),
            models=(uuid,),
            model_info={uuid: self._metadata.model_info},
        )

    async def _close_socket(self, ending: Ending) -> None:
        patience_s = self._limits.close_s
        if ending is _STOPPING:  # a server that stops does not hear the client's answer any more
            patience_s = min(_STOPPING_CLOSE_S, patience_s)
        self._inbox.close()  # the reader may wait for room in it
        await self._socket.close(ending.code, ending.reason, patience_s)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task], timeout=_LET_GO_S)
