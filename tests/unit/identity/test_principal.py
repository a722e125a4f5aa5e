import typing

import pytest

from mediaserver.identity.api_keys import check_scopes
from mediaserver.identity.principal import (
    ALL_SCOPES,
    GUEST_SCOPES,
    LOCAL,
    PASSWORD_SCOPES,
    ROLE_SCOPES,
    STATIC,
    Principal,
)
from mediaserver.kernel.errors import Forbidden
from mediaserver.protocol.identity import ROLES, SCOPES, Scope


def test_every_scope_is_explained_and_every_role_has_some() -> None:
    assert set(SCOPES) == set(typing.get_args(Scope)) == ALL_SCOPES
    assert set(ROLE_SCOPES) == set(ROLES)
    assert ROLE_SCOPES["member"] < ROLE_SCOPES["host"] < ROLE_SCOPES["admin"] == STATIC.scopes


def test_nobody_without_an_account_touches_accounts() -> None:
    for scopes in (LOCAL.scopes, GUEST_SCOPES):
        assert not scopes & {"users", "keys", "password", "account", "rooms:tokens"}


def test_what_is_good_for_one_purpose_only_is_restricted() -> None:
    assert Principal(kind="guest", id="g", name="g", room="r").restricted
    assert Principal(kind="user", id="u", name="u", scopes=PASSWORD_SCOPES).restricted
    assert not LOCAL.restricted
    assert not STATIC.restricted


def test_a_key_is_at_most_as_mighty_as_its_maker() -> None:
    check_scopes(frozenset({"listen"}), LOCAL)
    with pytest.raises(Forbidden, match="users"):
        check_scopes(frozenset({"listen", "users"}), LOCAL)


def test_a_principal_survives_its_way_through_redis() -> None:
    assert Principal.model_validate_json(STATIC.model_dump_json()) == STATIC
