"""Control items: receipts, heads and recalls, as bodies to seal and as bodies that came (protocol section 7)."""

import os
from collections.abc import Iterable, Sequence
from typing import Final

from broker.canonical import leaf_hash, parse
from broker.errors import CanonicalError
from broker.ledger.streams import Inflow, Outflow
from broker.message import Reason, State, Stream
from broker.origin import TIME_END
from broker.sealing import SEQ_END
from broker.v1.envelope_pb2 import (
    CONTROL_KIND_EPOCH,
    CONTROL_KIND_HEADS,
    CONTROL_KIND_KEY,
    CONTROL_KIND_RECALL,
    CONTROL_KIND_RECEIPT,
    AgencyReceipt,
    Heads,
    Recall,
    Receipt,
    SentHead,
    TakenHead,
)
from broker.v1.log_pb2 import EntryKind, StateEntry

EPOCH: Final = 1
"""Epochs after a restore are reserved; every stream is in its first."""
RECALL_KEPT_MS: Final = 3_600_000
SILENCE_MS: Final = 7 * 24 * 3_600_000
"""After so much silence of its agency a recall is answered KEPT."""

AWAITED: Final = frozenset({CONTROL_KIND_KEY, CONTROL_KIND_EPOCH, CONTROL_KIND_RECALL})
"""Kinds that data sealed later waits for: `control_seq` names the last envelope that held one."""

Item = tuple[int, bytes, bytes]
"""kind, salt, body."""


def receipt(
    release: bytes, state: State, reason: Reason, entry: bytes, time_ms: int, agency: AgencyReceipt | None = None
) -> bytes:
    """A receipt's body; `entry` is the leaf of our own log entry for this state."""
    body = Receipt(
        release=release, state=int(state), reason=int(reason), entry=entry, time_ms=time_ms, agency=agency  # type: ignore[arg-type]
    )  # fmt: skip
    return body.SerializeToString(deterministic=True)


def state_entry(
    kind: "EntryKind.ValueType",
    release: bytes,
    state: State,
    reason: Reason,
    time_ms: int,
    decision: bytes = b"",
    agency: AgencyReceipt | None = None,
) -> tuple[bytes, bytes, bytes]:
    """(leaf, entry, receipt body): our log's word on a state, and the receipt that quotes it."""
    entry = StateEntry(
        kind=kind,
        time_ms=time_ms,
        blind=os.urandom(32),
        release=release,
        state=int(state),  # type: ignore[arg-type]
        reason=int(reason),  # type: ignore[arg-type]
        decision=decision,
    ).SerializeToString(deterministic=True)
    leaf = leaf_hash(entry)
    return leaf, entry, receipt(release, state, reason, leaf, time_ms, agency)


def receipt_item(body: bytes) -> Item:
    """A receipt, to be sealed."""
    return (CONTROL_KIND_RECEIPT, os.urandom(32), body)


def parse_receipt(body: bytes) -> Receipt:
    """A receipt that came. Raises CanonicalError."""
    found = parse(Receipt, body)
    if not found.state or not found.reason:
        raise CanonicalError("a receipt has a state and a reason")
    if max(found.time_ms, found.agency.time_ms) >= TIME_END:
        raise CanonicalError("a time out of range")
    return found


def recall_item(release: bytes, origin: str, reason: Reason, expires_ms: int) -> Item:
    """A recall, to be sealed."""
    body = Recall(release=release, origin_agency=origin, reason=int(reason), expires_ms=expires_ms)  # type: ignore[arg-type]
    return (CONTROL_KIND_RECALL, os.urandom(32), body.SerializeToString(deterministic=True))


def parse_recall(body: bytes) -> Recall:
    """A recall that came. Raises CanonicalError."""
    found = parse(Recall, body)
    if not found.reason:
        raise CanonicalError("a recall has a reason")
    if found.expires_ms >= TIME_END:
        raise CanonicalError("a time out of range")
    return found


def key_item(body: bytes) -> Item:
    """A key item, to be sealed."""
    return (CONTROL_KIND_KEY, os.urandom(32), body)


def heads_item(sent: Iterable[tuple[Stream, Outflow]], taken: Sequence[Inflow]) -> Item:
    """Where our streams and theirs stand, to be sealed."""
    heads = Heads(
        sent=[SentHead(topic=s.topic, partition=s.partition, epoch=EPOCH, seq=flow.durable) for s, flow in sent],
        taken=[
            TakenHead(
                topic=flow.stream.topic,
                partition=flow.stream.partition,
                epoch=EPOCH,
                taken=flow.taken,
                why=int(flow.why),  # type: ignore[arg-type]
            )
            for flow in taken
        ],
    )
    return (CONTROL_KIND_HEADS, os.urandom(32), heads.SerializeToString(deterministic=True))


def parse_heads(body: bytes) -> Heads:
    """Heads that came. Raises CanonicalError."""
    found = parse(Heads, body)
    if any(head.seq >= SEQ_END for head in found.sent) or any(head.taken >= SEQ_END for head in found.taken):
        raise CanonicalError("a seq out of range")
    return found
