"""A gateway of `us` that has valid keys and does not play by the rules: envelopes by hand, into mx's streams."""

import os

from broker import wire
from broker.canonical import H, encode, leaf_hash
from broker.keys import HpkeKey, SigningKey
from broker.link import CONTROL, topic
from broker.message import SignedBatch, Stream, Submission
from broker.origin import origin_leaf, parse_statement
from broker.sealing import core_commit, seal
from broker.sections import leaves, salt_block, split
from broker.v1 import envelope_pb2 as pb
from broker.v1.codes_pb2 import KEY_USE_ENVELOPE
from broker.v1.log_pb2 import ENTRY_KIND_RELEASE, ReleaseEntry
from tests.simulator import Simulator, person


class Hostile:
    """Speaks for `us` with its real keys."""

    def __init__(self, sim: Simulator) -> None:
        self.sim = sim
        self.link = sim.us.link
        self.last: dict[Stream, int] = {}

    def message(
        self, item: Submission, batch: SignedBatch, *, withhold=(), entry=None, slots=None, **core
    ) -> pb.Message:
        """A message of a submission; `core` and `entry` change its fields, `slots` maps the slots before they go."""
        statement = parse_statement(item.statement)
        parts = split(item.record, 16)
        block = salt_block(item.record_seed, statement.message_id, 16)
        shown = sum(1 << n for n, part in enumerate(parts) if part and n + 1 not in withhold)
        fields = {
            "statement": item.statement, "batch": H(batch.statement), "place": item.place,
            "siblings": item.siblings, "shown": shown,
        }  # fmt: skip
        core_bytes = encode(pb.Core(**(fields | core)))
        salt = os.urandom(32)
        released = {
            "kind": ENTRY_KIND_RELEASE, "time_ms": self.sim.clock(), "blind": os.urandom(32),
            "message_id": statement.message_id, "origin_leaf": origin_leaf(item.statement),
            "core_commit": core_commit(salt, core_bytes), "decision": os.urandom(32),
        }  # fmt: skip
        entry_bytes = encode(ReleaseEntry(**(released | (entry or {}))))
        data = wire.message_bytes(
            entry_bytes, core_bytes, salt, wire.slots_bytes(parts, leaves(parts, block), block, shown)
        )
        message = pb.Message.FromString(data)
        if slots is not None:
            slots(message.slots)
        return message

    def one(self, *, person_changes=None, conversation=None, withhold=(), entry=None, slots=None, core=None, **fields):
        """(Content of one message, its release, its conversation): as an honest gateway sends it, but for changes."""
        conversation = conversation or os.urandom(16)
        record = person(1, **(person_changes or {}))
        batch, items = self.sim.batch([record], conversation=conversation, **fields)
        message = self.message(items[0], batch, withhold=withhold, entry=entry, slots=slots, **(core or {}))
        content = pb.Content(
            batches=[pb.SignedBatch(statement=batch.statement, signature=batch.signature)], messages=[message]
        )
        return content, leaf_hash(message.release_entry), conversation

    def stream(self, conversation: bytes = b"", family: str = "passenger") -> Stream:
        if family == CONTROL:
            return Stream(topic("us", "mx", CONTROL), 0)
        return self.link.stream_out(family, conversation)

    def seal(
        self, stream: Stream, content: pb.Content, *, signer: SigningKey | None = None, key: bytes = b"",
        edit=None, **changes,
    ) -> bytes:  # fmt: skip
        """An envelope with the next seq of its stream; `changes` are fields of the header, `edit` changes it last."""
        is_control = stream.topic.endswith(CONTROL)
        recipient = self.link.recipient_key(CONTROL if is_control else "passenger", self.sim.clock())
        before, now = self.last.get(stream, 0), self.sim.clock()
        own = self.link.own_key(KEY_USE_ENVELOPE, now, family=CONTROL)
        fields = {
            "sender_party": "us", "recipient_party": "mx", "topic": stream.topic, "partition": stream.partition,
            "epoch": 1, "seq": before + 1, "after": before, "created_ms": self.sim.clock(),
            "sender_kid": own.kid, "recipient_kid": recipient.kid,
            "agreement_digest": self.link.at(now).digest,
        }  # fmt: skip
        header = pb.Header(**(fields | changes))
        sealed, _ = seal(header, content, key or recipient.public, signer or own.key)
        return sealed if edit is None else edit(sealed)

    async def send(self, stream: Stream, content: pb.Content, **how) -> bytes:
        """Seal, put into the transport, and let mx read; the envelope."""
        envelope = self.seal(stream, content, **how)
        await self.put(stream, envelope)
        return envelope

    async def put(self, stream: Stream, *envelopes: bytes) -> None:
        self.sim.transport.put(stream, envelopes)
        await self.sim.mx.relay.read_waiting()
        self.last[stream] = max(self.last.get(stream, 0), self.taken(stream))

    def taken(self, stream: Stream) -> int:
        return self.inflow(stream).taken

    def inflow(self, stream: Stream):
        return self.sim.mx.ledger.read(lambda tx: tx.streams.inflow(stream))

    def quarantined(self) -> list[tuple[str, int]]:
        """(why, times) of what mx skipped."""
        return self.sim.rows("mx", "SELECT why, times FROM quarantine ORDER BY time_ms")


def other_hpke() -> bytes:
    """The public half of a key that nobody holds."""
    return HpkeKey.generate().public
