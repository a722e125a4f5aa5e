"""RFC 9457 problem details, the one shape of every error on HTTP, WebSockets, data channels."""

from typing import Literal

from pydantic import ConfigDict

from mediaserver.kernel.errors import MediaServerError
from mediaserver.protocol.base import Wire

PROBLEM_TYPE = "application/problem+json"
_TYPE_PREFIX = "urn:mediaserver:problem:"


class Problem(Wire):
    """An error as RFC 9457 section 3 has it, with our `code` and `retryable`."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)  # HTTP omits nulls

    type: str
    """``urn:mediaserver:problem:`` and the code."""
    title: str
    status: int
    detail: str
    """What happened and what to do."""
    code: str
    """Stable, for programs."""
    retryable: bool
    """Whether the same request may succeed later."""
    retry_after_s: float | None = None
    instance: str | None = None
    """The request or session id, to find it in the logs."""


class ErrorMessage(Wire):
    """An error on a WebSocket or data channel. The connection goes on unless it is closed next."""

    type: Literal["error"] = "error"
    problem: Problem
    in_reply_to: str | None = None
    """The `type` (or `id`, if it had one) of the client's message that caused it."""


def problem_of(error: MediaServerError, instance: str | None = None) -> Problem:
    """Describe `error` for the outside."""
    return Problem(
        type=f"{_TYPE_PREFIX}{error.specific_code}",
        title=error.title,
        status=error.status,
        detail=error.detail,
        code=error.specific_code,
        retryable=error.retryable,
        retry_after_s=error.retry_after_s,
        instance=instance,
    )
