"""A member's commands to its room, over its WebSocket session."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine

from mediaserver.identity.principal import Principal
from mediaserver.identity.service import Identity
from mediaserver.kernel.errors import (
    BadInput,
    Forbidden,
    MediaServerError,
    NotFound,
    TooManyRequests,
    Unavailable,
)
from mediaserver.kernel.tasks import TaskScope
from mediaserver.library.service import Library
from mediaserver.protocol import messages as m
from mediaserver.protocol import room_commands as c
from mediaserver.protocol.problems import ErrorMessage, problem_of
from mediaserver.protocol.room_events import Ack, ClockPong, Reaction, SomebodyTyping
from mediaserver.protocol.videos import VideoOpen, VideoSource
from mediaserver.rooms.decide import MemberCommand
from mediaserver.rooms.decision import Limit, Watch
from mediaserver.rooms.grants import ALL, check
from mediaserver.rooms.limits import TokenBucket
from mediaserver.rooms.presence import LocalMember
from mediaserver.rooms.room import CLOSE_EXPIRED, CLOSE_SENT_AWAY, Room
from mediaserver.web.door import subject_of

MAX_PENDING = 100
"""Commands of one member that wait for Redis."""
LOOK_S = 2.0
"""How often a connection's credentials are looked at."""

RESUMES_HZ, RESUMES_AT_ONCE = 0.5, 4.0
"""An answer to `room.resume` may be a thousand events."""
OPENS_HZ, OPENS_AT_ONCE = 0.5, 10.0
"""Each `video.open` asks the database."""

RoomMessage = (
    MemberCommand
    | c.Typing
    | c.React
    | c.ClockPing
    | c.PlaybackReport
    | c.RoomResume
    | c.Authenticate
    | VideoOpen
)


class RoomDesk:
    """Takes one member's commands: orders them, answers them."""

    def __init__(
        self,
        room: Room,
        member: LocalMember,
        principal: Principal,
        tell: Callable[[m.ServerMessage], None],
        end: Callable[[int, str], None],
        identity: Identity,
        library: Library,
        scope: TaskScope,
        now_s: Callable[[], float],
    ) -> None:
        self._room = room
        self._member = member
        self._principal = principal
        self._tell = tell
        self._end = end
        self._identity = identity
        self._library = library
        self._scope = scope
        self._now_s = now_s
        self._pending: set[asyncio.Task[None]] = set()
        self._resumes = TokenBucket(RESUMES_HZ, RESUMES_AT_ONCE)
        self._opens = TokenBucket(OPENS_HZ, OPENS_AT_ONCE)

    @property
    def principal(self) -> Principal:
        """As whom the member is here, by its newest credentials."""
        return self._principal

    @property
    def _id(self) -> str:
        return self._member.record.member_id

    def take(self, message: RoomMessage) -> None:
        """Take a command; what has to wait for Redis is answered later, in order.

        Raises Forbidden, TooManyRequests.
        """
        match message:
            case c.ClockPing(t0=t0):
                self._clock_ping(t0)
            case c.Typing(typing=typing):
                check(self._member.grants, "can_chat", self._member.record)
                told = SomebodyTyping(member_id=self._id, typing=typing)
                self._room.tell(told, ("typing", self._id), but=self._id)
            case c.React(emoji=emoji):
                check(self._member.grants, "can_react")
                reaction = Reaction(member_id=self._id, emoji=emoji)
                self._room.tell(reaction, ("reaction", id(message)))
            case c.PlaybackReport(round_trip_ms=round_trip_ms):
                self._room.round_trips_s[self._id] = min(round_trip_ms / 1000, 10.0)
            case c.RoomResume():
                self._resume(message)
            case c.Authenticate():
                self._later(self._authenticate(message), message)
            case VideoOpen():
                self._open_video(message)
            case _:
                self._later(self._command(message), message)

    def _clock_ping(self, t0: float) -> None:
        at = self._now_s()
        if not self._member.record.watches:
            self._member.record = self._member.record.model_copy(update={"watches": True})
            self._room.defer(Watch(self._id))
        self._tell(ClockPong(t0=t0, t1=at, t2=self._now_s()))

    def _resume(self, message: c.RoomResume) -> None:
        """Tell again what happened after an event. Raises Forbidden, TooManyRequests."""
        check(self._member.grants, "can_subscribe")
        now_s = self._now_s()
        if not self._resumes.take(now_s):
            raise TooManyRequests("this was told just now", retry_after_s=1 / RESUMES_HZ)
        for told in self._room.replica.after(message.log_id, message.seq, now_s):
            self._tell(told)

    def _open_video(self, message: VideoOpen) -> None:
        """Raises BadInput, Forbidden, NotFound, TooManyRequests."""
        check(self._member.grants, "can_subscribe")
        if not self._opens.take(self._now_s()):
            raise TooManyRequests(
                "videos are opened too often; keep the answer for as long as it is good",
                retry_after_s=1 / OPENS_HZ,
            )
        queue = self._room.replica.view.queue
        item = next((item for item in queue if item.item_id == message.item_id), None)
        if item is None:
            raise NotFound("there is no such item in the queue (any more)", code="no_item")
        if item.kind != "vod" or item.video_id is None:
            raise BadInput(
                f"this item is of kind {item.kind}; only those of kind vod are opened",
                code="not_a_video",
            )
        self._later(self._tell_source(message, item.video_id), message)

    async def _tell_source(self, message: VideoOpen, video_id: str) -> None:
        """Raises NotFound, Conflict, Unavailable."""
        source = await self._library.sign(video_id, subject=self._id)
        self._tell(VideoSource(id=message.id, item_id=message.item_id, source=source))

    def _later(self, work: Coroutine[None, None, None], message: RoomMessage) -> None:
        """Do it in a task of its own; the room's commits keep the order."""
        if len(self._pending) >= MAX_PENDING:
            work.close()
            raise TooManyRequests(f"{MAX_PENDING} commands wait for an answer; send fewer at once")
        task = self._scope.spawn("command", self._answer(work, message))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def answered(self, timeout_s: float) -> None:
        """Wait until all commands so far are answered."""
        if self._pending:
            await asyncio.wait(list(self._pending), timeout=timeout_s)

    async def _answer(self, work: Coroutine[None, None, None], message: RoomMessage) -> None:
        try:
            await work
        except MediaServerError as error:
            self._tell(ErrorMessage(problem=problem_of(error), in_reply_to=name_of(message)))

    async def _command(self, message: MemberCommand) -> None:
        done = await self._room.command(self._id, message)
        await self._end_tokens(message, [member.subject for member in done.decision.removed])
        asked = getattr(message, "id", None)
        if asked is not None:
            self._tell(Ack(id=asked, seq=done.seq))

    async def _end_tokens(self, message: MemberCommand, removed: list[str]) -> None:
        """Who was sent away does not come back by the token that it came by."""
        guests, room = self._identity.guests, self._room.name
        match message:
            case c.MemberKick():
                await guests.kicked(room, removed)
            case c.MemberBan():
                await guests.banned(room, removed)
            case c.RoomCloseCommand():
                await guests.closed(room)
            case _:
                pass

    # ---- credentials --------------------------------------------------------------------------

    async def _authenticate(self, message: c.Authenticate) -> None:
        """Raises Unauthorized, Forbidden, Unavailable."""
        principal = await self._identity.verify_bearer(message.token)
        if subject_of(principal) != self._member.record.subject:
            raise Forbidden("this token is somebody else's", code="wrong_subject")
        if principal.room not in (None, self._room.name) or not principal.may("rooms"):
            raise Forbidden("this token is not for this room", code="wrong_room")
        came_by = self._principal.invitation_id
        if principal.invitation_id is None and came_by is not None:  # it still ends with that
            update = {"room": self._room.name, "invitation_id": came_by}
            principal = principal.model_copy(update=update)
        self._principal = principal
        grants = principal.grants if principal.grants is not None else ALL
        if self._member.limit(grants, self._room.replica.view.settings):
            self._room.regranted(self._member)
        self._room.defer(Limit(self._id, grants))
        if message.id is not None:
            self._tell(Ack(id=message.id))

    async def watch_credentials(self) -> None:
        """Send the member away when its credentials expire or are revoked."""
        while self._principal.kind not in ("local", "static") or self._principal.invitation_id:
            invited = self._principal.invitation_id is not None  # some only this look sends away
            left_s = LOOK_S / 2 if invited else LOOK_S
            if (expires_at := self._principal.expires_at) is not None:
                left_s = min(left_s, expires_at - self._now_s())
            if left_s <= 0:
                self._end(CLOSE_EXPIRED, "your credentials have expired; come with new ones")
                return
            await asyncio.sleep(left_s)
            with contextlib.suppress(Unavailable):
                if await self._identity.is_revoked(self._principal):
                    self._end(CLOSE_SENT_AWAY, "your credentials were revoked")
                    return


def name_of(message: m.ClientMessage) -> str:
    """What an answer to `message` refers to."""
    asked = getattr(message, "id", None)
    return asked if asked and not isinstance(message, m.Ping) else message.type
