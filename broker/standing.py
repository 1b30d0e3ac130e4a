"""What stands behind decisions and exchanges, on record: the agreement and the pack in force, and a suspension."""

import os
from collections.abc import Mapping

from broker.canonical import leaf_hash
from broker.ledger.sqlite import Transaction
from broker.message import Log, Reason
from broker.v1.log_pb2 import (
    ENTRY_KIND_AGREEMENT,
    ENTRY_KIND_PACK,
    ENTRY_KIND_SUSPENSION,
    ActEntry,
    EntryKind,
    LinkEntry,
)


def record(
    tx: Transaction,
    agreement_digest: bytes,
    pack_digest: bytes,
    sources: Mapping[str, Mapping[str, bytes]],
    now: int,
) -> None:
    """An entry for the agreement and for the pack that a gateway starts with, when they are not those of before.

    The pack's files are kept, so that its decisions can be explained when another is in force.
    """
    tx.packs.keep(pack_digest, sources)
    if _changed(tx, "agreement", agreement_digest):
        _link_entry(tx, ENTRY_KIND_AGREEMENT, agreement_digest, Reason.NONE, now)
    if _changed(tx, "pack", pack_digest):
        entry = ActEntry(
            kind=ENTRY_KIND_PACK, time_ms=now, blind=os.urandom(32), act="in force", subject=pack_digest
        ).SerializeToString(deterministic=True)
        tx.journal.append(Log.DECISIONS, [(leaf_hash(entry), entry)])


def evidence(tx: Transaction, what: str, signed: bytes, now: int) -> None:
    """What the accused signed: kept, an alarm, and the link suspended, with its entry."""
    if tx.control.alarm(what, now, signed):
        _link_entry(tx, ENTRY_KIND_SUSPENSION, leaf_hash(signed), Reason.PROOF, now)


def _changed(tx: Transaction, name: str, digest: bytes) -> bool:
    mark = int.from_bytes(digest[:6], "big")
    if tx.control.counted(f"in force: {name}") == mark:
        return False
    tx.control.put(f"in force: {name}", mark)
    return True


def _link_entry(tx: Transaction, kind: "EntryKind.ValueType", subject: bytes, reason: Reason, now: int) -> None:
    entry = LinkEntry(
        kind=kind,
        time_ms=now,
        blind=os.urandom(32),
        subject=subject,
        reason=int(reason),  # type: ignore[arg-type]
    ).SerializeToString(deterministic=True)
    tx.journal.append(Log.EXCHANGE, [(leaf_hash(entry), entry)])
