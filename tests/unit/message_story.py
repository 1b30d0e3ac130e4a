"""One agency's records, signed, decided and sealed, as the sender's side does it. Every byte follows from a label."""

import hashlib
from dataclasses import dataclass

from broker import keys, origin, sections
from broker.canonical import H, encode, leaf_hash
from broker.sealing import core_commit
from broker.v1 import codes_pb2
from broker.v1.envelope_pb2 import Content, Core, Header, Message, OriginStatement, SignedBatch, Slot
from broker.v1.log_pb2 import ENTRY_KIND_RELEASE, ReleaseEntry
from broker.v1.passenger_pb2 import Passenger

NOW = 1_800_000_000_000
FAMILY = sections.family("passenger")


def fixed(label, size=32):
    """Bytes that stand for randomness: the same for the same label."""
    return hashlib.shake_256(label.encode()).digest(size)


ORIGIN = keys.SigningKey.from_seed(fixed("origin key", 64))
ORIGIN_KID = keys.kid(1, codes_pb2.KEY_USE_ORIGIN, ORIGIN.public)
ENVELOPE = keys.SigningKey.from_seed(fixed("envelope key", 64))
HPKE = keys.HpkeKey.from_seed(fixed("hpke key"))


def passenger(n):
    record = Passenger(kind=1)
    record.identity.name.surname = f"NADIE{n}"
    record.identity.sex = 1
    record.travel.legs.add(carrier="XX", number="1", departure_port="MEX", arrival_port="ELP")
    record.documents.add(type="P", number=f"A{n}")
    return record


@dataclass
class Signed:
    """A submission and what its agency keeps."""

    statement: bytes
    record: bytes
    seed: bytes
    message_id: bytes
    place: int = 0
    siblings: tuple = ()


def submission(n, **changes):
    record, seed, message_id = encode(passenger(n)), fixed(f"seed {n}"), fixed(f"message {n}", 16)
    leaves = sections.leaves(sections.split(record, 16), sections.salt_block(seed, message_id, 16))
    fields = {
        "version": 1,
        "link_id": fixed("link", 16),
        "message_id": message_id,
        "family": "passenger",
        "family_revision": 1,
        "record_root": sections.record_root(leaves),
        "origin_agency": "mx.inm",
        "recipient_agency": "us.cbp",
        "purpose": codes_pb2.PURPOSE_BORDER_SECURITY,
        "legal_basis": ["bilateral.basis"],
        "conversation": fixed("conversation", 16),
        "facts_commit": origin.facts_commit(fixed("facts salt"), b""),
        "created_ms": NOW,
        "expires_ms": NOW + 86_400_000,
        "origin_kid": ORIGIN_KID,
    }
    return Signed(encode(OriginStatement(**(fields | changes))), record, seed, message_id)


def sign(submissions, draw=lambda size: fixed("places", size)):
    """The signed batch of `submissions`, whose places and siblings it sets."""
    leaves = [origin.origin_leaf(one.statement) for one in submissions]
    root, paths = origin.OriginTree.build(leaves, draw)
    for one, (place, siblings) in zip(submissions, paths, strict=True):
        one.place, one.siblings = place, siblings
    statement = origin.batch_statement(ORIGIN_KID, NOW, root)
    return SignedBatch(statement=statement, signature=ORIGIN.sign(statement, keys.CTX_ORIGIN))


def message_of(one, batch, withhold=(), **core_changes):
    """The message that the sender's gateway releases, with some slots closed."""
    parts = sections.split(one.record, 16)
    block = sections.salt_block(one.seed, one.message_id, 16)
    leaves = sections.leaves(parts, block)
    shown = sum(1 << n for n, part in enumerate(parts) if part and n + 1 not in withhold)
    core = {
        "statement": one.statement,
        "batch": H(batch.statement),
        "place": one.place,
        "siblings": one.siblings,
        "shown": shown,
        "destroy_by_ms": NOW + 7 * 86_400_000,
    }
    core_bytes = encode(Core(**(core | core_changes)))
    commit_salt = fixed("commit " + one.message_id.hex())
    entry = ReleaseEntry(
        kind=ENTRY_KIND_RELEASE,
        time_ms=NOW,
        blind=fixed("blind " + one.message_id.hex()),
        message_id=one.message_id,
        origin_leaf=origin.origin_leaf(one.statement),
        core_commit=core_commit(commit_salt, core_bytes),
        decision=leaf_hash(b"decision"),
    )
    slots = [
        Slot(salt=block[32 * n : 32 * n + 32], section=part) if shown >> n & 1 else Slot(leaf=leaves[n])
        for n, part in enumerate(parts)
    ]
    return Message(release_entry=encode(entry), core=core_bytes, commit_salt=commit_salt, slots=slots)


def content(count, withhold=()):
    submissions = [submission(n) for n in range(count)]
    batch = sign(submissions)
    return Content(batches=[batch], messages=[message_of(one, batch, withhold) for one in submissions])


def header(**changes):
    fields = {
        "sender_party": "mx",
        "recipient_party": "us",
        "topic": "puente.mx.us.passenger",
        "epoch": 1,
        "seq": 1,
        "created_ms": NOW,
        "sender_kid": keys.kid(1, codes_pb2.KEY_USE_ENVELOPE, ENVELOPE.public),
        "recipient_kid": keys.kid(1, codes_pb2.KEY_USE_HPKE_DATA, HPKE.public),
        "agreement_digest": H(b"agreement"),
    }
    return Header(**(fields | changes))
