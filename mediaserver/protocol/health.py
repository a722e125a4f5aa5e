"""What `GET /healthz` and `GET /readyz` say."""

from mediaserver.protocol.base import Wire


class PartState(Wire):
    """Whether one part of the server can do its work."""

    ready: bool
    detail: str = ""
    """What is missing and what to do; empty when all is well."""


class Health(Wire):
    """The process lives."""

    status: str = "ok"
    version: str
    instance: str


class ReadinessReport(Wire):
    """Whether the server can take work, part by part."""

    ready: bool
    """All parts are ready; otherwise the response's status is 503."""
    parts: dict[str, PartState]
