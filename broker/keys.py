"""Suite 1 (protocol section 9): composite ML-DSA-65 with Ed25519 to sign, X-Wing to seal.

The composite is id-MLDSA65-Ed25519-SHA512 of draft-ietf-lamps-pq-composite-sigs: both halves sign
`prefix || label || u8 len(ctx) || ctx || SHA-512(message)`, ML-DSA with the label as its context; both MUST verify.
The hybrid KEM is draft-connolly-cfrg-xwing-kem: its private key is a 32-byte seed, expanded by SHAKE256 to 96 bytes.
"""

import hashlib
import json
import os
import stat
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from broker.canonical import H
from broker.errors import KeyFileError, SignatureError
from broker.v1 import codes_pb2

SUITE: Final = 1

# What a signature is for; no other ctx is ever signed.
CTX_ORIGIN: Final = b"puente/v1/origin"
CTX_ENVELOPE: Final = b"puente/v1/envelope"
CTX_AGREEMENT: Final = b"puente/v1/agreement"
CTX_KEY: Final = b"puente/v1/key"
CTX_APPROVAL: Final = b"puente/v1/approval"
CTX_PACK: Final = b"puente/v1/pack"
CTX_RECEIPT: Final = b"puente/v1/receipt"
CONTEXTS: Final = frozenset({CTX_ORIGIN, CTX_ENVELOPE, CTX_AGREEMENT, CTX_KEY, CTX_APPROVAL, CTX_PACK, CTX_RECEIPT})

# Sizes in bytes.
SIGNING_SEED: Final = 64
PUBLIC: Final = 1952 + 32
SIGNATURE: Final = 3309 + 64
HPKE_SEED: Final = 32
HPKE_PUBLIC: Final = 1184 + 32
HPKE_ENC: Final = 1120

_MLDSA_PUBLIC = 1952
_MLDSA_SIGNATURE = 3309
_MLKEM_PUBLIC = 1184
_PREFIX = b"CompositeAlgorithmSignatures2025"
_LABEL = b"COMPSIG-MLDSA65-Ed25519-SHA512"
_KID = b"puente/v1/kid\x00"


def composite_input(message: bytes, ctx: bytes) -> bytes:
    """What both halves sign, from a message and a ctx of at most 255 bytes."""
    return b"".join((_PREFIX, _LABEL, bytes((len(ctx),)), ctx, hashlib.sha512(message).digest()))


class SigningKey:
    """The private half of a composite key; made from a 64-byte seed, ML-DSA's 32 bytes first."""

    __slots__ = ("_ed25519", "_mldsa", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SIGNING_SEED:
            raise ValueError("a signing seed is 64 bytes")
        self.seed = seed
        self._mldsa = MLDSA65PrivateKey.from_seed_bytes(seed[:32])
        self._ed25519 = Ed25519PrivateKey.from_private_bytes(seed[32:])
        self.public = self._mldsa.public_key().public_bytes_raw() + self._ed25519.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> "SigningKey":
        """A new key from the system's randomness."""
        return cls(os.urandom(SIGNING_SEED))

    @classmethod
    def from_seed(cls, seed: bytes) -> "SigningKey":
        """The key of a 64-byte seed."""
        return cls(seed)

    def sign(self, message: bytes, ctx: bytes) -> bytes:
        """3373 bytes: ML-DSA's signature, then Ed25519's. Randomised: never compare two."""
        if ctx not in CONTEXTS:
            raise ValueError("a ctx outside the closed list")
        signed = composite_input(message, ctx)
        return self._mldsa.sign(signed, _LABEL) + self._ed25519.sign(signed)


class VerifyKey:
    """The public half of a composite key (1984 bytes), parsed once."""

    __slots__ = ("_ed25519", "_mldsa", "public")

    def __init__(self, public: bytes) -> None:
        if len(public) != PUBLIC:
            raise SignatureError("a composite public key is 1984 bytes")
        self.public = public
        try:
            self._mldsa = MLDSA65PublicKey.from_public_bytes(public[:_MLDSA_PUBLIC])
            self._ed25519 = Ed25519PublicKey.from_public_bytes(public[_MLDSA_PUBLIC:])
        except ValueError:
            raise SignatureError("not a composite public key") from None

    def verify(self, signature: bytes, message: bytes, ctx: bytes) -> None:
        """Raise SignatureError unless both halves verify over exactly 3373 bytes of signature."""
        if ctx not in CONTEXTS:
            raise ValueError("a ctx outside the closed list")
        self._verify(signature, message, ctx)

    def _verify(self, signature: bytes, message: bytes, ctx: bytes) -> None:
        if len(signature) != SIGNATURE:
            raise SignatureError("a composite signature is 3373 bytes")
        signed = composite_input(message, ctx)
        try:
            self._ed25519.verify(signature[_MLDSA_SIGNATURE:], signed)
            self._mldsa.verify(signature[:_MLDSA_SIGNATURE], signed, _LABEL)
        except InvalidSignature:
            raise SignatureError("the signature does not verify") from None


@lru_cache(maxsize=1024)
def verify_key(public: bytes) -> VerifyKey:
    """`VerifyKey(public)`, kept: the keys of an agreement come again and again."""
    return VerifyKey(public)


def verify(public: bytes | VerifyKey, signature: bytes, message: bytes, ctx: bytes) -> None:
    """Raise SignatureError unless both halves of `signature` verify under `public`."""
    key = public if isinstance(public, VerifyKey) else verify_key(public)
    key.verify(signature, message, ctx)


_HPKE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class HpkeKey:
    """The private half of an X-Wing key; made from its 32-byte seed."""

    __slots__ = ("_key", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != HPKE_SEED:
            raise ValueError("an X-Wing seed is 32 bytes")
        self.seed = seed
        expanded = hashlib.shake_256(seed).digest(96)
        kem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        curve = X25519PrivateKey.from_private_bytes(expanded[64:])
        self._key = MLKEM768X25519PrivateKey(kem, curve)
        self.public = kem.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> "HpkeKey":
        """A new key from the system's randomness."""
        return cls(os.urandom(HPKE_SEED))

    @classmethod
    def from_seed(cls, seed: bytes) -> "HpkeKey":
        """The key of a 32-byte seed."""
        return cls(seed)

    def open(self, enc_ct: bytes, info: bytes) -> bytes:
        """The plaintext of `hpke_seal`; raises cryptography's InvalidTag, whatever was wrong."""
        return _HPKE.decrypt(enc_ct, self._key, info)


@lru_cache(maxsize=64)
def _hpke_public(public: bytes) -> MLKEM768X25519PublicKey:
    if len(public) != HPKE_PUBLIC:
        raise ValueError("an X-Wing public key is 1216 bytes")
    kem = MLKEM768PublicKey.from_public_bytes(public[:_MLKEM_PUBLIC])
    return MLKEM768X25519PublicKey(kem, X25519PublicKey.from_public_bytes(public[_MLKEM_PUBLIC:]))


def hpke_seal(plaintext: bytes, public: bytes, info: bytes) -> bytes:
    """HPKE base mode, single shot: enc (1120 bytes), ciphertext, tag (16); raises ValueError on a bad key."""
    return _HPKE.encrypt(plaintext, _hpke_public(public), info)


def kid(suite: int, use: int, public: bytes) -> bytes:
    """A key's name, 32 bytes: suite, use and public key in one hash, so that none can be read as another."""
    return H(_KID, struct.pack(">HB", suite, use), public)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What a key file holds; `development` keys are refused outside development."""

    use: int
    seed: bytes
    development: bool

    @property
    def is_hpke(self) -> bool:
        """Whether the seed is an X-Wing seed, not a signing seed."""
        return self.use in _HPKE_USES


def write_key_file(path: Path, use: int, seed: bytes, development: bool = False) -> None:
    """Write a new key file that its owner alone can read (mode 0600), durably.

    Raises:
        KeyFileError: the file exists, cannot be written, or the seed does not fit the use.
    """
    if len(seed) != _seed_size(use):
        raise KeyFileError("a seed of another size than its use has")
    fields = {"suite": SUITE, "use": _use_name(use), "seed": seed.hex(), "development": development}
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(json.dumps(fields, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise KeyFileError(f"a key file cannot be written: {error.strerror}") from None


def read_key_file(path: Path) -> KeyFile:
    """The key of a file.

    Raises:
        KeyFileError: missing, damaged, of another suite, or readable by group or others.
    """
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise KeyFileError("a key file that group or others can read: chmod 600")
            fields = json.loads(file.read(_KEY_FILE_MAX))
    except OSError as error:
        raise KeyFileError(f"a key file cannot be read: {error.strerror}") from None
    except ValueError:
        raise KeyFileError("a key file that is damaged") from None
    try:
        use = codes_pb2.KeyUse.Value(f"KEY_USE_{fields['use'].upper()}")
        seed, suite, development = bytes.fromhex(fields["seed"]), fields["suite"], fields["development"]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise KeyFileError("a key file that is damaged") from None
    if suite != SUITE or not isinstance(development, bool) or len(seed) != _seed_size(use):
        raise KeyFileError("a key file of another suite, or damaged")
    return KeyFile(use, seed, development)


_HPKE_USES = frozenset({codes_pb2.KEY_USE_HPKE_DATA, codes_pb2.KEY_USE_HPKE_CONTROL})
_KEY_FILE_MAX = 4096


def _seed_size(use: int) -> int:
    return HPKE_SEED if use in _HPKE_USES else SIGNING_SEED


def _use_name(use: int) -> str:
    return codes_pb2.KeyUse.Name(codes_pb2.KeyUse.ValueType(use)).removeprefix("KEY_USE_").lower()
