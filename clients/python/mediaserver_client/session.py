"""A session in a room: publish audio, read captions, chat."""

import asyncio
import itertools
import os
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import aiohttp

from mediaserver_client.connection import endpoint
from mediaserver_client.door import Door, NamedDoor
from mediaserver_client.errors import (
    AnswerTimeout,
    ClientError,
    Refused,
    ServerUnreachable,
    SessionClosed,
)
from mediaserver_client.feed import Feed
from mediaserver_client.link import Link
from mediaserver_client.log import CaptionLog, Cursor
from mediaserver_client.messages import (
    MAX_CHAT_CHARACTERS,
    Caption,
    CaptionOptions,
    Chat,
    ChatSend,
    ErrorMessage,
    Pong,
    ServerMessage,
    Task,
    TrackEnded,
    Welcome,
)
from mediaserver_client.publication import Publication
from mediaserver_client.sources import Publishable, open_source
from mediaserver_client.timeline import Timeline
from mediaserver_client.transcript import Format, render

_FEED = 1000


def connect(
    server: str = "http://127.0.0.1:8080",
    *,
    room: str | None = None,
    name: str = "bot",
    api_key: str | None = None,
    connect_timeout_s: float = 10.0,
    reconnect_s: float = 60.0,
) -> "Session":
    """Return a session to be used with ``async with``; entering it connects.

    Without a `room` the session has one of its own. `api_key` defaults to the environment's
    MEDIASERVER_API_KEY. A connection that breaks is tried again for `reconnect_s`.

    Entering raises ServerUnreachable, Refused (wrong key, overloaded, …) or ProtocolError.
    """
    door = NamedDoor(
        endpoint(server, "/ws", websocket=True),
        {"name": name, "room": room or f"private-{secrets.token_hex(12)}"},
        api_key=api_key or os.environ.get("MEDIASERVER_API_KEY") or None,
        connect_timeout_s=connect_timeout_s,
    )
    return Session(
        server,
        door,
        alone=room is None,
        connect_timeout_s=connect_timeout_s,
        reconnect_s=reconnect_s,
    )


class Session:
    """What `connect` gives. All methods have to be called in the event loop that entered it."""

    def __init__(
        self,
        server: str,
        door: Door,
        *,
        alone: bool,
        connect_timeout_s: float,
        reconnect_s: float,
    ) -> None:
        self._server, self._alone, self._reconnect_s = server, alone, reconnect_s
        self._timeout_s = connect_timeout_s
        self._link = Link(door, reconnect_s=reconnect_s, on_message=self._receive)
        self._welcome: Welcome | None = None
        self._log = CaptionLog()
        self._timeline = Timeline()
        self._chats: Feed[Chat] = Feed(_FEED)
        self._chats_seen: deque[tuple[str, float]] = deque(maxlen=200)
        self._events: Feed[ServerMessage] = Feed(_FEED)
        self._refusals: dict[str, ErrorMessage] = {}
        self._chat_ids = (f"c{number}" for number in itertools.count(1))
        self._publication: Publication | None = None
        self._past_tracks: deque[str] = deque(maxlen=_FEED)

    # ---- life ------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self._link.open()
        await self._link.current()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close(in_good_order=kind is None)

    async def close(self, *, in_good_order: bool = True) -> None:
        """Stop publishing (pending finals are waited for), leave the room and disconnect.

        Raises what went wrong with publishing if nobody was told yet. Idempotent.
        """
        publication = self._publication
        try:
            if publication is not None and not publication.done:
                if in_good_order:
                    await publication.stop()
                else:
                    await publication.abort()
        finally:
            await self._link.close(in_good_order=in_good_order)
        if in_good_order and publication is not None and publication.untold_failure is not None:
            publication.raise_failure()

    @property
    def session_id(self) -> str:
        """The id of the present connection's session; another one after a reconnect."""
        return self.welcome.session_id

    @property
    def room(self) -> str:
        """The room's name."""
        return self.welcome.room

    @property
    def welcome(self) -> Welcome:
        """How the server greeted the newest connection."""
        connection = self._link.connection
        if connection is not None:
            self._welcome = connection.welcome
        if self._welcome is None:
            raise SessionClosed("not connected yet: use `async with connect(…) as session`")
        return self._welcome

    @property
    def reconnects(self) -> int:
        """How often the connection was replaced."""
        return self._link.reconnects

    # ---- publishing ------------------------------------------------------------------------

    async def publish(
        self,
        source: Publishable,
        *,
        language: str | None = None,
        task: Task = "transcribe",
        interim: bool = True,
        endpointing_ms: int = 500,
        realtime: bool | None = None,
        sample_rate_hz: int = 16_000,
        channels: int = 1,
        keep_s: float = 60.0,
    ) -> Publication:
        """Begin to publish `source` and return at once; captions come while it is published.

        `source` is a path, an open binary file, bytes (of a file, or raw PCM), an async iterator
        of PCM, or any `AudioSource` (such as `Microphone()`). Raw PCM is 16-bit little-endian;
        `sample_rate_hz` and `channels` describe it.

        `realtime` sends files and bytes at the speed of speech (the default for them) or, when
        False, as fast as the server takes them. Iterators set their own pace.

        `keep_s`: how much audio without finals is kept to send it again after a broken
        connection. One source at a time; raises Refused, AudioError, SessionClosed.
        """
        if self._publication is not None and not self._publication.done:
            raise ClientError("this session publishes already; stop() that first, or connect twice")
        if self._publication is not None:
            self._past_tracks.extend(self._publication.tracks)
        opened = await asyncio.to_thread(open_source, source, sample_rate_hz, channels)
        paced = isinstance(source, str | os.PathLike | bytes | bytearray) or hasattr(source, "read")
        self._publication = publication = Publication(
            self._link,
            self._log,
            opened,
            CaptionOptions(
                language=language, task=task, interim=interim, endpointing_ms=endpointing_ms
            ),
            realtime=paced if realtime is None else realtime,
            keep_s=keep_s,
            reconnect_s=self._reconnect_s,
        )
        try:
            await publication.started()
        except asyncio.CancelledError:
            await publication.abort()
            raise
        return publication

    async def finalize(self, timeout_s: float = 30.0) -> None:
        """Turn all audio published so far into finals. Raises AnswerTimeout."""
        if self._publication is not None and not self._publication.done:
            await self._publication.finalize(timeout_s)

    # ---- reading ---------------------------------------------------------------------------

    async def captions(self, *, finals_only: bool = False) -> AsyncIterator[Caption]:
        """Yield everybody's captions, from the start of the session.

        A caption replaces the earlier one of its `caption_id`; with `finals_only` each comes
        once, complete. In a room it goes on until the session is closed; without a room, where
        nobody else can speak, it ends with what this session publishes. Raises SessionLost and
        what made publishing fail.
        """
        cursor = Cursor()
        while True:
            caption = self._log.next(cursor, finals_only=finals_only)
            if caption is not None:
                if caption.words or not finals_only:
                    yield caption
                continue
            publication = self._publication
            if publication is not None and publication.done:
                if publication.untold_failure is not None:
                    publication.raise_failure()
                if self._alone:
                    return
            if self._link.over is not None:
                self._raise_unless_closed()
                return
            await self._link.pulse.wait()

    def transcript(self, format: Format = "text") -> str:
        """Return everybody's finals so far as text, vtt, srt or json.

        Times count from the first sample of the track that began first.
        """
        captions = self._timeline.arrange(self._log.finals)
        speakers = len({caption.speaker for caption in captions}) > 1
        return render(captions, format, speakers=speakers)

    async def fetch_transcript(
        self, format: Format = "vtt", *, session_id: str | None = None
    ) -> str:
        """Return the transcript that the server keeps of this (or another) session.

        Raises Refused (such as `not_found`), ServerUnreachable.
        """
        if self._link.http is None:
            raise SessionClosed("not connected yet")
        ending = {"text": "txt"}.get(format, format)
        path = f"/api/v1/sessions/{session_id or self.session_id}/transcript.{ending}"
        try:
            async with asyncio.timeout(self._timeout_s):
                async with self._link.http.get(endpoint(self._server, path)) as response:
                    response.raise_for_status()
                    return await response.text()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ServerUnreachable(f"cannot fetch the transcript: {error!r}") from None

    async def events(self) -> AsyncIterator[ServerMessage]:
        """Yield the server's messages from now on: Status, Metrics, TrackStarted, ErrorMessage, …

        Captions are as the server sent them; `captions` is better for those. A reader that is
        1000 messages late misses the oldest.
        """
        position = self._events.count
        async for _, message in self._follow(self._events, position):
            yield message

    async def chats(self) -> AsyncIterator[Chat]:
        """Yield chat messages, own ones too, from the start of the session."""
        async for _, message in self._follow(self._chats, 0):
            yield message

    # ---- chat ------------------------------------------------------------------------------

    async def chat(self, text: str, *, timeout_s: float = 10.0) -> Chat:
        """Say `text` to the room; return it as the room got it. Raises Refused, AnswerTimeout."""
        if not 1 <= len(text) <= MAX_CHAT_CHARACTERS:
            raise ClientError(f"a chat message has 1 to {MAX_CHAT_CHARACTERS} characters")
        client_id = next(self._chat_ids)
        position = self._chats.count
        self._refusal_of(client_id)  # an earlier message's, which nobody waits for any more
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._link.current()
                await connection.send(ChatSend(text=text, id=client_id))
                while True:
                    while (found := self._chats.after(position)) is not None:
                        position, chat = found
                        if chat.client_id == client_id:
                            return chat
                    if (refusal := self._refusal_of(client_id)) is not None:
                        raise Refused(refusal.problem)
                    if connection.closed:
                        raise SessionClosed("the connection broke; it may not have been said")
                    await self._link.pulse.wait()
        except TimeoutError:
            raise AnswerTimeout(f"the room did not get it within {timeout_s:g} s") from None

    def _refusal_of(self, client_id: str) -> ErrorMessage | None:
        return self._refusals.pop(client_id, None) or self._refusals.pop(ChatSend.TYPE, None)

    # ---- the work --------------------------------------------------------------------------

    async def _follow(self, feed: Feed[Chat] | Feed[ServerMessage], position: int):  # type: ignore[no-untyped-def]
        while True:
            if (found := feed.after(position)) is not None:
                position = found[0]
                yield found
            elif self._link.over is not None:
                self._raise_unless_closed()
                return
            else:
                await self._link.pulse.wait()

    def _raise_unless_closed(self) -> None:
        if self._link.over is not None and not isinstance(self._link.over, SessionClosed):
            raise self._link.over

    def _receive(self, message: ServerMessage) -> None:
        publication = self._publication
        mine = publication is not None and publication.receive(message)
        match message:
            case Caption() if mine or message.track_id not in self._past_tracks:
                if publication is None or message.track_id not in publication.tracks[1:]:
                    self._timeline.heard(message, time.time())
                if not mine:
                    self._log.apply(message)
            case TrackEnded() if not mine:
                self._log.drop_open(message.track_id)
            case Chat() if (message.id, message.sent_at) not in self._chats_seen:
                # Who comes back into a room is told the newest messages again.
                self._chats_seen.append((message.id, message.sent_at))
                self._chats.put(message)
            case ErrorMessage() if message.in_reply_to is not None:
                if len(self._refusals) < _FEED:
                    self._refusals[message.in_reply_to] = message
        if not isinstance(message, Pong):
            self._events.put(message)
