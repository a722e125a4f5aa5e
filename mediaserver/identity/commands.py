"""What ``mediaserver users`` and ``mediaserver keys`` do; `command_line.py` has their arguments.

They work on the same stores as the server, whether it runs or not.
"""

import argparse
import asyncio
import getpass
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from pydantic import ValidationError

from mediaserver.identity.service import Identity
from mediaserver.identity.users import User
from mediaserver.kernel import logging
from mediaserver.kernel.clocks import SystemClock
from mediaserver.kernel.errors import BadInput, ConfigurationError, MediaServerError, NotFound
from mediaserver.protocol.identity import (
    MAX_PASSWORD_CHARACTERS,
    MIN_PASSWORD_CHARACTERS,
    UserChange,
    UserCreate,
)
from mediaserver.settings import load_settings
from mediaserver.stores.opening import embedded_valkey, redis_store, sql_database

_Action = Callable[[Identity, argparse.Namespace], Awaitable[None]]
_DAY_S = 86_400.0


def run_action(action: str, arguments: argparse.Namespace) -> int:
    """Run ``users add`` and the like; return the exit code. Raises ConfigurationError."""
    settings = load_settings()
    logging.configure("warning", settings.log_style)
    try:
        asyncio.run(_run(_ACTIONS[action], arguments))
    except ConfigurationError:
        raise
    except MediaServerError as error:
        print(f"mediaserver: {error.detail}", file=sys.stderr)
        return 1
    return 0


async def _run(action: _Action, arguments: argparse.Namespace) -> None:
    async with _identity() as identity:
        await action(identity, arguments)


@asynccontextmanager
async def _identity() -> AsyncIterator[Identity]:
    settings = load_settings()
    async with AsyncExitStack() as stack:
        valkey = embedded_valkey(settings)
        if valkey is not None:
            await stack.enter_async_context(valkey)
        redis = redis_store(settings, valkey)
        stack.push_async_callback(redis.aclose)
        database = sql_database(settings)
        stack.push_async_callback(database.aclose)
        await database.migrate()
        identity = Identity(settings, redis, database, SystemClock())
        stack.push_async_callback(identity.aclose)
        yield identity


# ---- users ---------------------------------------------------------------------------------


async def _users_add(identity: Identity, arguments: argparse.Namespace) -> None:
    try:
        asked = UserCreate(
            name=arguments.name,
            role=arguments.role,
            display_name=arguments.display_name,
            password=_password() if arguments.password_stdin else None,
        )
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise BadInput(f"{fault['loc'][0]}: {fault['msg']}") from None
    _show_password((await identity.accounts.create(asked)).one_time_password)


async def _users_list(identity: Identity, _arguments: argparse.Namespace) -> None:
    rows = [
        (
            user.name,
            user.role,
            user.display_name,
            _state(user),
            _date(user.last_login_at) or "never logged in",
        )
        for user in await identity.users.all()
    ]
    _table(("NAME", "ROLE", "SHOWN AS", "STATE", "LAST LOGIN"), rows)


def _state(user: User) -> str:
    if user.disabled:
        return "disabled"
    return "must change password" if user.must_change_password else ""


async def _users_role(identity: Identity, arguments: argparse.Namespace) -> None:
    user = await _find(identity, arguments.name)
    await identity.accounts.change(user.id, UserChange(role=arguments.role))


async def _users_password(identity: Identity, arguments: argparse.Namespace) -> None:
    user = await _find(identity, arguments.name)
    if arguments.password_stdin:
        await identity.accounts.set_password(user.id, _password())
        return
    changed = await identity.accounts.change(user.id, UserChange(reset_password=True))
    _show_password(changed.one_time_password)


async def _users_disable(identity: Identity, arguments: argparse.Namespace) -> None:
    user = await _find(identity, arguments.name)
    await identity.accounts.change(user.id, UserChange(disabled=True))


async def _users_enable(identity: Identity, arguments: argparse.Namespace) -> None:
    user = await _find(identity, arguments.name)
    await identity.accounts.change(user.id, UserChange(disabled=False))


async def _users_remove(identity: Identity, arguments: argparse.Namespace) -> None:
    await identity.accounts.remove((await _find(identity, arguments.name)).id)


async def _users_logout(identity: Identity, arguments: argparse.Namespace) -> None:
    await identity.accounts.end_sessions((await _find(identity, arguments.name)).id)


async def _find(identity: Identity, name: str) -> User:
    user = await identity.users.find(name)
    if user is None:
        raise NotFound(f"there is no user {name}; mediaserver users list shows all")
    return user


def _password() -> str:
    """Read a password. Raises BadInput."""
    if sys.stdin.isatty():
        password = getpass.getpass("password: ")
    else:
        password = sys.stdin.readline().rstrip("\n")
    if not MIN_PASSWORD_CHARACTERS <= len(password) <= MAX_PASSWORD_CHARACTERS:
        raise BadInput(f"a password has at least {MIN_PASSWORD_CHARACTERS} characters")
    return password


def _show_password(password: str | None) -> None:
    if password is not None:
        print("one-time password, to be changed at the first login:", file=sys.stderr)
        print(password)


# ---- keys ----------------------------------------------------------------------------------


async def _keys_create(identity: Identity, arguments: argparse.Namespace) -> None:
    owner = await _find(identity, arguments.user) if arguments.user is not None else None
    if arguments.days is not None and arguments.days <= 0:
        raise BadInput("--days is more than 0")
    made = await identity.api_keys.create(
        arguments.name[:80],
        frozenset(arguments.scope),
        user_id=owner.id if owner is not None else None,
        expires_in_s=arguments.days * _DAY_S if arguments.days is not None else None,
    )
    print("the key, shown this once:", file=sys.stderr)
    print(made.key)


async def _keys_list(identity: Identity, _arguments: argparse.Namespace) -> None:
    names = {user.id: user.name for user in await identity.users.all()}
    rows = [
        (
            key.id,
            key.name,
            ",".join(key.scopes),
            names.get(key.user_id or "", ""),
            "revoked" if key.revoked_at is not None else _date(key.expires_at) or "no end",
            _date(key.last_used_at) or "never used",
        )
        for key in await identity.api_keys.all()
    ]
    _table(("ID", "NAME", "SCOPES", "USER", "GOOD UNTIL", "LAST USE"), rows)


async def _keys_revoke(identity: Identity, arguments: argparse.Namespace) -> None:
    await identity.api_keys.revoke(arguments.id.partition(".")[0])


async def _keys_forget_signing(identity: Identity, _arguments: argparse.Namespace) -> None:
    count = await identity.signing.forget()
    print(f"signing keys thrown away: {count}; restart all instances", file=sys.stderr)


_ACTIONS: dict[str, _Action] = {
    "users add": _users_add,
    "users list": _users_list,
    "users role": _users_role,
    "users password": _users_password,
    "users disable": _users_disable,
    "users enable": _users_enable,
    "users remove": _users_remove,
    "users logout": _users_logout,
    "keys create": _keys_create,
    "keys list": _keys_list,
    "keys revoke": _keys_revoke,
    "keys forget-signing": _keys_forget_signing,
}


# ---- output --------------------------------------------------------------------------------


def _date(unix_s: float | None) -> str:
    return "" if unix_s is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_s))


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    table = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
        print(line.rstrip())
