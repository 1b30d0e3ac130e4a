"""What both parties signed (protocol section 10): who they are, whose keys count, and for what.

Loaded once and frozen. Whether it is in force, and whether a key is suspended, is asked at each use.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Final, Protocol, TypeVar

from broker import keys
from broker.canonical import H, encode, parse
from broker.errors import AgreementError, CanonicalError, SignatureError
from broker.keys import SigningKey
from broker.v1 import agreement_pb2, codes_pb2
from broker.v1.agreement_pb2 import AgreementDocument

_DIGEST = b"puente/v1/agreement\x00"
_ID = re.compile(r"[a-z0-9._-]{1,64}")
_TIME_END: Final = 1 << 47
PROTOCOL: Final = 1

_K = TypeVar("_K")
_V = TypeVar("_V")

# Which uses stand where; approval and pack keys stand in their own party's configuration.
_GATEWAY_USES = frozenset(
    {
        codes_pb2.KEY_USE_ATTEST,
        codes_pb2.KEY_USE_ENVELOPE,
        codes_pb2.KEY_USE_HPKE_DATA,
        codes_pb2.KEY_USE_HPKE_CONTROL,
    }
)
_AGENCY_USES = frozenset({codes_pb2.KEY_USE_ORIGIN, codes_pb2.KEY_USE_RECEIPT})
_HPKE_USES = frozenset({codes_pb2.KEY_USE_HPKE_DATA, codes_pb2.KEY_USE_HPKE_CONTROL})


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key of the agreement. `owner`: a party, or an agency of `party`. Valid from not_before_ms to not_after_ms."""

    kid: bytes
    public: bytes
    suite: int
    use: int
    owner: str
    party: str
    not_before_ms: int
    not_after_ms: int

    def valid_at(self, time_ms: int) -> bool:
        """Whether the key may be used at `time_ms`."""
        return self.not_before_ms <= time_ms <= self.not_after_ms


@dataclass(frozen=True, slots=True)
class AgencyInfo:
    """A member of a party; `keys`: its origin and receipt keys."""

    id: str
    party: str
    roles: tuple[str, ...]
    keys: tuple[KeyInfo, ...]


@dataclass(frozen=True, slots=True)
class PartyInfo:
    """One side; `roots`: kid to public key, of which `threshold` distinct ones must sign."""

    id: str
    roots: Mapping[bytes, bytes]
    threshold: int
    keys: tuple[KeyInfo, ...]
    agencies: tuple[AgencyInfo, ...]


@dataclass(frozen=True, slots=True)
class FamilyTerms:
    """A family as agreed: its revision, slots (S) and partitions (P)."""

    id: str
    revision: int
    slots: int
    partitions: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """A verified agreement. `digest` (32 bytes) is what headers name it by; `link_id` is 16 bytes."""

    digest: bytes
    version: int
    previous: bytes
    link_id: bytes
    not_before_ms: int
    expires_ms: int
    parties: Mapping[str, PartyInfo]
    agencies: Mapping[str, AgencyInfo]
    keys: Mapping[bytes, KeyInfo]
    families: Mapping[str, FamilyTerms]
    protocol_versions: tuple[int, ...]
    development: bool
    data: bytes = field(repr=False)
    """The file, with its signatures."""

    def agency(self, agency_id: str) -> AgencyInfo:
        """The agency of that id; AgreementError when there is none."""
        return _found(self.agencies, agency_id, "an agency that the agreement does not have")

    def key(self, kid: bytes) -> KeyInfo:
        """The key of that kid; AgreementError when there is none."""
        return _found(self.keys, kid, "a key that the agreement does not have")

    def family(self, family_id: str) -> FamilyTerms:
        """The family of that id; AgreementError when there is none."""
        return _found(self.families, family_id, "a family that the agreement does not have")

    def peer(self, party: str) -> str:
        """The other party's id."""
        _found(self.parties, party, "a party that the agreement does not have")
        return next(other for other in self.parties if other != party)

    def in_force(self, time_ms: int) -> bool:
        """Whether `time_ms` lies within the agreement's life."""
        return self.not_before_ms <= time_ms < self.expires_ms


def _found(where: Mapping[_K, _V], key: _K, missing: str) -> _V:
    value = where.get(key)
    if value is None:
        raise AgreementError(missing)
    return value


def digest_of(document: bytes) -> bytes:
    """The agreement's name, 32 bytes, from its document's exact bytes."""
    return H(_DIGEST, document)


def build(document: AgreementDocument, root_keys: Sequence[SigningKey]) -> bytes:
    """The agreement's file: the document, signed by each of `root_keys`. `load` says whether that suffices."""
    data = encode(document)
    digest = digest_of(data)
    agreement = agreement_pb2.Agreement(document=data)
    for root in root_keys:
        name = keys.kid(keys.SUITE, codes_pb2.KEY_USE_ROOT, root.public)
        agreement.signatures.add(kid=name, signature=root.sign(digest, keys.CTX_AGREEMENT))
    return encode(agreement)


def load(data: bytes) -> Agreement:
    """Verify an agreement and freeze it.

    Raises:
        AgreementError: not canonical, not of two parties, a field of the wrong shape, a key that stands twice, or fewer
            good root signatures of a party than its threshold.
    """
    try:
        signed = parse(agreement_pb2.Agreement, data)
        document = parse(AgreementDocument, signed.document)
    except CanonicalError as error:
        raise AgreementError(f"agreement: {error}") from None
    _check_document(document)
    parties = {party.id: _party(party) for party in document.parties}
    digest = digest_of(signed.document)
    for party in parties.values():
        check_signatures(party, signed.signatures, digest, keys.CTX_AGREEMENT)
    agencies = {agency.id: agency for party in parties.values() for agency in party.agencies}
    return Agreement(
        digest=digest,
        version=document.version,
        previous=document.previous,
        link_id=document.link_id,
        not_before_ms=document.not_before_ms,
        expires_ms=document.expires_ms,
        parties=MappingProxyType(parties),
        agencies=MappingProxyType(agencies),
        keys=MappingProxyType(_all_keys(parties.values())),
        families=MappingProxyType({terms.id: _family(terms) for terms in document.families}),
        protocol_versions=tuple(document.protocol_versions),
        development=document.development,
        data=data,
    )


def follows(new: Agreement, old: Agreement) -> None:
    """Raise AgreementError unless `new` is the next version of `old`, signed by the roots of both."""
    if new.link_id != old.link_id:
        raise AgreementError("an agreement of another link")
    if new.version != old.version + 1 or new.previous != old.digest:
        raise AgreementError("not the next version of the agreement before it")
    if new.parties.keys() != old.parties.keys() or new.development != old.development:
        raise AgreementError("the parties of an agreement, and what it is for, never change")
    if new.not_before_ms <= old.not_before_ms:
        raise AgreementError("an agreement begins after the one that it follows")
    signatures = parse(agreement_pb2.Agreement, new.data).signatures
    for party in old.parties.values():
        check_signatures(party, signatures, new.digest, keys.CTX_AGREEMENT)


def chain(agreements: Iterable[Agreement]) -> tuple[Agreement, ...]:
    """Agreements of one link, oldest first.

    Raises:
        AgreementError: none, one that does not follow the one before it, or slots or partitions that change: they are
            fixed for the life of a topic, also where a version in between does not have the family.
    """
    ordered = tuple(sorted(agreements, key=lambda one: one.version))
    if not ordered:
        raise AgreementError("a link has an agreement")
    for old, new in pairwise(ordered):
        follows(new, old)
    fixed: dict[str, tuple[int, int]] = {}
    for terms in (terms for one in ordered for terms in one.families.values()):
        if fixed.setdefault(terms.id, (terms.slots, terms.partitions)) != (terms.slots, terms.partitions):
            raise AgreementError("a family's slots and partitions never change")
    return ordered


def _check_document(document: AgreementDocument) -> None:
    ids = [party.id for party in document.parties]
    if len(ids) != 2 or len({*ids}) != 2:
        raise AgreementError("an agreement has two parties")
    if not document.version or len(document.previous) != (0 if document.version == 1 else 32):
        raise AgreementError("version 1 follows nothing; every other names the digest before it")
    if len(document.link_id) != 16 or PROTOCOL not in document.protocol_versions:
        raise AgreementError("a link id is 16 bytes, and this protocol's version must be accepted")
    if not document.not_before_ms < document.expires_ms < _TIME_END:
        raise AgreementError("an agreement expires after it begins")
    for names in (document.families, [agency for party in document.parties for agency in party.agencies]):
        if len({one.id for one in names}) != len(names):
            raise AgreementError("a family, and an agency, stands once")


def _party(party: agreement_pb2.Party) -> PartyInfo:
    _check_id(party.id)
    roots = {keys.kid(keys.SUITE, codes_pb2.KEY_USE_ROOT, public): public for public in party.root_keys}
    if not 0 < party.threshold <= len(roots) or len(roots) != len(party.root_keys):
        raise AgreementError("a threshold counts distinct roots, at least one")
    agencies = tuple(_agency(agency, party.id) for agency in party.agencies)
    own = tuple(_key(key, party.id, party.id, _GATEWAY_USES) for key in party.keys)
    return PartyInfo(party.id, MappingProxyType(roots), party.threshold, own, agencies)


def _agency(agency: agreement_pb2.Agency, party: str) -> AgencyInfo:
    _check_id(agency.id)
    if not agency.id.startswith(party + "."):
        raise AgreementError("an agency's id begins with its party's")
    own = tuple(_key(key, agency.id, party, _AGENCY_USES) for key in agency.keys)
    return AgencyInfo(agency.id, party, tuple(agency.roles), own)


def _key(key: agreement_pb2.Key, owner: str, party: str, uses: frozenset[int]) -> KeyInfo:
    size = keys.HPKE_PUBLIC if key.use in _HPKE_USES else keys.PUBLIC
    if key.suite != keys.SUITE or key.use not in uses or len(key.public_key) != size:
        raise AgreementError("a key of another suite, use or size than its owner may have")
    if not key.not_before_ms < key.not_after_ms < _TIME_END:
        raise AgreementError("a key ends after it begins")
    kid = keys.kid(key.suite, key.use, key.public_key)
    return KeyInfo(kid, key.public_key, key.suite, key.use, owner, party, key.not_before_ms, key.not_after_ms)


def _family(terms: agreement_pb2.Family) -> FamilyTerms:
    _check_id(terms.id)
    if not terms.revision or terms.slots not in {16, 32} or not 0 < terms.partitions <= 1024:
        raise AgreementError("a family has a revision, 16 or 32 slots, and 1 to 1024 partitions")
    return FamilyTerms(terms.id, terms.revision, terms.slots, terms.partitions)


def _check_id(value: str) -> None:
    if not _ID.fullmatch(value):
        raise AgreementError("an id is [a-z0-9._-]{1,64}")


def _all_keys(parties: Iterable[PartyInfo]) -> dict[bytes, KeyInfo]:
    """By kid. One public key has one owner and one use: no key stands twice, roots included."""
    found: dict[bytes, KeyInfo] = {}
    publics: list[bytes] = []
    for party in parties:
        publics += party.roots.values()
        for key in (*party.keys, *(key for agency in party.agencies for key in agency.keys)):
            found[key.kid] = key
            publics.append(key.public)
    if len({*publics}) != len(publics):
        raise AgreementError("a key has one owner and one use")
    return found


class _Signature(Protocol):
    """RootSignature, KeySignature."""

    kid: bytes
    signature: bytes


def check_signatures(party: PartyInfo, signatures: Iterable[_Signature], digest: bytes, ctx: bytes) -> None:
    """Raise AgreementError unless at least the threshold of the party's distinct roots signed `digest`.

    A signature of one of them that does not verify is refused, not skipped.
    """
    good = set()
    for signature in signatures:
        public = party.roots.get(signature.kid)
        if public is None:
            continue  # another party's
        try:
            keys.verify(public, signature.signature, digest, ctx)
        except SignatureError:
            raise AgreementError("a root signature that does not verify") from None
        good.add(signature.kid)
    if len(good) < party.threshold:
        raise AgreementError("fewer root signatures of a party than its threshold")
