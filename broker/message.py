"""The nouns, frozen, no I/O. Protocol bytes stay bytes; what the ledger keeps of them has a shape here."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum

Clock = Callable[[], int]
"""Milliseconds since the Unix epoch; passed in, so that tests own time."""


class State(IntEnum):
    """Where a message stands; the numbers of broker.v1.State."""

    REFUSED = 1
    ACCEPTED = 2
    SENT = 3
    RECEIVED = 4
    DELIVERED = 5
    ACKNOWLEDGED = 6
    REJECTED = 7
    EXPIRED = 8
    RECALLED = 9


FINAL = frozenset({State.REFUSED, State.ACKNOWLEDGED, State.REJECTED, State.EXPIRED, State.RECALLED})

KEPT_MS = 30 * 24 * 3_600_000
"""How long a gateway keeps content after its message has ended, where no rule sets an end (docs/decisions/0013)."""


class Reason(IntEnum):
    """Why a state was set; the numbers of broker.v1.Reason."""

    NONE = 1
    POLICY = 2
    EXPIRED = 3
    CONFLICT = 4
    AUTHORITY = 5
    PROOF = 6
    RECORD_INVALID = 7
    ENVELOPE = 8
    TIME = 9
    KEY = 10
    AGREEMENT = 11
    OPEN = 12
    CONTENT = 13
    CHECKPOINT = 14
    DESTROYED = 15
    KEPT = 16
    AGENCY = 17
    MISSING = 18
    BEHIND = 19
    EPOCH = 20
    CORRECTION = 21


class Log(IntEnum):
    """A party's two logs."""

    EXCHANGE = 1
    DECISIONS = 2


@dataclass(frozen=True, slots=True)
class Stream:
    """One (topic, partition) from one party to the other."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Step:
    """One state that a message reached, and whether a receipt proves it."""

    state: State
    reason: Reason
    at_ms: int
    receipt: bool = False
    agency_signed: bool = False
    control: int = 0
    """Row of the control envelope that carried the receipt; 0: none."""


_STEP = struct.Struct(">BHQBI")


def pack_step(step: Step) -> bytes:
    """16 bytes: u8 state, u16 reason, u64 time, u8 flags, u32 control row; steps are kept one after another."""
    flags = step.receipt | step.agency_signed << 1
    return _STEP.pack(step.state, step.reason, step.at_ms, flags, step.control)


def unpack_steps(packed: bytes) -> Iterator[Step]:
    """The steps of `pack_step`, oldest first."""
    for state, reason, at_ms, flags, control in _STEP.iter_unpack(packed):
        yield Step(State(state), Reason(reason), at_ms, bool(flags & 1), bool(flags & 2), control)


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """A decision as logged: its entry, and what an officer may filter and have explained."""

    leaf: bytes
    entry: bytes
    time_ms: int
    action: str
    permit: bool
    family: str
    kind: str
    origin: str
    recipient: str
    purpose: int
    rules: str
    """Rule ids, each between spaces: ' R18 R37 '."""
    withheld: str
    """Section names, each between spaces."""
    obligations: str
    pack_digest: bytes
    law_ms: int
    context: bytes
    """What was asked, sealed under the message's opening key: it holds facts."""


@dataclass(frozen=True, slots=True)
class Accounting:
    """Who got what about whom, when and why (5 USC 552a(c)); the subject is a keyed hash."""

    subject: bytes
    recipient: str
    purpose: int
    time_ms: int
    keep_until_ms: int


@dataclass(frozen=True, slots=True)
class Submission:
    """One record as its agency hands it in: exact bytes, and its place in the tree that the agency signed."""

    statement: bytes
    record: bytes
    record_seed: bytes
    facts: bytes
    facts_salt: bytes
    place: int
    siblings: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SealedKeys:
    """A message's keys, wrapped under the vault's key-encryption key; the key store has them, the ledger the id."""

    key_id: bytes
    content: bytes
    """Opens slots; shredded when content must go. Empty: there is no content."""
    opening: bytes
    """Opens the decision's context, with the salts of what stands in the log; kept until accounting ends."""


@dataclass(frozen=True, slots=True)
class SignedBatch:
    """A batch statement (74 bytes) and the origin agency's signature over it."""

    statement: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A submission decided, ready to be committed in one transaction."""

    message_id: bytes
    origin: str
    recipient: str
    family: str
    kind: str
    purpose: int
    conversation: bytes
    statement_hash: bytes
    decision: DecisionRecord
    keys: SealedKeys
    expires_ms: int
    time_ms: int
    # Empty when refused:
    stream: Stream | None = None
    release: bytes = b""
    entry: bytes = b""
    core: bytes = b""
    content: bytes = b""
    """Slots, sealed under the message's content key."""
    destroy_by_ms: int = 0
    accounting: Accounting | None = None
    named: tuple[bytes, ...] = ()
    """Message ids and releases that the statement refers to; each must be known between these two agencies."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that arrived, judged, ready to be committed."""

    release: bytes
    message_id: bytes
    origin: str
    recipient: str
    family: str
    kind: str
    purpose: int
    conversation: bytes
    state: State
    reason: Reason
    time_ms: int
    expires_ms: int
    decision: DecisionRecord | None = None
    keys: SealedKeys | None = None
    entry: bytes = b""
    core: bytes = b""
    content: bytes = b""
    destroy_by_ms: int = 0
    batch: SignedBatch | None = None
    caveats: tuple[int, ...] = ()
    withheld: tuple[tuple[int, int], ...] = ()
    """(slot, notice code) that our own gateway withholds."""
    supersedes: bytes = b""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """What the ledger knows of one message; content only where asked for."""

    row: int
    message_id: bytes
    release: bytes
    way: str
    """out or in."""
    origin: str
    recipient: str
    family: str
    kind: str
    purpose: int
    conversation: bytes
    state: State
    reason: Reason
    steps: tuple[Step, ...]
    decision: bytes
    expires_ms: int
    destroy_by_ms: int
    destroyed: bool
    sealed: bool
    """An envelope holds it, or held it once: the other party may have it."""


@dataclass(frozen=True, slots=True)
class ControlItem:
    """A control item waiting to be sealed."""

    row: int
    kind: int
    salt: bytes
    body: bytes
