"""Whatever bytes arrive, each reader refuses them with its own error, and with nothing else."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker import agreement, identity, sections
from broker.canonical import encode, parse
from broker.errors import AgreementError, CanonicalError, CertificateError, EnvelopeError, OpenError, SectionError
from broker.origin import parse_batch_statement
from broker.sealing import pad, padded_size, parse_envelope, unpad
from broker.v1.envelope_pb2 import Slot
from broker.v1.passenger_pb2 import Passenger

tags = st.sampled_from([b"\x08\x01", b"\x12\x00", b"\x0a", b"\x12\x02\x18\x01", b"\x80\x01", b"\xff", b"\x0b", b"\x0d"])
hostile = st.one_of(st.binary(max_size=60), st.lists(tags, max_size=8).map(b"".join))


@given(hostile)
@settings(max_examples=800, deadline=None)
def test_a_section_of_any_bytes_is_opened_or_refused(data):
    slots = [Slot(leaf=b"l" * 32)] * 16
    slots[1] = Slot(salt=b"s" * 32, section=data)
    try:
        _, record, shown = sections.open_slots(slots, 16)
    except SectionError:
        return
    assert (record, shown) == (data, 2)


@given(hostile)
@settings(max_examples=800, deadline=None)
def test_a_canonical_record_always_splits_into_sections_that_are_canonical_too(data):
    try:
        parse(Passenger, data)
    except CanonicalError:
        with contextlib.suppress(SectionError):
            sections.split(data, 16)
        return
    parts = sections.split(data, 16)
    assert b"".join(parts) == data
    for part in parts:
        assert encode(parse(Passenger, part)) == part


@given(hostile)
@settings(max_examples=300, deadline=None)
def test_other_readers_refuse_with_their_own_error(data):
    for read, error in [(parse_envelope, EnvelopeError), (agreement.load, AgreementError), (unpad, OpenError)]:
        with pytest.raises(error):
            read(data)
    with pytest.raises(CertificateError):
        identity.identify(data, 0)
    if len(data) != 74:
        with pytest.raises(Exception, match="74 bytes"):
            parse_batch_statement(data)


@given(st.integers(0, 983_036), st.integers(0, 2000))
@settings(max_examples=300, deadline=None)
def test_padding_grows_with_the_length_and_adds_little(length, more):
    size = padded_size(length)
    assert 4 + length <= size <= padded_size(length + more)
    assert size <= max(1024, (4 + length) * 1.12)


@given(st.binary(max_size=3000))
@settings(max_examples=200, deadline=None)
def test_unpadding_gives_back_what_was_padded(data):
    assert unpad(pad(data)) == data
