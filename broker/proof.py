"""Step 11 of protocol section 5: a message follows from its release, and holds what an agency signed.

Both gateways and the client run it. What it does not do: authority (step 10), the batch signature (once a batch, by the
caller, over the root returned here), and field rules (`sections.validate_record`, gateways only).
"""

from dataclasses import dataclass

from google.protobuf.message import Message as Record

from broker import sections
from broker.canonical import parse
from broker.errors import CanonicalError, OriginError, ProofError, SectionError
from broker.origin import PLACES, TIME_END, origin_leaf, origin_root, parse_statement
from broker.sealing import LIMITS, core_commit, release_of
from broker.sections import FamilyInfo
from broker.v1.envelope_pb2 import Core, Message, OriginStatement
from broker.v1.log_pb2 import ENTRY_KIND_RELEASE, ReleaseEntry


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The parts of a message, canonical and of the right shape, not yet proved."""

    message: Message
    release: bytes
    entry: ReleaseEntry
    core: Core
    statement_bytes: bytes
    statement: OriginStatement


@dataclass(frozen=True, slots=True)
class Proven:
    """A message that follows from its release.

    `record_bytes` and `record`: the open sections only; `shown`: bit n-1, slot n is open; `leaves`: all slots, 32 bytes
    each; `batch`: H of the BatchStatement; `batch_root`: what that statement must say, for its signature to count.
    """

    release: bytes
    entry: ReleaseEntry
    core: Core
    statement_bytes: bytes
    statement: OriginStatement
    leaves: tuple[bytes, ...]
    record_bytes: bytes
    record: Record
    shown: int
    batch: bytes
    batch_root: bytes


def unpack_message(message: Message) -> Unpacked:
    """Read entry, core and statement, as step 10 needs them.

    Raises:
        ProofError: one of them is too large, not canonical or of another shape.
    """
    try:
        entry = parse(ReleaseEntry, message.release_entry)
        if len(message.core) > LIMITS.core:
            raise ProofError("a core larger than 8 KiB")
        core = parse(Core, message.core)
        statement = parse_statement(core.statement)
    except (CanonicalError, OriginError) as error:
        raise ProofError(str(error)) from None
    _check_entry(entry)
    if len(core.batch) != 32 or core.place >= PLACES:
        raise ProofError("a core's batch is a hash, and its place below 256")
    if len(core.gateway_caveats) > LIMITS.caveats or 0 in core.gateway_caveats:
        raise ProofError("a core has at most 32 caveats, each of the closed list")
    if core.destroy_by_ms >= TIME_END or entry.time_ms >= TIME_END:
        raise ProofError("a time out of range")
    return Unpacked(message, release_of(message.release_entry), entry, core, core.statement, statement)


def _check_entry(entry: ReleaseEntry) -> None:
    if entry.kind != ENTRY_KIND_RELEASE or len(entry.message_id) != 16:
        raise ProofError("an entry that releases no message")
    if not len(entry.blind) == len(entry.origin_leaf) == len(entry.core_commit) == len(entry.decision) == 32:
        raise ProofError("a hash of a release entry is 32 bytes")


def prove_message(
    message: Message, family: FamilyInfo, *, unpacked: Unpacked | None = None, narrowed: bool = False
) -> Proven:
    """Prove that `message` follows from its release entry.

    `unpacked`: its parts, when step 10 has read them already. `narrowed`: the reader's own gateway may have closed
    slots that were open when the message was released (an agency's view); else exactly the released ones are open.

    Raises:
        ProofError: anything that does not follow.
    """
    parts = unpacked or unpack_message(message)
    core, entry, statement = parts.core, parts.entry, parts.statement
    if len(message.commit_salt) != 32 or core_commit(message.commit_salt, message.core) != entry.core_commit:
        raise ProofError("the core is not the one released")
    leaf = origin_leaf(parts.statement_bytes)
    if leaf != entry.origin_leaf or statement.message_id != entry.message_id:
        raise ProofError("the statement is not the one released")
    if statement.family != family.id or statement.family_revision > family.revision:
        raise ProofError("a statement of another family, or of a revision that is not known")
    _check_core(core, family.slots)
    try:
        leaves, record_bytes, shown = sections.open_slots(message.slots, family.slots)
        if len(record_bytes) > LIMITS.record:  # and so the slots are within theirs
            raise ProofError("a record larger than 256 KiB")
        if sections.record_root(leaves) != statement.record_root:
            raise ProofError("the slots are not those of the record that was signed")
        if shown & ~core.shown if narrowed else shown != core.shown:
            raise ProofError("other slots are open than those released")
        if not shown & 1:
            raise ProofError("the kind is never withheld")
        record = parse(family.message_class, record_bytes)
        batch_root = origin_root(leaf, core.place, core.siblings)
    except (CanonicalError, OriginError, SectionError) as error:
        raise ProofError(str(error)) from None
    return Proven(
        release=parts.release,
        entry=entry,
        core=core,
        statement_bytes=parts.statement_bytes,
        statement=statement,
        leaves=tuple(leaves),
        record_bytes=record_bytes,
        record=record,
        shown=shown,
        batch=core.batch,
        batch_root=batch_root,
    )


def _check_core(core: Core, slots: int) -> None:
    if core.shown >> slots:
        raise ProofError("a core shows a slot that the family does not have")
    notices = core.notices
    if len(notices) > slots or not all(0 < notice.slot <= slots and notice.code for notice in notices):
        raise ProofError("a notice is of a slot of the family, with a code of the closed list")
