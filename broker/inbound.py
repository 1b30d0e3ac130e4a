"""The life of a message that we receive, until its agency may have it. Read `take` first.

Everything that an envelope causes is one transaction with the position in the transport. A crash before it means that
the envelope is read again; after it, that nothing is read twice. What was skipped stays skipped: repair is the
sender's, by the heads that we send (protocol section 6).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import policy
from broker import control, sealing, standing
from broker.agreement import Agreement, KeyInfo
from broker.answers import apply_items
from broker.canonical import H
from broker.errors import AgreementError, ContentError, EnvelopeError, OpenError, SealError, StreamLost
from broker.judge import Judge
from broker.ledger.control import KeptRecall
from broker.ledger.sqlite import SqliteLedger, Transaction
from broker.ledger.streams import Inflow
from broker.link import CONTROL, Link
from broker.message import Clock, Incoming, Log, Reason, State, Stream
from broker.transport import Arrival
from broker.v1.codes_pb2 import KEY_USE_ENVELOPE, KEY_USE_HPKE_CONTROL, KEY_USE_HPKE_DATA
from broker.v1.envelope_pb2 import CONTROL_KIND_KEY, Content, Header
from broker.v1.log_pb2 import ENTRY_KIND_ARRIVAL
from broker.vault import Vault

MINUTE_MS: Final = 60_000
AHEAD_MS: Final = 5 * MINUTE_MS
QUARANTINE_ROWS: Final = 1000
CONTROL_PATIENCE_MS: Final = 10_000


class Waiting(Exception):
    """The envelope is ahead of control that it depends on: read it again soon."""


class _NotTaken(Exception):
    """Step 7: not its turn, or not now; heads say why."""

    def __init__(self, why: Reason, *, head_counts: bool = False, in_turn: bool = False) -> None:
        super().__init__(why.name)
        self.why = why
        self.head_counts = head_counts
        """Whether a control envelope's heads act all the same."""
        self.in_turn = in_turn
        """Whether this is the next envelope, whatever was said of it before."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What reading one arrival led to, for those who wait."""

    agencies: frozenset[str] = frozenset()
    """Agencies that have something to receive."""
    messages: int = 0
    why: Reason = Reason.NONE
    keys: bool = False
    """Whether keys were added, suspended or reinstated."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What reading one arrival changes, to be committed where the stream still stands at `before`."""

    before: Inflow
    after: Inflow
    apply: Callable[[Transaction], Taken]
    alone: bool = False
    """Nothing is judged before this is committed: it changes which keys count."""

    def change(self, tx: Transaction) -> Taken:
        """Everything that the arrival causes, with the position. Raises StreamLost: another reader was faster."""
        if tx.streams.inflow(self.before.stream) != self.before:
            raise StreamLost("another reader moved the stream")
        taken = self.apply(tx)
        after = self.after
        tx.streams.advance(after.stream, after.position, after.taken, after.why)
        return taken


class Inbound:
    """Opens, judges and commits what arrives; one for a gateway."""

    def __init__(self, link: Link, engine: policy.Engine, ledger: SqliteLedger, vault: Vault, clock: Clock) -> None:
        self.link = link
        self.ledger = ledger
        self.clock = clock
        self._judge = Judge(link, engine, vault)

    def take(self, arrival: Arrival, flow: Inflow, *, patient: bool = True) -> Outcome:
        """Steps 1 to 13 for one arrival at the place where `flow` stands; the first failure ends it.

        The position advances in every case. `patient`: wait for control that the envelope depends on; False once that
        took too long. What is returned has still to be committed, in order: it fails when the stream has moved.
        Raises: Waiting.
        """
        now, stream = self.clock(), flow.stream
        try:
            parsed = sealing.parse_envelope(arrival.data)  # 1 caps, 2 shape, 3 header
            header = parsed.header
            self._place(stream, header)  # 4
            agreement, sender, hpke = self._keys(header)  # 5
            sealing.verify_envelope(parsed, self.link.verify_key(sender.kid))  # 6
        except (SealError, AgreementError) as error:
            return self._skip(arrival, flow, type(error).__name__, now)
        try:
            late = self._why_not(header, agreement, (sender, hpke), now)
            self._turn(stream, flow, parsed, patient=patient, in_time=late is None)  # 7
            if late is not None:
                raise _NotTaken(late)  # 7
            content = sealing.open_content(parsed, self.link.hpke[hpke.kid])  # 8 open, 9 content
            if bool(content.items) != (header.topic == self.link.topic_in(CONTROL)):
                raise ContentError("messages on control, or control items elsewhere")
        except _NotTaken as error:
            return self._not_taken(arrival, flow, parsed, hpke, error, now)
        except (OpenError, ContentError) as error:
            why = Reason.OPEN if isinstance(error, OpenError) else Reason.CONTENT
            return self._not_taken(arrival, flow, parsed, hpke, _NotTaken(why), now)
        if header.topic == self.link.topic_in(CONTROL):
            return self._take_control(arrival, flow, parsed, content, now)
        incoming = self._judge.judge(header, content, now)  # 10 authority, 11 proof, 13 policy
        return self._take_data(arrival, flow, parsed, incoming, now)  # 12

    def _place(self, stream: Stream, header: Header) -> None:
        """Step 4: it stands where it says, and is from the other party to us."""
        if (header.topic, header.partition) != (stream.topic, stream.partition):
            raise EnvelopeError("an envelope of another place")
        if (header.sender_party, header.recipient_party) != (self.link.peer, self.link.party):
            raise EnvelopeError("an envelope between other parties")

    def _keys(self, header: Header) -> tuple[Agreement, KeyInfo, KeyInfo]:
        """Step 5: agreement known, kids in it or added under it, right use and owner, same suite, none suspended."""
        agreement = self.link.known.get(header.agreement_digest)
        if agreement is None:
            raise AgreementError("an agreement that is not known")
        sender = self.link.key(agreement, header.sender_kid)
        recipient = agreement.keys.get(header.recipient_kid)
        if sender is None or sender.use != KEY_USE_ENVELOPE or sender.owner != self.link.peer:
            raise EnvelopeError("a sender key of another owner or use")
        use = KEY_USE_HPKE_CONTROL if header.topic == self.link.topic_in(CONTROL) else KEY_USE_HPKE_DATA
        if recipient is None or recipient.use != use or recipient.kid not in self.link.hpke:
            raise EnvelopeError("a recipient key of another owner or use")
        if recipient.suite != sender.suite:
            raise EnvelopeError("keys of two suites")
        if sender.kid in self.link.ring.suspended:
            raise EnvelopeError("a sender key that is suspended")
        return agreement, sender, recipient

    def _turn(self, stream: Stream, flow: Inflow, parsed: sealing.Parsed, *, patient: bool, in_time: bool) -> None:
        """Step 7: epoch, order, and control that it depends on. Out of order, heads act when all else is right."""
        header = parsed.header
        if header.epoch != control.EPOCH:
            raise _NotTaken(Reason.EPOCH)
        if header.seq <= flow.taken:
            raise _NotTaken(Reason.NONE, head_counts=in_time)
        if header.after != flow.taken:
            why = Reason.MISSING if header.after > flow.taken else Reason.BEHIND
            raise _NotTaken(why, head_counts=in_time)
        if header.control_seq and stream.topic != self.link.topic_in(CONTROL):
            self._control_first(header.control_seq, patient=patient)

    def _control_first(self, control_seq: int, *, patient: bool) -> None:
        control_stream = Stream(self.link.topic_in(CONTROL), 0)
        if self.ledger.read(lambda tx: tx.streams.inflow(control_stream)).taken >= control_seq:
            return
        if patient:
            raise Waiting
        raise _NotTaken(Reason.MISSING, in_turn=True)

    def _why_not(self, header: Header, agreement: Agreement, used: Sequence[KeyInfo], now: int) -> Reason | None:
        """Step 7: made by now, under an agreement and with keys that count for it: then None."""
        if header.created_ms > now + AHEAD_MS:
            return Reason.TIME
        return self.link.why_not(header, agreement, used, now)

    def unexpected(self, arrival: Arrival, flow: Inflow, error: Exception) -> Outcome:
        """An arrival that nothing foresaw: it is put aside and an alarm tells, for it must not stop the others."""
        now = self.clock()
        aside = self._skip(arrival, flow, f"unexpected {type(error).__name__}", now)

        def change(tx: Transaction) -> Taken:
            tx.control.alarm("ARRIVAL_UNEXPECTED", now)
            return aside.apply(tx)

        return replace(aside, apply=change)

    def _skip(self, arrival: Arrival, flow: Inflow, why: str, now: int) -> Outcome:
        """Steps 1 to 6 failed: anybody may have written it, so one bounded record and no more."""
        digest = H(arrival.data)
        after = replace(flow, position=arrival.next_position)

        def change(tx: Transaction) -> Taken:
            tx.streams.quarantine(digest, flow.stream, arrival.position, why, now, QUARANTINE_ROWS)
            return Taken(why=flow.why)

        return Outcome(flow, after, change)

    def _not_taken(
        self, arrival: Arrival, flow: Inflow, parsed: sealing.Parsed, hpke: KeyInfo, error: _NotTaken, now: int
    ) -> Outcome:
        """Step 7 to 9 failed: heads will say why. A header that differs from its seq's first is evidence."""
        why = error.why if error.in_turn else _newest(flow.why, error.why)
        content: Content | None = None
        if error.head_counts and parsed.header.topic == self.link.topic_in(CONTROL):
            try:
                content = sealing.open_content(parsed, self.link.hpke[hpke.kid])
            except SealError:
                content = None

        def change(tx: Transaction) -> Taken:
            _keep_header(tx, flow.stream, parsed, now)
            if content is not None:
                apply_items(tx, self.link, content, now, parsed, heads_only=True)
            return Taken(why=why)

        return Outcome(flow, replace(flow, position=arrival.next_position, why=why), change)

    def _take_control(
        self, arrival: Arrival, flow: Inflow, parsed: sealing.Parsed, content: Content, now: int
    ) -> Outcome:
        """Control items: receipts, heads, recalls, keys; kept as the proof of what they say."""
        keys = any(item.kind == CONTROL_KIND_KEY for item in content.items)

        def change(tx: Transaction) -> Taken:
            _keep_header(tx, flow.stream, parsed, now)
            return Taken(apply_items(tx, self.link, content, now, parsed), keys=keys)

        return Outcome(flow, _taken(flow, arrival, parsed), change, alone=keys)

    def _take_data(
        self, arrival: Arrival, flow: Inflow, parsed: sealing.Parsed, incoming: Sequence[Incoming], now: int
    ) -> Outcome:
        """Messages: entries, mailbox, seen, receipts; all of an envelope, or none."""

        def change(tx: Transaction) -> Taken:
            _keep_header(tx, flow.stream, parsed, now)
            _keep_messages(tx, incoming, now)
            return Taken(frozenset(m.recipient for m in incoming if m.state is State.RECEIVED), len(incoming))

        return Outcome(flow, _taken(flow, arrival, parsed), change)


def _taken(flow: Inflow, arrival: Arrival, parsed: sealing.Parsed) -> Inflow:
    """Where the stream stands when this envelope is taken."""
    return Inflow(flow.stream, parsed.header.seq, Reason.NONE, arrival.next_position)


def _keep_messages(tx: Transaction, incoming: Sequence[Incoming], now: int) -> None:
    """Step 12, entries, mailbox and receipts, set by set; a release that was answered gets its last receipt again."""
    arrived: list[tuple[bytes, bytes]] = []
    receipts: list[control.Item] = []
    kept: list[tuple[Incoming, int | None, bytes]] = []
    batches: dict[bytes, int] = {}
    known = _Known.of(tx, incoming)
    for message in incoming:
        last = known.receipts.get(message.release)
        if last is not None:
            receipts.append(control.receipt_item(last))
            continue
        final = known.against(tx, message)
        decision = final.decision.leaf if final.decision else b""
        leaf, entry, body = control.state_entry(
            ENTRY_KIND_ARRIVAL, final.release, final.state, final.reason, now, decision
        )
        arrived.append((leaf, entry))
        receipts.append(control.receipt_item(body))
        kept.append((final, _batch_row(tx, final, batches), body))
        known.add(final, body)
    decided = [(m.decision, m.keys) for m, _, _ in kept if m.decision is not None and m.keys is not None]
    tx.keys.add(keys for _, keys in decided)
    tx.decisions.insert((decision, keys.key_id) for decision, keys in decided)
    tx.mailbox.insert(kept)
    tx.journal.append(Log.DECISIONS, [(decision.leaf, decision.entry) for decision, _ in decided])
    tx.journal.append(Log.EXCHANGE, arrived)
    tx.control.enqueue(receipts)


def _batch_row(tx: Transaction, message: Incoming, batches: dict[bytes, int]) -> int | None:
    """The row of the batch of a message that is kept; each is looked up once an envelope."""
    if message.batch is None or message.state is not State.RECEIVED:
        return None
    row = batches.get(message.batch.statement)
    if row is None:
        row = batches[message.batch.statement] = tx.outbox.batch(message.batch)
    return row


def _newest(stands: Reason, found: Reason) -> Reason:
    """Why the stream's next envelope was not taken; that those behind it miss it says nothing new."""
    said_more = stands not in {Reason.NONE, Reason.MISSING}
    return stands if found is Reason.NONE or (found is Reason.MISSING and said_more) else found


_Named = tuple[bytes, str, str, str, bytes]
"""message id, origin, recipient, family, conversation: what a correction and its original share."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What the ledger knows of the messages of an envelope: asked once for all of them."""

    receipts: dict[bytes, bytes]
    seen: set[tuple[str, bytes]]
    recalls: dict[bytes, KeptRecall]
    beside: set[_Named]
    """What of this envelope may be corrected by what stands behind it."""

    @staticmethod
    def of(tx: Transaction, incoming: Sequence[Incoming]) -> "_Known":
        releases = [message.release for message in incoming]
        message_ids = [message.message_id for message in incoming]
        return _Known(tx.mailbox.receipts(releases), tx.mailbox.seen(message_ids), tx.control.recalls(releases), set())

    def against(self, tx: Transaction, message: Incoming) -> Incoming:
        """Step 12 and its neighbours: recalled before it came, seen before, correcting what never came."""
        if message.state is not State.RECEIVED and message.reason is not Reason.POLICY:
            return message  # steps 10 and 11 failed; policy is step 13
        recall = self.recalls.get(message.release)
        if recall is not None and recall.origin == message.origin:
            return _closed(message, State.RECALLED, recall.reason)
        name = (message.origin, message.message_id)
        if name in self.seen:
            return _closed(message, State.REFUSED, Reason.CONFLICT)
        corrected = (message.supersedes, message.origin, message.recipient, message.family, message.conversation)
        if message.supersedes and corrected not in self.beside and not tx.mailbox.correctable(*corrected):
            return _closed(message, State.REFUSED, Reason.AUTHORITY)
        return message

    def add(self, final: Incoming, receipt: bytes) -> None:
        """What is kept of this envelope: known to what stands behind it as if it were in the ledger already."""
        self.receipts[final.release] = receipt
        self.seen.add((final.origin, final.message_id))
        if final.state is not State.REFUSED:
            self.beside.add((final.message_id, final.origin, final.recipient, final.family, final.conversation))


def _closed(message: Incoming, state: State, reason: Reason) -> Incoming:
    """The message without its content: it was judged, and is not kept."""
    keys = replace(message.keys, content=b"") if message.keys else None
    return replace(message, state=state, reason=reason, content=b"", keys=keys)


def _keep_header(tx: Transaction, stream: Stream, parsed: sealing.Parsed, now: int) -> None:
    """H(header) of every seq that passed step 6; another header for the same seq is evidence."""
    known = tx.streams.header_hash(stream, parsed.header.seq)
    if known is None:
        digest = parsed.header_hash
        tx.streams.keep_header(
            stream, parsed.header.seq, digest, parsed.header_bytes, parsed.signature, H(parsed.enc_ct)
        )
    elif known != parsed.header_hash:
        standing.evidence(tx, "EVIDENCE_TWO_HEADERS", parsed.header_bytes, now)
