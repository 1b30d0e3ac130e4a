"""What control items and agencies' answers change: receipts recorded, heads acted on, recalls carried out.

Each function runs inside the transaction that takes the envelope, or the agency's call.
"""

import os
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace

from broker import control, keyring, sealing, standing
from broker.agreement import Agreement
from broker.canonical import H, leaf_hash
from broker.errors import AgreementError, CanonicalError, InvalidError, KeyItemError, SealError, SignatureError
from broker.ledger.control import KeptRecall
from broker.ledger.mailbox import Standing
from broker.ledger.outbox import Sent
from broker.ledger.sqlite import Transaction
from broker.link import CONTROL, Link
from broker.message import FINAL, Log, Reason, State, Step, Stream
from broker.origin import LIFE_MAX_MS
from broker.receipts import legal_next, verify_agency
from broker.v1.codes_pb2 import KEY_USE_RECEIPT, REASON_MISSING, REASON_NONE
from broker.v1.envelope_pb2 import (
    CONTROL_KIND_HEADS,
    CONTROL_KIND_KEY,
    CONTROL_KIND_RECALL,
    CONTROL_KIND_RECEIPT,
    AgencyReceipt,
    Content,
    ControlItem,
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
    newest = parsed.header.seq > tx.control.counted("heads_seq")  # or a replayed complaint would be acted on again
    if not heads_only:
        _receipts(tx, link, content, parsed, now)
    agencies: set[str] = set()
    for item in content.items:
        if item.kind == CONTROL_KIND_RECEIPT or (not newest if item.kind == CONTROL_KIND_HEADS else heads_only):
            continue
        try:
            agencies |= _item(tx, link, item, now, parsed)
        except KeyItemError:
            tx.control.alarm("KEY_ITEM_REFUSED", now)
        except CanonicalError:
            tx.control.alarm("CONTROL_MALFORMED", now)
    return frozenset(agencies)


def _receipts(tx: Transaction, link: Link, content: Content, parsed: sealing.Parsed, now: int) -> None:
    """The receipts of an envelope: each counts only as a legal next state of a release of ours."""
    bodies = [item.body for item in content.items if item.kind == CONTROL_KIND_RECEIPT]
    if not bodies:
        return
    row = _keep_proof(tx, parsed, content, now)
    came: list[Receipt] = []
    for body in bodies:
        try:
            came.append(control.parse_receipt(body))
        except CanonicalError:
            tx.control.alarm("CONTROL_MALFORMED", now)
    stands = tx.outbox.sent([receipt.release for receipt in came])
    changed: dict[bytes, Reason] = {}
    counted: Counter[State] = Counter()
    for receipt in came:
        sent = stands.get(receipt.release)
        if sent is None:
            tx.control.alarm("RECEIPT_UNKNOWN_RELEASE", now)
        elif (step := _next_step(tx, link, receipt, sent, row, now)) is not None:
            stands[receipt.release] = sent.after(step, now)
            changed[receipt.release] = step.reason
            counted[step.state] += 1
    tx.outbox.set_states([(stands[release], reason) for release, reason in changed.items()], now)
    for state, number in counted.items():
        tx.control.count(f"receipts_{state.name.lower()}", number)
    _proven(tx, [stands[release] for release in changed])


def _proven(tx: Transaction, sent: Iterable[Sent]) -> None:
    """A receipt proves that its envelope was taken."""
    proven: dict[Stream, int] = {}
    for one in sent:
        proven[one.stream] = max(proven.get(one.stream, 0), one.seq)
    for stream, seq in proven.items():
        if tx.streams.outflow(stream).repaired_at < 0:  # else it may be the envelope before that was taken
            tx.streams.set_taken(stream, seq)


def _item(tx: Transaction, link: Link, item: ControlItem, now: int, parsed: sealing.Parsed) -> set[str]:
    """One item that is no receipt; agencies that have something to answer. Raises CanonicalError, KeyItemError."""
    if item.kind == CONTROL_KIND_HEADS:
        _heads(tx, link, item.body, now)
        tx.control.put("heads_seq", parsed.header.seq)
    elif item.kind == CONTROL_KIND_RECALL:
        return _recall(tx, link, item.body, now)
    elif item.kind == CONTROL_KIND_KEY:
        keyring.take(tx, link, item.body, now)
    else:
        tx.control.alarm("CONTROL_UNKNOWN_KIND", now)
    return set()


def _keep_proof(tx: Transaction, parsed: sealing.Parsed, content: Content, now: int) -> int:
    """A receipt is kept with its envelope, salt and path: that is the proof. One log entry an envelope."""
    entry = ReceiptsEntry(
        kind=ENTRY_KIND_RECEIPTS, time_ms=now, blind=os.urandom(32), header=parsed.header_hash
    ).SerializeToString(deterministic=True)
    tx.journal.append(Log.EXCHANGE, [(leaf_hash(entry), entry)])
    leaves = b"".join(sealing.control_leaf(item) for item in content.items)
    items = content.SerializeToString(deterministic=True)
    return tx.control.keep(parsed.header_bytes, parsed.signature, H(parsed.enc_ct), leaves, items)


def _next_step(tx: Transaction, link: Link, receipt: Receipt, sent: Sent, row: int, now: int) -> Step | None:
    """What a receipt adds to its message's way: the same again adds nothing, an impossible one is evidence."""
    stands = State.SENT if sent.state is State.ACCEPTED else sent.state  # sealed: the transport's word may be late
    state = State(receipt.state)
    if state is stands:
        return None
    signed = _agency_signed(link, receipt, sent.recipient)
    if not sent.was_sent or signed is False or not legal_next(int(stands), int(state)):  # type: ignore[arg-type]
        standing.evidence(tx, "EVIDENCE_IMPOSSIBLE_RECEIPT", receipt.SerializeToString(), now)
        return None
    return Step(state, Reason(receipt.reason), receipt.time_ms, receipt=True, agency_signed=bool(signed), control=row)


def _agency_signed(link: Link, receipt: Receipt, recipient: str) -> bool | None:
    """True: the recipient agency signed this state; None: its gateway's word; False: a signature that is wrong.

    A suspended key says nothing any more, and a signature by it accuses nobody: it may be an old receipt again.
    """
    if not receipt.HasField("agency") or receipt.agency.kid in link.ring.suspended:
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
    key = link.find(signed.kid)
    if key is None or key.owner != agency or key.use != KEY_USE_RECEIPT:
        raise SignatureError("a receipt key of another owner or use")
    if signed.kid in link.ring.suspended:
        raise SignatureError("a receipt key that is suspended")
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
    ours = {link.topic_out(family) for family in (CONTROL, *link.families)}
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
    if head.why == REASON_MISSING and _can_pass(tx, link, stream, head.taken, now):
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


def _can_pass(tx: Transaction, link: Link, stream: Stream, taken: int, now: int) -> bool:
    """Whether the oldest stored envelope can still be taken; those behind it are younger."""
    stored = tx.streams.first_after(stream, taken)
    try:
        return stored is None or link.can_pass(sealing.parse_envelope(stored).header, now)
    except SealError:
        return False


def _recall(tx: Transaction, link: Link, body: bytes, now: int) -> set[str]:
    """Refuse it on arrival; withdraw it; or ask its agency to destroy it."""
    recall = control.parse_recall(body)
    if (
        not any(_is_member(one, recall.origin_agency, link.peer) for one in link.agreements)
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
        close(tx, [AgencyAnswer(recall.release, State.RECALLED, reason)], now)
        return set()
    if state is State.ACKNOWLEDGED:
        tx.control.keep_recall(kept)
        tx.mailbox.ask_to_destroy(recall.release)
        return {recipient}
    last = tx.mailbox.receipt(recall.release)
    if last is not None:
        tx.control.enqueue([control.receipt_item(last)])
    return set()


def _is_member(agreement: Agreement, agency: str, party: str) -> bool:
    found = agreement.agencies.get(agency)
    return found is not None and found.party == party


def close(tx: Transaction, endings: Sequence[AgencyAnswer], now: int) -> None:
    """States that end messages here: entries, receipts, and content destroyed unless it is to be kept."""
    entries: list[tuple[bytes, bytes]] = []
    changed: list[tuple[bytes, Step, bytes]] = []
    for end in endings:
        leaf, entry, body = control.state_entry(
            ENTRY_KIND_ANSWER, end.release, end.state, end.reason, now, agency=end.agency
        )
        entries.append((leaf, entry))
        step = Step(end.state, end.reason, now, receipt=True, agency_signed=end.agency is not None)
        changed.append((end.release, step, body))
    tx.journal.append(Log.EXCHANGE, entries)
    tx.mailbox.set_states(changed)
    tx.control.enqueue([control.receipt_item(body) for _, _, body in changed])
    destroy_received(tx, [end.release for end in endings if end.state is not State.ACKNOWLEDGED], now)


def destroy_received(tx: Transaction, releases: Iterable[bytes], now: int) -> None:
    """Shred the content keys of messages that came; each destruction is an entry."""
    for release in releases:
        found = tx.mailbox.key_of(release)
        if found is not None:
            row, key_id = found
            tx.keys.shred(key_id)
            tx.mailbox.destroyed(row)
            purge_entry(tx, release, now)


def purge_entry(tx: Transaction, release: bytes, now: int, act: str = "purge") -> None:
    """The decisions log's word that something is gone (purge: content); the release is a blinded commitment."""
    subject = H(b"puente/v1/open\0", os.urandom(32), release)
    entry = ActEntry(
        kind=ENTRY_KIND_PURGE, time_ms=now, blind=os.urandom(32), act=act, subject=subject
    ).SerializeToString(deterministic=True)
    tx.journal.append(Log.DECISIONS, [(leaf_hash(entry), entry)])


def answer(
    tx: Transaction, link: Link, agency: str, holder: str, answers: Iterable[AgencyAnswer], now: int
) -> list[str]:
    """Record what an agency says of its messages; a word of the error table for each, OK when it is durable.

    An answer that was given before is OK again: the agency may not have heard that it was durable.
    """
    given = list(answers)
    stands = tx.mailbox.for_answers(agency, [said.release for said in given])
    held = tx.mailbox.held(agency, holder, list({found.conversation for found in stands.values()}))
    outcomes: list[str] = []
    endings: list[AgencyAnswer] = []
    for said in given:
        found = stands.get(said.release)
        outcomes.append("NOT_FOUND" if found is None else _answer_one(link, agency, said, found, held))
        if found is not None and outcomes[-1] == "OK" and found.state is not said.state:
            endings.append(said)
            stands[said.release] = replace(found, state=said.state, recall=False)
    close(tx, endings, now)
    return outcomes


def _answer_one(link: Link, agency: str, said: AgencyAnswer, found: Standing, held: Container[bytes]) -> str:
    """A word of the error table."""
    if said.agency is not None:
        try:
            check_agency_receipt(link, said.agency, agency, said.release, int(said.state), int(said.reason))
        except SignatureError:
            return "AGENCY_SIGNATURE_INVALID"
    if found.recall and said.state is State.RECALLED and said.reason in {Reason.DESTROYED, Reason.KEPT}:
        return "OK"
    if found.state is said.state:
        return "OK"
    if found.state in FINAL or said.state not in {State.ACKNOWLEDGED, State.REJECTED}:
        return "STATE_FINAL"
    if found.conversation not in held:
        return "LEASE_LOST"
    return "OK"
