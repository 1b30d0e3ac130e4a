"""Records into calls: seeds, statements, the signed tree (protocol sections 2 and 3). Pure but for randomness.

A call is built once, as the bytes that every try sends.
"""

import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from google.protobuf.message import Message

from broker import keys
from broker.canonical import encode
from broker.client.catalog import Catalog
from broker.client.errors import ClientError, Invalid, violations_of
from broker.keys import SigningKey
from broker.origin import OriginTree, batch_statement, facts_commit, origin_leaf
from broker.sections import FamilyInfo, families, leaves, record_root, salt_block, split
from broker.v1 import exchange_service_pb2 as pb
from broker.v1.codes_pb2 import KEY_USE_ORIGIN, Caveat, Purpose
from broker.v1.envelope_pb2 import OriginStatement
from broker.v1.facts_pb2 import Facts

CALL_MAX: Final = 256
# A call among several is closed at a size drawn from here on, so that sizes tell nothing.
CALL_MIN: Final = 128
# Records and facts of one call, in bytes: below the gateway's 16 MiB with room for statements and paths.
CALL_BYTES: Final = 12 * 1024 * 1024
# Seed, facts salt and message id of one record, in bytes.
_RANDOM: Final = 32 + 32 + 16

_RESULTS: Final[dict[int, Literal["accepted", "refused", "invalid"]]] = {
    pb.SUBMIT_RESULT_ACCEPTED: "accepted",
    pb.SUBMIT_RESULT_REFUSED: "refused",
}


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of one record. `reason`: a word of the error table, '' when accepted; `violations`: (path, rule)."""

    message_id: bytes
    result: Literal["accepted", "refused", "invalid"]
    reason: str = ""
    decision_id: bytes = b""
    violations: tuple[tuple[str, str], ...] = ()

    @property
    def accepted(self) -> bool:
        """Durable at the gateway: it will reach the recipient's gateway, or expire."""
        return self.result == "accepted"


@dataclass(frozen=True, slots=True)
class Terms:
    """What the statements of one `submit` have in common. Times in milliseconds."""

    recipient: str
    purpose: Purpose.ValueType
    basis: tuple[str, ...]
    conversation: bytes
    created_ms: int
    expires_ms: int
    in_reply_to: bytes = b""
    supersedes: bytes = b""
    derived_from: tuple[bytes, ...] = ()
    caveats: tuple[Caveat.ValueType, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """One Submit call: its exact bytes, and the message ids in order."""

    request: bytes
    message_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Signer:
    """Whose signature covers a call: the agency's origin key, or none, and then the gateway's attest key."""

    kid: bytes
    key: SigningKey | None

    @classmethod
    def of(cls, key: SigningKey | None, catalog: Catalog) -> "Signer":
        """The agency's own key when there is one."""
        if key is None:
            return cls(catalog.attest_kid, None)
        return cls(keys.kid(keys.SUITE, KEY_USE_ORIGIN, key.public), key)

    def sign(self, statement: bytes) -> bytes:
        """3373 bytes, or none: then the gateway attests."""
        return self.key.sign(statement, keys.CTX_ORIGIN) if self.key is not None else b""


def groups(sizes: Sequence[int]) -> Iterator[slice]:
    """Records of these sizes (bytes, facts included), cut into calls: one when they fit, else drawn sizes."""
    start = 0
    while start < len(sizes):
        left = len(sizes) - start
        count = left if left <= CALL_MAX else CALL_MIN + secrets.randbelow(CALL_MAX - CALL_MIN + 1)
        total, end = 0, start
        while end < start + count and (end == start or total + sizes[end] <= CALL_BYTES):
            total += sizes[end]
            end += 1
        yield slice(start, end)
        start = end


def build(
    records: Sequence[tuple[FamilyInfo, bytes]],
    facts: Sequence[bytes],
    terms: Terms,
    catalog: Catalog,
    signer: Signer,
    *,
    validate_only: bool = False,
) -> Call:
    """Statements, tree and signature of 1 to 256 records: (family, canonical bytes), with the facts of each."""
    templates = {
        family.id: _template(family, terms, catalog, signer.kid) for family in {f.id: f for f, _ in records}.values()
    }
    request = pb.SubmitRequest(validate_only=validate_only)
    submissions = request.submissions
    randomness = os.urandom(_RANDOM * len(records))
    origin_leaves, ids = [], []
    for n, ((family, record), fact) in enumerate(zip(records, facts, strict=True)):
        at = n * _RANDOM
        seed, salt, message_id = randomness[at : at + 32], randomness[at + 32 : at + 64], randomness[at + 64 : at + 80]
        statement = templates[family.id]
        block = salt_block(seed, message_id, family.slots)
        statement.message_id = message_id
        statement.record_root = record_root(leaves(split(record, family.slots), block))
        statement.facts_commit = facts_commit(salt, fact)
        data = encode(statement)
        submissions.add(statement=data, record=record, record_seed=seed, facts=fact, facts_salt=salt)
        origin_leaves.append(origin_leaf(data))
        ids.append(message_id)
    root, places = OriginTree.build(origin_leaves)
    for item, (place, siblings) in zip(submissions, places, strict=True):
        item.place = place
        item.siblings.extend(siblings)
    request.batch_statement = batch_statement(signer.kid, terms.created_ms, root)
    request.batch_signature = signer.sign(request.batch_statement)
    return Call(request.SerializeToString(), tuple(ids))


def _template(family: FamilyInfo, terms: Terms, catalog: Catalog, kid: bytes) -> OriginStatement:
    return OriginStatement(
        version=1,
        link_id=catalog.agreement.link_id,
        family=family.id,
        family_revision=catalog.agreement.family(family.id).revision,
        origin_agency=catalog.agency,
        recipient_agency=terms.recipient,
        purpose=terms.purpose,
        legal_basis=terms.basis,
        conversation=terms.conversation,
        in_reply_to=terms.in_reply_to,
        supersedes=terms.supersedes,
        derived_from=terms.derived_from,
        caveats=terms.caveats,
        created_ms=terms.created_ms,
        expires_ms=terms.expires_ms,
        origin_kid=kid,
    )


def encoded(record: Message) -> tuple[FamilyInfo, bytes]:
    """A record's family and canonical bytes.

    Raises:
        Invalid: not a record of a family.
    """
    family = _by_name().get(record.DESCRIPTOR.full_name)
    if family is None:
        raise Invalid("not a record of a family", "RECORD_INVALID")
    return family, encode(record)


def encoded_facts(facts: Sequence[Facts | None] | None, count: int) -> list[bytes]:
    """Canonical bytes, one a record; b'' for none. Raises Invalid when they are not one a record."""
    if facts is None:
        return [b""] * count
    if len(facts) != count:
        raise Invalid("facts are one a record", "FACTS_INVALID")
    return [encode(fact) if fact is not None else b"" for fact in facts]


@cache
def _by_name() -> dict[str, FamilyInfo]:
    return {family.message_class.DESCRIPTOR.full_name: family for family in families().values()}


def results(response: pb.SubmitResponse, message_ids: Sequence[bytes]) -> list[Submitted]:
    """What became of each record of a call, in its order.

    Raises:
        ClientError: not one answer a record; what became of them is unknown.
    """
    if len(response.items) != len(message_ids):
        error = ClientError("the gateway answered for another number of records", "INTERNAL")
        error.unknown = True
        raise error
    return [
        Submitted(
            message_id,
            _RESULTS.get(item.result, "invalid"),
            item.reason,
            item.decision_id,
            violations_of(item.status) if item.HasField("status") else (),
        )
        for message_id, item in zip(message_ids, response.items, strict=True)
    ]
