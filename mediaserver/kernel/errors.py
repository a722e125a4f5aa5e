"""The error tree.

    MediaServerError
    ├── BadInput            400  what the client sent cannot be used
    │   ├── UnsupportedMedia 415  a codec, container or type that is not spoken here
    │   ├── Unprocessable    422  well-formed, but cannot be done
    │   └── TooLarge         413  over a stated limit
    ├── Unauthorized        401
    ├── Forbidden           403
    ├── NotFound            404
    ├── Conflict            409
    │   └── Locked           423  retryable: somebody else is at it
    ├── Gone                410  it was there, and is over
    ├── PreconditionFailed  412
    ├── PreconditionRequired 428
    ├── Overloaded          503  retryable: no capacity now
    │   └── TooManyRequests 429
    ├── Unavailable         503  retryable: something this needs is not there
    ├── InsufficientStorage 507  there is no room for it on disk
    ├── SlowConsumer        1013 the client does not read what it is sent
    └── ConfigurationError  the operator's settings cannot work (start-up only)

Every error has a stable `code`, becomes an RFC 9457 problem (`protocol.problems`), and says
whether the same request may succeed later (`retryable`).
"""

from typing import ClassVar


class MediaServerError(Exception):
    """Base of all errors that are shown to somebody. `detail` says what happened and what to do."""

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    ws_close_code: ClassVar[int] = 1011

    def __init__(self, detail: str, *, code: str | None = None, retry_after_s: float | None = None):
        super().__init__(detail)
        self.detail = detail
        self.specific_code = code or self.code
        self.retry_after_s = retry_after_s


class BadInput(MediaServerError):
    """What the client sent cannot be used."""

    code, title, status, ws_close_code = "bad_input", "Bad input", 400, 1008


class UnsupportedMedia(BadInput):
    """A codec, container or content type that is not spoken here."""

    code, title, status, ws_close_code = "unsupported_media", "Unsupported media", 415, 1003


class Unprocessable(BadInput):
    """Well-formed, but it cannot be done."""

    code, title, status = "unprocessable", "Cannot be processed", 422


class TooLarge(BadInput):
    """Over a stated limit."""

    code, title, status, ws_close_code = "too_large", "Too large", 413, 1009


class Unauthorized(MediaServerError):
    """No credentials, or wrong ones."""

    code, title, status, ws_close_code = "unauthorized", "Unauthorized", 401, 4401


class Forbidden(MediaServerError):
    """Known, but not allowed."""

    code, title, status, ws_close_code = "forbidden", "Forbidden", 403, 4403


class NotFound(MediaServerError):
    """There is no such thing (or not any more)."""

    code, title, status, ws_close_code = "not_found", "Not found", 404, 4404


class Conflict(MediaServerError):
    """It contradicts the present state."""

    code, title, status, ws_close_code = "conflict", "Conflict", 409, 4409


class Locked(Conflict):
    """Somebody else is at it now."""

    code, title, status = "locked", "Locked", 423
    retryable = True


class Gone(MediaServerError):
    """It was there, and is over for good."""

    code, title, status, ws_close_code = "gone", "Gone", 410, 4410


class PreconditionFailed(MediaServerError):
    """The resource is not (or no more) in the state that the request was made for."""

    code, title, status = "precondition_failed", "Precondition failed", 412


class PreconditionRequired(MediaServerError):
    """The request must say for which state of the resource it was made (If-Match)."""

    code, title, status = "precondition_required", "Precondition required", 428


class Overloaded(MediaServerError):
    """No capacity now; `retry_after_s` says when to come again."""

    code, title, status, ws_close_code = "overloaded", "Overloaded", 503, 1013
    retryable = True


class TooManyRequests(Overloaded):
    """This client asks too often."""

    code, title, status, ws_close_code = "too_many_requests", "Too many requests", 429, 1013


class Unavailable(MediaServerError):
    """Something this needs (a worker, Redis, a model) is not there now."""

    code, title, status, ws_close_code = "unavailable", "Unavailable", 503, 1013
    retryable = True


class InsufficientStorage(MediaServerError):
    """There is no room for it on disk."""

    code, title, status = "insufficient_storage", "Insufficient storage", 507


class SlowConsumer(MediaServerError):
    """The client does not read what it is sent, beyond what is kept for it."""

    code, title, status, ws_close_code = "slow_consumer", "Slow consumer", 408, 1013
    retryable = True


class ConfigurationError(MediaServerError):
    """The operator's settings cannot work. Raised at start only."""

    code, title = "configuration", "Configuration error"
