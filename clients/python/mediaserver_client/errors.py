"""What can go wrong.

ClientError
├── ServerUnreachable  nothing answers at this address
├── Refused            the server said no, with its reason in `problem`
├── SessionLost        the connection broke and could not be restored in time
├── SessionClosed      the session is over; nothing can be sent any more
│   └── SentAway       the server ended it: kicked, banned, replaced, expired, room closed
├── AnswerTimeout      the server did not answer in time
├── ReaderTooSlow      captions were read so slowly that some were forgotten
├── AudioError         the audio cannot be read (no file, no decoder, no microphone)
└── ProtocolError      whatever answers there does not speak this protocol
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mediaserver_client.messages import Problem


class ClientError(Exception):
    """Base of all errors of this package; the text says what happened and what to do."""


class ServerUnreachable(ClientError):
    """Nothing answers at this address."""


class Refused(ClientError):
    """The server said no. `problem` is its RFC 9457 problem, with `code` and `detail`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.title}: {problem.detail}" if problem.detail else problem.title)
        self.problem = problem

    @property
    def code(self) -> str:
        """The stable code of the problem."""
        return self.problem.code

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.problem.retryable


class SessionLost(ClientError):
    """The connection broke and could not be restored within `reconnect_s`."""


class SessionClosed(ClientError):
    """The session is over; nothing can be sent any more."""


class SentAway(SessionClosed):
    """The server ended the session and does not want it back.

    `why` is ``expired`` (the credentials), ``sent away`` (kicked, banned, grant revoked),
    ``replaced`` (by another connection of the same member) or ``closed`` (the room).
    """

    def __init__(self, why: str, detail: str) -> None:
        super().__init__(f"the server ended the session: {detail or why}")
        self.why = why
        self.detail = detail


class AnswerTimeout(ClientError):
    """The server did not answer in time."""


class ReaderTooSlow(ClientError):
    """Captions were read so slowly that some finals were forgotten."""


class AudioError(ClientError):
    """The audio cannot be read: no such file, no decoder for it, no microphone."""


class ProtocolError(ClientError):
    """Whatever answers at this address does not speak this protocol."""
