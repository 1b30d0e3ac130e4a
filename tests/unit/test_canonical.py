"""One encoding and no other: what protobuf forgives is refused, at every depth."""

import pytest

from broker.canonical import SIZE_MAX, H, encode, leaf_hash, node_hash, parse
from broker.errors import CanonicalError
from broker.v1.envelope_pb2 import Core, Envelope, OriginStatement
from broker.v1.passenger_pb2 import Passenger


def passenger():
    record = Passenger(kind=1)
    record.identity.name.surname = "NADIE"
    record.identity.sex = 1
    record.travel.legs.add(carrier="XX", number="1")
    record.documents.add(type="P", number="A1")
    record.documents.add(type="V", number="A2")
    record.baggage.pieces = 0
    return record


def test_the_encoding_of_a_record_is_accepted_and_gives_the_record_back():
    record = passenger()
    assert parse(Passenger, encode(record)) == record


def test_an_optional_field_may_hold_its_default():
    assert parse(Passenger, encode(passenger())).baggage.HasField("pieces")


REFUSED = {
    "a field number that is unknown": b"\x08\x01\xa0\x06\x01",
    "an unknown field inside a section": b"\x08\x01\x12\x03\xa0\x06\x01",
    "descending fields": b"\x12\x00\x08\x01",
    "a singular field twice": b"\x08\x01\x08\x01",
    "a section given in two pieces": b"\x12\x02\x18\x01\x12\x02\x18\x01",
    "a padded varint": b"\x08\x81\x00",
    "a default value": b"\x08\x00",
    "a default inside a section": b"\x12\x02\x18\x00",
    "an unknown enum value": b"\x08\x63",
    "an unknown enum value inside a section": b"\x12\x02\x18\x63",
    "a negative enum value": b"\x08" + b"\xff" * 9 + b"\x01",
    "a wire type of 4 bytes": b"\x0d\x01\x00\x00\x00",
    "text that is not UTF-8": b"\x12\x05\x0a\x03\x0a\x01\xff",
    "a surrogate in text": b"\x12\x07\x0a\x05\x0a\x03\xed\xa0\x80",
    "bytes that end too early": b"\x12\x05\x0a",
    "a group": b"\x0b\x0c",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_refused(data):
    with pytest.raises(CanonicalError):
        parse(Passenger, data)


def test_a_repeated_enum_is_looked_at_too():
    assert parse(Core, b"\x32\x02\x01\x02").gateway_caveats == [1, 2]
    for data in (b"\x32\x02\x01\x63", b"\x32\x00", b"\x30\x01"):  # unknown, empty packed, unpacked
        with pytest.raises(CanonicalError):
            parse(Core, data)


def test_an_enum_below_a_repeated_message_is_looked_at_too():
    assert parse(Core, b"\x42\x04\x08\x01\x10\x01").notices[0].code == 1
    with pytest.raises(CanonicalError):
        parse(Core, b"\x42\x04\x08\x01\x10\x63")


def test_a_number_outside_its_type_is_refused():
    with pytest.raises(CanonicalError):
        parse(OriginStatement, b"\x08\x80\x80\x80\x80\x10")


def test_nothing_larger_than_an_envelope_is_even_parsed():
    with pytest.raises(CanonicalError, match="larger"):
        parse(Envelope, bytes(SIZE_MAX + 1))


def test_an_error_does_not_repeat_what_was_sent():
    with pytest.raises(CanonicalError) as error:
        parse(Passenger, b"\x12\x0a\x0a\x08\x0a\x06SECRET\xff")
    assert "SECRET" not in str(error.value)


def test_hashes_keep_leaves_and_nodes_apart():
    assert H(b"a", b"b") == H(b"ab")
    assert leaf_hash(b"x") == H(b"\x00x")
    assert node_hash(b"l", b"r") == H(b"\x01lr")
