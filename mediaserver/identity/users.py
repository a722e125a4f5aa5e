"""Users in SQL."""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from mediaserver.identity.tables import USERS
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import Conflict, NotFound
from mediaserver.kernel.ids import new_id
from mediaserver.protocol.identity import Role, UserInfo
from mediaserver.stores.database import Database

MAX_LISTED = 10_000


@dataclass(frozen=True, slots=True)
class User:
    """A row of `users`."""

    id: str
    name: str
    display_name: str
    role: Role
    password_hash: str
    must_change_password: bool
    created_at: float
    last_login_at: float | None
    disabled: bool = False

    def info(self, one_time_password: str | None = None) -> UserInfo:
        """As the outside is told."""
        return UserInfo(
            id=self.id,
            name=self.name,
            display_name=self.display_name,
            role=self.role,
            must_change_password=self.must_change_password,
            created_at=self.created_at,
            last_login_at=self.last_login_at,
            disabled=self.disabled,
            one_time_password=one_time_password,
        )


class Users:
    """The table of users. Every method may raise Unavailable (``database_down``)."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def add(
        self, name: str, role: Role, password_hash: str, *, display_name: str, must_change: bool
    ) -> User:
        """Add a user. Raises Conflict if the name is taken."""
        user = User(
            id=new_id("u"),
            name=name.lower(),
            display_name=display_name or name,
            role=role,
            password_hash=password_hash,
            must_change_password=must_change,
            created_at=self._clock.wall_s(),
            last_login_at=None,
        )
        values = {column.name: getattr(user, column.name) for column in USERS.columns}
        try:
            async with self._database.begin() as connection:
                await connection.execute(sa.insert(USERS).values(values))
        except IntegrityError:
            raise Conflict(f"there is a user {user.name} already", code="user_exists") from None
        return user

    async def count(self, role: Role | None = None) -> int:
        """Return how many there are (of that role)."""
        query = sa.select(sa.func.count()).select_from(USERS)
        if role is not None:
            query = query.where(USERS.c.role == role)
        async with self._database.begin() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def all(self) -> list[User]:
        """Return all, by name."""
        query = sa.select(USERS).order_by(USERS.c.name).limit(MAX_LISTED)
        async with self._database.begin() as connection:
            return [_user(row) for row in await connection.execute(query)]

    async def find(self, name: str) -> User | None:
        """Return the user of that name."""
        return await self._one(USERS.c.name == name.lower())

    async def get(self, user_id: str) -> User:
        """Return the user of that id. Raises NotFound."""
        user = await self._one(USERS.c.id == user_id)
        if user is None:
            raise NotFound(f"there is no user {user_id}", code="no_such_user")
        return user

    async def keep_an_admin(self, user_id: str) -> None:
        """Raise Conflict where there would be no admin without this user."""
        async with self._database.begin() as connection:
            await self._keep_an_admin(connection, user_id, losing=True)

    async def change(self, user_id: str, **values: object) -> User:
        """Set columns. Raises NotFound; Conflict where it would leave no admin."""
        async with self._database.begin() as connection:
            losing = values.get("role", "admin") != "admin" or values.get("disabled") is True
            await self._keep_an_admin(connection, user_id, losing=losing)
            await connection.execute(sa.update(USERS).where(USERS.c.id == user_id).values(values))
        return await self.get(user_id)

    async def remove(self, user_id: str) -> None:
        """Remove a user and its API keys. Raises NotFound; Conflict for the last admin."""
        async with self._database.begin() as connection:
            await self._keep_an_admin(connection, user_id, losing=True)
            done = await connection.execute(sa.delete(USERS).where(USERS.c.id == user_id))
        if done.rowcount == 0:
            raise NotFound(f"there is no user {user_id}", code="no_such_user")

    async def _keep_an_admin(
        self, connection: AsyncConnection, user_id: str, *, losing: bool
    ) -> None:
        if not losing:
            return
        able = (USERS.c.role == "admin") & ~USERS.c.disabled
        query = sa.select(USERS.c.id).where(able).with_for_update()
        admins = [row.id for row in await connection.execute(query)]
        if admins == [user_id]:
            raise Conflict("this is the last admin; make another one first", code="last_admin")

    async def _one(self, condition: sa.ColumnElement[bool]) -> User | None:
        async with self._database.begin() as connection:
            row = (await connection.execute(sa.select(USERS).where(condition))).first()
        return None if row is None else _user(row)


def _user(row: sa.Row[tuple[object, ...]]) -> User:
    return User(**row._mapping)
