"""Content at rest opens under its own key, for its own purpose, undamaged."""

import pytest

from broker.errors import VaultError
from broker.vault import KEY, OVERHEAD, Vault

VAULT = Vault(b"k" * 32)


def test_content_opens_under_its_key_and_purpose():
    key = VAULT.new_key()
    sealed = VAULT.seal(key, b"content", b"release 1")
    assert len(sealed) == len(b"content") + OVERHEAD
    assert VAULT.open(key, sealed, b"release 1") == b"content"
    assert VAULT.open(key, VAULT.seal(key, b"", b""), b"") == b""


def test_the_same_content_never_looks_the_same():
    key = VAULT.new_key()
    assert len({VAULT.seal(key, b"content", b"") for _ in range(50)}) == 50
    assert len(key) == KEY
    assert key != VAULT.new_key()


def test_another_key_purpose_or_byte_does_not_open():
    key = VAULT.new_key()
    sealed = VAULT.seal(key, b"content", b"release 1")
    for other_key, data, aad in [
        (VAULT.new_key(), sealed, b"release 1"),
        (key, sealed, b"release 2"),
        (key, sealed[:-1] + bytes([sealed[-1] ^ 1]), b"release 1"),
        (key, sealed[:27], b"release 1"),
        (key, b"", b"release 1"),
        (b"short", sealed, b"release 1"),
    ]:
        with pytest.raises(VaultError) as error:
            VAULT.open(other_key, data, aad)
        assert "content that" in str(error.value) or "32 bytes" in str(error.value)


def test_a_wrapped_key_opens_under_its_kek_only():
    key = VAULT.new_key()
    wrapped = VAULT.wrap(key, b"release 1")
    assert VAULT.unwrap(wrapped, b"release 1") == key
    assert key not in wrapped
    for vault, aad in [(Vault(b"o" * 32), b"release 1"), (VAULT, b"release 2")]:
        with pytest.raises(VaultError):
            vault.unwrap(wrapped, aad)


def test_keys_of_another_size_are_refused():
    for use in (lambda: Vault(b"k"), lambda: VAULT.wrap(b"k", b""), lambda: VAULT.seal(b"k" * 16, b"", b"")):
        with pytest.raises(VaultError, match="32 bytes"):
            use()
