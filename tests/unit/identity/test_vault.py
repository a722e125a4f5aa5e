from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.identity.vault import Vault
from mediaserver.kernel.errors import ConfigurationError

ONE, TWO = "1" * 32, "2" * 32


@given(st.text(), st.text(min_size=1))
def test_what_is_sealed_is_opened_by_the_same_key_under_the_same_name(name: str, text: str) -> None:
    sealed = Vault(ONE).seal(name, text)
    assert sealed.startswith("sealed:1:")
    assert sealed != Vault(ONE).seal(name, text), "another nonce each time"
    assert Vault(ONE).open(name, sealed) == text
    with pytest.raises(ConfigurationError, match="changed by hand"):
        Vault(ONE).open(name + "x", sealed)


def test_without_a_key_nothing_is_sealed() -> None:
    assert Vault().seal("x", "plain") == "plain"
    assert Vault().open("x", "plain") == Vault(ONE).open("x", "plain") == "plain"


def test_another_key_or_none_is_told_what_to_do() -> None:
    sealed = Vault(ONE).seal("x", "text")
    with pytest.raises(ConfigurationError, match=r"SECRET_KEY is not set.*forget-signing"):
        Vault().open("x", sealed)
    with pytest.raises(ConfigurationError, match=r"SECRET_KEY is another one.*_PREVIOUS"):
        Vault(TWO).open("x", sealed)
    assert Vault(TWO, ONE).open("x", sealed) == "text"
    assert Vault(None, ONE).open("x", sealed) == "text", "on the way back to plain"


def test_what_has_to_be_sealed_anew_is_known() -> None:
    sealed = Vault(ONE).seal("x", "text")
    assert Vault(ONE).is_current(sealed)
    assert Vault(ONE, TWO).is_current(sealed)
    assert not Vault(TWO, ONE).is_current(sealed)
    assert not Vault(None, ONE).is_current(sealed)
    assert not Vault(ONE).is_current("text")
    assert Vault().is_current("text")


@given(st.data())
def test_every_changed_bit_is_noticed(data: st.DataObject) -> None:
    head, _, body = Vault(ONE).seal("x", "a secret").rpartition(":")
    raw = bytearray(b64decode(body))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ConfigurationError, match="damaged") as refused:
        Vault(ONE).open("x", f"{head}:{b64encode(raw).decode()}")
    assert "a secret" not in refused.value.detail


@pytest.mark.parametrize("rest", ["", "!", "QQ==", "QQ==:"])
def test_what_is_cut_off_is_noticed(rest: str) -> None:
    head = Vault(ONE).seal("x", "text").rpartition(":")[0]
    with pytest.raises(ConfigurationError, match="damaged"):
        Vault(ONE).open("x", f"{head}:{rest}")
