"""Secrets at rest in SQL: sealed with a key of the operator's, or, without one, plain.

Sealed is AES-256-GCM under a key that HKDF-SHA256 (RFC 5869) derives from MEDIASERVER_SECRET_KEY;
the secret's name is authenticated with it, so that none passes for another. What was stored in
another way is sealed anew when it is read: plain secrets once a key is set, and those under
MEDIASERVER_SECRET_KEY_PREVIOUS after a change.
"""

import os
from base64 import b64decode, b64encode
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mediaserver.kernel.errors import ConfigurationError

_MARK = "sealed:1"
_NONCE_BYTES = 12
_ID_BYTES = 4


@dataclass(frozen=True, slots=True)
class _Key:
    id: str
    """Tells keys apart without telling them."""
    cipher: AESGCM


class Vault:
    """Seals and opens."""

    def __init__(self, secret: str | None = None, previous: str | None = None) -> None:
        """Without a `secret` nothing is sealed; what `previous` sealed can still be opened."""
        self._current = _key(secret) if secret is not None else None
        keys = (self._current, _key(previous) if previous is not None else None)
        self._keys = {key.id: key for key in keys if key is not None}

    def seal(self, name: str, text: str) -> str:
        """Return what to store of a secret that is called `name`."""
        if self._current is None:
            return text
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._current.cipher.encrypt(nonce, text.encode(), _context(name))
        return f"{_MARK}:{self._current.id}:{b64encode(nonce + sealed).decode()}"

    def is_current(self, stored: str) -> bool:
        """Whether `seal` would store it in this way now."""
        if self._current is None:
            return not stored.startswith(_MARK)
        return stored.startswith(f"{_MARK}:{self._current.id}:")

    def open(self, name: str, stored: str) -> str:
        """Return the secret. Raises ConfigurationError without the key that sealed it."""
        if not stored.startswith(_MARK):
            return stored
        key_id, _, sealed = stored.removeprefix(f"{_MARK}:").partition(":")
        key = self._keys.get(key_id)
        if key is None:
            state = "is another one" if self._keys else "is not set"
            raise ConfigurationError(
                f"the server's signing keys are sealed, and MEDIASERVER_SECRET_KEY {state}: set it "
                "to what it was (after a change the old one is MEDIASERVER_SECRET_KEY_PREVIOUS); "
                "if it is lost, run: mediaserver keys forget-signing"
            )
        try:
            raw = b64decode(sealed, validate=True)
            nonce, sealed_text = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
            return key.cipher.decrypt(nonce, sealed_text, _context(name)).decode()
        except (InvalidTag, ValueError):
            raise ConfigurationError(
                f"the {name} in the database is damaged, or was changed by hand; restore it from a "
                "backup, or run: mediaserver keys forget-signing"
            ) from None


def _key(secret: str) -> _Key:
    derived = HKDF(
        algorithm=SHA256(),
        length=32 + _ID_BYTES,
        salt=None,
        info=b"mediaserver secrets at rest 1",
    ).derive(secret.encode())
    return _Key(id=derived[32:].hex(), cipher=AESGCM(derived[:32]))


def _context(name: str) -> bytes:
    return f"mediaserver {name}".encode()
