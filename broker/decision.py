"""From a record to the question that policy is asked, and from its answer to what stands in the log."""

import json
import os
import time
import zlib
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

import policy
from broker.canonical import H, leaf_hash, parse
from broker.message import DecisionRecord, SealedKeys
from broker.sections import FamilyInfo
from broker.sections import family as find_family
from broker.v1 import codes_pb2, facts_pb2
from broker.v1.envelope_pb2 import OriginStatement
from broker.v1.log_pb2 import ENTRY_KIND_DECISION, DecisionEntry
from broker.vault import Vault

_OPEN = b"puente/v1/open\0"


@dataclass(frozen=True, slots=True)
class Secrets:
    """What one message is kept and opened with; 32 random bytes each. The key id (16) stays in this party."""

    key_id: bytes
    content_key: bytes
    opening_key: bytes
    commit_salt: bytes
    message_salt: bytes
    context_salt: bytes

    @staticmethod
    def new(commit_salt: bytes = b"") -> "Secrets":
        """Fresh secrets, of the system's randomness; the commit salt of a message that came is its sender's."""
        r = os.urandom(168)
        key_id = time.time_ns().to_bytes(8, "big") + r[160:]  # ascending: new keys stand together in the store
        return Secrets(key_id, r[:32], r[32:64], commit_salt or r[64:96], r[96:128], r[128:160])

    @staticmethod
    def opened(vault: Vault, key_id: bytes, opening: bytes) -> "Secrets":
        """The secrets of a stored message; the content key is kept, and shredded, apart."""
        r = vault.unwrap(opening, key_id)
        return Secrets(key_id, b"", r[:32], r[32:64], r[64:96], r[96:128])

    def sealed(self, vault: Vault, *, content: bool) -> SealedKeys:
        """Wrapped for the key store."""
        opening = self.opening_key + self.commit_salt + self.message_salt + self.context_salt
        return SealedKeys(
            self.key_id, vault.wrap(self.content_key, self.key_id) if content else b"", vault.wrap(opening, self.key_id)
        )


def agency(info: Any) -> policy.Agency:
    """An agency of the agreement, as policy knows it."""
    return _agency(info.id, info.party, tuple(sorted(info.roles)))


@lru_cache(maxsize=1024)
def _agency(agency_id: str, party: str, roles: tuple[str, ...]) -> policy.Agency:
    return policy.Agency(agency_id, party, frozenset(roles))


@lru_cache(maxsize=4096)
def sections_of(family: FamilyInfo, mask: int) -> tuple[policy.Section, ...]:
    """The sections whose bits are set (bit n-1: slot n)."""
    return tuple(
        policy.Section(s.slot, s.name, s.category, s.presence) for s in family.sections if mask >> (s.slot - 1) & 1
    )


@lru_cache(maxsize=4096)
def facts_of(data: bytes) -> tuple[tuple[str, str | bool], ...]:
    """Facts as sorted (name, value). Raises CanonicalError."""
    found: list[tuple[str, str | bool]] = []
    for field, value in parse(facts_pb2.Facts, data).ListFields():
        found.append((field.name, _fact(field, value)))
    return tuple(sorted(found))


def _fact(field: FieldDescriptor, value: Any) -> str | bool:
    if field.enum_type is None:
        return value  # type: ignore[no-any-return]
    prefix = "CLAIM_STATUS_"
    return str(field.enum_type.values_by_number[value].name.removeprefix(prefix).lower())


@lru_cache(maxsize=64)
def purpose_name(number: int) -> str:
    """border_security and the like."""
    return codes_pb2.Purpose.Name(number).removeprefix("PURPOSE_").lower()  # type: ignore[arg-type]


@lru_cache(maxsize=64)
def caveat_name(number: int) -> str:
    """NO_ONWARD_TRANSFER and the like."""
    return codes_pb2.Caveat.Name(number).removeprefix("CAVEAT_")  # type: ignore[arg-type]


@lru_cache(maxsize=64)
def caveat_number(name: str) -> int:
    """The code of a caveat that a rule adds."""
    return codes_pb2.Caveat.Value(f"CAVEAT_{name}")


@lru_cache(maxsize=64)
def notice_number(name: str) -> int:
    """The code of a notice that a rule gives."""
    return codes_pb2.NoticeCode.Value(f"NOTICE_CODE_{name}")


@lru_cache(maxsize=64)
def notice_name(number: int) -> str:
    """NOT_FOR_THIS_PURPOSE and the like."""
    return codes_pb2.NoticeCode.Name(number).removeprefix("NOTICE_CODE_")  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Question:
    """What policy is asked, and the same as the bytes that the log commits to; both are shared by all who ask it."""

    request: policy.Request
    context: bytes
    packed: bytes
    """`context` as it is kept: most of it is names, which compress well."""


@lru_cache(maxsize=4096)
def question(
    action: str,
    principal: policy.Agency,
    counterpart: policy.Agency,
    family: str,
    kind: str,
    purpose: int,
    legal_basis: tuple[str, ...],
    assurance: str,
    present: int,
    facts: tuple[tuple[str, str | bool], ...],
    caveats: tuple[int, ...],
    notices: tuple[tuple[int, int], ...],
    *,
    supersedes: bool,
    derived_from: bool,
) -> Question:
    """The question of one record; `present`: bit n-1 for each section that it has. Codes are protocol numbers."""
    request = policy.Request(
        action=action,
        principal=principal,
        counterpart=counterpart,
        family=family,
        kind=kind,
        purpose=purpose_name(purpose),
        legal_basis=tuple(sorted(legal_basis)),
        assurance=assurance,
        sections=sections_of(find_family(family), present),
        facts=facts,
        caveats=tuple(sorted(caveat_name(code) for code in caveats)),
        notices=tuple((slot, notice_name(code)) for slot, code in notices),
        supersedes=supersedes,
        derived_from=derived_from,
    )
    fields = {name: getattr(request, name) for name in _ASKED}
    context = json.dumps(fields, default=_plain, separators=(",", ":")).encode()
    return Question(request, context, zlib.compress(context))


_ASKED = (
    "action", "principal", "counterpart", "family", "kind", "purpose", "legal_basis", "assurance", "sections", "facts",
    "caveats", "notices", "supersedes", "derived_from", "onward_consent",
)  # fmt: skip


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, frozenset) else asdict(value)


def record(
    statement: OriginStatement,
    asked: Question,
    decision: policy.Decision,
    secrets: Secrets,
    vault: Vault,
    origin_leaf: bytes,
    time_ms: int,
) -> DecisionRecord:
    """The entry of a decision, committed to message and context, and the index row that officers search."""
    outcome = _outcome(decision.permit, decision.rules, decision.withheld, decision.obligations, decision.failed)
    head = DecisionEntry(
        kind=ENTRY_KIND_DECISION,
        time_ms=time_ms,
        blind=os.urandom(32),
        action=asked.request.action,
        message_open=H(_OPEN, secrets.message_salt, statement.message_id, origin_leaf),
        context_open=H(_OPEN, secrets.context_salt, asked.context),
        pack_digest=decision.pack_digest,
        law_ms=decision.law_ms,
    )
    entry = head.SerializeToString(deterministic=True) + outcome.tail
    return DecisionRecord(
        leaf=leaf_hash(entry),
        entry=entry,
        time_ms=time_ms,
        action=asked.request.action,
        permit=decision.permit,
        family=asked.request.family,
        kind=asked.request.kind,
        origin=statement.origin_agency,
        recipient=statement.recipient_agency,
        purpose=statement.purpose,
        rules=outcome.rules,
        withheld=outcome.withheld,
        obligations=outcome.obligations,
        pack_digest=decision.pack_digest,
        law_ms=decision.law_ms,
        context=vault.seal(secrets.opening_key, asked.packed, secrets.key_id),
    )


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What repeats from decision to decision: the entry's fields from `permit` on, and the index's words."""

    tail: bytes
    rules: str
    withheld: str
    obligations: str


@lru_cache(maxsize=4096)
def _outcome(
    permit: bool,
    rules: tuple[str, ...],
    withheld: tuple[policy.Withheld, ...],
    obligations: tuple[policy.Obligation, ...],
    failed: bool,
) -> _Outcome:
    words = [f"{o.kind}:{o.value}" if o.value else o.kind for o in obligations]
    tail = DecisionEntry(
        permit=permit, rules=rules, withheld=[w.slot for w in withheld], obligations=words, failed=failed
    ).SerializeToString(deterministic=True)
    return _Outcome(tail, _spaced(rules), _spaced(tuple(w.section for w in withheld)), " ".join(words))


def same_outcome(record: DecisionRecord, decision: policy.Decision) -> bool:
    """Whether a decision is, in effect, rules, sections and obligations, the one on record."""
    again = _outcome(decision.permit, decision.rules, decision.withheld, decision.obligations, decision.failed)
    said = (record.permit, record.rules, record.withheld, record.obligations)
    return said == (decision.permit, again.rules, again.withheld, again.obligations)


def obligations_of(record: DecisionRecord) -> tuple[policy.Obligation, ...]:
    """The obligations on record."""
    words = (duty.partition(":") for duty in record.obligations.split())
    return tuple(policy.Obligation(kind, value) for kind, _, value in words)


def _spaced(words: tuple[str, ...]) -> str:
    return f" {' '.join(words)} " if words else ""


def context_of(packed: bytes) -> bytes:
    """A question's context, of what is kept of it."""
    return zlib.decompress(packed)


def request_of(context: bytes, law_ms: int) -> policy.Request:
    """The question again, as it was asked at that instant of law."""
    value = json.loads(context)
    return policy.Request(
        action=value["action"],
        principal=_agency_of(value["principal"]),
        counterpart=_agency_of(value["counterpart"]),
        family=value["family"],
        kind=value["kind"],
        purpose=value["purpose"],
        legal_basis=tuple(value["legal_basis"]),
        assurance=value["assurance"],
        sections=tuple(policy.Section(**section) for section in value["sections"]),
        facts=tuple((name, fact) for name, fact in value["facts"]),
        caveats=tuple(value["caveats"]),
        notices=tuple((slot, code) for slot, code in value["notices"]),
        supersedes=value["supersedes"],
        derived_from=value["derived_from"],
        onward_consent=value["onward_consent"],
        law_ms=law_ms,
    )


def _agency_of(value: Any) -> policy.Agency:
    return policy.Agency(value["id"], value["party"], frozenset(value["roles"]))
