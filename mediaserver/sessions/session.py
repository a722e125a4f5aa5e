"""A session: one publisher or listener, its tracks, its transcript, its place in a room."""

import asyncio
from collections.abc import Callable
from typing import Literal

from mediaserver.captions.events import (
    Ended,
    Revision,
    SpeechBegan,
    StatusChanged,
    TrackEvent,
)
from mediaserver.captions.transcript import Transcript
from mediaserver.inference.client import SpeechClient
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import Conflict, Overloaded
from mediaserver.kernel.ids import new_id
from mediaserver.kernel.logging import get_logger
from mediaserver.protocol.messages import (
    CaptionOptions,
    SpeechStarted,
    Status,
    TrackEnded,
    TrackStarted,
)
from mediaserver.relay.broadcasts import Broadcasts
from mediaserver.rooms.grants import check
from mediaserver.rooms.presence import Joined
from mediaserver.rooms.room import Room
from mediaserver.rooms.state import LeaveReason
from mediaserver.rtc.encoded import MediaSource
from mediaserver.sessions.captions import caption_of
from mediaserver.sessions.figures import Figures
from mediaserver.sessions.showing import Showing
from mediaserver.sessions.track import CaptionTrack, Listener

log = get_logger(__name__)

SessionKind = Literal["ws", "whip", "listen"]
MAX_TRACKS = 8
"""Tracks of one session at once."""


class Session:
    """Made by `Sessions.open`; `close` ends it."""

    def __init__(
        self,
        kind: SessionKind,
        member_id: str,
        name: str,
        client: SpeechClient,
        clock: Clock,
        figures: Figures,
        on_closed: Callable[["Session", str], None],
        broadcasts: Broadcasts,
    ) -> None:
        self.id = new_id("s", 24)
        self.kind = kind
        self.member_id = member_id
        self._name = name
        self.room: Room | None = None
        self._joined: Joined | None = None
        self.started_at = clock.wall_s()
        self._opened_s = clock.monotonic_s()
        self.ended = asyncio.Event()
        self.transcript = Transcript()
        self._client = client
        self._clock = clock
        self._figures = figures
        self._on_closed = on_closed
        self._broadcasts = broadcasts
        self._tracks: dict[str, CaptionTrack] = {}
        self._muted = False
        self._closing = False

    @property
    def name(self) -> str:
        """As others see it now."""
        return self._joined.member.record.name if self._joined is not None else self._name

    def enter(self, room: Room, joined: Joined) -> None:
        """Take a place in a room."""
        self.room, self._joined = room, joined

    def leave(self, reason: LeaveReason) -> None:
        """Give the place back, if there is one."""
        if self.room is not None and self._joined is not None:
            self.room.leave(self.member_id, self._joined.connection, reason)

    def showing(self, source: MediaSource) -> Showing | None:
        """Return what shows a peer's media to the room; None where the session is in none."""
        if self.room is None or self._joined is None:
            return None
        return Showing(self._broadcasts, self.room, self._joined, source)

    @property
    def tracks(self) -> tuple[CaptionTrack, ...]:
        """Tracks that are live."""
        return tuple(self._tracks.values())

    def open_track(self, options: CaptionOptions, listener: Listener | None = None) -> CaptionTrack:
        """Begin to caption a track. Raises Overloaded, Conflict, or Forbidden (a room's)."""
        if self._muted:
            raise Conflict("the session is over; open another")
        if self._joined is not None:
            check(self._joined.member.grants, "can_publish", self._joined.member.record)
        if len(self._tracks) >= MAX_TRACKS:
            raise Overloaded(f"a session has at most {MAX_TRACKS} tracks at once")
        self._client.check_room()
        track_id = new_id("t", 12)

        offset_s = self._clock.monotonic_s() - self._opened_s
        began_at = self._clock.wall_s()

        def heard(event: TrackEvent) -> None:
            self._heard(track, event, offset_s, began_at)
            if listener is not None:
                listener(event)

        track = CaptionTrack(track_id, options, self._client, heard, self._clock, self._figures)
        self._tracks[track_id] = track
        self._figures.stream_opened(self.kind)
        if self.room is not None:
            self.room.track_started(
                TrackStarted(track_id=track_id, member_id=self.member_id, speaker=self.name)
            )
        log.info("track.opened", session_id=self.id, track_id=track_id, kind=self.kind)
        return track

    async def end_tracks(self, reason: str, timeout_s: float) -> None:
        """End all tracks, with their pending finals; no others begin."""
        self._muted = True
        await asyncio.gather(*(track.end(reason, timeout_s) for track in self.tracks))

    async def close(self, reason: str = "ended", timeout_s: float = 60.0) -> None:
        """End all tracks, with their pending finals, and leave.

        Idempotent; of several callers the least patient one decides how long it may take.
        """
        if self._closing:
            await self.end_tracks(reason, timeout_s)
            await self.ended.wait()
            return
        self._closing = True
        try:
            await self.end_tracks(reason, timeout_s)
        finally:
            self.transcript.close()
            self.ended.set()
            self._on_closed(self, reason)

    def _heard(
        self, track: CaptionTrack, event: TrackEvent, offset_s: float, began_at: float
    ) -> None:
        match event:
            case Revision():
                self.transcript.add(track.id, self.name, event, offset_s=offset_s)
                if self.room is not None:
                    self.room.caption(
                        caption_of(
                            event,
                            seq=None,
                            track_id=track.id,
                            member_id=self.member_id,
                            speaker=self.name,
                            task=track.options.task,
                            track_began_at=began_at,
                        )
                    )
            case SpeechBegan(at_s):
                if self.room is not None:
                    self.room.tell(
                        SpeechStarted(track_id=track.id, at_s=at_s), ("speech.started", track.id)
                    )
            case StatusChanged(captions, detail):
                if self.room is not None:
                    self.room.tell(Status(captions=captions, detail=detail), ("status", track.id))
            case Ended(reason):
                self._tracks.pop(track.id, None)
                self.transcript.end_track(track.id)
                self._figures.stream_closed(self.kind)
                if self.room is not None:
                    self.room.track_ended(TrackEnded(track_id=track.id, reason=reason))
            case _:
                pass
