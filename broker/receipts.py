"""What became of a message: its legal states, and the recipient agency's own signature (protocol section 7)."""

import struct
from typing import Final

from broker import keys
from broker.errors import SignatureError
from broker.keys import SigningKey, VerifyKey
from broker.v1.codes_pb2 import (
    STATE_ACCEPTED,
    STATE_ACKNOWLEDGED,
    STATE_EXPIRED,
    STATE_RECALLED,
    STATE_RECEIVED,
    STATE_REFUSED,
    STATE_REJECTED,
    STATE_SENT,
    State,
)

_SIGNED = struct.Struct(">32sBHQ")

# From a state, what may follow; `delivered` is local to the recipient's gateway and counts as received.
NEXT: Final[dict[int, frozenset[int]]] = {
    STATE_ACCEPTED: frozenset({STATE_SENT, STATE_EXPIRED, STATE_RECALLED}),
    STATE_SENT: frozenset({STATE_RECEIVED, STATE_REFUSED, STATE_EXPIRED, STATE_RECALLED}),
    STATE_RECEIVED: frozenset({STATE_ACKNOWLEDGED, STATE_REJECTED, STATE_EXPIRED, STATE_RECALLED}),
    STATE_ACKNOWLEDGED: frozenset({STATE_RECALLED}),
}


def legal_next(state_from: State.ValueType, state_to: State.ValueType) -> bool:
    """Whether a message in `state_from` may become `state_to`."""
    return state_to in NEXT.get(state_from, ())


def signing_input(release: bytes, state: int, reason: int, time_ms: int) -> bytes:
    """43 bytes that a recipient agency signs: release, u8 state, u16 reason, u64 time_ms."""
    if len(release) != 32:
        raise SignatureError("a release is 32 bytes")
    return _SIGNED.pack(release, state, reason, time_ms)


def sign_agency(key: SigningKey, release: bytes, state: int, reason: int, time_ms: int) -> bytes:
    """The recipient agency's signature for its acknowledge, reject or recall answer."""
    return key.sign(signing_input(release, state, reason, time_ms), keys.CTX_RECEIPT)


def verify_agency(
    key: bytes | VerifyKey, signature: bytes, release: bytes, state: int, reason: int, time_ms: int
) -> None:
    """Raise SignatureError unless the agency of `key` (its receipt public key) signed exactly this."""
    keys.verify(key, signature, signing_input(release, state, reason, time_ms), keys.CTX_RECEIPT)
