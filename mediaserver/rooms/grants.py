"""Who may do what: a role's grants, the room's settings and the ticket, taken together. Pure."""

from typing import Literal

from mediaserver.kernel.errors import Forbidden
from mediaserver.protocol.rooms import Grants, RoomRole, RoomSettings
from mediaserver.rooms.state import MemberRecord, RoomState

GrantName = Literal[
    "room_join",
    "room_admin",
    "can_publish",
    "can_subscribe",
    "can_publish_data",
    "can_control",
    "can_chat",
    "can_react",
    "can_moderate",
]
ALL = Grants(
    room_join=True,
    room_admin=True,
    can_publish=True,
    can_subscribe=True,
    can_publish_data=True,
    can_control=True,
    can_chat=True,
    can_react=True,
    can_moderate=True,
)
"""What a ticket allows that limits nothing."""
_MISSING = {
    "room_admin": "only the room's host may do this",
    "can_publish": "you may not send audio or video in this room",
    "can_control": "the playback of this room is controlled by its hosts",
    "can_chat": "you may not write in this room",
    "can_react": "you may not react in this room",
    "can_moderate": "only hosts and co-hosts may do this",
}


def role_grants(role: RoomRole, settings: RoomSettings) -> Grants:
    """Return what a role may do in a room with these settings."""
    host, cohost, member = role == "host", role == "cohost", role == "member"
    speaks = host or cohost or member
    return Grants(
        room_join=True,
        room_admin=host,
        can_publish=speaks,
        can_subscribe=True,
        can_publish_data=speaks,
        can_control=host or cohost or (member and settings.everyone_controls),
        can_chat=speaks,
        can_react=True,
        can_moderate=host or cohost,
    )


def both(one: Grants, other: Grants) -> Grants:
    """Return what both allow; who is hidden by one is hidden."""
    allowed = {
        name: getattr(one, name) and getattr(other, name)
        for name in Grants.model_fields
        if name != "hidden"
    }
    return Grants(**allowed, hidden=one.hidden or other.hidden)


def grants_of(member: MemberRecord, settings: RoomSettings) -> Grants:
    """Return what a member may do now."""
    allowed = both(role_grants(member.role, settings), member.grants)
    return allowed.model_copy(
        update={
            "can_chat": allowed.can_chat and not member.chat_muted,
            "can_publish": allowed.can_publish and not member.publish_muted,
        }
    )


def require(state: RoomState, member_id: str, grant: GrantName) -> MemberRecord:
    """Return the member, which must have `grant`. Raises Forbidden."""
    member = state.members.get(member_id)
    if member is None:
        raise Forbidden("you are not in this room (any more)", code="not_a_member")
    check(grants_of(member, state.settings), grant, member)
    return member


def check(grants: Grants, grant: GrantName, member: MemberRecord | None = None) -> None:
    """Raise Forbidden where `grant` is missing."""
    if getattr(grants, grant):
        return
    if member is not None and grant == "can_chat" and member.chat_muted:
        raise Forbidden("a host has muted you in the chat", code="muted")
    if member is not None and grant == "can_publish" and member.publish_muted:
        raise Forbidden("a host has muted you", code="muted")
    raise Forbidden(_MISSING.get(grant, f"this needs the grant {grant}"), code="not_granted")
