"""Identifiers: unguessable, URL-safe, with a prefix that says what they name."""

import secrets
import string

_ALPHABET = string.ascii_lowercase + string.digits


def new_id(prefix: str, length: int = 20) -> str:
    """Return ``prefix_`` and `length` random characters (5.17 bits each; 20 give 103 bits)."""
    return f"{prefix}_{''.join(secrets.choice(_ALPHABET) for _ in range(length))}"
