"""JSON bodies, checked once, at the edge."""

from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from mediaserver.kernel.errors import BadInput, UnsupportedMedia

_Model = TypeVar("_Model", bound=BaseModel)
_SHOWN_FAULTS = 3


async def read_json(
    request: web.Request, model: type[_Model], *, may_be_empty: bool = False
) -> _Model:
    """Read the body as `model`; where it may be empty, an empty one is all defaults.

    Raises UnsupportedMedia, BadInput (which names the faults, but no values: they may be secrets),
    and aiohttp's 413.
    """
    body = await request.read()
    if may_be_empty and not body.strip():
        return model()
    if request.content_type != "application/json":
        raise UnsupportedMedia("send it as application/json")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise BadInput(_describe(error), code="bad_body") from None


def _describe(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    told = []
    for fault in faults[:_SHOWN_FAULTS]:
        # names of unknown fields are the client's own text; those of known ones are ours
        place = ".".join(str(part)[:64] for part in fault["loc"]) or "the body"
        told.append(f"{place}: {fault['msg'] if fault['type'] != 'json_invalid' else 'not JSON'}")
    if len(faults) > _SHOWN_FAULTS:
        told.append(f"and {len(faults) - _SHOWN_FAULTS} more")
    return "; ".join(told)
