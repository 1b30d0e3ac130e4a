"""Steps 10, 11 and 13 of protocol section 5: what becomes of each message of an envelope that was taken.

Nothing here reads the ledger: step 12, and what else only the ledger knows, is decided where the envelope is committed.
"""

from collections.abc import Mapping
from typing import Any

import policy
from broker import decision as ruling
from broker import obligations, sections
from broker.agreement import Agreement, KeyInfo
from broker.canonical import H, leaf_hash
from broker.errors import AgreementError, FieldInvalid, LinkError, OriginError, ProofError, SignatureError
from broker.keys import CTX_ORIGIN
from broker.link import Link, partition_of
from broker.message import Incoming, Reason, SignedBatch, State
from broker.origin import LIFE_MAX_MS, parse_batch_statement
from broker.proof import Unpacked, prove_message, unpack_message
from broker.v1.codes_pb2 import KEY_USE_ATTEST, KEY_USE_ORIGIN
from broker.v1.envelope_pb2 import Content, Header, Message
from broker.vault import Vault
from broker.wire import slots_bytes, slots_of

AHEAD_MS = 5 * 60_000
"""How far ahead of its envelope a batch may be signed."""


class Judge:
    """Judges messages by the agreement and by our own law; one for a gateway."""

    def __init__(self, link: Link, engine: policy.Engine, vault: Vault) -> None:
        self.link = link
        self.engine = engine
        self.vault = vault

    def judge(self, header: Header, content: Content, now: int) -> list[Incoming]:
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
        agreement = self.link.known[header.agreement_digest]
        try:
            batch = batches.get(parts.core.batch)
            assurance = self._authority(header, agreement, parts, batch)  # 10
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
        return self._decide(agreement, parts, message, kind, proven.shown, assurance, batch, now)  # 13

    def _authority(self, header: Header, agreement: Agreement, parts: Unpacked, batch: SignedBatch | None) -> str:
        """Step 10: who may say this to whom, here. Returns the assurance; raises LinkError."""
        statement = parts.statement
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
        try:
            key = self.link.signer(signed.signer_kid, signed.created_ms, agreement)
        except AgreementError:
            raise LinkError("a signing key that was not valid") from None
        return _assurance(key, statement.origin_agency, self.link.peer)

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
        agreement: Agreement,
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
        caveats = sorted({*statement.caveats, *core.gateway_caveats})
        asked = self._question(agreement, parts, kind, shown, assurance, tuple(caveats))
        decision = obligations.within_reach(self.engine.decide(asked.request, now))
        secrets = ruling.Secrets.new(message.commit_salt)
        logged = ruling.record(statement, asked, decision, secrets, self.vault, parts.entry.origin_leaf, now)
        keys = secrets.sealed(self.vault, content=decision.permit)
        if not decision.permit:
            return _incoming(parts, kind, State.REFUSED, Reason.POLICY, now, batch, decision=logged, keys=keys)
        duties = obligations.duties(decision.obligations)
        ours = duties.destroy_by(now)
        return _incoming(
            parts,
            kind,
            State.RECEIVED,
            Reason.NONE,
            now,
            batch,
            decision=logged,
            keys=keys,
            entry=message.release_entry,
            core=message.core,
            content=self.vault.seal(secrets.content_key, _shown_slots(message, shown, decision), secrets.key_id),
            destroy_by_ms=min((t for t in (core.destroy_by_ms, ours) if t), default=0),
            caveats=tuple(duties.added(caveats)),
            withheld=tuple(
                (w.slot, ruling.notice_number(w.notice or "NOT_FOR_THIS_PURPOSE")) for w in decision.withheld
            ),
        )

    def _question(
        self,
        agreement: Agreement,
        parts: Unpacked,
        kind: str,
        shown: int,
        assurance: str,
        caveats: tuple[int, ...],
    ) -> ruling.Question:
        """What our own pack is asked: whether this agency of ours may accept this, and be shown each section."""
        statement, agencies = parts.statement, agreement.agencies
        return ruling.question(
            "accept",
            ruling.agency(agencies[statement.recipient_agency]),
            ruling.agency(agencies[statement.origin_agency]),
            statement.family,
            kind,
            statement.purpose,
            tuple(statement.legal_basis),
            assurance,
            shown,
            (),
            caveats,
            tuple((n.slot, n.code) for n in parts.core.notices),
            supersedes=bool(statement.supersedes),
            derived_from=bool(statement.derived_from),
        )


def _assurance(key: KeyInfo, origin: str, peer: str) -> str:
    if key.use == KEY_USE_ORIGIN and key.owner == origin:
        return "agency_signed"
    if key.use == KEY_USE_ATTEST and key.owner == peer:
        return "gateway_attested"
    raise LinkError("a signing key of another owner or use")


def _unreadable(release: bytes, now: int) -> Incoming:
    """A message that does not even name itself: refused by its release."""
    return Incoming(release, b"", "", "", "", "", 0, b"", State.REFUSED, Reason.PROOF, now, now)


def _incoming(
    parts: Unpacked, kind: str, state: State, reason: Reason, now: int, batch: SignedBatch | None = None, **kept: Any
) -> Incoming:
    """The noun of a message that came; `kept`: what is kept of it beyond its name."""
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
        **kept,
    )


def _shown_slots(message: Message, shown: int, decision: policy.Decision) -> bytes:
    """The slots as our agency gets them: what our own law withholds is closed to its leaf."""
    ours = shown & ~sum(1 << (w.slot - 1) for w in decision.withheld)
    if ours == shown:
        return slots_of(message)
    leaves, _, _ = sections.open_slots(message.slots, len(message.slots))
    salts = b"".join(slot.salt or bytes(32) for slot in message.slots)
    return slots_bytes([slot.section for slot in message.slots], leaves, salts, ours)
