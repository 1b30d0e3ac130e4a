"""`canonical.parse` and a byte checker written from the specification alone agree on every input."""

from canonical_oracle import check_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.canonical import encode, parse
from broker.errors import CanonicalError
from broker.v1 import envelope_pb2, facts_pb2, log_pb2, passenger_pb2

CLASSES = [
    passenger_pb2.Passenger,
    envelope_pb2.OriginStatement,
    envelope_pb2.Core,
    envelope_pb2.Content,
    envelope_pb2.Heads,
    envelope_pb2.Receipt,
    facts_pb2.Facts,
    log_pb2.DecisionEntry,
]
SCALARS = {
    3: st.integers(-(1 << 63), (1 << 63) - 1),
    4: st.integers(0, (1 << 64) - 1),
    5: st.integers(-(1 << 31), (1 << 31) - 1),
    8: st.booleans(),
    9: st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    12: st.binary(max_size=6),
    13: st.integers(0, (1 << 32) - 1),
}


def values(field):
    if field.message_type is not None:
        return messages(field.message_type)
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    return SCALARS[field.type]


def messages(descriptor):
    def fill(chosen):
        from google.protobuf.message_factory import GetMessageClass

        message = GetMessageClass(descriptor)()
        for name, value in chosen.items():
            field = descriptor.fields_by_name[name]
            if field.is_repeated:
                getattr(message, name).extend(value)
            elif field.message_type is not None:
                getattr(message, name).CopyFrom(value)
            else:
                setattr(message, name, value)
        return message

    fields = {
        field.name: st.lists(values(field), max_size=3) if field.is_repeated else values(field)
        for field in descriptor.fields
    }
    return st.fixed_dictionaries({}, optional=fields).map(fill)


def accepted(message_class, data):
    try:
        parse(message_class, data)
    except CanonicalError:
        return False
    return True


any_message = st.sampled_from(CLASSES).flatmap(lambda c: st.tuples(st.just(c), messages(c.DESCRIPTOR)))


@given(any_message)
@settings(max_examples=300, deadline=None)
def test_what_we_encode_is_canonical_for_both_and_parses_to_the_same(made):
    message_class, message = made
    data = encode(message)
    assert check_bytes(message_class.DESCRIPTOR, data) is None
    assert parse(message_class, data) == message


@given(any_message, st.data())
@settings(max_examples=1500, deadline=None)
def test_both_agree_on_bytes_that_were_changed(made, draw):
    message_class, message = made
    data = bytearray(encode(message))
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, len(data)))
        change = draw.draw(st.sampled_from(["set", "flip", "insert", "delete", "repeat", "pad"]))
        if change == "set" and at < len(data):
            data[at] = draw.draw(st.integers(0, 255))
        elif change == "flip" and at < len(data):
            data[at] ^= 1 << draw.draw(st.integers(0, 7))
        elif change == "insert":
            data[at:at] = draw.draw(st.binary(min_size=1, max_size=4))
        elif change == "delete":
            del data[at : at + draw.draw(st.integers(1, 3))]
        elif change == "repeat":
            data[at:at] = data[at : at + draw.draw(st.integers(1, 12))]
        elif change == "pad" and at < len(data):
            data[at : at + 1] = bytes([data[at] | 0x80, 0])
    data = bytes(data)
    assert accepted(message_class, data) == (check_bytes(message_class.DESCRIPTOR, data) is None)


@given(st.sampled_from(CLASSES), st.binary(max_size=24))
@settings(max_examples=500, deadline=None)
def test_both_agree_on_any_bytes(message_class, data):
    assert accepted(message_class, data) == (check_bytes(message_class.DESCRIPTOR, data) is None)
