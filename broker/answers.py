"""What control items and agencies' answers change: receipts recorded, heads acted on, recalls carried out.

Each function runs inside the transaction that takes the envelope, or the agency's call.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass

from broker import control, sealing, standing
from broker.canonical import H, leaf_hash
from broker.errors import AgreementError, CanonicalError, InvalidError, SignatureError
from broker.ledger.control import KeptRecall
from broker.ledger.sqlite import Transaction
from broker.link import CONTROL, Link
from broker.message import FINAL, Log, Reason, State, Step, Stream
from broker.origin import LIFE_MAX_MS
from broker.receipts import legal_next, verify_agency
from broker.v1.codes_pb2 import KEY_USE_RECEIPT, REASON_MISSING, REASON_NONE
from broker.v1.envelope_pb2 import (
    CONTROL_KIND_HEADS,
    CONTROL_KIND_RECALL,
    CONTROL_KIND_RECEIPT,
    AgencyReceipt,
    Content,
    Receipt,
    TakenHead,
)
from broker.v1.log_pb2 import ENTRY_KIND_ANSWER, ENTRY_KIND_PURGE, ENTRY_KIND_RECEIPTS, ActEntry, ReceiptsEntry

REPAIRS_BEFORE_SINGLES = 3
"""Repairs of one place after which each envelope carries one message."""


@dataclass(frozen=True, slots=True)
class AgencyAnswer:
    """What a recipient agency says of one release: acknowledged, rejected, or recalled (destroyed or kept)."""

    release: bytes
    state: State
    reason: Reason
    agency: AgencyReceipt | None = None


def apply_items(
    tx: Transaction,
    link: Link,
    content: Content,
    now: int,
    parsed: sealing.Parsed,
    *,
    heads_only: bool = False,
) -> frozenset[str]:
    """Carry out the items of a control envelope; returns agencies that have something to answer.

    `parsed`: the envelope, kept as the proof of its receipts. `heads_only`: it came out of turn.
    """
    row = 0
    newest = parsed.header.seq > tx.control.counted("heads_seq")  # or a replayed complaint would be acted on again
    if not heads_only and any(item.kind == CONTROL_KIND_RECEIPT for item in content.items):
        row = _keep_proof(tx, parsed, content, now)
    agencies: set[str] = set()
    proven: dict[Stream, int] = {}
    for item in content.items:
        try:
            if item.kind == CONTROL_KIND_HEADS and newest:
                _heads(tx, link, item.body, now)
                tx.control.put("heads_seq", parsed.header.seq)
            elif heads_only or item.kind == CONTROL_KIND_HEADS:
                continue
            elif item.kind == CONTROL_KIND_RECEIPT:
                _receipt(tx, link, control.parse_receipt(item.body), row, now, proven)
            elif item.kind == CONTROL_KIND_RECALL:
                agencies |= _recall(tx, link, item.body, now)
            else:
                tx.control.alarm("CONTROL_UNKNOWN_KIND", now)
        except CanonicalError:
            tx.control.alarm("CONTROL_MALFORMED", now)
    for stream, seq in proven.items():
        if tx.streams.outflow(stream).repaired_at < 0:  # else it may be the envelope before that was taken
            tx.streams.set_taken(stream, seq)  # a receipt proves that its envelope was taken
    return frozenset(agencies)


def _keep_proof(tx: Transaction, parsed: sealing.Parsed, content: Content, now: int) -> int:
    """A receipt is kept with its envelope, salt and path: that is the proof. One log entry an envelope."""
    entry = ReceiptsEntry(
        kind=ENTRY_KIND_RECEIPTS, time_ms=now, blind=os.urandom(32), header=parsed.header_hash
    ).SerializeToString(deterministic=True)
    tx.journal.append(Log.EXCHANGE, [(leaf_hash(entry), entry)])
    leaves = b"".join(sealing.control_leaf(item) for item in content.items)
    items = content.SerializeToString(deterministic=True)
    return tx.control.keep(parsed.header_bytes, parsed.signature, H(parsed.enc_ct), leaves, items)


def _receipt(tx: Transaction, link: Link, receipt: Receipt, row: int, now: int, proven: dict[Stream, int]) -> None:
    """A receipt counts only as a legal next state; the same again is skipped, another is evidence."""
    sent = tx.outbox.sent(receipt.release)
    if sent is None:
        tx.control.alarm("RECEIPT_UNKNOWN_RELEASE", now)
        return
    stands = State.SENT if sent.state is State.ACCEPTED else sent.state  # sealed: the transport's word may be late
    state = State(receipt.state)
    if state is stands:
        return
    signed = _agency_signed(link, receipt, sent.recipient)
    sealed = sent.seq or tx.outbox.was_sent(receipt.release)  # it may wait to be sealed again
    if not sealed or signed is False or not legal_next(int(stands), int(state)):  # type: ignore[arg-type]
        standing.evidence(tx, "EVIDENCE_IMPOSSIBLE_RECEIPT", receipt.SerializeToString(), now)
        return
    if sent.state is State.ACCEPTED:  # the receipt was faster than the transport's word
        tx.outbox.step(receipt.release, Step(State.SENT, Reason.NONE, now), now)
    step = Step(state, Reason(receipt.reason), receipt.time_ms, receipt=True, agency_signed=bool(signed), control=row)
    tx.outbox.step(receipt.release, step, now)
    tx.control.count(f"receipts_{state.name.lower()}", 1)
    proven[sent.stream] = max(proven.get(sent.stream, 0), sent.seq)


def _agency_signed(link: Link, receipt: Receipt, recipient: str) -> bool | None:
    """True: the recipient agency signed this state; None: its gateway's word; False: a signature that is wrong."""
    if not receipt.HasField("agency"):
        return None
    try:
        check_agency_receipt(link, receipt.agency, recipient, receipt.release, receipt.state, receipt.reason)
    except InvalidError:
        return False
    return True


def check_agency_receipt(
    link: Link, signed: AgencyReceipt, agency: str, release: bytes, state: int, reason: int
) -> None:
    """Raise SignatureError unless `agency` signed this state with a receipt key that is valid."""
    key = link.agreement.keys.get(signed.kid)
    if key is None or key.owner != agency or key.use != KEY_USE_RECEIPT:
        raise SignatureError("a receipt key of another owner or use")
    if not key.not_before_ms <= signed.time_ms <= key.not_after_ms:
        raise SignatureError("a receipt key that was not valid")
    try:
        verify_agency(link.verify_key(signed.kid), signed.signature, release, state, reason, signed.time_ms)
    except AgreementError as error:
        raise SignatureError(str(error)) from None


def _heads(tx: Transaction, link: Link, body: bytes, now: int) -> None:
    """Where the other party stands: what it took of ours, and what it has durably sent."""
    heads = control.parse_heads(body)
    tx.control.put("heads_at_ms", now)
    ours = {link.topic_out(family) for family in (CONTROL, *link.agreement.families)}
    for head in heads.taken:
        if head.topic in ours and head.epoch == control.EPOCH:
            _taken(tx, link, Stream(head.topic, head.partition), head, now)
    theirs = set(link.streams_in())
    for sent in heads.sent:
        stream = Stream(sent.topic, sent.partition)
        if stream in theirs and sent.seq > tx.streams.inflow(stream).taken:
            tx.control.put(f"claimed {stream.topic} {stream.partition}", sent.seq)


def _taken(tx: Transaction, link: Link, stream: Stream, head: TakenHead, now: int) -> None:
    """Repair by going back: the same bytes when something is missing, else sealed again in the old order."""
    is_control = stream.topic == link.topic_out(CONTROL)
    tx.streams.set_taken(stream, head.taken)
    if is_control:
        tx.control.set_taken(head.taken)
    flow = tx.streams.outflow(stream)
    if head.why == REASON_NONE or head.taken >= flow.last_seq or head.taken < flow.taken:
        return
    if head.why == REASON_MISSING:
        tx.streams.resend(stream, head.taken)
        return
    if flow.repaired_at == flow.chain == head.taken:
        return  # nothing was sealed since we last heard this
    tx.streams.restart(stream, head.taken)
    if is_control:
        tx.control.unseal(head.taken)
        return
    tx.outbox.unseal(stream, head.taken)
    if flow.repaired_at == head.taken and flow.repairs > REPAIRS_BEFORE_SINGLES:
        tx.outbox.refuse_first(stream, now)  # alone in its envelope, and still not taken
        tx.streams.repairs_again(stream, REPAIRS_BEFORE_SINGLES)  # the next one is tried as often, alone


def _recall(tx: Transaction, link: Link, body: bytes, now: int) -> set[str]:
    """Refuse it on arrival; withdraw it; or ask its agency to destroy it."""
    recall = control.parse_recall(body)
    origin = link.agreement.agencies.get(recall.origin_agency)
    if (
        origin is None
        or origin.party != link.peer
        or len(recall.release) != 32
        or recall.expires_ms > now + 2 * LIFE_MAX_MS
    ):
        tx.control.alarm("RECALL_BY_STRANGER", now)
        return set()
    reason = Reason(recall.reason)
    kept = KeptRecall(
        recall.release,
        recall.origin_agency,
        reason,
        recall.expires_ms + control.RECALL_KEPT_MS,
        now + control.SILENCE_MS,
    )
    found = tx.mailbox.for_recall(recall.release)
    if found is None:
        tx.control.keep_recall(kept)
        return set()
    state, owner, recipient = found
    if owner != recall.origin_agency:
        tx.control.alarm("RECALL_BY_STRANGER", now)
        return set()
    if state in {State.RECEIVED, State.DELIVERED}:
        close(tx, recall.release, State.RECALLED, reason, now)
        return set()
    if state is State.ACKNOWLEDGED:
        tx.control.keep_recall(kept)
        tx.mailbox.ask_to_destroy(recall.release)
        return {recipient}
    last = tx.mailbox.receipt(recall.release)
    if last is not None:
        tx.control.enqueue([control.receipt_item(last)])
    return set()


def close(
    tx: Transaction, release: bytes, state: State, reason: Reason, now: int, agency: AgencyReceipt | None = None
) -> None:
    """A state that ends a message here: its entry, its receipt, and its content destroyed unless it is to be kept."""
    leaf, entry, body = control.state_entry(ENTRY_KIND_ANSWER, release, state, reason, now, agency=agency)
    tx.journal.append(Log.EXCHANGE, [(leaf, entry)])
    tx.mailbox.step(release, Step(state, reason, now, receipt=True, agency_signed=agency is not None), body)
    tx.control.enqueue([control.receipt_item(body)])
    if state is not State.ACKNOWLEDGED:
        destroy_received(tx, [release], now)


def destroy_received(tx: Transaction, releases: Iterable[bytes], now: int) -> None:
    """Shred the content keys of messages that came; each destruction is an entry."""
    for release in releases:
        found = tx.mailbox.key_of(release)
        if found is not None:
            row, key_id = found
            tx.keys.shred(key_id)
            tx.mailbox.destroyed(row)
            purge_entry(tx, release, now)


def purge_entry(tx: Transaction, release: bytes, now: int) -> None:
    """The decisions log's word that content is gone; the release stands as a blinded commitment."""
    subject = H(b"puente/v1/open\0", os.urandom(32), release)
    entry = ActEntry(
        kind=ENTRY_KIND_PURGE, time_ms=now, blind=os.urandom(32), act="purge", subject=subject
    ).SerializeToString(deterministic=True)
    tx.journal.append(Log.DECISIONS, [(leaf_hash(entry), entry)])


def answer(
    tx: Transaction, link: Link, agency: str, holder: str, answers: Iterable[AgencyAnswer], now: int
) -> list[str]:
    """Record what an agency says of its messages; a word of the error table for each, OK when it is durable.

    An answer that was given before is OK again: the agency may not have heard that it was durable.
    """
    outcomes = []
    for said in answers:
        found = tx.mailbox.for_answer(said.release, agency)
        outcomes.append("NOT_FOUND" if found is None else _answer_one(tx, link, agency, holder, said, found, now))
    return outcomes


def _answer_one(
    tx: Transaction,
    link: Link,
    agency: str,
    holder: str,
    said: AgencyAnswer,
    found: tuple[State, bytes, bool],
    now: int,
) -> str:
    state, conversation, recall = found
    if said.agency is not None:
        try:
            check_agency_receipt(link, said.agency, agency, said.release, int(said.state), int(said.reason))
        except SignatureError:
            return "AGENCY_SIGNATURE_INVALID"
    if recall and said.state is State.RECALLED and said.reason in {Reason.DESTROYED, Reason.KEPT}:
        close(tx, said.release, State.RECALLED, said.reason, now, said.agency)
        return "OK"
    if state is said.state:
        return "OK"
    if state in FINAL or said.state not in {State.ACKNOWLEDGED, State.REJECTED}:
        return "STATE_FINAL"
    if not tx.mailbox.holds(agency, holder, conversation):
        return "LEASE_LOST"
    close(tx, said.release, said.state, said.reason, now, said.agency)
    return "OK"
