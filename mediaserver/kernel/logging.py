"""Structured logs: fixed event names, ids from context variables, JSON or console.

Never log transcripts, tokens, keys or SDP; `_redact` is the last line of defence, not the first.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog

bind = structlog.contextvars.bound_contextvars
"""Context manager: ids bound here appear in every line logged inside, also in awaited code."""

_SECRET_WORDS = ("key", "token", "secret", "password", "authorization", "ticket", "sdp", "cookie")


def _redact(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for name in event:
        if any(word in name.lower() for word in _SECRET_WORDS):
            event[name] = "[redacted]"
    return event


def configure(level: str = "info", style: Literal["console", "json"] = "console") -> None:
    """Send structlog and stdlib logging to standard error in one format."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _redact,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    final: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        *([structlog.processors.format_exc_info] if style == "json" else []),
        renderer,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=final)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    noisy_or_indiscreet = (
        *("aioice", "aiortc", "aiohttp.access", "faster_whisper", "libav", "alembic"),
        *("aiosqlite", "sqlalchemy"),  # they would log the parameters of statements
    )
    for noisy in noisy_or_indiscreet:
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger; use it as ``log.info("track.opened", track_id=…)``."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
