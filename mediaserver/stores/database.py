"""The SQL database: SQLite in the data directory, or PostgreSQL by URL; migrated at the start."""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from mediaserver.kernel.errors import ConfigurationError, Unavailable
from mediaserver.kernel.logging import get_logger

log = get_logger(__name__)

MIGRATION_TIMEOUT_S = 60.0
BUSY_TIMEOUT_MS = 5000
"""How long SQLite waits for another writer."""
POOL_SIZE = 8
POOL_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 3.0
STATEMENT_TIMEOUT_S = 10.0
_ADVISORY_LOCK = 0x6D65646961  # "media": the same number on every instance
_GONE_STATES = ("08", "53", "57")
"""Classes of SQLSTATE: connection, insufficient resources, operator intervention."""
_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}


class Database:
    """One database. Statements go through `begin`, so that faults become our errors."""

    def __init__(self, url: str) -> None:
        """Connect at the first use. Raises ConfigurationError for a URL that cannot be."""
        self.url = _read(url)
        self.engine: AsyncEngine = _engine(self.url)

    @classmethod
    def default_url(cls, data_dir: Path) -> str:
        """SQLite in the data directory."""
        return f"sqlite+aiosqlite:///{data_dir.resolve() / 'mediaserver.db'}"

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of this machine."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def place(self) -> str:
        """Where it is, without the password."""
        return self.url.render_as_string(hide_password=True)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction: committed at the end, rolled back on an exception.

        Raises Unavailable (``database_down``) when the database does not answer.
        """
        try:
            async with self.engine.begin() as connection:
                yield connection
        except (InterfaceError, OperationalError, PoolTimeoutError, OSError, TimeoutError) as error:
            raise _down(error) from error
        except DBAPIError as error:
            state = str(getattr(error.orig, "sqlstate", None) or "")
            if error.connection_invalidated or state.startswith(_GONE_STATES):
                raise _down(error) from error
            raise

    async def ping(self) -> None:
        """Ask whether it is there. Raises Unavailable."""
        async with self.begin() as connection:
            await connection.execute(text("SELECT 1"))

    async def migrate(self) -> None:
        """Bring the tables to this version's form; other instances wait meanwhile.

        Raises ConfigurationError when the database cannot be reached or migrated.
        """
        try:
            async with asyncio.timeout(MIGRATION_TIMEOUT_S):
                if self.is_sqlite:
                    await self._migrate_file()
                else:
                    await self._migrate_server()
        except TimeoutError:
            raise ConfigurationError(
                f"{self.place} could not be migrated in {MIGRATION_TIMEOUT_S:g} s; "
                "does another instance hold it?"
            ) from None
        except (DBAPIError, OSError) as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise ConfigurationError(
                f"the database {self.place} cannot be used: {reason}; "
                "MEDIASERVER_DATABASE_URL says which one it is"
            ) from error

    async def aclose(self) -> None:
        """Close all connections."""
        await self.engine.dispose()

    async def _migrate_file(self) -> None:
        path = Path(str(self.url.database))
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            await _flock(lock)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            _keep_private(path)
            async with self.engine.begin() as connection:
                await connection.run_sync(_upgrade)
        finally:
            os.close(lock)

    async def _migrate_server(self) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
            await connection.run_sync(_upgrade)


def _keep_private(path: Path) -> None:
    """Take the file, which holds secrets, from all but its owner, whoever made it."""
    for part in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        with contextlib.suppress(FileNotFoundError):
            if part.stat().st_mode & 0o077:
                try:
                    part.chmod(0o600)
                except PermissionError:  # somebody else's
                    log.warning("database.open_to_others", path=str(part))


async def _flock(lock: int) -> None:
    deadline = monotonic() + MIGRATION_TIMEOUT_S
    while monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        await asyncio.sleep(0.05)


def _down(error: BaseException) -> Unavailable:
    log.warning("database.unreachable", why=type(error).__name__)
    return Unavailable(
        "the database does not answer, and this needs it; try again shortly",
        code="database_down",
        retry_after_s=2.0,
    )


def _read(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "MEDIASERVER_DATABASE_URL cannot be read; it looks like "
            "postgresql://user:password@host/name or sqlite:////path/to/file.db"
        ) from None
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise ConfigurationError(
            f"MEDIASERVER_DATABASE_URL: {parsed.drivername} is not spoken here; "
            "take postgresql:// or sqlite://"
        )
    if driver.startswith("sqlite") and parsed.database in (None, "", ":memory:"):
        raise ConfigurationError(
            "MEDIASERVER_DATABASE_URL: SQLite needs a file, for several connections share it"
        )
    return parsed.set(drivername=driver)


def _engine(url: URL) -> AsyncEngine:
    if url.get_backend_name() == "sqlite":
        engine = create_async_engine(url, pool_size=POOL_SIZE, pool_timeout=POOL_TIMEOUT_S)
        event.listen(engine.sync_engine, "connect", _tune_sqlite)
        return engine
    return create_async_engine(
        url,
        pool_size=POOL_SIZE,
        pool_timeout=POOL_TIMEOUT_S,
        pool_pre_ping=True,
        connect_args={"timeout": CONNECT_TIMEOUT_S, "command_timeout": STATEMENT_TIMEOUT_S},
    )


def _tune_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for statement in (
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=NORMAL",
        f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
        "PRAGMA foreign_keys=ON",
    ):
        cursor.execute(statement)
    cursor.close()


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", "mediaserver.stores:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
