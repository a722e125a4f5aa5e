"""All sessions of this instance."""

import asyncio

from mediaserver.inference.client import SpeechClient
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import NotFound, Overloaded, Unavailable
from mediaserver.kernel.ids import new_id
from mediaserver.kernel.logging import get_logger
from mediaserver.relay.broadcasts import Broadcasts
from mediaserver.rooms.hub import RoomHub
from mediaserver.rooms.presence import Attendee, Joined, Newcomer
from mediaserver.rooms.state import LeaveReason
from mediaserver.sessions.figures import Figures
from mediaserver.sessions.session import Session, SessionKind
from mediaserver.sessions.transcripts import TranscriptStore

log = get_logger(__name__)

_LEFT: dict[str, LeaveReason] = {"left": "left", "ended": "left", "expired": "expired"}
"""What a room is told of a session's end; whatever else happened, the member is lost."""


class Sessions:
    """Opens, finds and ends sessions."""

    def __init__(
        self,
        client: SpeechClient,
        rooms: RoomHub,
        transcripts: TranscriptStore,
        clock: Clock,
        figures: Figures,
        max_sessions: int,
    ) -> None:
        self.broadcasts = Broadcasts()
        """What members here broadcast."""
        self._client = client
        self._rooms = rooms
        self._transcripts = transcripts
        self._clock = clock
        self._figures = figures
        self._max_sessions = max_sessions
        self._sessions: dict[str, Session] = {}
        self._entering = 0
        self.draining = False

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, *, kind: SessionKind, name: str) -> Session:
        """Open a session without a room. Raises Unavailable or Overloaded."""
        self._check_capacity()
        return self._opened(kind, new_id("m", 12), name)

    async def enter(
        self, *, kind: SessionKind, room: str, newcomer: Newcomer, attendee: Attendee
    ) -> tuple[Session, Joined]:
        """Open a session in a room. Raises Unavailable, Overloaded, and what `RoomHub.join` does.

        What the member is told from now on comes to `attendee`; what was before is in the answer.
        """
        self._check_capacity()
        self._entering += 1
        try:
            entered, joined = await self._rooms.join(room, newcomer, attendee)
        finally:
            self._entering -= 1
        record = joined.member.record
        if self.draining:
            entered.leave(record.member_id, joined.connection, "left")
            raise _draining()
        session = self._opened(kind, record.member_id, record.name)
        session.enter(entered, joined)
        return session, joined

    def _check_capacity(self) -> None:
        if self.draining:
            raise _draining()
        if len(self._sessions) + self._entering >= self._max_sessions:
            raise Overloaded(
                f"{self._max_sessions} sessions are open, the limit of this server",
                code="sessions_full",
                retry_after_s=10.0,
            )

    def _opened(self, kind: SessionKind, member_id: str, name: str) -> Session:
        session = Session(
            kind,
            member_id,
            name,
            self._client,
            self._clock,
            self._figures,
            self._closed,
            self.broadcasts,
        )
        self._sessions[session.id] = session
        self._figures.session_opened(kind)
        log.info("session.opened", session_id=session.id, kind=kind)
        return session

    def get(self, session_id: str) -> Session:
        """Return a live session. Raises NotFound."""
        try:
            return self._sessions[session_id]
        except KeyError:
            raise NotFound(f"no live session {session_id[:40]}") from None

    def find(self, session_id: str) -> Session | None:
        """Return a live session, or None."""
        return self._sessions.get(session_id)

    async def aclose(self, timeout_s: float) -> None:
        """Take no more sessions and end all, with their pending finals, within `timeout_s`."""
        self.draining = True
        sessions = list(self._sessions.values())
        # All tracks first: who only listens hears the last words of the others.
        ending = [session.end_tracks("ended", timeout_s) for session in sessions]
        await asyncio.gather(*ending, return_exceptions=True)
        closing = [session.close("ended", timeout_s) for session in sessions]
        await asyncio.gather(*closing, return_exceptions=True)

    def _closed(self, session: Session, reason: str) -> None:
        if self._sessions.pop(session.id, None) is None:
            return
        session.leave(_LEFT.get(reason, "lost"))
        self._figures.session_closed(reason)
        log.info("session.closed", session_id=session.id, reason=reason)
        self._transcripts.keep(session)


def _draining() -> Unavailable:
    return Unavailable("this server is stopping", code="draining", retry_after_s=5.0)
