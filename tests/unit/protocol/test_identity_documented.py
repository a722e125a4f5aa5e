"""docs/protocol.md names every route, scope, field and limit of identity, and no other."""

import re

import pytest
from pydantic import BaseModel

from mediaserver.identity import limits, sessions, token_register
from mediaserver.identity.accounts import ACCESS_S
from mediaserver.identity.principal import LOCAL_SCOPES, ROLE_SCOPES
from mediaserver.identity.room_tokens import GUEST_TOKEN_S
from mediaserver.identity.rotation import GRACE_MS, IDLE_MS, LONGEST_MS
from mediaserver.identity.tickets import TICKET_S
from mediaserver.protocol import identity
from mediaserver.protocol.base import Inbound
from mediaserver.web import accounts, login, room_tokens

from .test_documented import fields, section

MODELS = (
    identity.LoginRequest,
    identity.RefreshRequest,
    identity.PasswordChange,
    identity.TokenAnswer,
    identity.PrincipalInfo,
    identity.TicketRequest,
    identity.TicketAnswer,
    identity.RoomTokenRequest,
    identity.RoomTokenAnswer,
    identity.RoomTokenInfo,
    identity.ApiKeyRequest,
    identity.ApiKeyInfo,
    identity.UserCreate,
    identity.UserChange,
    identity.UserInfo,
)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_is_documented(model: type[BaseModel]) -> None:
    assert fields(model.__name__) == list(model.model_fields)
    if issubclass(model, Inbound):
        text = section(model.__name__)
        marked = re.findall(r"^\| `(\w+)`\* \|", text, re.MULTILINE)
        assert marked == [n for n, f in model.model_fields.items() if f.is_required()]


def test_every_route_is_documented_with_its_scope() -> None:
    rows = re.findall(r"^\| `(\w+) (\S+)` \| (\S+) \|", section("Identity"), re.MULTILINE)
    documented = {(method, path): scope.strip("`") for method, path, scope in rows}
    real = {
        (entry.method, entry.template): entry.scope or "none"
        for module in (login, accounts, room_tokens)
        for entry in module.routes().entries
    }
    assert documented == real


def test_every_scope_and_who_has_it_is_documented() -> None:
    rows = re.findall(r"^\| `([\w:]+)` \| .* \| (.*) \|$", section("Scopes"), re.MULTILINE)
    table = re.findall(r"^\| `([\w:]+)` \|(.*)\|$", section("Scopes"), re.MULTILINE)
    assert [name for name, _ in table] == list(identity.SCOPES)
    assert rows
    holders = (
        ROLE_SCOPES["member"],
        ROLE_SCOPES["host"],
        ROLE_SCOPES["admin"],
        LOCAL_SCOPES,
    )
    for name, cells in table:
        told = [cell.strip() == "yes" for cell in cells.split("|")[-4:]]
        assert told == [name in scopes for scopes in holders], name


def test_limits_and_lives_are_those_of_the_code() -> None:
    text = section("Tokens").replace("\n", " ")
    for told in (
        f"good for {ACCESS_S / 60:g} minutes",
        f"Within {GRACE_MS / 1000:g} s of its use",
        f"ends {IDLE_MS / 86_400_000:g} days after its last refresh",
        f"and {LONGEST_MS / 86_400_000:g} days after its login",
        f"within {TICKET_S:g} s",
        f"{token_register.MAX_TOKENS} tokens are good at once",
        f"`login` ({limits.LOGINS} a minute)",
        f"`account` ({limits.LOGINS} a minute)",
    ):
        assert told in text, told
    assert sessions.REVOCATION_CACHE_S <= 1.0, "about a second"
    assert room_tokens.MAX_LISTED == 1000
    assert GUEST_TOKEN_S == 12 * 3600
