"""As whom a request is made, and what follows from a role. Pure."""

from pydantic import BaseModel, ConfigDict

from mediaserver.protocol.identity import SCOPES, PrincipalInfo, PrincipalKind, Role
from mediaserver.protocol.rooms import Grants, RoomRole

_MEMBER = frozenset(
    {"listen", "transcripts", "rooms", "publish", "stream", "videos", "account", "password", "keys"}
)
ALL_SCOPES: frozenset[str] = frozenset(SCOPES)
ROLE_SCOPES: dict[Role, frozenset[str]] = {
    "member": _MEMBER,
    "host": _MEMBER | {"rooms:create"},
    "admin": ALL_SCOPES,
}
LOCAL_SCOPES = (_MEMBER | {"rooms:create", "metrics"}) - {"account", "password", "keys"}
"""Of requests without credentials, where those are let in."""
GUEST_SCOPES = frozenset({"rooms"})
"""Of room tokens: their own room, and nothing else."""
PASSWORD_SCOPES = frozenset({"password"})
"""Of a login whose password must be changed first."""


class Principal(BaseModel):
    """Somebody (or some program) that was recognised."""

    model_config = ConfigDict(frozen=True)

    kind: PrincipalKind
    id: str
    """Unique among all kinds; of a guest of an API key's own users: ``KEY:SUBJECT``."""
    name: str
    """What others see."""
    role: Role | None = None
    """Of users."""
    scopes: frozenset[str] = frozenset()
    user_id: str | None = None
    """The user it is, or whose key or room token it carries."""
    session_id: str | None = None
    session_started_us: int | None = None
    """Redis time, microseconds."""
    token_id: str | None = None
    """Of a room token; the same for all that it was renewed by."""
    invitation_id: str | None = None
    """The invitation to `room` that it came by; it ends with it."""
    key_id: str | None = None
    """The API key that minted the room token; it ends with it."""
    expires_at: float | None = None
    """Unix seconds."""
    room: str | None = None
    """The only room that it may enter, if there is one."""
    room_role: RoomRole | None = None
    grants: Grants | None = None

    def may(self, scope: str) -> bool:
        """Whether it has `scope`."""
        return scope in self.scopes

    @property
    def subject(self) -> str:
        """Who it is for bans and ownership; "" where it could be anybody."""
        if self.kind in ("local", "static"):
            return ""
        if self.user_id is not None:
            return f"user:{self.user_id}"
        return f"{self.kind}:{self.id}"

    @property
    def restricted(self) -> bool:
        """Whether it is good for one purpose only: a room token, or a password to be changed."""
        return self.kind == "guest" or self.room is not None or self.scopes == PASSWORD_SCOPES

    @property
    def info(self) -> PrincipalInfo:
        """As the outside is told."""
        return PrincipalInfo(
            kind=self.kind,
            id=self.id,
            name=self.name,
            role=self.role,
            scopes=tuple(sorted(self.scopes)),
            session_id=self.session_id,
            expires_at=self.expires_at,
            room=self.room,
            grants=self.grants,
        )


LOCAL = Principal(kind="local", id="local", name="local", scopes=LOCAL_SCOPES)
"""Whoever reaches an open server."""
STATIC = Principal(kind="static", id="static", name="static key", scopes=ALL_SCOPES)
"""Whoever has MEDIASERVER_API_KEY."""
