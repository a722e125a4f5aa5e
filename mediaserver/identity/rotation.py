"""Refresh tokens: how a session's token rotates, and what a replay means. Pure.

A refresh token is ``SESSION.SECRET``. The tokens of one session are a family (RFC 9700 section
4.14.2): each may be used once and gives its successor. Only SHA-256 of tokens is stored.

- The current token is presented: it becomes the predecessor, the successor becomes current.
- The immediate predecessor is presented within `GRACE_MS` of its rotation: two requests of one
  client crossed, or an answer was lost. It is given the same successor again, nothing rotates.
- Anything else of the family: somebody uses a token that was used before. Either the client or a
  thief; nobody can tell, so the family is revoked.

The same successor can be given again although it is not stored: it is an HMAC, by a secret of the
server's in SQL, over the presented token and a nonce that is made at each rotation and forgotten
at the next. Neither SQL nor Redis alone tells a token, and with both an old token does not lead to
the current one.

`sessions.py` has this as one Lua call; a property test compares the two.
"""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from dataclasses import dataclass, replace
from typing import Literal

GRACE_MS = 10_000
IDLE_MS = 14 * 86_400_000
"""A session that is not refreshed for so long is over."""
LONGEST_MS = 30 * 86_400_000
"""Then one has to log in again."""

Outcome = Literal["rotated", "same", "replayed", "revoked", "unknown"]


@dataclass(frozen=True, slots=True)
class Family:
    """What is stored of a session."""

    current: str
    """SHA-256 of the token that may be used."""
    ends_ms: int
    previous: str = ""
    """SHA-256 of the token before; empty before the first rotation."""
    nonce: str = ""
    """That the current token was made with."""
    rotated_ms: int = 0
    revoked: bool = False


def rotate(
    family: Family | None, presented: str, successor: str, nonce: str, now_ms: int
) -> tuple[Outcome, Family | None]:
    """Return what becomes of a family when the token with hash `presented` is shown.

    `successor` is the hash of the token that `nonce` gives. The outcome is `rotated` (hand out that
    token), `same` (the one that the family's nonce gives), or a refusal.
    """
    if family is None or now_ms >= family.ends_ms:
        return "unknown", None
    if family.revoked:
        return "revoked", family
    if presented == family.current:
        rotated = replace(
            family, current=successor, previous=presented, nonce=nonce, rotated_ms=now_ms
        )
        return "rotated", rotated
    if presented == family.previous and now_ms - family.rotated_ms <= GRACE_MS:
        return "same", family
    return "replayed", replace(family, revoked=True)


def token_hash(token: str) -> str:
    """SHA-256, as it is stored."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def successor_of(server_secret: bytes, token: str, nonce: str) -> str:
    """Return the token that follows `token` in the rotation with `nonce`."""
    session_id = token.partition(".")[0]
    message = f"refresh-successor\0{token}\0{nonce}".encode("utf-8", "replace")
    secret = hmac.new(server_secret, message, hashlib.sha256).digest()
    return f"{session_id}.{urlsafe_b64encode(secret).rstrip(b'=').decode()}"
