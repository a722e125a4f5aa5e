"""A session in a room that survives its connections, with everything a member can do."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Self

from mediaserver_client.api import Api
from mediaserver_client.commands import RoomCommands
from mediaserver_client.connection import Connection
from mediaserver_client.credentials import TokenSource, early_s, expiry_of
from mediaserver_client.door import TicketDoor
from mediaserver_client.errors import ClientError, SessionClosed
from mediaserver_client.messages import Chat, ServerMessage
from mediaserver_client.room_commands import Authenticate
from mediaserver_client.room_events import Reaction, SomebodyTyping
from mediaserver_client.room_state import RoomState
from mediaserver_client.room_types import (
    Grants,
    MemberInfo,
    PlaybackState,
    QueueItem,
    RoomRole,
    RoomSettings,
)
from mediaserver_client.session import Session
from mediaserver_client.transcript import Format

Listener = Callable[[ServerMessage], None]
_AUTH_RETRY_S = 5.0
_LOOK_S = 60.0


def join_room(
    servers: str | Sequence[str],
    room: str,
    *,
    name: str = "bot",
    invitation: str | None = None,
    api_key: str | None = None,
    token: str | TokenSource | None = None,
    user: str | None = None,
    password: str | None = None,
    connect_timeout_s: float = 10.0,
    reconnect_s: float = 60.0,
) -> "RoomSession":
    """Return a session in `room` to be used with ``async with``; entering it joins.

    `servers` is a URL, or several of servers that share their rooms: after a loss the session goes
    on with the next one that answers. Come with the token of an `invitation`, with `user` and
    `password`, with an `api_key` (default: the environment's MEDIASERVER_API_KEY), with a room
    `token` (or a function that gets a fresh one), or with nothing where the server is open.

    A connection that breaks is tried again for `reconnect_s`, and what happened meanwhile is made
    up for, in order, once. Entering raises ServerUnreachable, Refused (`banned`,
    `invitation_needed`, `no_room`, …) or ProtocolError.
    """
    api = Api(
        servers,
        api_key=api_key,
        token=token,
        user=user,
        password=password,
        timeout_s=connect_timeout_s,
    )
    return RoomSession(
        api,
        room,
        name=name,
        invitation=invitation,
        connect_timeout_s=connect_timeout_s,
        reconnect_s=reconnect_s,
    )


class RoomSession(RoomCommands, Session):
    """What `join_room` gives. All methods have to be called in the event loop that entered it.

    Commands (see `RoomCommands`) return when the room has done them; they raise Refused (with the
    reason in `code`: `not_granted`, `muted`, `slow_mode`, `stale`, `no_member`, …), AnswerTimeout,
    and SessionClosed where the connection broke, so that nobody knows.
    """

    def __init__(
        self,
        api: Api,
        room: str,
        *,
        name: str,
        invitation: str | None,
        connect_timeout_s: float,
        reconnect_s: float,
    ) -> None:
        self.api = api
        """Requests over HTTP to the same servers, by the same credentials."""
        self.state = RoomState()
        """The room as it is known now."""
        self._listeners: list[Listener] = []
        self._authenticating: asyncio.Task[None] | None = None
        door = TicketDoor(
            api,
            room,
            name,
            invitation=invitation,
            connect_timeout_s=connect_timeout_s,
            resume=self.state.resume,
            welcomed=self.state.welcomed,
        )
        RoomCommands.__init__(self)
        Session.__init__(
            self,
            api.server,
            door,
            alone=False,
            connect_timeout_s=connect_timeout_s,
            reconnect_s=reconnect_s,
        )

    # ---- life ------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.api.__aenter__()
        try:
            await Session.__aenter__(self)
            await self.until(lambda: self.state.room is not None or not self.grants.can_subscribe)
        except BaseException:
            await self._link.close(in_good_order=False)
            await self.api.close()
            raise
        self._authenticating = asyncio.create_task(
            self._keep_authenticated(), name="mediaserver-client-auth"
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close(in_good_order=kind is None)

    async def close(self, *, in_good_order: bool = True) -> None:
        """Leave the room; as `Session.close`."""
        try:
            await Session.close(self, in_good_order=in_good_order)
        finally:
            if self._authenticating is not None:
                self._authenticating.cancel()
                await asyncio.wait([self._authenticating], timeout=5.0)
            await self.api.close()

    @property
    def over(self) -> ClientError | None:
        """Why the session ended (SentAway: kicked, banned, room closed, …); None while it goes on.

        Iterators end without an error where the server ended the session.
        """
        return self._link.over

    # ---- the room --------------------------------------------------------------------------

    @property
    def member_id(self) -> str:
        """One's own id; the same after a reconnect."""
        return self.state.member_id

    @property
    def role(self) -> RoomRole:
        """One's own role."""
        return self.state.role

    @property
    def grants(self) -> Grants:
        """What one may do now."""
        return self.state.grants

    @property
    def members(self) -> tuple[MemberInfo, ...]:
        """Who is in the room, oneself too, in the order of coming."""
        return tuple(self.state.members.values())

    @property
    def queue(self) -> tuple[QueueItem, ...]:
        """What is to be watched."""
        return self.state.queue

    @property
    def playback(self) -> PlaybackState | None:
        """What is played; see `Follower` for where it is now."""
        return self.state.playback

    @property
    def settings(self) -> RoomSettings | None:
        """What the room's host set."""
        return self.state.settings

    @property
    def chat_history(self) -> tuple[Chat, ...]:
        """Messages as they are now, with edits and reactions, oldest first."""
        return tuple(self.state.chat.values())

    def member(self, name_or_id: str) -> MemberInfo:
        """Return who has this id, or this name. Raises ClientError."""
        for member in self.state.members.values():
            if name_or_id in (member.member_id, member.name):
                return member
        raise ClientError(f"there is no {name_or_id!r} in the room")

    async def until(self, ready: Callable[[], object], timeout_s: float | None = None) -> None:
        """Return as soon as `ready()` is true; it is asked again whenever something happens.

        ``await room.until(lambda: len(room.members) >= 3)``. Raises TimeoutError, and why the
        session ended.
        """
        async with asyncio.timeout(timeout_s):
            await self._link.pulse.until(lambda: ready() or self._link.over)
        if self._link.over is not None and not ready():
            raise self._link.over

    async def chats(self, *, history: bool = True, own: bool = True) -> AsyncIterator[Chat]:
        """Yield chat messages as they come, each once.

        Without `history` only those that came after oneself, without `own` only those of others:
        what a bot that answers wants.
        """
        async for chat in Session.chats(self):
            old = not history and self.state.is_history(chat)
            if not old and (own or chat.member_id != self.member_id):
                yield chat

    async def reactions(self) -> AsyncIterator[Reaction]:
        """Yield emoji that float over the player, from now on."""
        async for message in self.events():
            if isinstance(message, Reaction):
                yield message

    async def typing_members(self) -> AsyncIterator[SomebodyTyping]:
        """Yield who begins and ends to write, from now on."""
        async for message in self.events():
            if isinstance(message, SomebodyTyping):
                yield message

    async def fetch_transcript(
        self, format: Format = "vtt", *, session_id: str | None = None
    ) -> str:
        """As `Session.fetch_transcript`."""
        ending = {"text": "txt"}.get(format, format)
        session = session_id or self.session_id
        return await self.api.text(f"/api/v1/sessions/{session}/transcript.{ending}")

    # ---- the work --------------------------------------------------------------------------

    async def connection(self) -> Connection:
        """Return the open connection, waiting for one. Raises why there will be none."""
        return await self._link.current()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every message, at once as it arrives; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _receive(self, message: ServerMessage) -> None:
        self._answered(message)
        if self.state.apply(message):
            Session._receive(self, message)
            for listener in tuple(self._listeners):
                listener(message)

    async def authenticate(self) -> float | None:
        """Renew the credentials and give the new ones to this connection.

        Returns when they expire, Unix seconds. Happens by itself before the old ones expire.
        """
        token = await self.api.credentials.authorization(renew=True)
        if token is None:
            return None
        await self._do(Authenticate(token=token))
        return expiry_of(token)

    async def _keep_authenticated(self) -> None:
        """Send a new token over each connection before its old one expires."""
        welcome, expires_at = None, None
        while self._link.over is None:
            if self.welcome is not welcome:
                welcome = self.welcome
                expires_at = welcome.expires_at
            if expires_at is None or not self.api.credentials.renewable:
                await self._link.pulse.wait(_LOOK_S)
                continue
            left_s = expires_at - time.time()
            wait_s = left_s - early_s(900.0) if left_s > 2 * early_s(900.0) else left_s * 0.5
            if wait_s > 1.0:
                await self._link.pulse.wait(min(wait_s, _LOOK_S))
                continue
            try:
                expires_at = await self.authenticate()
            except SessionClosed:
                continue
            except ClientError:
                await asyncio.sleep(_AUTH_RETRY_S)  # until the server closes with 4401
