"""What a WHIP request says: the room, who publishes, with which options, and its body."""

import asyncio

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from mediaserver.kernel.errors import BadInput, TooLarge, UnsupportedMedia
from mediaserver.protocol import messages as m
from mediaserver.rooms.grants import ALL
from mediaserver.rooms.presence import Newcomer
from mediaserver.web.auth import principal_of
from mediaserver.web.door import check_room, may_enter_any, subject_of

BODY_TIMEOUT_S = 10.0
_room: TypeAdapter[str] = TypeAdapter(m.RoomName)


def room_of(request: web.Request) -> str:
    """Which room. Raises BadInput."""
    try:
        return _room.validate_python(request.match_info["room"])
    except ValidationError:
        raise BadInput(
            "a room has 1 to 64 letters, digits, dots, dashes or underscores, "
            "the first one a letter or digit",
            code="bad_room",
        ) from None


def name_of(request: web.Request) -> str:
    """The publisher's name. Raises BadInput."""
    name = request.query.get("name", "").strip() or "publisher"
    if len(name) > m.MAX_NAME_CHARACTERS or not name.isprintable():
        raise BadInput(
            f"name: at most {m.MAX_NAME_CHARACTERS} printable characters", code="bad_name"
        )
    return name


def options_of(request: web.Request) -> m.CaptionOptions:
    """How it is captioned. Raises BadInput."""
    given = {key: request.query[key] for key in ("language", "task") if request.query.get(key)}
    try:
        return m.CaptionOptions.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BadInput(f"{first['loc'][0]}: {first['msg']}", code="bad_options") from None


def newcomer_of(request: web.Request, room: str) -> Newcomer:
    """As whom it publishes. Raises BadInput, Unauthorized or Forbidden."""
    principal = principal_of(request)
    check_room(principal, room)
    return Newcomer(
        name=name_of(request),
        kind="whip",
        subject=subject_of(principal),
        grants=principal.grants if principal.grants is not None else ALL,
        role="member",
        invited=may_enter_any(principal),
        may_create=principal.may("rooms:create"),
    )


def check_type(request: web.Request, wanted: str) -> None:
    """Raise UnsupportedMedia for a body of another type."""
    if request.content_type != wanted:
        raise UnsupportedMedia(f"Content-Type is {request.content_type[:80]}; send {wanted}")


async def read_text(request: web.Request, limit_bytes: int) -> str:
    """Read the body as text. Raises TooLarge or BadInput."""
    too_large = TooLarge(f"the body is over {limit_bytes} bytes")
    if (request.content_length or 0) > limit_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for piece in request.content.iter_any():
                body += piece
                if len(body) > limit_bytes:
                    raise too_large
        return body.decode()
    except TimeoutError:
        raise BadInput(f"the body did not come within {BODY_TIMEOUT_S:g} s") from None
    except UnicodeDecodeError:
        raise BadInput("the body is not UTF-8 text", code="bad_sdp") from None
