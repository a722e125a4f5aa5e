"""Who comes to a room's door: from a request's principal and query to a newcomer."""

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from mediaserver.identity.principal import LOCAL, STATIC, Principal
from mediaserver.kernel.errors import BadInput, Forbidden
from mediaserver.protocol import messages as m
from mediaserver.rooms.grants import ALL
from mediaserver.rooms.moderation import clean_name
from mediaserver.rooms.presence import Newcomer, ResumePoint
from mediaserver.rooms.state import MemberKind
from mediaserver.web import keys
from mediaserver.web.auth import principal_of

DEFAULT_ROOM = "lobby"
_KINDS: dict[str, MemberKind] = {
    "user": "user",
    "key": "key",
    "guest": "guest",
    "local": "local",
    "static": "key",
}
_room: TypeAdapter[str] = TypeAdapter(m.RoomName)


def subject_of(principal: Principal) -> str:
    """Return who it is for bans and ownership; "" where it could be anybody."""
    return principal.subject


def room_name(text: str) -> str:
    """Check a room's name. Raises BadInput."""
    try:
        return _room.validate_python(text)
    except ValidationError:
        raise BadInput(
            "room: 1 to 64 letters, digits, dots, dashes or underscores, the first one a letter "
            "or digit",
            code="bad_room",
        ) from None


def may_enter_any(principal: Principal) -> bool:
    """Whether private rooms are open to it: by a ticket or token for the room, or as an admin."""
    return principal.room_role is not None or principal.kind == "static" or is_admin(principal)


def is_admin(principal: Principal) -> bool:
    """Whether it may do in any room what its owner may."""
    return principal.kind == "static" or principal.role == "admin"


def check_room(principal: Principal, room: str) -> None:
    """Raise Forbidden where the credentials are for another room."""
    if principal.room is not None and principal.room != room:
        raise Forbidden("these credentials are for another room", code="wrong_room")


async def newcomer_of(request: web.Request) -> tuple[str, Newcomer, Principal]:
    """Return the room that a request wants to enter, as whom, and by which principal.

    Raises BadInput, Forbidden, Unauthorized, Unavailable.
    """
    principal = principal_of(request)
    asked = request.query.get("room")
    room = room_name(asked if asked is not None else principal.room or DEFAULT_ROOM)
    check_room(principal, room)
    own = "" if principal in (LOCAL, STATIC) else principal.name
    invited_as = None
    if (invitation := request.query.get("invitation")) and principal.room is None:
        invited = await request.app[keys.IDENTITY].invitations.take(
            invitation, room, principal.subject
        )
        invited_as = invited.role
        principal = principal.model_copy(update={"room": room, "invitation_id": invited.id})
    name = clean_name(request.query.get("name", "") or own)[: m.MAX_NAME_CHARACTERS]
    newcomer = Newcomer(
        name=name or "guest",
        kind=_KINDS[principal.kind],
        subject=subject_of(principal),
        grants=principal.grants if principal.grants is not None else ALL,
        role=principal.room_role or invited_as,
        invited=invited_as is not None
        or may_enter_any(principal)
        or (principal.kind == "local" and principal.room == room),  # the join route let it in
        may_create=principal.may("rooms:create"),
        resume=_resume_of(request),
    )
    return room, newcomer, principal


def _resume_of(request: web.Request) -> ResumePoint | None:
    """Read where somebody left off; what makes no sense is as if it were not there."""
    log_id, _, seq = request.query.get("resume", "").partition(":")
    member_id, secret = request.query.get("member", ""), request.query.get("secret", "")
    if not member_id or not secret or len(secret) > 100:
        return None
    known = seq.isascii() and seq.isdecimal() and len(seq) <= 12
    return ResumePoint(log_id[:64], int(seq) if known else -1, member_id[:64], secret)
