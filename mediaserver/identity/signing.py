"""The keys that tokens are signed with, in SQL, shared by all instances; and the server's secret.

Each instance keeps the set in memory and reads it again every `RELOAD_S`. Tokens name their key
(`kid`); it is looked up in this set and nowhere else. A `Vault` seals what lies in SQL.
"""

import asyncio
import secrets
from base64 import b64decode, b64encode, urlsafe_b64encode
from dataclasses import dataclass

import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy.exc import IntegrityError

from mediaserver.identity.signing_plan import KeyTimes, plan
from mediaserver.identity.tables import SERVER_SECRETS, SIGNING_KEYS
from mediaserver.identity.vault import Vault
from mediaserver.kernel.clocks import Clock
from mediaserver.kernel.errors import ConfigurationError, Unavailable
from mediaserver.kernel.ids import new_id
from mediaserver.kernel.logging import get_logger
from mediaserver.protocol.identity import JsonWebKey, JsonWebKeySet
from mediaserver.stores.database import Database

log = get_logger(__name__)

RELOAD_S = 60.0
RELOAD_AT_MOST_EVERY_S = 5.0
"""For a key id that is not known: another instance may just have made the first key."""
_SECRET_NAME = "refresh"  # noqa: S105 # the name of a row
_SECRET = "secret of refresh tokens"  # noqa: S105 # and what the vault calls it


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One Ed25519 key pair."""

    number: int
    kid: str
    private: Ed25519PrivateKey
    signs_from: float

    @property
    def public(self) -> Ed25519PublicKey:
        """What verifies."""
        return self.private.public_key()

    @property
    def jwk(self) -> JsonWebKey:
        """As the JWKS has it."""
        raw = self.public.public_bytes_raw()
        return JsonWebKey(x=urlsafe_b64encode(raw).rstrip(b"=").decode(), kid=self.kid)


class SigningKeys:
    """This instance's copy of the set, kept up to date by `maintain`."""

    def __init__(self, database: Database, clock: Clock, vault: Vault | None = None) -> None:
        self._database = database
        self._vault = vault or Vault()
        self._clock = clock
        self._keys: dict[str, SigningKey] = {}
        self._signing: SigningKey | None = None
        self._read_at = 0.0
        self._lock = asyncio.Lock()
        self._secret = b""

    @property
    def secret(self) -> bytes:
        """The server's secret, for refresh tokens; the same on every instance."""
        if not self._secret:
            raise Unavailable("the server is starting", retry_after_s=1.0)
        return self._secret

    @property
    def signing(self) -> SigningKey:
        """The key to sign with now. Raises Unavailable before `reload`."""
        if self._signing is None:
            raise Unavailable("there is no signing key yet; the server is starting")
        now = self._clock.wall_s()
        for key in self._keys.values():
            if self._signing.number < key.number and key.signs_from <= now:
                self._signing = key
        return self._signing

    @property
    def jwks(self) -> JsonWebKeySet:
        """All public keys: those that sign, will sign, and have signed what still lives."""
        ordered = sorted(self._keys.values(), key=lambda key: key.number)
        return JsonWebKeySet(keys=[key.jwk for key in ordered])

    async def find(self, kid: str) -> SigningKey | None:
        """Return the key of that id; the set is read anew (rarely) for an unknown one."""
        if kid not in self._keys:
            since_s = self._clock.monotonic_s() - self._read_at
            if since_s >= RELOAD_AT_MOST_EVERY_S:
                try:
                    await self.reload()
                except ConfigurationError as error:
                    log.error("signing.not_opened", why=error.detail)
        return self._keys.get(kid)

    async def maintain(self) -> None:
        """Read the set again and again, and rotate when it is time; runs until cancelled."""
        while True:
            await asyncio.sleep(RELOAD_S)
            try:
                await self.reload()
            except Unavailable:
                log.warning("signing.not_reloaded")
            except ConfigurationError as error:  # sealed by an instance with another key
                log.error("signing.not_opened", why=error.detail)

    async def reload(self, *, hurry: bool = False) -> None:
        """Read the set; make and retire keys as planned.

        Raises Unavailable; ConfigurationError where the vault cannot open what is sealed.
        """
        async with self._lock:
            if not self._secret:
                self._secret = await self._read_secret()
            await self._read()
            now = self._clock.wall_s()
            todo = plan([KeyTimes(k.number, k.signs_from) for k in self._keys.values()], now,
                        hurry=hurry)  # fmt: skip
            if todo.create is not None:
                await self._create(todo.create)
            if todo.retire:
                async with self._database.begin() as connection:
                    await connection.execute(
                        sa.delete(SIGNING_KEYS).where(SIGNING_KEYS.c.number.in_(todo.retire))
                    )
                log.info("signing.retired", numbers=todo.retire)
            if todo.create is not None or todo.retire:
                await self._read()
                todo = plan([KeyTimes(k.number, k.signs_from) for k in self._keys.values()], now)
            self._signing = next(k for k in self._keys.values() if k.number == todo.signing)
            self._read_at = self._clock.monotonic_s()

    async def forget(self) -> int:
        """Throw all keys and the server's secret away; return how many keys there were.

        The next `reload` of each instance makes new ones. Raises Unavailable.
        """
        async with self._database.begin() as connection:
            gone = await connection.execute(sa.delete(SIGNING_KEYS))
            await connection.execute(sa.delete(SERVER_SECRETS))
        return gone.rowcount

    async def _read(self) -> None:
        async with self._database.begin() as connection:
            rows = (await connection.execute(sa.select(SIGNING_KEYS))).all()
        keys = {}
        for row in rows:
            known = self._keys.get(row.kid)
            if known is None:
                pem = self._vault.open(_name_of(row.kid), row.private_pem)
                known = SigningKey(row.number, row.kid, _load(pem), row.signs_from)
                await self._seal_anew(
                    SIGNING_KEYS,
                    SIGNING_KEYS.c.private_pem,
                    row.private_pem,
                    _name_of(row.kid),
                    pem,
                )
            keys[row.kid] = known
        self._keys = keys

    async def _seal_anew(
        self, table: sa.Table, column: sa.Column[str], stored: str, name: str, text: str
    ) -> None:
        """Store a secret as the vault stores it now, unless another instance was faster."""
        if self._vault.is_current(stored):
            return
        statement = (
            sa.update(table).where(column == stored).values({column: self._vault.seal(name, text)})
        )
        async with self._database.begin() as connection:
            await connection.execute(statement)
        log.info("signing.sealed_anew", name=name)

    async def _create(self, times: KeyTimes) -> None:
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        kid = new_id("k", 16)
        values = {
            "number": times.number,
            "kid": kid,
            "private_pem": self._vault.seal(_name_of(kid), pem.decode()),
            "created_at": self._clock.wall_s(),
            "signs_from": times.signs_from,
        }
        try:
            async with self._database.begin() as connection:
                await connection.execute(sa.insert(SIGNING_KEYS).values(values))
        except IntegrityError:
            return  # another instance was faster; its key is as good
        log.info("signing.published", kid=kid, signs_from=times.signs_from)

    async def _read_secret(self) -> bytes:
        query = sa.select(SERVER_SECRETS.c.value).where(SERVER_SECRETS.c.name == _SECRET_NAME)
        made = b64encode(secrets.token_bytes(32)).decode()
        for _ in range(2):
            async with self._database.begin() as connection:
                found = (await connection.execute(query)).scalar_one_or_none()
            if found is not None:
                text = self._vault.open(_SECRET, found)
                column = SERVER_SECRETS.c.value
                await self._seal_anew(SERVER_SECRETS, column, found, _SECRET, text)
                return b64decode(text)
            try:
                async with self._database.begin() as connection:
                    await connection.execute(
                        sa.insert(SERVER_SECRETS).values(
                            name=_SECRET_NAME,
                            value=self._vault.seal(_SECRET, made),
                            created_at=self._clock.wall_s(),
                        )
                    )
            except IntegrityError:
                continue  # another instance was faster
            return b64decode(made)
        raise Unavailable("the server's secret could not be read")


def _name_of(kid: str) -> str:
    return f"signing key {kid}"


def _load(pem: str) -> Ed25519PrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    return key
