"""Which stores the settings name: Redis or our own valkey-server, PostgreSQL or SQLite."""

from mediaserver.settings import Settings
from mediaserver.stores.database import Database
from mediaserver.stores.embedded import EmbeddedValkey
from mediaserver.stores.redis import RedisStore


def embedded_valkey(settings: Settings) -> EmbeddedValkey | None:
    """Return our own valkey-server, to be started, unless the settings name another."""
    return EmbeddedValkey(settings.data_dir) if settings.redis_url is None else None


def redis_store(settings: Settings, valkey: EmbeddedValkey | None) -> RedisStore:
    """Return the connection to Redis. Raises ConfigurationError."""
    if valkey is not None:
        return RedisStore(valkey.url)
    assert settings.redis_url is not None
    return RedisStore(settings.redis_url.get_secret_value())


def sql_database(settings: Settings) -> Database:
    """Return the database. Raises ConfigurationError."""
    if settings.database_url is not None:
        return Database(settings.database_url.get_secret_value())
    return Database(Database.default_url(settings.data_dir))
