"""All sessions of this instance."""

import asyncio

from mediaserver.inference.client import SpeechClient
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import NotFound, Overloaded, Unavailable
from mediaserver.kernel.ids import new_id
from mediaserver.kernel.logging import get_logger
from mediaserver.rooms.room import Deliver, Member, Rooms
from mediaserver.sessions.figures import Figures
from mediaserver.sessions.session import Session, SessionKind
from mediaserver.sessions.transcripts import TranscriptStore

log = get_logger(__name__)


class Sessions:
    """Opens, finds and ends sessions."""

    def __init__(
        self,
        client: SpeechClient,
        rooms: Rooms,
        transcripts: TranscriptStore,
        clock: Clock,
        figures: Figures,
        max_sessions: int,
    ) -> None:
        self._client = client
        self._rooms = rooms
        self._transcripts = transcripts
        self._clock = clock
        self._figures = figures
        self._max_sessions = max_sessions
        self._sessions: dict[str, Session] = {}
        self.draining = False

    def __len__(self) -> int:
        return len(self._sessions)

    def open(
        self,
        *,
        kind: SessionKind,
        room: str | None,
        name: str,
        deliver: Deliver | None = None,
    ) -> Session:
        """Open a session, in a room if one is named. Raises Unavailable or Overloaded."""
        if self.draining:
            raise Unavailable("this server is stopping", code="draining", retry_after_s=5.0)
        if len(self._sessions) >= self._max_sessions:
            raise Overloaded(
                f"{self._max_sessions} sessions are open, the limit of this server",
                code="sessions_full",
                retry_after_s=10.0,
            )
        member_id = new_id("m", 12)
        session = Session(
            kind, member_id, name, self._client, self._clock, self._figures, self._closed
        )
        if room is not None:
            session.room = self._rooms.enter(room, Member(member_id, name, deliver))
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
        if session.room is not None:
            self._rooms.exit(session.room, session.member_id)
        self._figures.session_closed(reason)
        log.info("session.closed", session_id=session.id, reason=reason)
        self._transcripts.keep(session)
