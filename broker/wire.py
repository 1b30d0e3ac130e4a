"""Nouns to protobuf and back; and the few messages that are cheaper to write as bytes than to build."""

from collections.abc import Sequence

from broker.message import StoredMessage, Submission
from broker.v1 import exchange_service_pb2 as exchange
from broker.v1.envelope_pb2 import Message

_SALT, _SECTION, _LEAF = b"\x0a\x20", b"\x12", b"\x1a\x20"
_SLOT = b"\x22"


def submission(item: exchange.Submission) -> Submission:
    """What an agency hands in, as a noun."""
    return Submission(
        item.statement, item.record, item.record_seed, item.facts, item.facts_salt, item.place, tuple(item.siblings)
    )


def slots_bytes(sections: Sequence[bytes], leaves: Sequence[bytes], block: bytes, shown: int) -> bytes:
    """The `slots` field of a Message: salt and section where `shown` has the bit, else the leaf.

    `sections`, `leaves`: slot 1 first; `block`: the salts, 32 bytes each, slot 1 first.
    """
    parts: list[bytes] = []
    for n, section in enumerate(sections):
        if shown >> n & 1:
            length = varint(len(section))
            parts += (
                _SLOT,
                varint(35 + len(length) + len(section)),
                _SALT,
                block[32 * n : 32 * n + 32],
                _SECTION,
                length,
                section,
            )
        else:
            parts += (_SLOT, b"\x22", _LEAF, leaves[n])
    return b"".join(parts)


def slots_of(message: Message) -> bytes:
    """The `slots` field of a canonical Message, as its bytes are: what stands behind the three fields before it."""
    before = len(message_bytes(message.release_entry, message.core, message.commit_salt, b""))
    return message.SerializeToString(deterministic=True)[before:]


def message_bytes(entry: bytes, core: bytes, commit_salt: bytes, slots: bytes) -> bytes:
    """A Message of its parts; `slots` as `slots_bytes` gives them."""
    return b"".join(
        (b"\x0a", varint(len(entry)), entry, b"\x12", varint(len(core)), core, b"\x1a\x20", commit_salt, slots)
    )


def varint(value: int) -> bytes:
    """A minimal varint."""
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def message_view(stored: StoredMessage) -> exchange.MessageView:
    """What an agency sees of its message."""
    return exchange.MessageView(
        message_id=stored.message_id,
        release=stored.release,
        way=exchange.WAY_OUT if stored.way == "out" else exchange.WAY_IN,
        family=stored.family,
        kind=stored.kind,
        origin_agency=stored.origin,
        recipient_agency=stored.recipient,
        purpose=stored.purpose,  # type: ignore[arg-type]
        state=int(stored.state),  # type: ignore[arg-type]
        reason=int(stored.reason),  # type: ignore[arg-type]
        states=[
            exchange.StateView(
                state=int(step.state),  # type: ignore[arg-type]
                reason=int(step.reason),  # type: ignore[arg-type]
                at_ms=step.at_ms,
                receipt=step.receipt,
                agency_signed=step.agency_signed,
            )
            for step in stored.steps
        ],
        decision_id=stored.decision,
        conversation=stored.conversation,
        expires_ms=stored.expires_ms,
        destroy_by_ms=stored.destroy_by_ms,
        content_destroyed=stored.destroyed,
    )
