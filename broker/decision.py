"""From a record to the question that policy is asked, and from its answer to what stands in the log."""

import json
import os
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

import policy
from broker.canonical import H, leaf_hash, parse
from broker.message import DecisionRecord, SealedKeys
from broker.sections import FamilyInfo
from broker.v1 import codes_pb2, facts_pb2
from broker.v1.envelope_pb2 import OriginStatement
from broker.v1.log_pb2 import ENTRY_KIND_DECISION, DecisionEntry
from broker.vault import Vault

_OPEN = b"puente/v1/open\0"


@dataclass(frozen=True, slots=True)
class Secrets:
    """What one message is kept and opened with; every part is 32 random bytes of its own, the key id 16."""

    key_id: bytes
    content_key: bytes
    opening_key: bytes
    commit_salt: bytes
    message_salt: bytes
    context_salt: bytes

    @staticmethod
    def new() -> "Secrets":
        """Fresh secrets, of the system's randomness."""
        r = os.urandom(176)
        return Secrets(r[:16], r[16:48], r[48:80], r[80:112], r[112:144], r[144:176])

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


@lru_cache(maxsize=64)
def kind_name(family: FamilyInfo, number: int) -> str:
    """The kind of a record, lower case without prefix; '' for a number that the family does not have."""
    enum = family.message_class.DESCRIPTOR.fields_by_name["kind"].enum_type
    value = enum.values_by_number.get(number) if enum is not None else None
    prefix = f"{family.id}_KIND_".upper()
    return value.name.removeprefix(prefix).lower() if value is not None and number else ""


def record(
    statement: OriginStatement,
    request: policy.Request,
    decision: policy.Decision,
    secrets: Secrets,
    vault: Vault,
    origin_leaf: bytes,
    time_ms: int,
) -> DecisionRecord:
    """The entry of a decision, committed to message and context, and the index row that officers search."""
    context = context_json(replace(request, law_ms=0))
    message_open = H(_OPEN, secrets.message_salt, statement.message_id, origin_leaf)
    entry = DecisionEntry(
        kind=ENTRY_KIND_DECISION,
        time_ms=time_ms,
        blind=os.urandom(32),
        action=request.action,
        message_open=message_open,
        context_open=H(_OPEN, secrets.context_salt, context),
        pack_digest=decision.pack_digest,
        law_ms=decision.law_ms,
        permit=decision.permit,
        rules=decision.rules,
        withheld=[w.slot for w in decision.withheld],
        obligations=_obligations(decision.obligations),
        failed=decision.failed,
    ).SerializeToString(deterministic=True)
    return DecisionRecord(
        leaf=leaf_hash(entry),
        entry=entry,
        time_ms=time_ms,
        action=request.action,
        permit=decision.permit,
        family=request.family,
        kind=request.kind,
        origin=statement.origin_agency,
        recipient=statement.recipient_agency,
        purpose=statement.purpose,
        rules=_spaced(decision.rules),
        withheld=_spaced(tuple(w.section for w in decision.withheld)),
        obligations=" ".join(_obligations(decision.obligations)),
        pack_digest=decision.pack_digest,
        law_ms=decision.law_ms,
        context=vault.seal(secrets.opening_key, context, secrets.key_id),
    )


@lru_cache(maxsize=1024)
def _obligations(obligations: tuple[policy.Obligation, ...]) -> tuple[str, ...]:
    return tuple(f"{o.kind}:{o.value}" if o.value else o.kind for o in obligations)


@lru_cache(maxsize=1024)
def _spaced(words: tuple[str, ...]) -> str:
    return f" {' '.join(words)} " if words else ""


@lru_cache(maxsize=4096)
def context_json(request: policy.Request) -> bytes:
    """Everything that a decision looked at, but its instant; from it any decision is replayed."""
    return json.dumps(asdict(request), default=sorted, separators=(",", ":")).encode()


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
