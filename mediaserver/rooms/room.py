"""A room on this instance: its members here, what they are told, and what they add.

What happens here and cannot wait (captions, tracks) is told to the members here at once and
written to the log for the others; all else is told when it comes back through the log.
"""

import asyncio
import contextlib
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Hashable

from mediaserver.kernel.errors import MediaServerError, Unavailable
from mediaserver.kernel.ids import new_id
from mediaserver.kernel.logging import get_logger
from mediaserver.kernel.tasks import TaskScope
from mediaserver.protocol.messages import Caption, ServerMessage, TrackEnded, TrackStarted
from mediaserver.protocol.room_events import (
    Granted,
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    RoomClosed,
    RoomUpdated,
)
from mediaserver.rooms.commits import Commits, Done
from mediaserver.rooms.decide import MemberCommand, decide, decide_for_server
from mediaserver.rooms.decision import (
    Broadcasting,
    Context,
    Decision,
    Depart,
    EndTrack,
    Join,
    Restore,
    Resume,
    ServerCommand,
    StartTrack,
)
from mediaserver.rooms.grants import grants_of
from mediaserver.rooms.log import Entry, Loaded, RoomLog
from mediaserver.rooms.presence import Attendee, Joined, LocalMember, Newcomer, Outside
from mediaserver.rooms.replica import Gap, Replica
from mediaserver.rooms.state import LeaveReason, MemberRecord, RoomState
from mediaserver.rooms.videos import with_video

log = get_logger(__name__)

CLOSE_REPLACED, CLOSE_SENT_AWAY, CLOSE_EXPIRED, CLOSE_ROOM_CLOSED = 4409, 4403, 4401, 4410
APPLIED_WITHIN_S = 0.3
"""An event that does not come by itself within this time is fetched."""
_OWN_TRACKS = 2000


class Room:
    """See the module's docstring. Made by `RoomHub`."""

    def __init__(
        self,
        room_log: RoomLog,
        loaded: Loaded,
        outside: Outside,
        dropped: Callable[[str], None],
    ) -> None:
        self.name = room_log.room
        self.log = room_log
        self.replica = Replica(loaded)
        self.members: dict[str, LocalMember] = {}
        self.round_trips_s: dict[str, float] = {}
        self.remote_round_trip_s = 0.0
        self.joining = 0
        """Who is on the way in: the room is kept for them."""
        self._outside = outside
        self._own_tracks: OrderedDict[str, TrackStarted | None] = OrderedDict()
        """Tracks of members here; None once they ended."""
        self._broadcasts: dict[str, Broadcasting] = {}
        """What members here show to others."""
        self.observers: set[Callable[[ServerMessage], None]] = set()
        """Are told each event of the room, and the snapshot where it begins anew."""
        self._applied = asyncio.Event()
        self._syncing = asyncio.Lock()
        self.commits = Commits(
            room_log, self.replica, outside.now_s, self._round_trip_s, self.sync, dropped
        )
        self._scope = TaskScope(f"room {self.name}")

    def start(self) -> None:
        """Begin to commit."""
        self._scope.spawn("commits", self.commits.run())

    async def aclose(self) -> None:
        """Let go. What is not written by now stays unwritten."""
        await self._scope.aclose()

    @property
    def needed(self) -> bool:
        """Whether somebody is here, or something waits to be written."""
        return bool(self.members) or self.joining > 0 or not self.commits.idle

    def _round_trip_s(self) -> float:
        return max(self.remote_round_trip_s, self.local_round_trip_s)

    @property
    def local_round_trip_s(self) -> float:
        """The largest of the members here."""
        return max(self.round_trips_s.values(), default=0.0)

    # ---- coming and going ---------------------------------------------------------------------

    async def join(self, newcomer: Newcomer, attendee: Attendee) -> Joined:
        """Let a member in. Raises what `attendance.join` raises, and Unavailable."""
        connection = new_id("n", 12)
        resume = newcomer.resume
        secret = resume.secret if resume is not None else secrets.token_urlsafe(24)
        digest = hashlib.sha256(secret.encode()).hexdigest()
        command = Join(
            member_id=new_id("m", 12),
            name=newcomer.name,
            kind=newcomer.kind,
            subject=newcomer.subject,
            grants=newcomer.grants,
            role=newcomer.role,
            invited=newcomer.invited,
            instance=self._outside.instance,
            connection=connection,
            secret_hash=digest,
            resume=Resume(resume.member_id, digest) if resume is not None else None,
        )
        done: Done | None = None
        try:
            done = await self.server_command(command)
            if done.seq is not None:
                await self.reached(done.seq)
            assert done.decision.member is not None
            return self._entered(newcomer, done.decision.member, attendee, connection, secret)
        except BaseException:
            # also where nobody knows whether it was written
            member = done.decision.member if done is not None else None
            ids = {command.member_id, member.member_id if member else command.member_id}
            for member_id in ids:
                self.defer(Depart(member_id, connection, "lost"))
            raise

    def _entered(
        self,
        newcomer: Newcomer,
        record: MemberRecord,
        attendee: Attendee,
        connection: str,
        secret: str,
    ) -> Joined:
        replica = self.replica
        old = self.members.pop(record.member_id, None)
        if old is not None:
            old.attendee.dismiss(CLOSE_REPLACED, "you came back on another connection")
        member = LocalMember(record, attendee, grants_of(record, replica.view.settings))
        if (info := replica.view.members.get(record.member_id)) is not None:
            member.follow(info, replica.view.settings)
        self.members[record.member_id] = member
        resume = newcomer.resume
        if resume is not None and resume.member_id == record.member_id:
            self._outside.taken_over(self.name, record.member_id, connection)
            so_far = replica.after(resume.log_id, resume.seq, self._outside.now_s())
        else:
            so_far = replica.snapshot()
        if not member.grants.can_subscribe:
            so_far = []
        return Joined(member, connection, secret, replica.log_id, replica.seq, tuple(so_far))

    def leave(self, member_id: str, connection: str, reason: LeaveReason) -> None:
        """A connection is over. The log says so after all that the member said."""
        member = self.members.get(member_id)
        if member is not None and member.record.connection == connection:
            del self.members[member_id]
            self.round_trips_s.pop(member_id, None)
        shown = self._broadcasts.get(member_id)
        if shown is not None and shown.connection == connection:
            del self._broadcasts[member_id]
        self.defer(Depart(member_id, connection, reason))

    def taken(self, member_id: str, connection: str) -> None:
        """A member is connected to another instance now."""
        member = self.members.get(member_id)
        if member is not None and member.record.connection != connection:
            del self.members[member_id]
            member.attendee.dismiss(CLOSE_REPLACED, "you came back on another connection")

    # ---- commands -----------------------------------------------------------------------------

    async def command(self, member_id: str, command: MemberCommand) -> Done:
        """Do what a member asks. Raises what `decide` and `Videos` raise, and Unavailable."""
        asked = await with_video(command, self._outside.videos)
        return await self.commits.submit(lambda s, c: decide(s, member_id, asked, c))

    async def server_command(self, command: ServerCommand) -> Done:
        """Do what the server asks. Raises what the decision raises, and Unavailable."""
        return await self.commits.submit(lambda s, c: decide_for_server(s, command, c))

    def defer(self, command: ServerCommand) -> None:
        """Do it when that is possible."""
        self.commits.defer(lambda s, c: decide_for_server(s, command, c))

    # ---- what members here publish ------------------------------------------------------------

    def track_started(self, message: TrackStarted) -> None:
        """Somebody here begins to be heard."""
        self._own_tracks[message.track_id] = message
        while len(self._own_tracks) > _OWN_TRACKS:
            self._own_tracks.popitem(last=False)
        self._fan_out(message)
        self.defer(StartTrack(message))

    def track_ended(self, message: TrackEnded) -> None:
        """A track from here is over."""
        self._own_tracks[message.track_id] = None
        self._fan_out(message)
        self.defer(EndTrack(message))

    def broadcasting(self, shown: Broadcasting) -> None:
        """What a member here sends for others to see and hear has changed."""
        self._broadcasts[shown.member_id] = shown
        self.defer(shown)

    def caption(self, message: Caption) -> None:
        """Tell everybody what is said.

        A caption holds the whole utterance, so an unsent one gives way to a newer one of the same
        utterance; the complete one is never dropped, and goes into the log.
        """
        key = ("caption", message.caption_id)
        if not message.final:
            self._fan_out(message, key)
            self._outside.publish(self.name, message, key)
            return
        self.replica.keep_final(message)
        self._fan_out(message)
        logged = message.model_copy(update={"seq": 0})

        def write(state: RoomState, _context: Context) -> Decision:
            return Decision(state, (logged,), once=f"caption:{message.caption_id}")

        self.commits.defer(write, droppable=True)

    def tell(self, message: ServerMessage, key: Hashable, *, but: str | None = None) -> None:
        """Tell everybody something of the moment; `but` one member."""
        for member_id, member in list(self.members.items()):
            if member_id != but and member.grants.can_subscribe:
                member.attendee.deliver(message, key)
        self._outside.publish(self.name, message, key)

    # ---- what comes from the log and from other instances -------------------------------------

    def take(self, entry: Entry) -> None:
        """Apply an event and tell the members here. Raises Gap."""
        message = self.replica.take(entry)
        self._applied.set()
        if message is None:
            return
        own = isinstance(message, Caption | TrackStarted | TrackEnded)
        at_once = own and getattr(message, "track_id", None) in self._own_tracks
        self._fan_out(message, numbers_only=at_once)
        self._follow(message)
        self._observed(message)

    def hear(self, message: ServerMessage, key: Hashable) -> None:
        """Another instance tells something of the moment."""
        if isinstance(message, Caption) and message.caption_id in self.replica.finals:
            return
        self._fan_out(message, key)

    def notify(self, message: ServerMessage) -> None:
        """Tell the members here something of this instance."""
        self._fan_out(message)

    def _fan_out(
        self, message: ServerMessage, key: Hashable | None = None, numbers_only: bool = False
    ) -> None:
        """Tell the members here; `numbers_only`: those who come back by number (WHIP does not)."""
        for member in list(self.members.values()):
            if numbers_only and member.record.kind == "whip":
                continue
            if member.grants.can_subscribe:
                member.attendee.deliver(message, key)

    def _observed(self, message: ServerMessage) -> None:
        for observer in tuple(self.observers):
            observer(message)

    def _follow(self, message: ServerMessage) -> None:
        settings = self.replica.view.settings
        match message:
            case MemberUpdated(member=info) | MemberJoined(member=info):
                member = self.members.get(info.member_id)
                if member is not None and member.follow(info, settings):
                    self.regranted(member)
            case RoomUpdated():
                for member in list(self.members.values()):
                    if member.regrant(settings):
                        self.regranted(member)
            case MemberLeft(member_id=member_id, reason=reason):
                self._gone(member_id, reason)
            case RoomClosed(reason=reason):
                members, self.members = self.members, {}
                for member in members.values():
                    member.attendee.dismiss(CLOSE_ROOM_CLOSED, reason or "the room is closed")
            case _:
                pass

    def regranted(self, member: LocalMember) -> None:
        """Tell a member what it may do now."""
        member.attendee.deliver(Granted(role=member.record.role, grants=member.grants), None)
        member.attendee.granted(member.grants)

    def _gone(self, member_id: str, reason: LeaveReason) -> None:
        member = self.members.get(member_id)
        if member is None:
            return
        if reason in ("left", "lost"):  # another instance took us for dead: here it is
            self.defer(Restore((member.record,)))
            if (broadcast := self._broadcasts.get(member_id)) is not None:
                self.defer(broadcast)
            return
        del self.members[member_id]
        if reason == "expired":
            member.attendee.dismiss(CLOSE_EXPIRED, "your credentials have expired")
        else:
            member.attendee.dismiss(CLOSE_SENT_AWAY, f"you were {reason}")

    # ---- staying with the log -----------------------------------------------------------------

    async def reached(self, seq: int) -> None:
        """Wait until an event has been applied, and fetch it if it does not come."""
        while self.replica.seq < seq:
            self._applied.clear()
            try:
                async with asyncio.timeout(APPLIED_WITHIN_S):
                    await self._applied.wait()
            except TimeoutError:
                log.info("rooms.fetched_late", room=self.name)
                await self.sync()
                return

    async def sync(self) -> None:
        """Fetch what is missing; where the log is another one, begin anew. Raises Unavailable."""
        async with self._syncing:
            replica = self.replica
            known = replica.seq  # more may be taken while the answer is on its way
            loaded = await self.log.load(after_seq=known, with_chat=False)
            if loaded is None:
                await self._make_again()
            elif loaded.log_id != replica.log_id:
                await self._begin_anew()
            elif loaded.seq < known:
                await self.log.relog(replica.log_id)
                await self._begin_anew()
            else:
                try:
                    for entry in loaded.entries:
                        self.take(entry)
                except Gap:
                    await self._begin_anew()
                else:
                    replica.keep_state(loaded.state, loaded.version)

    async def _make_again(self) -> None:
        """Redis lost the room: make it from what is known here."""
        if self.replica.view.closed is not None:
            return
        records = {id_: member.record for id_, member in self.members.items()}
        await self.log.create(self.replica.last_known(records))
        await self._begin_anew()

    async def _begin_anew(self) -> None:
        loaded = await self.log.load()
        if loaded is None:
            raise Unavailable("the room is gone; try again", code="redis_down")
        log.warning("rooms.began_anew", room=self.name)
        self.replica.reset(loaded)
        self._applied.set()
        missing = [m.record for id_, m in self.members.items() if id_ not in loaded.state.members]
        if missing:
            self.defer(Restore(tuple(missing)))
        for track in self._own_tracks.values():
            if track is not None and track.track_id not in loaded.state.tracks:
                self.defer(StartTrack(track))
        for broadcast in self._broadcasts.values():
            self.defer(broadcast)
        snapshot = self.replica.snapshot()
        for message in snapshot:
            self._fan_out(message)
        self._observed(snapshot[0])

    async def try_sync(self) -> None:
        """As `sync`, but what fails is tried again by others."""
        with contextlib.suppress(MediaServerError):
            await self.sync()
