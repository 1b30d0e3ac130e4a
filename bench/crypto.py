"""The cryptography of one call of 256 records from agency to agency and back, and nothing else of the broker.

What each side signs, hashes, seals and opens; no policy, no ledger, no RPC, one thread.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench import workload
from broker import keys, origin, sealing, sections
from broker.canonical import H, encode, leaf_hash
from broker.log import merkle
from broker.proof import Proven, prove_message
from broker.v1 import envelope_pb2 as pb
from broker.v1 import exchange_service_pb2 as exchange
from broker.v1.codes_pb2 import KEY_USE_ORIGIN
from broker.v1.log_pb2 import ENTRY_KIND_RELEASE, ReleaseEntry
from broker.v1.passenger_pb2 import Passenger
from broker.vault import Vault
from broker.wire import message_bytes, slots_bytes

SLOTS = 16
ENTRY = bytes(120)
"""The size of a log entry; a gateway hashes two a message."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """How large the exchange's calls are: `submit`, `answers` as they are, the answers to them in bytes."""

    submit: bytes
    submit_answer: int
    delivery: int
    answers: bytes
    answered: int


class Crypto:
    """Keys of an agency and of two gateways."""

    def __init__(self) -> None:
        self.agency = keys.SigningKey.generate()
        self.sender, self.recipient = keys.SigningKey.generate(), keys.SigningKey.generate()
        self.hpke, self.hpke_back = keys.HpkeKey.generate(), keys.HpkeKey.generate()
        self.vault = Vault(os.urandom(32))
        self.kid = keys.kid(keys.SUITE, KEY_USE_ORIGIN, self.agency.public)
        self.family = sections.family("passenger")

    def once(self, records: Sequence[Passenger]) -> Sealed:
        """All of it, once."""
        request = self._submit(records)
        content = self._release(request)
        header = pb.Header(topic="us.mx.passenger", seq=1, epoch=1, after=0)
        for name in ("sender_kid", "recipient_kid", "agreement_digest"):
            setattr(header, name, os.urandom(32))
        opened = self._sent(header, content, self.hpke, self.sender)
        proven = [self._accept(message) for message in opened.messages]
        keys.verify(self.agency.public, request.batch_signature, request.batch_statement, keys.CTX_ORIGIN)
        delivery = sum(message.ByteSize() for message in opened.messages)
        for message in opened.messages:  # the recipient agency proves them again
            prove_message(message, self.family, narrowed=True)
        keys.verify(self.agency.public, request.batch_signature, request.batch_statement, keys.CTX_ORIGIN)
        self._receipts(proven, header)
        answer, answers, answered = _answer_sizes(len(records))
        return Sealed(request.SerializeToString(), answer, delivery, answers, answered)

    def _submit(self, records: Sequence[Passenger]) -> exchange.SubmitRequest:
        """The sending agency: salts, leaves, tree, one signature."""
        request, leaves, now = exchange.SubmitRequest(), [], time.time_ns() // 1_000_000
        for record in records:
            data, seed, salt, name = encode(record), os.urandom(32), os.urandom(32), os.urandom(16)
            block = sections.salt_block(seed, name, SLOTS)
            statement = pb.OriginStatement(
                version=1, link_id=bytes(16), message_id=name, family="passenger", family_revision=1,
                record_root=sections.record_root(sections.leaves(sections.split(data, SLOTS), block)),
                origin_agency=workload.SENDER, recipient_agency=workload.RECIPIENT, purpose=workload.BORDER,
                legal_basis=workload.BASIS, conversation=bytes(16), facts_commit=origin.facts_commit(salt, b""),
                created_ms=now, expires_ms=now + 86_400_000, origin_kid=self.kid,
            )  # fmt: skip
            signed = encode(statement)
            request.submissions.add(statement=signed, record=data, record_seed=seed, facts_salt=salt)
            leaves.append(origin.origin_leaf(signed))
        root, places = origin.OriginTree.build(leaves)
        for item, (place, siblings) in zip(request.submissions, places, strict=True):
            item.place = place
            item.siblings.extend(siblings)
        request.batch_statement = origin.batch_statement(self.kid, now, root)
        request.batch_signature = self.agency.sign(request.batch_statement, keys.CTX_ORIGIN)
        return request

    def _release(self, request: exchange.SubmitRequest) -> pb.Content:
        """The sender's gateway: all of it checked, committed to, kept encrypted."""
        keys.verify(self.agency.public, request.batch_signature, request.batch_statement, keys.CTX_ORIGIN)
        content = pb.Content()
        content.batches.add(statement=request.batch_statement, signature=request.batch_signature)
        for item in request.submissions:
            content.messages.add().ParseFromString(self._released(item, H(request.batch_statement)))
        merkle.CompactRange().append([leaf_hash(message.release_entry) for message in content.messages])
        return content

    def _released(self, item: exchange.Submission, batch: bytes) -> bytes:
        statement = origin.parse_statement(item.statement)
        slots = sections.split(item.record, SLOTS)
        block = sections.salt_block(item.record_seed, statement.message_id, SLOTS)
        leaves = sections.leaves(slots, block)
        sections.record_root(leaves)
        origin.facts_commit(item.facts_salt, item.facts)
        leaf = origin.origin_leaf(item.statement)
        origin.origin_root(leaf, item.place, item.siblings)
        shown = sum(1 << n for n, section in enumerate(slots) if section)
        core = pb.Core(
            statement=item.statement, batch=batch, place=item.place, siblings=item.siblings, shown=shown
        ).SerializeToString(deterministic=True)
        salt, key = os.urandom(32), os.urandom(32)
        entry = ReleaseEntry(
            kind=ENTRY_KIND_RELEASE, time_ms=statement.created_ms, blind=os.urandom(32),
            message_id=statement.message_id, origin_leaf=leaf, core_commit=sealing.core_commit(salt, core),
            decision=leaf_hash(ENTRY),
        ).SerializeToString(deterministic=True)  # fmt: skip
        shown_slots = slots_bytes(slots, leaves, block, shown)
        self._keep(key, shown_slots)
        return message_bytes(entry, core, salt, shown_slots)

    def _keep(self, key: bytes, content: bytes) -> None:
        """At rest: the content and what the decision looked at, sealed; both keys wrapped."""
        self.vault.seal(key, content, b"content")
        self.vault.seal(key, ENTRY, b"decision")
        self.vault.wrap(key, b"content")
        self.vault.wrap(key * 4, b"opening")

    @staticmethod
    def _sent(header: pb.Header, content: pb.Content, to: keys.HpkeKey, signer: keys.SigningKey) -> pb.Content:
        envelope, _ = sealing.seal(header, content, to.public, signer)
        parsed = sealing.parse_envelope(envelope)
        sealing.verify_envelope(parsed, keys.verify_key(signer.public))
        return sealing.open_content(parsed, to)

    def _accept(self, message: pb.Message) -> Proven:
        """The recipient's gateway: proof, and kept encrypted; decrypted once more to be delivered."""
        proven = prove_message(message, self.family)
        key = os.urandom(32)
        self._keep(key, message.core + proven.record_bytes)
        self.vault.open(key, self.vault.seal(key, proven.record_bytes, b"content"), b"content")
        leaf_hash(ENTRY)
        return proven

    def _receipts(self, proven: Sequence[Proven], header: pb.Header) -> None:
        """Received and acknowledged, in one envelope each, back."""
        for state in (4, 6):
            items = []
            for one in proven:
                leaf = leaf_hash(ENTRY)
                body = pb.Receipt(release=one.release, state=state, entry=leaf, time_ms=header.created_ms or 1)  # type: ignore[arg-type]
                items.append(
                    pb.ControlItem(salt=os.urandom(32), kind=1, body=body.SerializeToString(deterministic=True))
                )
            self._sent(header, pb.Content(items=items), self.hpke_back, self.recipient)


def _answer_sizes(count: int) -> tuple[int, bytes, int]:
    """(bytes of Submit's answer, answers of `count` messages, bytes of their outcomes)."""
    items = [
        exchange.SubmitItem(message_id=bytes(16), result=exchange.SUBMIT_RESULT_ACCEPTED, decision_id=bytes(32))
    ] * count
    answers = [exchange.ReceiveAnswer(release=bytes(32), state=6)] * count  # type: ignore[arg-type]
    outcomes = [exchange.AnswerOutcome(release=bytes(32), reason="OK")] * count
    return (
        exchange.SubmitResponse(items=items).ByteSize(),
        exchange.ReceiveRequest(answers=exchange.ReceiveAnswers(answers=answers)).SerializeToString(),
        exchange.ReceiveResponse(answered=outcomes).ByteSize(),
    )
