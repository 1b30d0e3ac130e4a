"""The link between two parties as one gateway sees it: the agreements that it knows, and the keys that it holds.

Which agreement is in force is asked with a time at each use, so that both parties begin to use the next one at its
`not_before`, without anything happening (protocol section 10).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from broker.agreement import Agreement, FamilyTerms, KeyInfo
from broker.canonical import H
from broker.errors import AgreementError, KeySuspended, LinkError
from broker.keys import HpkeKey, SigningKey, VerifyKey, verify_key
from broker.message import Reason, Stream
from broker.v1.codes_pb2 import KEY_USE_ENVELOPE, KEY_USE_HPKE_CONTROL, KEY_USE_HPKE_DATA
from broker.v1.envelope_pb2 import Header

CONTROL = "control"
DAY_MS: Final = 86_400_000
GRACE_MS: Final = 7 * DAY_MS
"""How long after its end a key, and after the next one's beginning an agreement, is still taken."""
CONTROL_GRACE_MS: Final = 365 * DAY_MS
"""How long control goes on after an agreement expired."""
_NEVER: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Held:
    """A signing key that this gateway holds, with its name in the agreement."""

    kid: bytes
    key: SigningKey


class KeyRing:
    """What key items made of the agreements' keys: replaced whole when one is committed, read at every use."""

    __slots__ = ("added", "suspended")

    def __init__(self) -> None:
        self.added: Mapping[bytes, KeyInfo] = {}
        self.suspended: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Link:
    """Agreements (oldest first, each following the one before it), parties, and our own keys."""

    agreements: tuple[Agreement, ...]
    party: str
    signing: Mapping[bytes, SigningKey]
    """kid to key: envelope and attest."""
    hpke: Mapping[bytes, HpkeKey]
    """kid to key: hpke-data and hpke-control."""
    ring: KeyRing = field(default_factory=KeyRing)
    peer: str = field(init=False)
    families: Mapping[str, FamilyTerms] = field(init=False)
    """Every family of any of the agreements: slots and partitions are fixed for the life of a topic."""
    known: Mapping[bytes, Agreement] = field(init=False)
    """Digest to agreement."""
    _superseded: Mapping[bytes, int] = field(init=False, repr=False)
    _control: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        families = {terms.id: terms for one in self.agreements for terms in one.families.values()}
        begins = [one.not_before_ms for one in self.agreements[1:]] + [_NEVER]
        ends = {one.digest: end for one, end in zip(self.agreements, begins, strict=True)}
        object.__setattr__(self, "peer", self.agreements[0].peer(self.party))
        object.__setattr__(self, "_control", frozenset({self.topic_in(CONTROL), self.topic_out(CONTROL)}))
        object.__setattr__(self, "families", MappingProxyType(families))
        object.__setattr__(self, "known", MappingProxyType({one.digest: one for one in self.agreements}))
        object.__setattr__(self, "_superseded", MappingProxyType(ends))

    @property
    def agreement(self) -> Agreement:
        """The oldest agreement that we know, for what never changes: link id, parties, whether it is development."""
        return self.agreements[0]

    def at(self, time_ms: int) -> Agreement:
        """The newest agreement that has begun at `time_ms`; before the first one's beginning, the first."""
        for agreement in reversed(self.agreements):
            if agreement.not_before_ms <= time_ms:
                return agreement
        return self.agreements[0]

    def next_after(self, agreement: Agreement) -> Agreement | None:
        """The agreement that follows this one, when it is loaded."""
        return next((one for one in self.agreements if one.version == agreement.version + 1), None)

    def in_force(self, now_ms: int) -> bool:
        """Whether data may flow at this instant."""
        return self.at(now_ms).in_force(now_ms)

    def topic_out(self, family: str) -> str:
        """The topic that we send a family (or control) on."""
        return topic(self.party, self.peer, family)

    def topic_in(self, family: str) -> str:
        """The topic that the other party sends a family (or control) on."""
        return topic(self.peer, self.party, family)

    def stream_out(self, family: str, conversation: bytes) -> Stream:
        """The stream of a conversation: one partition, so its order is kept."""
        return Stream(self.topic_out(family), partition_of(conversation, self.partitions(family)))

    def partitions(self, family: str) -> int:
        """Partitions of a family's topics; control has one."""
        return 1 if family == CONTROL else self.families[family].partitions

    def streams_in(self) -> list[Stream]:
        """Every stream that the other party may send, control first."""
        families = [CONTROL, *sorted(self.families)]
        return [Stream(self.topic_in(f), n) for f in families for n in range(self.partitions(f))]

    # Keys

    def key(self, agreement: Agreement, kid: bytes) -> KeyInfo | None:
        """The key of that kid in this agreement, or added under it; None: there is none."""
        found = agreement.keys.get(kid)
        if found is None:
            found = self.ring.added.get(kid)
            if found is not None and self.at(found.not_before_ms) is not agreement:
                found = None  # added under another
        return found

    def find(self, kid: bytes) -> KeyInfo | None:
        """The key of that kid in the newest agreement that has it, or added under any."""
        for agreement in reversed(self.agreements):
            found = agreement.keys.get(kid)
            if found is not None:
                return found
        return self.ring.added.get(kid)

    def signer(self, kid: bytes, created_ms: int, agreement: Agreement) -> KeyInfo:
        """The key that may have signed at `created_ms`: of `agreement`, or of the one that was in force then.

        Raises: AgreementError when there is none or it was not valid then; KeySuspended.
        """
        found = self.key(agreement, kid) or self.key(self.at(created_ms), kid)
        if found is None or not found.valid_at(created_ms):
            raise AgreementError("a signing key that was not valid")
        if kid in self.ring.suspended:
            raise KeySuspended("the signing key is suspended")
        return found

    def verify_key(self, kid: bytes) -> VerifyKey:
        """The parsed public key of a kid. Raises AgreementError when no agreement has it."""
        found = self.find(kid)
        if found is None:
            raise AgreementError("a key that the agreement does not have")
        return verify_key(found.public)

    def own_key(self, use: int, now_ms: int, *, family: str = "") -> Held:
        """Our newest valid key for `use` that we hold and that is not suspended.

        Raises: LinkError when there is none: then nothing is signed.
        """
        agreement = self.at(now_ms)
        ours = [key for key in self._keys(agreement, self.party, use) if key.kid in self.signing]
        found = newest(ours, agreement, now_ms, self.ring.suspended, control=family == CONTROL)
        if found is None:
            raise LinkError("we hold no valid key for that")
        return Held(found.kid, self.signing[found.kid])

    def recipient_key(self, family: str, now_ms: int) -> KeyInfo:
        """The other party's encryption key to use now: the latest `not_before` that has begun.

        Raises: LinkError when none is valid; then nothing is sealed.
        """
        use = KEY_USE_HPKE_CONTROL if family == CONTROL else KEY_USE_HPKE_DATA
        agreement = self.at(now_ms)
        theirs = self._keys(agreement, self.peer, use)
        found = newest(theirs, agreement, now_ms, self.ring.suspended, control=family == CONTROL)
        if found is None:
            raise LinkError("the other party has no valid encryption key")
        return found

    def _keys(self, agreement: Agreement, party: str, use: int) -> list[KeyInfo]:
        """A gateway's keys of one use, in this agreement or added under it."""
        own = [key for key in agreement.parties[party].keys if key.use == use]
        added = [k for k in self.ring.added.values() if k.owner == party and k.use == use]
        return own + [key for key in added if self.at(key.not_before_ms) is agreement]

    def can_seal(self, family: str, now_ms: int) -> bool:
        """Whether data of a family can be sealed now: an agreement is in force, and both sides have a key for it."""
        try:
            self.own_key(KEY_USE_ENVELOPE, now_ms)
            self.recipient_key(family, now_ms)
        except LinkError:
            return False
        return self.in_force(now_ms)

    # Envelopes

    def why_not(self, header: Header, agreement: Agreement, keys: Iterable[KeyInfo], now_ms: int) -> Reason | None:
        """Step 7 for time: AGREEMENT or KEY when an envelope cannot be taken now; None when it can."""
        created = header.created_ms
        control = header.topic in self._control
        grace = CONTROL_GRACE_MS if control else 0
        if not agreement.not_before_ms <= created < agreement.expires_ms + grace:
            return Reason.AGREEMENT
        if now_ms > self._superseded[agreement.digest] + GRACE_MS:
            return Reason.AGREEMENT
        for key in keys:
            end = _end(key, agreement, control=control)
            if not key.not_before_ms <= created <= end or now_ms > end + GRACE_MS:
                return Reason.KEY
        return None

    def can_pass(self, header: Header, now_ms: int) -> bool:
        """Whether an envelope that we sealed earlier can still be taken: else it is sealed again (section 6)."""
        agreement = self.known.get(header.agreement_digest)
        if agreement is None or header.sender_kid in self.ring.suspended:
            return False
        used = [self.key(agreement, kid) for kid in (header.sender_kid, header.recipient_kid)]
        keys = [key for key in used if key is not None]
        return len(keys) == len(used) and self.why_not(header, agreement, keys, now_ms) is None


def newest(
    keys: Iterable[KeyInfo], agreement: Agreement, now_ms: int, suspended: frozenset[bytes], *, control: bool
) -> KeyInfo | None:
    """The valid key with the latest `not_before`; None when there is none.

    Those of the agreement come first: one that was added may not have reached the other party yet.
    """
    valid = [
        key
        for key in keys
        if key.not_before_ms <= now_ms <= _end(key, agreement, control=control) and key.kid not in suspended
    ]
    return max(valid, key=lambda key: (key.kid in agreement.keys, key.not_before_ms, key.kid), default=None)


def _end(key: KeyInfo, agreement: Agreement, *, control: bool) -> int:
    """When a key ends (ms). On control one that lasts as long as its agreement goes on as long as control does."""
    if control and key.not_after_ms >= agreement.expires_ms - 1:
        return agreement.expires_ms + CONTROL_GRACE_MS
    return key.not_after_ms


def topic(sender: str, recipient: str, family: str) -> str:
    """`puente.<from>.<to>.<family>`, hyphens for underscores: Kafka's metrics confuse `.` and `_`."""
    return f"puente.{sender}.{recipient}.{family}".replace("_", "-")


@lru_cache(maxsize=1024)
def partition_of(conversation: bytes, partitions: int) -> int:
    """First 8 bytes of H(conversation), mod P."""
    return int.from_bytes(H(conversation)[:8], "big") % partitions
