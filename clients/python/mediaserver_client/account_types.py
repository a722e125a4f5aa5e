"""Accounts as resources: see `mediaserver.protocol.identity`."""

from dataclasses import dataclass
from typing import Literal

from mediaserver_client.room_types import Grants

Role = Literal["admin", "host", "member"]
Scope = Literal[
    "listen",
    "transcripts",
    "rooms",
    "rooms:create",
    "rooms:tokens",
    "publish",
    "stream",
    "videos",
    "videos:manage",
    "metrics",
    "account",
    "password",
    "keys",
    "users",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """As whom requests are made."""

    kind: Literal["user", "key", "guest", "local", "static"]
    id: str
    name: str
    role: Role | None
    """Of users."""
    scopes: tuple[str, ...]
    session_id: str | None
    expires_at: float | None
    """Unix seconds; None for keys without an end."""
    room: str | None
    """The only room that a room token is good for."""
    grants: Grants | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """Opens ``/ws?ticket=…`` once, within `expires_in_s`."""

    ticket: str
    expires_in_s: float
    room: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody with an account."""

    id: str
    name: str
    display_name: str
    role: Role
    must_change_password: bool
    created_at: float
    """Unix seconds, as the next."""
    last_login_at: float | None
    disabled: bool = False
    one_time_password: str | None = None
    """Shown when it is made, never again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An API key."""

    id: str
    name: str
    scopes: tuple[str, ...]
    user_id: str | None
    """Whose it is; None for keys of the server's own."""
    created_at: float
    """Unix seconds, as the next three."""
    expires_at: float | None
    last_used_at: float | None
    """To within a minute."""
    revoked_at: float | None
    key: str | None = None
    """Shown when it is made, never again."""
