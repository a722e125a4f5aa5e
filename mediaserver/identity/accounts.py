"""What users do with their accounts, and admins with others': logging in, passwords, roles."""

from dataclasses import dataclass

from mediaserver.identity.passwords import Passwords, one_time_password
from mediaserver.identity.principal import PASSWORD_SCOPES, ROLE_SCOPES, Principal
from mediaserver.identity.rotation import IDLE_MS
from mediaserver.identity.sessions import OpenedSession, UserSessions
from mediaserver.identity.signing import SigningKeys
from mediaserver.identity.tokens import ACCESS, Tokens
from mediaserver.identity.users import User, Users
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import BadInput, Conflict, Forbidden, NotFound, Unauthorized
from mediaserver.kernel.errors import Unavailable as RedisDown
from mediaserver.kernel.ids import new_id
from mediaserver.kernel.logging import get_logger
from mediaserver.protocol.identity import TokenAnswer, UserChange, UserCreate, UserInfo

log = get_logger(__name__)

ACCESS_S = 900.0
FIRST_ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Granted:
    """What a login gives; the web layer decides where the refresh token goes."""

    access_token: str
    refresh_token: str | None
    must_change_password: bool
    session_id: str

    def answer(self, *, in_body: bool) -> TokenAnswer:
        """For the body of the response, with the refresh token or without."""
        refresh_expires_in_s = IDLE_MS / 1000 if self.refresh_token is not None else None
        return TokenAnswer(
            access_token=self.access_token,
            expires_in_s=ACCESS_S,
            refresh_token=self.refresh_token if in_body else None,
            refresh_expires_in_s=refresh_expires_in_s,
            must_change_password=self.must_change_password,
        )


class Accounts:
    """Users, their passwords and their sessions together."""

    def __init__(
        self,
        users: Users,
        passwords: Passwords,
        sessions: UserSessions,
        tokens: Tokens,
        signing: SigningKeys,
        clock: Clock,
    ) -> None:
        self._users = users
        self._passwords = passwords
        self._sessions = sessions
        self._tokens = tokens
        self._signing = signing
        self._clock = clock

    # ---- by the user --------------------------------------------------------------------------

    async def login(self, name: str, password: str) -> Granted:
        """Begin a session.

        Raises Unauthorized (``wrong_password``), Forbidden (``user_disabled``), Overloaded,
        Unavailable.
        """
        user = await self._users.find(name)
        stored = user.password_hash if user is not None else None
        if not await self._passwords.verify(stored, password) or user is None:
            raise Unauthorized("the name or the password is wrong", code="wrong_password")
        if user.disabled:
            raise Forbidden("this account is disabled; ask an admin", code="user_disabled")
        opened = await self._sessions.open(user.id)
        values: dict[str, object] = {"last_login_at": self._clock.wall_s()}
        if self._passwords.outdated(user.password_hash):
            values["password_hash"] = await self._passwords.hash(password)
        user = await self._users.change(user.id, **values)
        log.info("session.logged_in", user_id=user.id, session_id=opened.session_id)
        return self._grant(user, opened)

    async def refresh(self, token: str) -> Granted:
        """Go on with a session. Raises Unauthorized (``invalid_grant``), Unavailable."""
        opened = await self._sessions.refresh(token, self._signing.secret)
        try:
            user = await self._users.get(opened.user_id)
        except NotFound:
            raise Unauthorized("this user was removed", code="invalid_grant") from None
        if user.disabled:
            raise Unauthorized("this account is disabled", code="invalid_grant")
        if user.must_change_password:
            raise Unauthorized("the password was reset; log in again", code="invalid_grant")
        return self._grant(user, opened)

    async def change_password(self, principal: Principal, current: str, new: str) -> Granted:
        """Change one's own password; other sessions end. Raises Forbidden, BadInput."""
        user = await self._users.get(_user_id(principal))
        if not await self._passwords.verify(user.password_hash, current):
            raise Forbidden("the current password is wrong", code="wrong_password")
        if new == current or new.lower() == user.name:
            raise BadInput("take a password that is new, and not the name", code="weak_password")
        hashed = await self._passwords.hash(new)
        await self._sessions.revoke_user(user.id)
        user = await self._users.change(user.id, password_hash=hashed, must_change_password=False)
        log.info("user.changed_password", user_id=user.id)
        return self._grant(user, await self._sessions.open(user.id))

    async def logout(self, principal: Principal | None, refresh_token: str | None) -> None:
        """End the session of an access or a refresh token. Raises Unavailable."""
        session_ids: set[str | None] = set()
        if principal is not None and principal.session_id is not None:
            session_ids.add(principal.session_id)
        if refresh_token is not None:
            session_ids.add(await self._sessions.owner_of(refresh_token))
        for session_id in session_ids - {None}:
            assert session_id is not None
            await self._sessions.revoke(session_id)
            log.info("session.logged_out", session_id=session_id)

    async def logout_all(self, principal: Principal) -> None:
        """End all of one's sessions. Raises Forbidden, Unavailable."""
        await self.end_sessions(_user_id(principal))

    # ---- by an admin --------------------------------------------------------------------------

    async def create(self, asked: UserCreate) -> UserInfo:
        """Add a user. Raises Conflict."""
        made = one_time_password() if asked.password is None else None
        user = await self._users.add(
            asked.name,
            asked.role,
            await self._passwords.hash(made or asked.password or ""),
            display_name=asked.display_name,
            must_change=made is not None,
        )
        log.info("user.added", user_id=user.id, role=user.role)
        return user.info(made)

    async def change(self, user_id: str, asked: UserChange) -> UserInfo:
        """Change a user; a new role or password, or being disabled or not, ends its sessions.

        Raises NotFound, Conflict (the last admin).
        """
        user = await self._users.get(user_id)
        values: dict[str, object] = {}
        made = None
        if asked.display_name is not None:
            values["display_name"] = asked.display_name or user.name
        if asked.role is not None and asked.role != user.role:
            values["role"] = asked.role
        if asked.disabled is not None and asked.disabled != user.disabled:
            values["disabled"] = asked.disabled
        if asked.reset_password:
            made = one_time_password()
            values |= {
                "password_hash": await self._passwords.hash(made),
                "must_change_password": True,
            }
        if not values:
            return user.info()
        if values.keys() == {"display_name"}:
            return (await self._users.change(user_id, **values)).info()
        if values.get("role", "admin") != "admin" or values.get("disabled"):
            await self._users.keep_an_admin(user_id)
        await self.end_sessions(user_id)  # first: where Redis is away nothing changes
        changed = await self._users.change(user_id, **values)
        await self._end_late_sessions(user_id)
        log.info("user.changed", user_id=user_id, columns=sorted(values))
        return changed.info(made)

    async def set_password(self, user_id: str, password: str) -> None:
        """Set a password that need not be changed (the command line). Raises NotFound."""
        hashed = await self._passwords.hash(password)
        await self.end_sessions(user_id)
        await self._users.change(user_id, password_hash=hashed, must_change_password=False)
        await self._end_late_sessions(user_id)

    async def remove(self, user_id: str) -> None:
        """Remove a user, its keys and sessions. Raises NotFound, Conflict (the last admin)."""
        await self._users.get(user_id)
        await self._users.keep_an_admin(user_id)
        await self.end_sessions(user_id)
        await self._users.remove(user_id)
        await self._end_late_sessions(user_id)
        log.info("user.removed", user_id=user_id)

    async def end_sessions(self, user_id: str) -> None:
        """End all sessions of a user, everywhere. Raises Unavailable."""
        await self._sessions.revoke_user(user_id)
        log.info("session.all_ended", user_id=user_id)

    async def create_first_admin(self) -> str | None:
        """Where there is no user at all, make `admin`; return its one-time password."""
        if await self._users.count():
            return None
        try:
            info = await self.create(UserCreate(name=FIRST_ADMIN, role="admin"))
        except Conflict:
            return None  # another instance was faster
        return info.one_time_password

    # ---- inside -------------------------------------------------------------------------------

    async def _end_late_sessions(self, user_id: str) -> None:
        """End what was begun with the old state between the first look and the change."""
        try:
            await self._sessions.revoke_user(user_id)
        except RedisDown:
            log.warning("session.late_not_ended", user_id=user_id)

    def _grant(self, user: User, opened: OpenedSession) -> Granted:
        scopes = PASSWORD_SCOPES if user.must_change_password else ROLE_SCOPES[user.role]
        access_token = self._tokens.sign(
            ACCESS,
            new_id("at"),
            self._clock.wall_s() + ACCESS_S,
            {
                "sub": user.id,
                "sid": opened.session_id,
                "sst": opened.started_us,
                "role": user.role,
                "name": user.display_name,
                "scope": " ".join(sorted(scopes)),
            },
        )
        return Granted(
            access_token=access_token,
            refresh_token=None if user.must_change_password else opened.refresh_token,
            must_change_password=user.must_change_password,
            session_id=opened.session_id,
        )


def _user_id(principal: Principal) -> str:
    if principal.kind != "user" or principal.room is not None or principal.user_id is None:
        raise Forbidden("this is for users who logged in", code="not_a_user")
    return principal.user_id
