"""What stands behind decisions and exchanges, on record: agreement and pack in force, suspensions, acts of persons.

Evidence suspends the link, or one person; two different persons resume it (protocol section 6).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from broker.agreement import Agreement
from broker.canonical import H, leaf_hash
from broker.errors import ActError, AgreementError
from broker.ledger.sqlite import Transaction
from broker.ledger.standing import Asked
from broker.message import Log, Reason
from broker.v1.log_pb2 import (
    ENTRY_KIND_AGREEMENT,
    ENTRY_KIND_OPERATOR_ACT,
    ENTRY_KIND_PACK,
    ENTRY_KIND_SUSPENSION,
    ActEntry,
    EntryKind,
    LinkEntry,
)

ASKED_MS: Final = 15 * 60_000
"""How long a first person's request waits for a second one's."""
OPERATOR: Final = "OPERATOR"
RESUME: Final = "resume"
WHY_MAX: Final = 500
EVIDENCE_KEPT: Final = 16
"""Suspensions by evidence that stand at once."""


@dataclass(frozen=True, slots=True)
class Act:
    """Who does something, and why; both stay with this party."""

    person: str
    why: str


def record(
    tx: Transaction,
    agreement: Agreement,
    pack_digest: bytes,
    sources: Mapping[str, Mapping[str, bytes]],
    now: int,
) -> None:
    """An entry for the agreement and for the pack in force, when they are not those of before.

    The pack's files are kept, so that its decisions can be explained when another is in force.
    Raises: AgreementError: an older agreement than one that was in force here.
    """
    tx.packs.keep(pack_digest, sources)
    in_force(tx, agreement, now)
    if _changed(tx, "pack", pack_digest):
        _act_entry(tx, ENTRY_KIND_PACK, "in force", pack_digest, now)


def in_force(tx: Transaction, agreement: Agreement, now: int) -> None:
    """An entry for an agreement that came into force. Raises AgreementError: never back to an older one."""
    if agreement.not_before_ms > now:
        return
    newest = tx.control.counted("agreement version")
    if newest > agreement.version:
        raise AgreementError("an older agreement than the one that was in force here: load that one too")
    if newest < agreement.version:
        tx.control.put("agreement version", agreement.version)
    if _changed(tx, "agreement", agreement.digest):
        _link_entry(tx, ENTRY_KIND_AGREEMENT, agreement.digest, Reason.NONE, now)


def evidence(tx: Transaction, what: str, signed: bytes, now: int) -> None:
    """What the accused signed: kept, an alarm, and the link suspended, with its entry. The same again says nothing."""
    if sum(one.what != OPERATOR for one in tx.standing.suspensions()) >= EVIDENCE_KEPT:
        return  # the accused must not be able to grow our log
    if tx.standing.suspend(what, signed, now):
        tx.control.alarm(what, now, signed)
        _link_entry(tx, ENTRY_KIND_SUSPENSION, leaf_hash(signed), Reason.PROOF, now)


def suspend(tx: Transaction, act: Act, now: int) -> None:
    """One person suspends the link, at once. Raises ActError: the reason is too long."""
    leaf = operator_act(tx, "link.suspend", act, b"", now)
    tx.standing.suspend(OPERATOR, leaf, now)
    _link_entry(tx, ENTRY_KIND_SUSPENSION, leaf, Reason.AUTHORITY, now)


def resume(tx: Transaction, act: Act, now: int) -> bool:
    """The first person asks, a second, different one confirms; True when the link is open again.

    What came to light in between starts it anew: both must have seen what they resume.
    Raises ActError: the link is not suspended.
    """
    stands = tx.standing.suspensions()
    if not stands:
        raise ActError("the link is not suspended")
    newest = stands[-1].row
    asked = standing_request(tx, now)
    if asked is None:
        operator_act(tx, "link.resume.ask", act, b"", now)
        tx.standing.ask(RESUME, Asked(act.person, now, newest))
        return False
    if asked.person == act.person:
        return False
    leaf = operator_act(tx, "link.resume", act, asked.person.encode(), now)
    tx.standing.answered(RESUME)
    tx.standing.resume(now)
    _link_entry(tx, ENTRY_KIND_SUSPENSION, leaf, Reason.NONE, now)
    return True


def standing_request(tx: Transaction, now: int) -> Asked | None:
    """A request to resume that a second person may still confirm: recent, and about all that suspends the link now."""
    asked, stands = tx.standing.asked(RESUME), tx.standing.suspensions()
    if asked is None or not stands or asked.about != stands[-1].row or now - asked.time_ms > ASKED_MS:
        return None
    return asked


def operator_act(tx: Transaction, name: str, act: Act, subject: bytes, now: int) -> bytes:
    """An entry of the decisions log that says what was done; who, to what and why is its opening. Returns its leaf.

    Raises ActError: the reason is too long.
    """
    if len(act.why) > WHY_MAX:
        raise ActError("a reason has at most 500 characters")
    salt = os.urandom(32)
    told = b"\0".join((act.person.encode(), subject, act.why.encode()))
    leaf = _act_entry(tx, ENTRY_KIND_OPERATOR_ACT, name, H(b"puente/v1/open\0", salt, told), now)
    tx.standing.keep_act(leaf, name, act.person, act.why, salt, now)
    return leaf


def _act_entry(tx: Transaction, kind: "EntryKind.ValueType", act: str, subject: bytes, now: int) -> bytes:
    entry = ActEntry(kind=kind, time_ms=now, blind=os.urandom(32), act=act, subject=subject).SerializeToString(
        deterministic=True
    )
    leaf = leaf_hash(entry)
    tx.journal.append(Log.DECISIONS, [(leaf, entry)])
    return leaf


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
