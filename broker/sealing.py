"""Messages into an envelope, and back (protocol section 5). The receiver's steps are functions of their own.

Sealed: header and content are serialised once; HPKE binds the header by its `info`, the signature binds header and
ciphertext. So nobody can re-wrap an agency's words for somebody else, and a swapped sender fails in decryption already.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag

from broker import keys
from broker.canonical import H, encode, leaf_hash, parse
from broker.errors import CanonicalError, ContentError, EnvelopeError, OpenError, SignatureError
from broker.keys import HpkeKey, SigningKey, VerifyKey
from broker.log import merkle
from broker.v1.envelope_pb2 import Content, ControlItem, Envelope, Header

VERSION: Final = 1
PADDED_MIN: Final = 1024
SEQ_END: Final = 1 << 63
"""Seqs are below this: what keeps them has signed 64-bit integers."""
TIME_END: Final = 1 << 47


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes and counts; GetCatalog tells them to clients."""

    envelope: int = 1_000_000
    header: int = 4 * 1024
    # The largest Content whose padded envelope surely fits: the Padme step below the envelope's limit.
    content: int = 983_036
    messages: int = 256
    statement: int = 2 * 1024
    core: int = 8 * 1024
    record: int = 256 * 1024
    slots: int = 280 * 1024
    caveats: int = 32


LIMITS: Final = Limits()

_HPKE = b"puente/v1/hpke\x00"
_CONTROL = b"puente/v1/control\x00"
_CORE = b"puente/v1/core\x00"
_LENGTH = struct.Struct(">I")
_KIND = struct.Struct(">H")


def release_of(entry: bytes) -> bytes:
    """The name of a message as sent: the leaf hash of its release entry."""
    return leaf_hash(entry)


def core_commit(commit_salt: bytes, core: bytes) -> bytes:
    """What a release entry says of a Core: provable with the 32-byte salt, unlinkable once it is destroyed."""
    return H(_CORE, commit_salt, core)


def control_leaf(item: ControlItem) -> bytes:
    """A control item's leaf in its envelope's root.

    Raises:
        ContentError: a salt that is not 32 bytes, or a kind that is no u16.
    """
    if len(item.salt) != 32 or not 0 < item.kind < 1 << 16:
        raise ContentError("a control item has a salt of 32 bytes and a kind below 65536")
    return leaf_hash(b"".join((_CONTROL, item.salt, _KIND.pack(item.kind), item.body)))


def content_leaves(content: Content) -> list[bytes]:
    """The leaves of the envelope's root, in order: releases, or on control the items.

    Raises:
        ContentError: messages and items together, neither, too many, or items beside batches.
    """
    messages, items = content.messages, content.items
    if bool(messages) == bool(items) or len(messages) > LIMITS.messages or (items and content.batches):
        raise ContentError("content is 1 to 256 messages, or control items")
    if items:
        return [control_leaf(item) for item in items]
    return [leaf_hash(message.release_entry) for message in messages]


def padded_size(length: int) -> int:
    """The size that content of `length` bytes is padded to: Padme (Nikitin et al., 2019) of it and its u32 length."""
    size = 4 + length
    exponent = size.bit_length() - 1
    mask = (1 << exponent - exponent.bit_length()) - 1
    return max(PADDED_MIN, (size + mask) & ~mask)


def pad(content: bytes) -> bytes:
    """u32 length, content, zeros."""
    return (_LENGTH.pack(len(content)) + content).ljust(padded_size(len(content)), b"\x00")


def unpad(padded: bytes) -> bytes:
    """The content of `pad`; any other padding is refused.

    Raises:
        OpenError: a size that its length does not have, or a byte of padding that is not zero.
    """
    if len(padded) < PADDED_MIN:
        raise OpenError("padding: too short")
    (length,) = _LENGTH.unpack_from(padded)
    if padded_size(length) != len(padded) or padded.count(b"\x00", 4 + length) != len(padded) - 4 - length:
        raise OpenError("padding: another size, or not zeros")
    return padded[4 : 4 + length]


def seal(header: Header, content: Content, recipient_public: bytes, signer: SigningKey) -> tuple[bytes, bytes]:
    """(envelope, H(header)); sets version, count and root of `header`.

    Raises:
        ContentError: content that is no content.
        EnvelopeError: larger than its limits: seal fewer messages.
    """
    leaves = content_leaves(content)
    header.version, header.count, header.root = VERSION, len(leaves), merkle.root(leaves)
    header_bytes, content_bytes = encode(header), encode(content)
    if len(header_bytes) > LIMITS.header or len(content_bytes) > LIMITS.content:
        raise EnvelopeError("larger than an envelope may be")
    header_hash = H(header_bytes)
    enc_ct = keys.hpke_seal(pad(content_bytes), recipient_public, _HPKE + header_hash)
    signature = signer.sign(header_hash + H(enc_ct), keys.CTX_ENVELOPE)
    return encode(Envelope(header=header_bytes, enc_ct=enc_ct, signature=signature)), header_hash


@dataclass(frozen=True, slots=True)
class Parsed:
    """An envelope after steps 1 to 3: its exact bytes, nothing of it believed yet. `header_hash` is 32 bytes."""

    header: Header
    header_bytes: bytes
    header_hash: bytes
    enc_ct: bytes
    signature: bytes


def parse_envelope(data: bytes) -> Parsed:
    """Steps 1 to 3: caps, envelope shape, header canonical and of our version.

    Raises:
        EnvelopeError: any of them.
    """
    if len(data) > LIMITS.envelope:
        raise EnvelopeError("larger than an envelope may be")
    try:
        envelope = parse(Envelope, data)
        if len(envelope.header) > LIMITS.header:
            raise EnvelopeError("a header larger than 4 KiB")
        header = parse(Header, envelope.header)
    except CanonicalError as error:
        raise EnvelopeError(str(error)) from None
    if len(envelope.signature) != keys.SIGNATURE or len(envelope.enc_ct) < keys.HPKE_ENC + PADDED_MIN:
        raise EnvelopeError("a signature or ciphertext of a size that none has")
    _check_header(header)
    return Parsed(header, envelope.header, H(envelope.header), envelope.enc_ct, envelope.signature)


def _check_header(header: Header) -> None:
    if header.version != VERSION:
        raise EnvelopeError("an envelope of another version")
    hashes: Iterable[bytes] = (header.sender_kid, header.recipient_kid, header.root, header.agreement_digest)
    if not all(len(value) == 32 for value in hashes):
        raise EnvelopeError("a hash of a header is 32 bytes")
    if not header.count or not header.seq or not header.epoch or header.after >= header.seq:
        raise EnvelopeError("a header without count, epoch or seq, or after its own seq")
    if max(header.seq, header.control_seq) >= SEQ_END or header.created_ms >= TIME_END:
        raise EnvelopeError("a seq or time out of range")


def verify_envelope(parsed: Parsed, verify_key: VerifyKey) -> None:
    """Step 6: the sender's signature over the carried bytes.

    Raises:
        EnvelopeError: either half does not verify.
    """
    try:
        verify_key.verify(parsed.signature, parsed.header_hash + H(parsed.enc_ct), keys.CTX_ENVELOPE)
    except SignatureError:
        raise EnvelopeError("the envelope's signature does not verify") from None


def open_content(parsed: Parsed, hpke_key: HpkeKey) -> Content:
    """Steps 8 and 9: what an envelope seals, complete and in order.

    Raises:
        OpenError: step 8, HPKE or padding.
        ContentError: step 9, content that is not canonical, or of another count or root than the header's.
    """
    try:
        padded = hpke_key.open(parsed.enc_ct, _HPKE + parsed.header_hash)
    except (InvalidTag, ValueError):
        raise OpenError("does not open: another key, another header, or damaged") from None
    data = unpad(padded)
    try:
        content = parse(Content, data)
    except CanonicalError as error:
        raise ContentError(str(error)) from None
    leaves = content_leaves(content)
    if len(leaves) != parsed.header.count or merkle.root(leaves) != parsed.header.root:
        raise ContentError("content of another count or root than the header's")
    return content
