"""An envelope opens for its recipient, from its sender, whole; everything else is refused at its own step."""

import pytest
from message_story import ENVELOPE, HPKE, content, fixed, header

from broker import keys
from broker.canonical import H, encode, leaf_hash
from broker.errors import ContentError, EnvelopeError, OpenError
from broker.sealing import (
    LIMITS,
    content_leaves,
    control_leaf,
    core_commit,
    open_content,
    pad,
    padded_size,
    parse_envelope,
    release_of,
    seal,
    unpad,
    verify_envelope,
)
from broker.v1.envelope_pb2 import Content, ControlItem, Envelope, Header, SignedBatch

SENDER = keys.VerifyKey(ENVELOPE.public)


def sealed(count=2):
    return seal(header(), content(count), HPKE.public, ENVELOPE)


def reseal(header_bytes, padded, signer=ENVELOPE, info=None):
    """An envelope as somebody with the right keys but other code would make it."""
    info = b"puente/v1/hpke\x00" + H(header_bytes) if info is None else info
    enc_ct = keys.hpke_seal(padded, HPKE.public, info)
    signature = signer.sign(H(header_bytes) + H(enc_ct), keys.CTX_ENVELOPE)
    return encode(Envelope(header=header_bytes, enc_ct=enc_ct, signature=signature))


def test_what_was_sealed_opens_in_order_with_the_releases_that_its_header_names():
    body = content(3)
    data, header_hash = seal(header(), body, HPKE.public, ENVELOPE)
    parsed = parse_envelope(data)
    verify_envelope(parsed, SENDER)
    assert open_content(parsed, HPKE) == body
    assert parsed.header_hash == header_hash == H(parsed.header_bytes)
    assert parsed.header.count == 3


def test_control_items_open_too():
    items = [ControlItem(salt=fixed("a"), kind=2, body=b"heads"), ControlItem(salt=fixed("b"), kind=999, body=b"later")]
    data, _ = seal(header(topic="puente.mx.us.control"), Content(items=items), HPKE.public, ENVELOPE)
    assert list(open_content(parse_envelope(data), HPKE).items) == items


def test_a_full_envelope_of_256_messages_fits():
    data, _ = sealed(256)
    assert len(data) < LIMITS.envelope
    assert len(open_content(parse_envelope(data), HPKE).messages) == 256


@pytest.mark.parametrize("field", ["header", "enc_ct", "signature"])
def test_a_changed_byte_anywhere_is_refused(field):
    data, _ = sealed()
    envelope = Envelope.FromString(data)
    raw = bytearray(getattr(envelope, field))
    raw[-1] ^= 1
    setattr(envelope, field, bytes(raw))
    with pytest.raises(EnvelopeError):
        verify_envelope(parse_envelope(encode(envelope)), SENDER)


def test_a_swapped_sender_fails_in_decryption_not_only_in_the_signature():
    data, _ = sealed()
    envelope = Envelope.FromString(data)
    thief = keys.SigningKey.from_seed(fixed("thief", 64))
    claimed = Header.FromString(envelope.header)
    claimed.sender_party = "xx"
    stolen_header = encode(claimed)
    signature = thief.sign(H(stolen_header) + H(envelope.enc_ct), keys.CTX_ENVELOPE)
    parsed = parse_envelope(encode(Envelope(header=stolen_header, enc_ct=envelope.enc_ct, signature=signature)))
    verify_envelope(parsed, keys.VerifyKey(thief.public))
    with pytest.raises(OpenError):
        open_content(parsed, HPKE)


def test_another_recipient_cannot_open_it():
    with pytest.raises(OpenError):
        open_content(parse_envelope(sealed()[0]), keys.HpkeKey.from_seed(fixed("other")))


def test_padding_hides_the_length_and_only_its_own_form_opens():
    assert padded_size(0) == padded_size(1020) == 1024
    assert padded_size(1021) == 1088
    assert padded_size(100_000) % 2048 == 0
    assert padded_size(LIMITS.content) == LIMITS.content + 4 < LIMITS.envelope
    for length in (0, 1, 1020, 1021, 5000):
        assert unpad(pad(b"x" * length)) == b"x" * length
    for bad in (pad(b"x") + bytes(32), pad(b"x")[:-1], pad(b"x")[:-1] + b"\x01", b"", b"\xff" * 1024, bytes(1023)):
        with pytest.raises(OpenError):
            unpad(bad)


def test_other_padding_in_an_envelope_is_refused_at_step_8():
    parsed = parse_envelope(sealed()[0])
    body = encode(open_content(parsed, HPKE))
    with pytest.raises(OpenError):
        open_content(parse_envelope(reseal(parsed.header_bytes, pad(body) + bytes(64))), HPKE)


def test_content_that_is_not_what_the_header_says_is_refused_at_step_9():
    parsed = parse_envelope(sealed()[0])
    body = open_content(parsed, HPKE)
    swapped = Content(batches=body.batches, messages=[body.messages[1], body.messages[0]])
    fewer = Content(batches=body.batches, messages=body.messages[:1])
    for bad in (encode(swapped), encode(fewer), encode(body) + b"\x08\x01", b"", encode(Content(batches=body.batches))):
        with pytest.raises(ContentError):
            open_content(parse_envelope(reseal(parsed.header_bytes, pad(bad))), HPKE)


def test_messages_and_items_never_share_an_envelope():
    body = content(1)
    item = ControlItem(salt=fixed("a"), kind=1, body=b"x")
    for bad in (
        Content(messages=body.messages, items=[item]),
        Content(),
        Content(items=[item], batches=[SignedBatch()]),
        Content(messages=[body.messages[0]] * 257),
    ):
        with pytest.raises(ContentError):
            content_leaves(bad)


@pytest.mark.parametrize("item", [ControlItem(salt=b"s", kind=1), ControlItem(salt=b"s" * 32, kind=65536)])
def test_a_control_item_of_another_shape_has_no_leaf(item):
    with pytest.raises(ContentError):
        control_leaf(item)


@pytest.mark.parametrize(
    "changes",
    [{"version": 2}, {"seq": 0}, {"epoch": 0}, {"after": 1}, {"sender_kid": b"k"}, {"root": b""}, {"count": 0}],
    ids=str,
)
def test_a_header_of_another_shape_is_refused_before_any_key_is_used(changes):
    good = Header.FromString(parse_envelope(sealed()[0]).header_bytes)
    for name, value in changes.items():
        setattr(good, name, value)
    with pytest.raises(EnvelopeError):
        parse_envelope(reseal(encode(good), pad(b"")))


def test_caps_and_shape_come_first():
    data, _ = sealed()
    for bad in (b"", b"\x00", data + b"\x00", bytes(LIMITS.envelope + 1), data[:-1]):
        with pytest.raises(EnvelopeError):
            parse_envelope(bad)
    with pytest.raises(EnvelopeError, match="4 KiB"):
        parse_envelope(reseal(encode(header(topic="t" * 5000)), pad(b"")))


def test_content_that_would_not_fit_is_not_sealed():
    item = ControlItem(salt=fixed("a"), kind=1, body=bytes(LIMITS.content))
    with pytest.raises(EnvelopeError, match="larger"):
        seal(header(), Content(items=[item]), HPKE.public, ENVELOPE)
    item = ControlItem(salt=fixed("a"), kind=1, body=bytes(LIMITS.content - 64))
    assert len(seal(header(), Content(items=[item]), HPKE.public, ENVELOPE)[0]) <= LIMITS.envelope


def test_the_names_are_those_of_the_specification():
    assert release_of(b"entry") == leaf_hash(b"entry")
    assert core_commit(b"s" * 32, b"core") == H(b"puente/v1/core\x00", b"s" * 32, b"core")
    item = ControlItem(salt=b"s" * 32, kind=1, body=b"body")
    assert control_leaf(item) == H(b"\x00puente/v1/control\x00", b"s" * 32, b"\x00\x01", b"body")
