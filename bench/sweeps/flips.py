"""Facts flipped one at a time: what leaves must not tell whether, or which, facts were stated.

Where the outcome stays a permit, everything that leaves is the same in all but randomness; where it becomes a refusal,
nothing leaves. Both gateways run in one process, on a clock that stands.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bench import workload
from broker.message import Log, Stream
from broker.sealing import open_content, parse_envelope
from broker.v1.codes_pb2 import Purpose
from broker.v1.envelope_pb2 import CONTROL_KIND_HEADS, Content, Core, Message, OriginStatement
from broker.v1.facts_pb2 import CLAIM_STATUS_PENDING, ClaimStatus, Facts
from tests.simulator import BASIS, Simulator

WIDE_PLACE: Final = 128
"""From here on a place takes two bytes: drawn places are random, and their length would be noise."""
STATED: Final = (
    Facts(),
    Facts(special_relief=CLAIM_STATUS_PENDING, special_relief_exception=True),
    Facts(asylum_information=True, asylum_exception=True),
    Facts(trafficking_victim=True, victim_consent=True),
)
"""What is stated beside the fact that is flipped."""
SOURCES: Final = ("us.sorn.cbp-005", "us.sorn.dhs-007", "a-source-that-no-rule-names")
_RANDOM: Final = (
    "message_id", "record_root", "facts_commit", "link_id", "origin_kid", "conversation", "created_ms", "expires_ms",
)  # fmt: skip


def run() -> dict[str, int]:
    """`facts` of outputs."""
    with tempfile.TemporaryDirectory(prefix="puente-flips-") as scratch:
        simulator = Simulator(Path(scratch) / "link")
        try:
            return asyncio.run(_run(simulator))
        finally:
            simulator.close()


async def _run(simulator: Simulator) -> dict[str, int]:
    await simulator.settle()
    flipped = differences = 0
    for purpose in (workload.BORDER, workload.INVESTIGATION):
        plain = await _leaving(simulator, purpose, None)
        for facts in _flips():
            flipped += 1
            differences += await _leaving(simulator, purpose, facts) not in (plain, ("refused",))
    return {"flipped": flipped, "differences": differences}


def _flips() -> Iterator[Facts]:
    """Each value of each fact, with each of `STATED`."""
    for stated in STATED:
        for descriptor in Facts.DESCRIPTOR.fields:
            values: list[Any] = [True]
            if descriptor.enum_type is not None:
                values = [value for value in ClaimStatus.values() if value]
            elif descriptor.name == "source_system":
                values = list(SOURCES)
            for value in values:
                facts = Facts()
                facts.CopyFrom(stated)
                setattr(facts, descriptor.name, value)
                yield facts


async def _leaving(simulator: Simulator, purpose: Purpose.ValueType, facts: Facts | None) -> tuple[Any, ...]:
    """Everything that leaves for one record, without what is random; a refusal first, when nothing else does."""
    envelopes, entries = _seen(simulator)
    while True:
        batch, items = simulator.batch(
            [workload.passenger(1)], purpose=purpose, facts=facts, basis=BASIS, conversation=bytes(16)
        )
        if items[0].place >= WIDE_PLACE:
            break
    (result,) = await simulator.us.outbound.submit(workload.SENDER, batch, items)
    await simulator.settle()
    after, logged = _seen(simulator)
    left = [
        shape
        for stream, found in after.items()
        for data in found[len(envelopes[stream]) :]
        if (shape := _shape(simulator, data))
    ]
    shapes = tuple(len(entry) for entry in logged[len(entries) :])
    word = ("refused",) if result.outcome == "refused" else ()
    return (*word, *left, *shapes)


def _seen(simulator: Simulator) -> tuple[dict[Stream, list[bytes]], list[bytes]]:
    """Envelopes to the other party by stream, and entries of our exchange log, as they stand."""
    streams = simulator.us.relay._fences
    return {stream: simulator.transport.all(stream) for stream in streams}, simulator.entries("us", Log.EXCHANGE)


def _shape(simulator: Simulator, data: bytes) -> tuple[Any, ...]:
    parsed = parse_envelope(data)
    header = parsed.header
    content = open_content(parsed, simulator.mx.link.hpke[header.recipient_kid])
    if content.items and all(item.kind == CONTROL_KIND_HEADS for item in content.items):
        return ()  # sent after so many envelopes, whatever was in them
    return len(parsed.enc_ct), header.topic, header.partition, header.count, *_content(simulator, content)


def _content(simulator: Simulator, content: Content) -> Iterator[Any]:
    yield len(content.batches), len(content.items)
    for message in content.messages:
        yield from _message(simulator, message)


def _message(simulator: Simulator, message: Message) -> Iterator[Any]:
    core = Core.FromString(message.core)
    statement = OriginStatement.FromString(core.statement)
    for name in _RANDOM:
        statement.ClearField(name)
    yield message.ByteSize(), len(message.release_entry), len(message.core)
    yield statement.SerializeToString(deterministic=True), core.shown, tuple(core.gateway_caveats)
    yield tuple((notice.slot, notice.code) for notice in core.notices)
    yield core.destroy_by_ms - simulator.clock() if core.destroy_by_ms else 0
    yield tuple((bool(slot.leaf), slot.ByteSize()) for slot in message.slots)
