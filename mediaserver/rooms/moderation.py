"""What hosts and co-hosts decide: roles, mutes, kicks, bans, the room's settings. Pure."""

from mediaserver.kernel.errors import BadInput, Conflict, Forbidden, NotFound
from mediaserver.protocol.messages import ServerMessage
from mediaserver.protocol.room_commands import (
    MemberBan,
    MemberKick,
    MemberMute,
    MemberRole,
    MemberUpdate,
)
from mediaserver.protocol.room_events import MemberUpdated, RoomClosed, RoomUpdated
from mediaserver.protocol.rooms import RoomChange
from mediaserver.rooms import attendance
from mediaserver.rooms.decision import Context, Decision
from mediaserver.rooms.grants import grants_of, require
from mediaserver.rooms.state import MAX_BANS, Ban, MemberRecord, RoomState

_RANK = {"host": 3, "cohost": 2, "member": 1, "listener": 0}


def update(state: RoomState, member_id: str, asked: MemberUpdate) -> Decision:
    """Change one's own name or caption language. Raises Forbidden or BadInput."""
    member = require(state, member_id, "room_join")
    change: dict[str, object] = {}
    if asked.name is not None:
        change["name"] = clean_name(asked.name)
        if not change["name"]:
            raise BadInput("a name has at least one visible character", code="bad_name")
    if asked.caption_language is not None:
        change["caption_language"] = asked.caption_language
    return replaced(state, (member.model_copy(update=change),))


def clean_name(name: str) -> str:
    """Return a name in one line, without what cannot be seen."""
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())


def role(state: RoomState, member_id: str, asked: MemberRole) -> Decision:
    """Give a role; `host` hands the room over. Raises Forbidden, NotFound or Conflict."""
    actor = require(state, member_id, "room_admin")
    target = _target(state, asked.member_id)
    if target.member_id == actor.member_id:
        if asked.role == "host":
            return Decision(state)
        raise Conflict("hand the room to somebody else first", code="host_needed")
    if asked.role == "host" and (target.kind == "whip" or target.grants.hidden):
        raise Conflict("this member cannot be host", code="bad_host")
    changed = [target.model_copy(update={"role": asked.role})]
    if asked.role == "host":
        changed.insert(0, actor.model_copy(update={"role": "cohost"}))
    return replaced(state, tuple(changed))


def mute(state: RoomState, member_id: str, asked: MemberMute) -> Decision:
    """Take a member's voice or chat, or give it back. Raises Forbidden or NotFound."""
    target = _moderated(state, member_id, asked.member_id)
    change = {}
    if asked.chat is not None:
        change["chat_muted"] = asked.chat
    if asked.publish is not None:
        change["publish_muted"] = asked.publish
    return replaced(state, (target.model_copy(update=change),))


def kick(state: RoomState, member_id: str, asked: MemberKick, context: Context) -> Decision:
    """Send a member away. Raises Forbidden or NotFound."""
    target = _moderated(state, member_id, asked.member_id)
    return attendance.remove(state, (target,), "kicked", context)


def ban(state: RoomState, member_id: str, asked: MemberBan, context: Context) -> Decision:
    """Send away whoever has the member's account, key or guest token, and keep it out.

    Raises Conflict (it is the actor's own account), Forbidden or NotFound.
    """
    target = _moderated(state, member_id, asked.member_id)
    until = context.now_s + asked.duration_s if asked.duration_s is not None else None
    gone: tuple[MemberRecord, ...] = (target,)
    if target.subject:
        gone = tuple(m for m in state.members.values() if m.subject == target.subject)
        for member in gone:  # the account may be in the room more than once
            _moderated(state, member_id, member.member_id)
        bans = {**state.bans, target.subject: Ban(name=target.name, until=until, by=member_id)}
        places = {k: p for k, p in state.places.items() if p.member.subject != target.subject}
        bans = dict(list(bans.items())[-MAX_BANS:])
        state = state.model_copy(update={"bans": bans, "places": places})
    return attendance.remove(state, gone, "banned", context)


def expel(state: RoomState, subjects: frozenset[str], context: Context) -> Decision:
    """Send away whoever came as one of `subjects`; their places are not kept."""
    gone = tuple(m for m in state.members.values() if m.subject in subjects)
    places = {k: p for k, p in state.places.items() if p.member.subject not in subjects}
    if len(places) != len(state.places):
        state = state.model_copy(update={"places": places})
    return attendance.remove(state, gone, "kicked", context)


def _target(state: RoomState, member_id: str) -> MemberRecord:
    member = state.members.get(member_id)
    if member is None:
        raise NotFound("there is no such member in the room (any more)", code="no_member")
    return member


def _moderated(state: RoomState, actor_id: str, target_id: str) -> MemberRecord:
    actor = require(state, actor_id, "can_moderate")
    target = _target(state, target_id)
    if target.member_id != actor.member_id and _RANK[target.role] >= _RANK[actor.role]:
        raise Forbidden("you cannot moderate a host or another co-host", code="not_granted")
    if target.member_id == actor.member_id:
        raise Conflict("this is yourself", code="yourself")
    return target


def replaced(state: RoomState, members: tuple[MemberRecord, ...]) -> Decision:
    """Members changed: tell of those where others see it.

    Who may not publish (any more) broadcasts nothing.
    """
    events: list[ServerMessage] = []
    after = dict(state.members)
    for member in members:
        if member.broadcast is not None and not grants_of(member, state.settings).can_publish:
            member = member.model_copy(update={"broadcast": None})
        if member.info != after[member.member_id].info and not member.grants.hidden:
            events.append(MemberUpdated(seq=0, member=member.info))
        after[member.member_id] = member
    if after == state.members:
        return Decision(state)
    return Decision(state.model_copy(update={"members": after}), tuple(events))


def change_settings(state: RoomState, change: RoomChange) -> Decision:
    """Change the room's settings; what is null stays."""
    given = change.model_dump(exclude_none=True)
    settings = state.settings.model_copy(update=given)
    if settings == state.settings:
        return Decision(state)
    said = state.said if settings.slow_mode_s else {}
    state = state.model_copy(update={"settings": settings, "said": said})
    return Decision(state, (RoomUpdated(seq=0, settings=settings),))


def close(state: RoomState, reason: str) -> Decision:
    """Close the room for all."""
    if state.closed is not None:
        return Decision(state)
    state = state.model_copy(update={"closed": reason, "members": {}, "tracks": {}})
    return Decision(state, (RoomClosed(seq=0, reason=reason),))
