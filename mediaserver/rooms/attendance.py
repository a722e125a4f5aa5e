"""Who is in a room: coming, going, coming back, and who is host when the host is gone. Pure."""

import hmac

from mediaserver.kernel.errors import Forbidden, Gone, Overloaded
from mediaserver.protocol.messages import ServerMessage, TrackEnded
from mediaserver.protocol.room_events import MemberJoined, MemberLeft, MemberUpdated
from mediaserver.protocol.rooms import RoomRole
from mediaserver.rooms import watching
from mediaserver.rooms.decision import Context, Decision, Depart, Join, Restore, SweepInstance
from mediaserver.rooms.state import (
    HOST_GRACE_S,
    MAX_MEMBERS,
    MAX_PLACES,
    PLACE_KEPT_S,
    LeaveReason,
    MemberRecord,
    Place,
    RoomState,
)


def join(state: RoomState, command: Join, context: Context) -> Decision:
    """Let somebody in, to its old place if it proves to have one.

    Raises Gone, Forbidden (`banned`, `invitation_needed`) or Overloaded (`room_full`).
    """
    if state.closed is not None:
        raise Gone(f"room {state.room} is closed", code="room_closed")
    _refuse_banned(state, command.subject, context.now_s)
    old = _place(state, command, context.now_s)
    if old is None and state.settings.visibility == "private" and not command.invited:
        owner = command.subject and command.subject == state.owner
        if not owner:
            raise Forbidden(
                f"room {state.room} is private: come with an invitation, or ask its host for one",
                code="invitation_needed",
            )
    if (old is None or old.member_id not in state.members) and len(state.members) >= MAX_MEMBERS:
        raise Overloaded(
            f"room {state.room} has {MAX_MEMBERS} members, its limit",
            code="room_full",
            retry_after_s=10.0,
        )
    member = _returned(state, command, old) if old else _newcomer(state, command, context.now_s)
    was = state.members.get(member.member_id)
    over = [t for t in state.tracks.values() if t.member_id == member.member_id]
    ended = tuple(TrackEnded(seq=0, track_id=t.track_id, reason="lost") for t in over)
    state = state.model_copy(
        update={
            "members": {**state.members, member.member_id: member},
            "tracks": {k: t for k, t in state.tracks.items() if t not in over},
            "places": {k: p for k, p in state.places.items() if k != member.member_id},
            "host_gone_at": None if member.role == "host" else state.host_gone_at,
        }
    )
    if member.grants.hidden or (was is not None and was.info == member.info):
        return Decision(state, ended, member=member)
    return Decision(state, (*ended, MemberJoined(seq=0, member=member.info)), member=member)


def _refuse_banned(state: RoomState, subject: str, now_s: float) -> None:
    ban = state.bans.get(subject) if subject else None
    if ban is not None and (ban.until is None or ban.until > now_s):
        raise Forbidden(f"you are banned from room {state.room}", code="banned")


def _place(state: RoomState, command: Join, now_s: float) -> MemberRecord | None:
    """Return the member that comes back, if it is that."""
    if command.resume is None:
        return None
    member = state.members.get(command.resume.member_id)
    if member is None:
        place = state.places.get(command.resume.member_id)
        if place is None or place.until <= now_s:
            return None
        member = place.member
    proved = hmac.compare_digest(member.secret_hash, command.resume.secret_hash)
    return member if proved and member.subject == command.subject else None


def _returned(state: RoomState, command: Join, old: MemberRecord) -> MemberRecord:
    role = old.role
    if role == "host" and state.host is not None and state.host.member_id != old.member_id:
        role = "cohost"
    return old.model_copy(
        update={
            "role": role,
            "grants": command.grants,
            "instance": command.instance,
            "connection": command.connection,
            "broadcast": None,
            "watches": False,
        }
    )


def _newcomer(state: RoomState, command: Join, now_s: float) -> MemberRecord:
    return MemberRecord(
        member_id=command.member_id,
        name=command.name,
        role=_first_role(state, command, now_s),
        kind=command.kind,
        subject=command.subject,
        joined_at=now_s,
        grants=command.grants,
        instance=command.instance,
        connection=command.connection,
        secret_hash=command.secret_hash,
    )


def _first_role(state: RoomState, command: Join, now_s: float) -> RoomRole:
    """The ticket's role; without one the host's seat where it is free and due to this member."""
    held = state.host is not None or (
        state.host_gone_at is not None and now_s < state.host_gone_at + HOST_GRACE_S
    )
    owns = state.owner is not None and command.subject == state.owner
    if command.role is not None and not owns:
        return "cohost" if command.role == "host" and state.host is not None else command.role
    if command.kind == "whip":
        return "member"
    if owns:
        return "cohost" if state.host is not None else "host"
    return "host" if state.owner is None and not held else "member"


def depart(state: RoomState, command: Depart, context: Context) -> Decision:
    """A connection is over: its member goes, unless it has come back on another one."""
    member = state.members.get(command.member_id)
    if member is None or member.connection != command.connection:
        return Decision(state)
    return remove(state, (member,), command.reason, context)


def sweep(state: RoomState, command: SweepInstance, context: Context) -> Decision:
    """All members of a dead instance are lost."""
    gone = tuple(m for m in state.members.values() if m.instance == command.instance)
    return remove(state, gone, "lost", context)


def remove(
    state: RoomState,
    gone: tuple[MemberRecord, ...],
    reason: LeaveReason,
    context: Context,
) -> Decision:
    """Take members out; who may come back keeps its place for ten minutes."""
    if not gone:
        return Decision(state)
    ids = {m.member_id for m in gone}
    places = {k: p for k, p in state.places.items() if p.until > context.now_s}
    if reason in ("left", "lost", "expired"):
        until = context.now_s + PLACE_KEPT_S
        places |= {m.member_id: Place(member=m, until=until) for m in gone}
        places = dict(list(places.items())[-MAX_PLACES:])
    tracks = [t for t in state.tracks.values() if t.member_id in ids]
    ended = "lost" if reason == "lost" else "left"
    events: list[ServerMessage] = [
        TrackEnded(seq=0, track_id=t.track_id, reason=ended) for t in tracks
    ]
    events += [
        MemberLeft(seq=0, member_id=m.member_id, reason=reason) for m in gone if not m.grants.hidden
    ]
    members = {k: m for k, m in state.members.items() if k not in ids}
    host_gone_at = state.host_gone_at
    if any(m.role == "host" for m in gone):
        host_gone_at = context.now_s
    state = state.model_copy(
        update={
            "members": members,
            "places": places,
            "tracks": {k: t for k, t in state.tracks.items() if t.member_id not in ids},
            "said": {k: at for k, at in state.said.items() if k not in ids},
            "host_gone_at": host_gone_at if members else None,
        }
    )
    state, waits = watching.without(state, ids, context)
    return Decision(state, (*events, *waits), removed=gone)


def restore(state: RoomState, command: Restore, context: Context) -> Decision:
    """Bring members back that the room lost although they are connected."""
    events: list[ServerMessage] = []
    members = dict(state.members)
    hosted = state.host is not None
    for member in command.members:
        if member.member_id in members or len(members) >= MAX_MEMBERS:
            continue
        if member.subject in state.bans:
            continue
        if member.role == "host" and hosted:
            member = member.model_copy(update={"role": "cohost"})
        hosted = hosted or member.role == "host"
        members[member.member_id] = member
        if not member.grants.hidden:
            events.append(MemberJoined(seq=0, member=member.info))
    if len(members) == len(state.members):
        return Decision(state)
    places = {k: p for k, p in state.places.items() if k not in members}
    update = {
        "members": members,
        "places": places,
        "host_gone_at": None if hosted else state.host_gone_at,
    }
    return Decision(state.model_copy(update=update), tuple(events))


def successor(state: RoomState) -> MemberRecord | None:
    """Return who becomes host when there is none: a co-host, else who is there longest."""
    able = [
        m
        for m in state.members.values()
        if m.kind != "whip" and m.role in ("cohost", "member") and not m.grants.hidden
    ]
    able.sort(key=lambda m: (m.role != "cohost", m.joined_at, m.member_id))
    return able[0] if able else None


def promote(state: RoomState, context: Context) -> Decision:
    """Fill the host's seat, if it has been empty for long enough."""
    gone_at = state.host_gone_at
    if gone_at is None or state.host is not None or context.now_s < gone_at + HOST_GRACE_S:
        return Decision(state)
    chosen = successor(state)
    if chosen is None:
        return Decision(state)
    host = chosen.model_copy(update={"role": "host"})
    members = {**state.members, host.member_id: host}
    state = state.model_copy(update={"members": members, "host_gone_at": None})
    return Decision(state, (MemberUpdated(seq=0, member=host.info),))
