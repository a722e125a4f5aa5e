"""Passwords: argon2id, in threads, a few at a time."""

import asyncio
import secrets
import string
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from mediaserver.kernel.errors import Overloaded

CONCURRENT = 2
"""Each takes 64 MiB and about 50 ms of several cores."""
MAX_WAITING = 64
_Result = TypeVar("_Result")
_ALPHABET = "".join(c for c in string.ascii_letters + string.digits if c not in "0O1lI")


def one_time_password() -> str:
    """Return 20 characters that are easy to tell apart (116 bits), in groups of five."""
    groups = ("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(4))
    return "-".join(groups)


class Passwords:
    """Hashes and verifies. argon2-cffi's parameters: RFC 9106's for low memory."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._threads = ThreadPoolExecutor(max_workers=CONCURRENT, thread_name_prefix="asyncio_pw")
        self._running = 0
        self._decoy: str | None = None

    async def hash(self, password: str) -> str:
        """Return the hash to store. Raises Overloaded."""
        return await self._run(self._hasher.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Compare; without a stored hash (no such user) it takes as long and is false.

        Raises Overloaded.
        """
        if stored is None:
            if self._decoy is None:
                self._decoy = await self.hash(secrets.token_urlsafe(16))
            await self._run(self._compare, self._decoy, password)
            return False
        return await self._run(self._compare, stored, password)

    def outdated(self, stored: str) -> bool:
        """Whether it was hashed with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _compare(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[..., _Result], *arguments: str) -> _Result:
        if self._running >= MAX_WAITING:
            raise Overloaded("too many logins at once; try again in a moment", retry_after_s=2.0)
        self._running += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        finally:
            self._running -= 1
