"""The arguments of ``mediaserver users`` and ``mediaserver keys``.

What they do is in `commands.py`, which is imported when one of them runs: the program must start
fast, and workers need none of it.
"""

import argparse
from typing import TypeAlias

from mediaserver.protocol.identity import ROLES, SCOPES

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_commands(commands: Commands) -> None:
    """Add ``users`` and ``keys`` to the program's commands."""
    _add_users(commands)
    _add_keys(commands)


def _add_users(commands: Commands) -> None:
    users = commands.add_parser(
        "users",
        help="add, change and remove users",
        description="Users log in with name and password. A role says what they may do: member "
        "(captions, join rooms), host (also make rooms), admin (everything). Passwords that the "
        "server makes are shown once and must be changed at the first login.",
    )
    actions = users.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="add a user; prints its one-time password")
    add.add_argument("name")
    add.add_argument("--role", choices=ROLES, default="member", help="default: member")
    add.add_argument("--display-name", default="", help="what others see; default: the name")
    _takes_password(add)
    _runs(add, "users add")
    _runs(actions.add_parser("list", help="all users"), "users list")
    role = actions.add_parser("role", help="change a role; ends the user's sessions")
    role.add_argument("name")
    role.add_argument("role", choices=ROLES)
    _runs(role, "users role")
    password = actions.add_parser(
        "password", help="reset a password; ends the user's sessions, prints a one-time password"
    )
    password.add_argument("name")
    _takes_password(password)
    _runs(password, "users password")
    disable = actions.add_parser(
        "disable", help="keep a user out: no login, its keys rest; ends its sessions"
    )
    disable.add_argument("name")
    _runs(disable, "users disable")
    enable = actions.add_parser("enable", help="let a disabled user in again")
    enable.add_argument("name")
    _runs(enable, "users enable")
    remove = actions.add_parser("remove", help="remove a user with its keys and sessions")
    remove.add_argument("name")
    _runs(remove, "users remove")
    logout = actions.add_parser("logout", help="end all of a user's sessions")
    logout.add_argument("name")
    _runs(logout, "users logout")


def _add_keys(commands: Commands) -> None:
    keys = commands.add_parser(
        "keys",
        help="make and revoke API keys",
        description="API keys are for programs. A key is shown when it is made, never again.",
    )
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser(
        "create",
        help="make a key; prints it",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="scopes:\n" + "\n".join(f"  {name:<15} {text}" for name, text in SCOPES.items()),
    )
    create.add_argument("name", help="what it is for")
    create.add_argument(
        "--scope",
        action="append",
        choices=tuple(SCOPES),
        required=True,
        metavar="SCOPE",
        help="what it may do; as often as needed",
    )
    create.add_argument("--days", type=float, help="how long it is good; default: until revoked")
    create.add_argument("--user", help="whose it is; it never does more than that user may")
    _runs(create, "keys create")
    _runs(actions.add_parser("list", help="all keys, the newest first"), "keys list")
    revoke = actions.add_parser("revoke", help="make a key worthless")
    revoke.add_argument("id", help="as listed; the part of the key before the dot")
    _runs(revoke, "keys revoke")
    forget = actions.add_parser(
        "forget-signing",
        help="make new keys to sign tokens with",
        description="Throw away the keys that tokens are signed with: after MEDIASERVER_SECRET_KEY "
        "was lost, or where somebody may have a copy. Access tokens, room tokens and invitations "
        "end; logins go on by their refresh tokens. Restart all instances afterwards.",
    )
    _runs(forget, "keys forget-signing")


def _takes_password(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--password-stdin",
        action="store_true",
        help="read the password from standard input (or ask for it) instead of making one",
    )


def _runs(command: argparse.ArgumentParser, action: str) -> None:
    def run(arguments: argparse.Namespace) -> int:
        from mediaserver.identity.commands import run_action

        return run_action(action, arguments)

    command.set_defaults(run=run)
