"""Who may do what: what HTTP takes and gives under ``/api/v1/auth``, and the scopes of routes."""

from typing import Annotated, Literal

from pydantic import Field

from mediaserver.protocol.base import Inbound, Wire
from mediaserver.protocol.rooms import Grants, RoomRole

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
"""What a route asks for."""
SCOPES: dict[Scope, str] = {
    "listen": "Live captions and transcription of one's own audio",
    "transcripts": "Read transcripts",
    "rooms": "See and join rooms",
    "rooms:create": "Make rooms",
    "rooms:tokens": "Make room tokens for one's own users, with any grants, in any room",
    "publish": "Publish by WHIP",
    "stream": "The ten streaming endpoints",
    "videos": "Watch videos",
    "videos:manage": "Upload and change videos",
    "metrics": "Read /metrics",
    "account": "Be told who one is, log out everywhere",
    "password": "Change one's own password",
    "keys": "Make API keys, at most as mighty as oneself; see and revoke one's own",
    "users": "Add, change and remove users; see and revoke everybody's API keys",
}
Role = Literal["admin", "host", "member"]
ROLES: tuple[Role, ...] = ("admin", "host", "member")
PrincipalKind = Literal["user", "key", "guest", "local", "static"]

MIN_PASSWORD_CHARACTERS = 10
MAX_PASSWORD_CHARACTERS = 256
MAX_TOKEN_CHARACTERS = 4096

UserName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$")]
"""Upper and lower case are the same name."""
_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
DisplayName = Annotated[str, Field(max_length=80, pattern=_PRINTABLE)]
Password = Annotated[str, Field(min_length=1, max_length=MAX_PASSWORD_CHARACTERS)]
NewPassword = Annotated[
    str, Field(min_length=MIN_PASSWORD_CHARACTERS, max_length=MAX_PASSWORD_CHARACTERS)
]
KeyName = Annotated[str, Field(min_length=1, max_length=80, pattern=_PRINTABLE)]
Token = Annotated[str, Field(min_length=1, max_length=MAX_TOKEN_CHARACTERS)]


# ---- logging in ----------------------------------------------------------------------------


class LoginRequest(Inbound):
    """POST /api/v1/auth/login."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=_PRINTABLE)]
    password: Password
    cookie: bool = False
    """For browsers: the refresh token goes into an HttpOnly cookie instead of the body."""


class RefreshRequest(Inbound):
    """POST /api/v1/auth/refresh and /logout; without a token the cookie's is taken."""

    refresh_token: Token | None = None


class PasswordChange(Inbound):
    """POST /api/v1/auth/password. Ends the user's other sessions."""

    current: Password
    new: NewPassword
    cookie: bool = False
    """As at login."""


class TokenAnswer(Wire):
    """What login, refresh and a changed password give."""

    access_token: str
    """Send it as ``Authorization: Bearer``."""
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 # RFC 6749's name of the type
    expires_in_s: float
    refresh_token: str | None = None
    """Null where the cookie has it, and while the password must be changed."""
    refresh_expires_in_s: float | None = None
    must_change_password: bool = False
    """The access token is good for POST /api/v1/auth/password only."""


class PrincipalInfo(Wire):
    """GET /api/v1/auth/me: as whom the request was made."""

    kind: PrincipalKind
    id: str
    name: str
    role: Role | None
    scopes: tuple[str, ...]
    session_id: str | None
    expires_at: float | None
    """Unix seconds; null for keys without an end."""
    room: str | None
    grants: Grants | None


# ---- tickets and room tokens ---------------------------------------------------------------


class TicketRequest(Inbound):
    """POST /api/v1/auth/tickets."""

    room: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Binds the ticket to this room; a room token's holder gets its own room."""


class TicketAnswer(Wire):
    """Open ``/ws?ticket=…`` within `expires_in_s`; it works once."""

    ticket: str
    expires_in_s: float
    room: str | None


class RoomTokenRequest(Inbound):
    """POST /api/v1/rooms/{room}/tokens: a token for a user of one's own."""

    subject: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@:+-]{0,63}$")]
    """Your own id of that user."""
    name: DisplayName = ""
    """Shown to others; the subject if empty."""
    role: RoomRole = "member"
    grants: Grants
    """Denied unless said otherwise."""
    expires_in_s: Annotated[int, Field(ge=60, le=86_400)] = 3600


class RoomTokenAnswer(Wire):
    """A room token: send it as ``Authorization: Bearer``."""

    token: str
    id: str
    room: str
    subject: str
    expires_at: float
    """Unix seconds."""


class RoomTokenInfo(Wire):
    """A room token that is good. The token itself is shown when it is made, never again."""

    id: str
    subject: str
    """Whose it is: a guest's made-up id, or the maker's id, a colon, and its own id of the user."""
    name: str
    role: RoomRole
    grants: Grants
    created_at: float
    """When it was made, or renewed last: Unix seconds, as the next."""
    expires_at: float
    invitation_id: str | None = None
    """The invitation that its guest came by; null for tokens that a server made."""
    members: tuple[str, ...] = ()
    """Ids of the room's members that are there by it now."""


class RoomTokenList(Wire):
    """GET /api/v1/rooms/{room}/tokens."""

    tokens: list[RoomTokenInfo]


# ---- API keys ------------------------------------------------------------------------------


class ApiKeyRequest(Inbound):
    """POST /api/v1/auth/keys."""

    name: KeyName
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(SCOPES))]
    expires_in_s: Annotated[int, Field(ge=60, le=10 * 366 * 86_400)] | None = None
    """Null: until it is revoked."""


class ApiKeyInfo(Wire):
    """An API key; the key itself is shown when it is made, never again."""

    id: str
    name: str
    scopes: tuple[str, ...]
    user_id: str | None
    """Whose it is; null for keys of the server's own."""
    created_at: float
    """Unix seconds, as the next three."""
    expires_at: float | None
    last_used_at: float | None
    """To within a minute."""
    revoked_at: float | None
    key: str | None = None


class ApiKeyList(Wire):
    """GET /api/v1/auth/keys."""

    keys: list[ApiKeyInfo]


# ---- users ---------------------------------------------------------------------------------


class UserCreate(Inbound):
    """POST /api/v1/auth/users."""

    name: UserName
    role: Role = "member"
    display_name: DisplayName = ""
    """The name if empty."""
    password: NewPassword | None = None
    """Null: a one-time password is made, to be changed at the first login."""


class UserChange(Inbound):
    """PATCH /api/v1/auth/users/{id}; what is null stays."""

    role: Role | None = None
    display_name: DisplayName | None = None
    reset_password: bool = False
    """Make a one-time password."""
    disabled: bool | None = None
    """Whether to keep it out: no login, and its API keys rest. Its sessions end."""


class UserInfo(Wire):
    """A user. `one_time_password` is shown when it is made, never again."""

    id: str
    name: str
    display_name: str
    role: Role
    must_change_password: bool
    created_at: float
    """Unix seconds."""
    last_login_at: float | None
    disabled: bool = False
    one_time_password: str | None = None


class UserList(Wire):
    """GET /api/v1/auth/users."""

    users: list[UserInfo]


# ---- keys that tokens are signed with ------------------------------------------------------


class JsonWebKey(Wire):
    """A public Ed25519 key (RFC 8037)."""

    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    x: str
    kid: str
    use: Literal["sig"] = "sig"
    alg: Literal["EdDSA"] = "EdDSA"


class JsonWebKeySet(Wire):
    """GET /.well-known/jwks.json (RFC 7517)."""

    keys: list[JsonWebKey]
