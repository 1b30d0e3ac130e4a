"""Content at rest: AES-256-GCM under keys that are themselves wrapped, so that destroying a key destroys the content.

Pure: where wrapped keys lie, and when they are destroyed, is the key store's business. Whoever has the ledger alone can
read no content; whoever has the key-encryption key (KEK) and the key store, but not the ledger, has no content to read.
"""

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.errors import VaultError

KEY: Final = 32
_NONCE: Final = 12
# Nonce and tag, in bytes.
OVERHEAD: Final = _NONCE + 16


class Vault:
    """Wraps keys under one KEK of 32 bytes, and seals content under those keys.

    `aad` names what a ciphertext is for (a release, a table): it opens there and nowhere else. Nonces are random and 96
    bits long: a key may seal 2^32 times, and every message has a key of its own.
    """

    __slots__ = ("_kek",)

    def __init__(self, kek: bytes) -> None:
        if len(kek) != KEY:
            raise VaultError("a key-encryption key is 32 bytes")
        self._kek = AESGCM(kek)

    @staticmethod
    def new_key() -> bytes:
        """32 bytes of the system's randomness."""
        return os.urandom(KEY)

    def wrap(self, key: bytes, aad: bytes) -> bytes:
        """One key, or several one after another, under the KEK: 28 bytes more than they are."""
        if not key or len(key) % KEY:
            raise VaultError("a vault key is 32 bytes")
        return _seal(self._kek, key, aad)

    def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        """The keys of `wrap`; VaultError when the KEK or the aad is another, or the bytes are damaged."""
        return _open(self._kek, wrapped, aad)

    @staticmethod
    def seal(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
        """Nonce, ciphertext and tag: 28 bytes more than the plaintext."""
        return _seal(_cipher(key), plaintext, aad)

    @staticmethod
    def open(key: bytes, ciphertext: bytes, aad: bytes) -> bytes:
        """The plaintext of `seal`; VaultError when key or aad is another, or the bytes are damaged."""
        return _open(_cipher(key), ciphertext, aad)


def _cipher(key: bytes) -> AESGCM:
    if len(key) != KEY:
        raise VaultError("a vault key is 32 bytes")
    return AESGCM(key)


def _seal(cipher: AESGCM, plaintext: bytes, aad: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + cipher.encrypt(nonce, plaintext, aad)


def _open(cipher: AESGCM, data: bytes, aad: bytes) -> bytes:
    if len(data) < OVERHEAD:
        raise VaultError("content that does not open: destroyed, or damaged")
    try:
        return cipher.decrypt(data[:_NONCE], data[_NONCE:], aad)
    except InvalidTag:
        raise VaultError("content that does not open: destroyed, or damaged") from None
