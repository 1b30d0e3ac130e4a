"""The life of a message that we send, up to the moment when its agency may rely on it. Read `submit` first.

A crash before step 6 has committed means that nothing was accepted and the caller did not hear; after it, that the
relay will seal and send the message, whether or not the caller heard: asking again with the same id tells.
"""

import asyncio
import hmac
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import policy
from broker import decision as ruling
from broker import obligations, sections
from broker.backlog import Backlog
from broker.canonical import H, leaf_hash, parse
from broker.errors import (
    AgreementError,
    AgreementExpired,
    ConflictError,
    FieldInvalid,
    InvalidError,
    OriginError,
    PuenteError,
    SignatureError,
)
from broker.keys import CTX_ORIGIN, verify_key
from broker.ledger.outbox import Held
from broker.ledger.sqlite import SqliteLedger, Transaction
from broker.link import Link
from broker.message import Accounting, Clock, DecisionRecord, Log, Outgoing, SignedBatch, Submission
from broker.origin import BatchStatement, facts_commit, origin_leaf, origin_root, parse_batch_statement, parse_statement
from broker.sealing import LIMITS, core_commit
from broker.v1.codes_pb2 import KEY_USE_ATTEST, KEY_USE_ORIGIN
from broker.v1.envelope_pb2 import Core, Notice, OriginStatement
from broker.v1.log_pb2 import ENTRY_KIND_RELEASE, ReleaseEntry
from broker.vault import Vault
from broker.wire import message_bytes, slots_bytes

FACTS_MAX = 8 * 1024
SUBMISSIONS_MAX = 256
FRESH_MS = 24 * 3_600_000
"""How old a batch statement may be when it is handed in."""
AHEAD_MS = 5 * 60_000
TURN = 16
"""Submissions decided before others get their turn: or whoever sends one would wait for whoever sends hundreds."""
FRESH_KEPT = 4_096
FRESH_MESSAGE_MAX = 16 * 1024
"""Messages kept open in memory between commit and sealing, so that the relay need not decrypt them."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one submission. `reason` is a word of the error table, '' when accepted."""

    message_id: bytes
    outcome: str
    """accepted, refused or invalid."""
    reason: str = ""
    decision_id: bytes = b""
    violations: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Checked:
    """A submission past steps 2 and 3."""

    submission: Submission
    statement: OriginStatement
    leaf: bytes
    family: sections.FamilyInfo
    kind: str
    present: int
    slots: list[bytes]
    leaves: list[bytes]
    block: bytes
    facts: tuple[tuple[str, str | bool], ...]
    record: Any


class Outbound:
    """Decides and commits submissions; one for a gateway."""

    def __init__(
        self, link: Link, engine: policy.Engine, ledger: SqliteLedger, vault: Vault, clock: Clock, subject_key: bytes
    ) -> None:
        self.link = link
        self.engine = engine
        self.ledger = ledger
        self.vault = vault
        self.clock = clock
        self.subject_key = subject_key
        self.backlog = Backlog(ledger)
        self.committed = asyncio.Event()
        self.fresh: OrderedDict[bytes, bytes] = OrderedDict()

    async def submit(
        self, agency: str, batch: SignedBatch, items: Sequence[Submission], *, validate_only: bool = False
    ) -> list[Result]:
        """Steps 2 to 6 of a call; step 1, who the agency is, the edge has done.

        Raises: what concerns the call: SignatureError, OriginError, LinkError, BusyError, StoreError. What concerns
        one submission is its Result.
        """
        now = self.clock()
        if not validate_only:
            self.backlog.check()  # before anything is accepted that could not be kept
        signed, batch = self._signed(agency, batch, items, now)  # 3, for the call: one signature covers it
        outcomes: list[Result | Outgoing] = []
        for n, item in enumerate(items):
            if n % TURN == TURN - 1:
                await asyncio.sleep(0)
            try:
                checked = self._check(agency, signed, item, now)  # 2 and 3, for the submission
            except Expired as error:
                outcomes.append(self._late(item, error))
                continue
            except InvalidError as error:
                outcomes.append(_invalid(item, error))
                continue
            asked, decision = self._decide(checked, signed, now)  # 4
            outcomes.append(self._minimise(checked, batch, asked, decision, now))  # 5
        outgoing = [outcome for outcome in outcomes if isinstance(outcome, Outgoing)]
        if validate_only:
            self._forget(outgoing)
            return [_preview(outcome) for outcome in outcomes]
        if not outgoing:
            return [outcome for outcome in outcomes if isinstance(outcome, Result)]
        results = await self._commit(batch, outgoing)  # 6: durable when it returns
        self.committed.set()
        committed = iter(results)
        return [outcome if isinstance(outcome, Result) else next(committed) for outcome in outcomes]

    async def _commit(self, batch: SignedBatch, outgoing: Sequence[Outgoing]) -> list[Result]:
        """Step 6, with what is kept in memory of it: what waits to be sealed."""
        self.backlog.add(outgoing)
        try:
            results = await self.ledger.commit(lambda tx: _commit(tx, batch, outgoing))
        except BaseException:
            self.backlog.failed(outgoing)
            raise
        not_kept = [message for message, result in zip(outgoing, results, strict=True) if result.reason]
        self.backlog.committed(not_kept)
        self._forget(not_kept)
        return results

    def _signed(
        self, agency: str, batch: SignedBatch, items: Sequence[Submission], now: int
    ) -> tuple[BatchStatement, SignedBatch]:
        """Whose signature covers the call: the agency's own, or ours when it has no key."""
        agreement = self.link.at(now)
        if not agreement.in_force(now):
            raise AgreementExpired("no agreement is in force")
        if not 1 <= len(items) <= SUBMISSIONS_MAX:
            raise OriginError("a call holds 1 to 256 submissions")
        statement = parse_batch_statement(batch.statement)
        if not now - FRESH_MS <= statement.created_ms <= now + AHEAD_MS:
            raise OriginError("the batch was signed too long ago, or in the future")
        try:
            key = self.link.signer(statement.signer_kid, statement.created_ms, agreement)
        except AgreementError:
            raise SignatureError("the batch is signed with a key that is not valid") from None
        if key.use == KEY_USE_ATTEST and key.kid in self.link.signing and not batch.signature:
            return statement, SignedBatch(batch.statement, self.link.signing[key.kid].sign(batch.statement, CTX_ORIGIN))
        if key.use != KEY_USE_ORIGIN or key.owner != agency:
            raise SignatureError("the batch is signed with a key that is not the caller's")
        verify_key(key.public).verify(batch.signature, batch.statement, CTX_ORIGIN)
        return statement, batch

    def _check(self, agency: str, signed: BatchStatement, item: Submission, now: int) -> _Checked:
        """Validate the record and hold the statement against it."""
        if len(item.record) > LIMITS.record or len(item.facts) > FACTS_MAX or len(item.statement) > LIMITS.statement:
            raise TooLarge("a record, its facts or its statement is too large")
        statement = parse_statement(item.statement)
        family = self._authority(agency, signed, statement, now)
        record = parse(family.message_class, item.record)
        sections.validate_record(record, whole=True)
        kind = sections.kind_name(family, record.kind)  # type: ignore[attr-defined]
        slots = sections.split(item.record, family.slots)
        block = sections.salt_block(item.record_seed, statement.message_id, family.slots)
        leaves = sections.leaves(slots, block)
        leaf = origin_leaf(item.statement)
        if len(item.record_seed) != 32 or sections.record_root(leaves) != statement.record_root:
            raise OriginError("the statement is not about this record")
        if facts_commit(item.facts_salt, item.facts) != statement.facts_commit:
            raise OriginError("the statement is not about these facts")
        if origin_root(leaf, item.place, item.siblings) != signed.root:
            raise OriginError("the signature does not cover this statement")
        present = sum(1 << n for n, section in enumerate(slots) if section)
        facts = ruling.facts_of(item.facts)
        return _Checked(item, statement, leaf, family, kind, present, slots, leaves, block, facts, record)

    def _authority(
        self, agency: str, signed: BatchStatement, statement: OriginStatement, now: int
    ) -> sections.FamilyInfo:
        """What a statement may claim: this link, this agency, a recipient of the other party, a family we know."""
        agreement = self.link.at(now)
        agreed = agreement.families.get(statement.family)
        if agreed is None or agreed.revision != statement.family_revision:
            raise OriginError("the agreement has no such family")
        if statement.link_id != agreement.link_id or statement.origin_agency != agency:
            raise OriginError("the statement is for another link or agency")
        recipient = agreement.agencies.get(statement.recipient_agency)
        if recipient is None or recipient.party != self.link.peer:
            raise OriginError("the recipient is no agency of the other party")
        if statement.origin_kid != signed.signer_kid or statement.created_ms != signed.created_ms:
            raise OriginError("the statement was not signed with its batch")
        if statement.expires_ms <= now:
            raise Expired("the statement has expired")
        return sections.family(statement.family)

    def _late(self, item: Submission, error: "Expired") -> Result:
        """Its life is over: nothing new is accepted, and what was accepted before keeps its first result."""
        statement = parse_statement(item.statement)
        origin, name = statement.origin_agency, statement.message_id
        first = self.ledger.read(lambda tx: tx.outbox.first_results(origin, [name])).get(name)
        return _invalid(item, error) if first is None else _again(name, H(item.statement), first)

    def _decide(self, checked: _Checked, signed: BatchStatement, now: int) -> tuple[ruling.Question, policy.Decision]:
        """Ask our own pack; whatever goes wrong there is a forbid."""
        statement, agreement = checked.statement, self.link.at(now)
        own_key = signed.signer_kid not in self.link.signing
        asked = ruling.question(
            "release",
            ruling.agency(agreement.agencies[statement.origin_agency]),
            ruling.agency(agreement.agencies[statement.recipient_agency]),
            statement.family,
            checked.kind,
            statement.purpose,
            tuple(statement.legal_basis),
            "agency_signed" if own_key else "gateway_attested",
            checked.present,
            checked.facts,
            tuple(statement.caveats),
            (),
            supersedes=bool(statement.supersedes),
            derived_from=bool(statement.derived_from),
        )
        return asked, obligations.within_reach(self.engine.decide(asked.request, now))

    def _minimise(
        self, checked: _Checked, batch: SignedBatch, asked: ruling.Question, decision: policy.Decision, now: int
    ) -> Outgoing:
        """Build what may leave: withheld sections stand as leaves, obligations travel with the rest."""
        statement = checked.statement
        secrets = ruling.Secrets.new()
        logged = ruling.record(statement, asked, decision, secrets, self.vault, checked.leaf, now)
        if not decision.permit:
            return self._outgoing(checked, logged, secrets, now)
        shown = checked.present & ~sum(1 << (w.slot - 1) for w in decision.withheld)
        duties = obligations.duties(decision.obligations)
        destroy_by = duties.destroy_by(now)
        core = Core(
            statement=checked.submission.statement,
            batch=H(batch.statement),
            place=checked.submission.place,
            siblings=checked.submission.siblings,
            shown=shown,
            gateway_caveats=duties.added(statement.caveats),  # type: ignore[arg-type]
            destroy_by_ms=destroy_by,
            notices=[Notice(slot=slot, code=code) for slot, code in obligations.notices(decision)],  # type: ignore[arg-type]
        ).SerializeToString(deterministic=True)
        entry = ReleaseEntry(
            kind=ENTRY_KIND_RELEASE,
            time_ms=now,
            blind=os.urandom(32),
            message_id=statement.message_id,
            origin_leaf=checked.leaf,
            core_commit=core_commit(secrets.commit_salt, core),
            decision=logged.leaf,
        ).SerializeToString(deterministic=True)
        slots = slots_bytes(checked.slots, checked.leaves, checked.block, shown)
        release = leaf_hash(entry)
        self._keep_fresh(release, message_bytes(entry, core, secrets.commit_salt, slots))
        return self._outgoing(checked, logged, secrets, now, release, entry, core, slots, destroy_by, decision)

    def _outgoing(
        self, checked: _Checked, logged: DecisionRecord, secrets: ruling.Secrets, now: int, release: bytes = b"",
        entry: bytes = b"", core: bytes = b"", slots: bytes = b"", destroy_by: int = 0,
        decision: policy.Decision | None = None,
    ) -> Outgoing:  # fmt: skip
        statement = checked.statement
        named = (statement.in_reply_to, statement.supersedes, *statement.derived_from)
        return Outgoing(
            message_id=statement.message_id,
            origin=statement.origin_agency,
            recipient=statement.recipient_agency,
            family=statement.family,
            kind=checked.kind,
            purpose=statement.purpose,
            conversation=statement.conversation,
            statement_hash=H(checked.submission.statement),
            decision=logged,
            keys=secrets.sealed(self.vault, content=bool(release)),
            expires_ms=statement.expires_ms,
            time_ms=now,
            stream=self.link.stream_out(statement.family, statement.conversation) if release else None,
            release=release,
            entry=entry,
            core=core,
            content=self.vault.seal(secrets.content_key, slots, secrets.key_id) if release else b"",
            destroy_by_ms=destroy_by,
            accounting=self._account(checked, decision, now, destroy_by) if decision else None,
            named=tuple(name for name in named if name),
        )

    def _account(self, checked: _Checked, decision: policy.Decision, now: int, destroy_by: int) -> Accounting | None:
        """The disclosure's accounting, by a keyed hash of its subject, when a rule obliges it."""
        if not obligations.duties(decision.obligations).account:
            return None
        subject = hmac.digest(self.subject_key, obligations.subject_of(checked.record), "sha256")
        keep = obligations.accounting_until(now, destroy_by)
        return Accounting(subject, checked.statement.recipient_agency, checked.statement.purpose, now, keep)

    def _keep_fresh(self, release: bytes, message: bytes) -> None:
        if len(message) <= FRESH_MESSAGE_MAX:
            self.fresh[release] = message
        if len(self.fresh) > FRESH_KEPT:
            self.fresh.popitem(last=False)

    def _forget(self, messages: Sequence[Outgoing]) -> None:
        """These were not committed, or before: the relay will not ask for them."""
        for message in messages:
            self.fresh.pop(message.release, None)


class Expired(OriginError):
    """A statement that is handed in after its life."""


class TooLarge(InvalidError):
    """Over a cap of the protocol."""

    reason = "MESSAGE_TOO_LARGE"


def _commit(tx: Transaction, batch: SignedBatch, group: Sequence[Outgoing]) -> list[Result]:
    """Decision entries, release entries, outbox, accounting and keys of a call: all of it, or none."""
    held = tx.outbox.first_results(group[0].origin, [message.message_id for message in group])
    results: list[Result] = []
    new: list[Outgoing] = []
    released: set[tuple[str, bytes]] = set()
    for message in group:
        first = held.get(message.message_id)
        if first is not None:
            results.append(_again(message.message_id, message.statement_hash, first))
            continue
        try:
            tx.outbox.check_named(message, released)
        except InvalidError as error:
            results.append(Result(message.message_id, "invalid", error.reason))
            continue
        new.append(message)
        if message.release:
            released.add((message.recipient, message.message_id))
        results.append(_result(message))
        held[message.message_id] = Held(message.statement_hash, not message.release, message.decision.leaf)
    if new:
        tx.keys.add([message.keys for message in new])
        tx.decisions.insert((message.decision, message.keys.key_id) for message in new)
        tx.outbox.insert(new, tx.outbox.batch(batch))
        tx.journal.append(Log.DECISIONS, [(message.decision.leaf, message.decision.entry) for message in new])
        tx.journal.append(Log.EXCHANGE, [(message.release, message.entry) for message in new if message.release])
    return results


def _again(message_id: bytes, statement_hash: bytes, first: Held) -> Result:
    """The result that its id already has; a conflict when the id stands for another submission."""
    if first.statement_hash != statement_hash:
        return Result(message_id, "invalid", ConflictError.reason)
    return Result(message_id, "refused" if first.refused else "accepted", "DUPLICATE", first.decision)


def _result(message: Outgoing) -> Result:
    if message.release:
        return Result(message.message_id, "accepted", "", message.decision.leaf)
    return Result(message.message_id, "refused", "POLICY_DENIED", message.decision.leaf)


def _preview(outcome: Result | Outgoing) -> Result:
    """What would have become of it; no decision stands anywhere, so there is no id."""
    if isinstance(outcome, Result):
        return outcome
    result = _result(outcome)
    return Result(result.message_id, result.outcome, result.reason)


def _invalid(item: Submission, error: PuenteError) -> Result:
    """Refused before policy was asked; the id is told back only when the statement could be read."""
    try:
        message_id = parse_statement(item.statement).message_id
    except PuenteError:
        message_id = b""
    violations = error.violations if isinstance(error, FieldInvalid) else ()
    return Result(message_id, "invalid", error.reason, violations=violations)
