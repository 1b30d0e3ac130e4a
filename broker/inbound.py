"""The life of a message that we receive, until its agency may have it. Read `take` first.

Everything that an envelope causes is one transaction with the position in the transport. A crash before it means that
the envelope is read again; after it, that nothing is read twice. What was skipped stays skipped: repair is the
sender's, by the heads that we send (protocol section 6).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import policy
from broker import control, obligations, sealing, sections
from broker import decision as ruling
from broker.agreement import Agreement, KeyInfo
from broker.answers import apply_items
from broker.canonical import H, leaf_hash
from broker.errors import (
    AgreementError,
    ContentError,
    EnvelopeError,
    FieldInvalid,
    LinkError,
    OpenError,
    OriginError,
    ProofError,
    SealError,
    SignatureError,
    StreamLost,
)
from broker.keys import CTX_ORIGIN
from broker.ledger.sqlite import SqliteLedger, Transaction
from broker.ledger.streams import Inflow
from broker.link import CONTROL, Link, partition_of
from broker.message import Clock, Incoming, Log, Reason, SignedBatch, State, Stream
from broker.origin import LIFE_MAX_MS, parse_batch_statement
from broker.proof import Unpacked, prove_message, unpack_message
from broker.transport import Arrival
from broker.v1.codes_pb2 import (
    KEY_USE_ATTEST,
    KEY_USE_ENVELOPE,
    KEY_USE_HPKE_CONTROL,
    KEY_USE_HPKE_DATA,
    KEY_USE_ORIGIN,
)
from broker.v1.envelope_pb2 import Content, Header, Message
from broker.v1.log_pb2 import ENTRY_KIND_ARRIVAL
from broker.vault import Vault
from broker.wire import slots_bytes, slots_of

MINUTE_MS: Final = 60_000
AHEAD_MS: Final = 5 * MINUTE_MS
GRACE_MS: Final = 7 * 24 * 60 * MINUTE_MS
CONTROL_GRACE_MS: Final = 365 * 24 * 60 * MINUTE_MS
QUARANTINE_ROWS: Final = 1000
CONTROL_PATIENCE_MS: Final = 10_000


class Waiting(Exception):
    """The envelope is ahead of control that it depends on: read it again soon."""


class _NotTaken(Exception):
    """Step 7: not its turn, or not now; heads say why."""

    def __init__(self, why: Reason, *, head_counts: bool = False) -> None:
        super().__init__(why.name)
        self.why = why
        self.head_counts = head_counts
        """Whether a control envelope's heads act all the same."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What reading one arrival led to, for those who wait."""

    agencies: frozenset[str] = frozenset()
    """Agencies that have something to receive."""
    messages: int = 0
    why: Reason = Reason.NONE


class Inbound:
    """Opens, judges and commits what arrives; one for a gateway."""

    def __init__(self, link: Link, engine: policy.Engine, ledger: SqliteLedger, vault: Vault, clock: Clock) -> None:
        self.link = link
        self.engine = engine
        self.ledger = ledger
        self.vault = vault
        self.clock = clock

    async def take(self, stream: Stream, arrival: Arrival, *, patient: bool = True) -> Taken:
        """Steps 1 to 13 for one arrival; the first failure ends it. The position advances in every case.

        `patient`: wait for control that the envelope depends on; False once that took too long.
        Raises: Waiting; StoreError, and then nothing has changed.
        """
        now = self.clock()
        flow = self.ledger.read(lambda tx: tx.streams.inflow(stream))
        try:
            parsed = sealing.parse_envelope(arrival.data)  # 1 caps, 2 shape, 3 header
            header = parsed.header
            self._place(stream, header)  # 4
            sender, hpke = self._keys(header)  # 5
            sealing.verify_envelope(parsed, self.link.verify_key(sender.kid))  # 6
        except (SealError, AgreementError) as error:
            return await self._skip(stream, arrival, flow, type(error).__name__, now)
        try:
            self._turn(stream, flow, parsed, sender, now, patient=patient)  # 7
            content = sealing.open_content(parsed, self.link.hpke[hpke.kid])  # 8 open, 9 content
            if bool(content.items) != (header.topic == self.link.topic_in(CONTROL)):
                raise ContentError("messages on control, or control items elsewhere")
        except _NotTaken as error:
            return await self._not_taken(stream, arrival, flow, parsed, hpke, error, now)
        except (OpenError, ContentError) as error:
            why = Reason.OPEN if isinstance(error, OpenError) else Reason.CONTENT
            return await self._not_taken(stream, arrival, flow, parsed, hpke, _NotTaken(why), now)
        if header.topic == self.link.topic_in(CONTROL):
            return await self._take_control(stream, arrival, flow, parsed, content, now)
        incoming = self._judge(header, content, now)  # 10 authority, 11 proof, 13 policy
        return await self.ledger.commit(lambda tx: self._commit(tx, stream, arrival, flow, parsed, incoming, now))  # 12

    def _place(self, stream: Stream, header: Header) -> None:
        """Step 4: it stands where it says, and is from the other party to us."""
        if (header.topic, header.partition) != (stream.topic, stream.partition):
            raise EnvelopeError("an envelope of another place")
        if (header.sender_party, header.recipient_party) != (self.link.peer, self.link.party):
            raise EnvelopeError("an envelope between other parties")

    def _keys(self, header: Header) -> tuple[KeyInfo, KeyInfo]:
        """Step 5: agreement and kids, right use and owner, same suite."""
        agreement = self.link.agreement
        if header.agreement_digest != agreement.digest:
            raise AgreementError("an agreement that is not known")
        sender, recipient = agreement.keys.get(header.sender_kid), agreement.keys.get(header.recipient_kid)
        if sender is None or sender.use != KEY_USE_ENVELOPE or sender.owner != self.link.peer:
            raise EnvelopeError("a sender key of another owner or use")
        use = KEY_USE_HPKE_CONTROL if header.topic == self.link.topic_in(CONTROL) else KEY_USE_HPKE_DATA
        if recipient is None or recipient.use != use or recipient.kid not in self.link.hpke:
            raise EnvelopeError("a recipient key of another owner or use")
        if recipient.suite != sender.suite:
            raise EnvelopeError("keys of two suites")
        return sender, recipient

    def _turn(
        self, stream: Stream, flow: Inflow, parsed: sealing.Parsed, sender: KeyInfo, now: int, *, patient: bool
    ) -> None:
        """Step 7: epoch, order, control that it depends on, and time."""
        header = parsed.header
        if header.epoch != control.EPOCH:
            raise _NotTaken(Reason.EPOCH)
        if header.seq <= flow.taken:
            raise _NotTaken(Reason.NONE, head_counts=True)
        if header.after != flow.taken:
            why = Reason.MISSING if header.after > flow.taken else Reason.BEHIND
            raise _NotTaken(why, head_counts=True)
        if header.control_seq and stream.topic != self.link.topic_in(CONTROL):
            self._control_first(header.control_seq, patient=patient)
        why_not = self._time(header, sender, now)
        if why_not is not None:
            raise _NotTaken(why_not)

    def _control_first(self, control_seq: int, *, patient: bool) -> None:
        control_stream = Stream(self.link.topic_in(CONTROL), 0)
        if self.ledger.read(lambda tx: tx.streams.inflow(control_stream)).taken >= control_seq:
            return
        if patient:
            raise Waiting
        raise _NotTaken(Reason.MISSING)

    def _time(self, header: Header, sender: KeyInfo, now: int) -> Reason | None:
        created, agreement = header.created_ms, self.link.agreement
        if created > now + AHEAD_MS:
            return Reason.TIME
        grace = CONTROL_GRACE_MS if header.topic == self.link.topic_in(CONTROL) else 0
        if not agreement.not_before_ms <= created < agreement.expires_ms + grace:
            return Reason.AGREEMENT
        if not sender.not_before_ms <= created <= sender.not_after_ms or now > sender.not_after_ms + GRACE_MS:
            return Reason.KEY
        return None

    async def _skip(self, stream: Stream, arrival: Arrival, flow: Inflow, why: str, now: int) -> Taken:
        """Steps 1 to 6 failed: anybody may have written it, so one bounded record and no more."""
        digest = H(arrival.data)

        def change(tx: Transaction) -> Taken:
            _check_unmoved(tx, flow)
            tx.streams.quarantine(digest, stream, arrival.position, why, now, QUARANTINE_ROWS)
            tx.streams.advance(stream, arrival.next_position, flow.taken, flow.why)
            return Taken(why=flow.why)

        return await self.ledger.commit(change)

    async def _not_taken(
        self,
        stream: Stream,
        arrival: Arrival,
        flow: Inflow,
        parsed: sealing.Parsed,
        hpke: KeyInfo,
        error: _NotTaken,
        now: int,
    ) -> Taken:
        """Step 7 to 9 failed: heads will say why. A header that differs from its seq's first is evidence."""
        why = _newest(flow.why, error.why)
        content: Content | None = None
        if error.head_counts and parsed.header.topic == self.link.topic_in(CONTROL):
            try:
                content = sealing.open_content(parsed, self.link.hpke[hpke.kid])
            except SealError:
                content = None

        def change(tx: Transaction) -> Taken:
            _check_unmoved(tx, flow)
            _keep_header(tx, stream, parsed, now)
            if content is not None:
                apply_items(tx, self.link, content, now, parsed, heads_only=True)
            tx.streams.advance(stream, arrival.next_position, flow.taken, why)
            return Taken(why=why)

        return await self.ledger.commit(change)

    async def _take_control(
        self, stream: Stream, arrival: Arrival, flow: Inflow, parsed: sealing.Parsed, content: Content, now: int
    ) -> Taken:
        """Control items: receipts, heads, recalls; kept as the proof of what they say."""

        def change(tx: Transaction) -> Taken:
            _check_unmoved(tx, flow)
            _keep_header(tx, stream, parsed, now)
            agencies = apply_items(tx, self.link, content, now, parsed)
            tx.streams.advance(stream, arrival.next_position, parsed.header.seq, Reason.NONE)
            return Taken(agencies)

        return await self.ledger.commit(change)

    def _judge(self, header: Header, content: Content, now: int) -> list[Incoming]:
        """Steps 10, 11 and 13 for each message; a failure refuses that message alone."""
        batches = {H(batch.statement): SignedBatch(batch.statement, batch.signature) for batch in content.batches}
        verified: dict[bytes, SignatureError | OriginError | None] = {}
        return [self._judge_one(header, message, batches, verified, now) for message in content.messages]

    def _judge_one(
        self,
        header: Header,
        message: Message,
        batches: Mapping[bytes, SignedBatch],
        verified: dict[bytes, SignatureError | OriginError | None],
        now: int,
    ) -> Incoming:
        release = leaf_hash(message.release_entry)
        try:
            parts = unpack_message(message)
        except ProofError:
            return _unreadable(release, now)
        try:
            batch = batches.get(parts.core.batch)
            assurance = self._authority(header, parts, batch)  # 10
            if parts.statement.expires_ms <= now:
                return _incoming(parts, "", State.EXPIRED, Reason.EXPIRED, now, batch)
            proven = prove_message(message, sections.family(parts.statement.family), unpacked=parts)  # 11
            self._signed(parts.core.batch, batch, proven.batch_root, verified)
            sections.validate_record(proven.record, whole=False)
        except LinkError:
            return _incoming(parts, "", State.REFUSED, Reason.AUTHORITY, now)
        except FieldInvalid:
            return _incoming(parts, "", State.REFUSED, Reason.RECORD_INVALID, now)
        except (ProofError, SignatureError, OriginError):
            return _incoming(parts, "", State.REFUSED, Reason.PROOF, now)
        kind = sections.kind_name(sections.family(parts.statement.family), proven.record.kind)  # type: ignore[attr-defined]
        return self._decide(parts, message, kind, proven.shown, assurance, batch, now)  # 13

    def _authority(self, header: Header, parts: Unpacked, batch: SignedBatch | None) -> str:
        """Step 10: who may say this to whom, here. Returns the assurance; raises LinkError."""
        statement, agreement = parts.statement, self.link.agreement
        family = agreement.families.get(statement.family)
        if statement.link_id != agreement.link_id or family is None or family.revision != statement.family_revision:
            raise LinkError("another link, or a family that is not agreed")
        if self.link.topic_in(statement.family) != header.topic:
            raise LinkError("a family of another topic")
        if partition_of(statement.conversation, family.partitions) != header.partition:
            raise LinkError("a conversation of another partition")
        origin, recipient = (
            agreement.agencies.get(statement.origin_agency),
            agreement.agencies.get(statement.recipient_agency),
        )
        if origin is None or origin.party != self.link.peer or recipient is None or recipient.party != self.link.party:
            raise LinkError("origin or recipient belongs elsewhere")
        if batch is None:
            raise LinkError("no batch")
        signed = parse_batch_statement(batch.statement)
        times_fit = statement.created_ms == signed.created_ms <= header.created_ms + AHEAD_MS
        life = statement.expires_ms - statement.created_ms
        if signed.signer_kid != statement.origin_kid or not times_fit or not 0 < life <= LIFE_MAX_MS:
            raise LinkError("a statement that does not fit its batch")
        return _assurance(agreement, signed.signer_kid, statement.origin_agency, self.link.peer, signed.created_ms)

    def _signed(
        self,
        name: bytes,
        batch: SignedBatch | None,
        root: bytes,
        verified: dict[bytes, SignatureError | OriginError | None],
    ) -> None:
        """Step 11, once a batch: the agency signed the root that this message leads to."""
        if batch is None:
            raise OriginError("no batch")
        signed = parse_batch_statement(batch.statement)
        if signed.root != root:
            raise OriginError("the signature does not cover this message")
        if name not in verified:
            try:
                self.link.verify_key(signed.signer_kid).verify(batch.signature, batch.statement, CTX_ORIGIN)
                verified[name] = None
            except SignatureError as error:
                verified[name] = error
        failure = verified[name]
        if failure is not None:
            raise failure

    def _decide(
        self,
        parts: Unpacked,
        message: Message,
        kind: str,
        shown: int,
        assurance: str,
        batch: SignedBatch | None,
        now: int,
    ) -> Incoming:
        """Step 13: our own law decides again; it can withhold more, refuse, and oblige more."""
        statement, core = parts.statement, parts.core
        agreement = self.link.agreement
        family = sections.family(statement.family)
        caveats = sorted({*statement.caveats, *core.gateway_caveats})
        asked = ruling.question(
            "accept",
            ruling.agency(agreement.agencies[statement.recipient_agency]),
            ruling.agency(agreement.agencies[statement.origin_agency]),
            family.id,
            kind,
            statement.purpose,
            tuple(statement.legal_basis),
            assurance,
            shown,
            (),
            tuple(caveats),
            tuple((n.slot, n.code) for n in core.notices),
            supersedes=bool(statement.supersedes),
            derived_from=bool(statement.derived_from),
        )
        decision = obligations.within_reach(self.engine.decide(asked.request, now))
        secrets = ruling.Secrets.new(message.commit_salt)
        logged = ruling.record(statement, asked, decision, secrets, self.vault, parts.entry.origin_leaf, now)
        keys = secrets.sealed(self.vault, content=decision.permit)
        if not decision.permit:
            refused = _incoming(parts, kind, State.REFUSED, Reason.POLICY, now, batch)
            return replace(refused, decision=logged, keys=keys)
        duties = obligations.duties(decision.obligations)
        ours = duties.destroy_by(now)
        return replace(
            _incoming(parts, kind, State.RECEIVED, Reason.NONE, now, batch),
            decision=logged,
            keys=keys,
            entry=message.release_entry,
            core=message.core,
            content=self.vault.seal(
                secrets.content_key, _shown_slots(message, shown, decision, family.slots), secrets.key_id
            ),
            destroy_by_ms=min((t for t in (core.destroy_by_ms, ours) if t), default=0),
            caveats=tuple(duties.added(caveats)),
            withheld=tuple(
                (w.slot, ruling.notice_number(w.notice or "NOT_FOR_THIS_PURPOSE")) for w in decision.withheld
            ),
        )

    def _commit(
        self, tx: Transaction, stream: Stream, arrival: Arrival, flow: Inflow, parsed: sealing.Parsed,
        incoming: Sequence[Incoming], now: int,
    ) -> Taken:  # fmt: skip
        """Entries, mailbox, seen, taken, position and receipts of one envelope: all of it, or none."""
        _check_unmoved(tx, flow)
        _keep_header(tx, stream, parsed, now)
        decided: list[tuple[bytes, bytes]] = []
        arrived: list[tuple[bytes, bytes]] = []
        receipts: list[control.Item] = []
        batch_rows: dict[bytes, int] = {}
        for message in incoming:
            last = tx.mailbox.receipt(message.release)
            if last is not None:
                receipts.append(control.receipt_item(last))
                continue
            final = _against_ledger(tx, message)  # 12, and what only the ledger knows
            decision = final.decision.leaf if final.decision else b""
            leaf, entry, body = control.state_entry(
                ENTRY_KIND_ARRIVAL, final.release, final.state, final.reason, now, decision
            )
            arrived.append((leaf, entry))
            receipts.append(control.receipt_item(body))
            if final.decision is not None and final.keys is not None:
                decided.append((final.decision.leaf, final.decision.entry))
                tx.decisions.insert(final.decision, final.keys.key_id)
                tx.keys.add(final.keys)
            row = None
            if final.batch is not None and final.state is State.RECEIVED:
                row = batch_rows.get(final.batch.statement) or tx.outbox.batch(final.batch)
                batch_rows[final.batch.statement] = row
            tx.mailbox.insert(final, row, body)
        tx.journal.append(Log.DECISIONS, decided)
        tx.journal.append(Log.EXCHANGE, arrived)
        tx.control.enqueue(receipts)
        tx.streams.advance(stream, arrival.next_position, parsed.header.seq, Reason.NONE)
        return Taken(frozenset(m.recipient for m in incoming if m.state is State.RECEIVED), len(incoming))


def _newest(stands: Reason, found: Reason) -> Reason:
    """Why the stream's next envelope was not taken; that those behind it miss it says nothing new."""
    said_more = stands not in {Reason.NONE, Reason.MISSING}
    return stands if found is Reason.NONE or (found is Reason.MISSING and said_more) else found


def _against_ledger(tx: Transaction, message: Incoming) -> Incoming:
    """Step 12 and its neighbours: recalled before it came, seen under another release, correcting what never came."""
    if message.state is not State.RECEIVED:
        return message
    recall = tx.control.recall(message.release)
    if recall is not None and recall.origin == message.origin:
        return _closed(message, State.RECALLED, recall.reason)
    if tx.mailbox.seen(message.origin, message.message_id) is not None:
        return _closed(message, State.REFUSED, Reason.CONFLICT)
    if message.supersedes and not tx.mailbox.correctable(
        message.supersedes, message.origin, message.recipient, message.family, message.conversation
    ):
        return _closed(message, State.REFUSED, Reason.AUTHORITY)
    return message


def _closed(message: Incoming, state: State, reason: Reason) -> Incoming:
    """The message without its content: it was judged, and is not kept."""
    keys = replace(message.keys, content=b"") if message.keys else None
    return replace(message, state=state, reason=reason, content=b"", keys=keys)


def _check_unmoved(tx: Transaction, flow: Inflow) -> None:
    """Another reader of the stream was faster: what was read here is read again. Raises StreamLost."""
    if tx.streams.inflow(flow.stream) != flow:
        raise StreamLost("another reader moved the stream")


def _keep_header(tx: Transaction, stream: Stream, parsed: sealing.Parsed, now: int) -> None:
    """H(header) of every seq that passed step 6; another header for the same seq is evidence."""
    known = tx.streams.header_hash(stream, parsed.header.seq)
    if known is None:
        digest = parsed.header_hash
        tx.streams.keep_header(
            stream, parsed.header.seq, digest, parsed.header_bytes, parsed.signature, H(parsed.enc_ct)
        )
    elif known != parsed.header_hash:
        tx.control.alarm("EVIDENCE_TWO_HEADERS", now, parsed.header_bytes)


def _assurance(agreement: Agreement, kid: bytes, origin: str, peer: str, created_ms: int) -> str:
    key = agreement.keys.get(kid)
    if key is None or not key.not_before_ms <= created_ms <= key.not_after_ms:
        raise LinkError("a signing key that was not valid")
    if key.use == KEY_USE_ORIGIN and key.owner == origin:
        return "agency_signed"
    if key.use == KEY_USE_ATTEST and key.owner == peer:
        return "gateway_attested"
    raise LinkError("a signing key of another owner or use")


def _unreadable(release: bytes, now: int) -> Incoming:
    """A message that does not even name itself: refused by its release."""
    return Incoming(release, b"", "", "", "", "", 0, b"", State.REFUSED, Reason.PROOF, now, now)


def _incoming(
    parts: Unpacked, kind: str, state: State, reason: Reason, now: int, batch: SignedBatch | None = None
) -> Incoming:
    statement = parts.statement
    return Incoming(
        release=parts.release,
        message_id=statement.message_id,
        origin=statement.origin_agency,
        recipient=statement.recipient_agency,
        family=statement.family,
        kind=kind,
        purpose=statement.purpose,
        conversation=statement.conversation,
        state=state,
        reason=reason,
        time_ms=now,
        expires_ms=statement.expires_ms,
        batch=batch,
        supersedes=statement.supersedes,
    )


def _shown_slots(message: Message, shown: int, decision: policy.Decision, count: int) -> bytes:
    """The slots as our agency gets them: what our own law withholds is closed to its leaf."""
    ours = shown & ~sum(1 << (w.slot - 1) for w in decision.withheld)
    if ours == shown:
        return slots_of(message)
    leaves, _, _ = sections.open_slots(message.slots, count)
    salts = b"".join(slot.salt or bytes(32) for slot in message.slots)
    return slots_bytes([slot.section for slot in message.slots], leaves, salts, ours)
