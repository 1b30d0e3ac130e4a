"""States follow one another as the specification says; an agency's own signature covers exactly one answer."""

import pytest

from broker import keys, receipts
from broker.errors import SignatureError
from broker.v1.codes_pb2 import State

KEY = keys.SigningKey.from_seed(bytes(64))
LEGAL = {
    "ACCEPTED": {"SENT", "EXPIRED", "RECALLED"},
    "SENT": {"RECEIVED", "REFUSED", "EXPIRED", "RECALLED"},
    "RECEIVED": {"ACKNOWLEDGED", "REJECTED", "EXPIRED", "RECALLED"},
    "ACKNOWLEDGED": {"RECALLED"},
}


def test_a_state_is_followed_by_the_legal_ones_only():
    for state_from in State.values():
        for state_to in State.values():
            names = [State.Name(state).removeprefix("STATE_") for state in (state_from, state_to)]
            assert receipts.legal_next(state_from, state_to) == (names[1] in LEGAL.get(names[0], ())), names


def test_an_agencys_receipt_verifies_for_its_own_release_state_reason_and_time():
    said = (b"r" * 32, 6, 1, 1_800_000_000_000)
    signature = receipts.sign_agency(KEY, *said)
    receipts.verify_agency(KEY.public, signature, *said)
    for n, other in enumerate([b"s" * 32, 7, 2, 1_800_000_000_001]):
        changed = [*said]
        changed[n] = other
        with pytest.raises(SignatureError):
            receipts.verify_agency(KEY.public, signature, *changed)


def test_what_is_signed_is_43_bytes_in_order():
    assert receipts.signing_input(b"r" * 32, 6, 258, 1) == b"r" * 32 + b"\x06\x01\x02" + b"\x00" * 7 + b"\x01"
    with pytest.raises(SignatureError):
        receipts.signing_input(b"r", 6, 1, 1)
