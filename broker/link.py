"""The link between two parties as one gateway sees it: the agreement in force and the keys that the gateway holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from broker.agreement import Agreement, KeyInfo
from broker.canonical import H
from broker.errors import AgreementError, LinkError
from broker.keys import HpkeKey, SigningKey, VerifyKey, verify_key
from broker.message import Stream
from broker.v1.codes_pb2 import KEY_USE_HPKE_CONTROL, KEY_USE_HPKE_DATA

CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Held:
    """A signing key that this gateway holds, with its name in the agreement."""

    kid: bytes
    key: SigningKey


@dataclass(frozen=True, slots=True)
class Link:
    """Agreement, parties, and our own keys; replaced whole when any of them changes."""

    agreement: Agreement
    party: str
    envelope: Held
    attest: Held
    hpke: Mapping[bytes, HpkeKey]
    """kid to key: hpke-data and hpke-control."""
    peer: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "peer", self.agreement.peer(self.party))

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
        return 1 if family == CONTROL else self.agreement.families[family].partitions

    def streams_in(self) -> list[Stream]:
        """Every stream that the other party may send, control first."""
        families = [CONTROL, *sorted(self.agreement.families)]
        return [Stream(self.topic_in(f), n) for f in families for n in range(self.partitions(f))]

    def recipient_key(self, family: str, now_ms: int) -> KeyInfo:
        """The other party's encryption key to use now: the latest `not_before` that has begun.

        Raises: LinkError when none is valid; then nothing is sealed.
        """
        use = KEY_USE_HPKE_CONTROL if family == CONTROL else KEY_USE_HPKE_DATA
        try:
            return self.agreement.party_key(self.peer, use, now_ms)
        except AgreementError as error:
            raise LinkError("the other party has no valid encryption key") from error

    def verify_key(self, kid: bytes) -> VerifyKey:
        """The parsed public key of a kid of the agreement. Raises AgreementError when it is not there."""
        return verify_key(self.agreement.key(kid).public)

    def in_force(self, now_ms: int) -> bool:
        """Whether data may flow at this instant."""
        return self.agreement.in_force(now_ms)


def topic(sender: str, recipient: str, family: str) -> str:
    """`puente.<from>.<to>.<family>`, hyphens for underscores: Kafka's metrics confuse `.` and `_`."""
    return f"puente.{sender}.{recipient}.{family}".replace("_", "-")


@lru_cache(maxsize=1024)
def partition_of(conversation: bytes, partitions: int) -> int:
    """First 8 bytes of H(conversation), mod P."""
    return int.from_bytes(H(conversation)[:8], "big") % partitions
