"""Loss, duplicates and reordering in the transport, and what both gateways do about them: protocol section 6."""

import asyncio
import os

import pytest

from broker import heads, sealing, standing
from broker import relay as relaying
from broker.canonical import H, encode
from broker.errors import OpenError, StreamLost
from broker.keys import CTX_ENVELOPE, HpkeKey, hpke_seal
from broker.link import CONTROL
from broker.message import Reason, State, Stream
from broker.sealing import parse_envelope
from broker.transport import RETENTION_MS
from broker.transport.memory import MemoryTransport
from broker.transport.sqlite import SqliteTransport
from broker.v1 import codes_pb2, passenger_pb2
from broker.v1 import envelope_pb2 as pb
from tests.hostile import Hostile
from tests.simulator import person

MINUTE_MS = 60_000
CONVERSATION = b"conversation one"


@pytest.fixture
def data(sim):
    """The stream of CONVERSATION."""
    return sim.us.link.stream_out("passenger", CONVERSATION)


async def beat(sim, times=1):
    """A minute passes: heads are sent, and what they ask for is done."""
    for _ in range(times):
        sim.clock.now += MINUTE_MS
        await sim.settle()


async def one_by_one(sim, count, first=1, **how):
    """Records of one conversation, each sealed alone, so that each has an envelope."""
    results = []
    for n in range(first, first + count):
        results += await sim.submit([person(n)], conversation=CONVERSATION, **how)
        while await sim.us.relay.send():
            pass
    return [r.message_id for r in results]


async def arrived(sim):
    """Message ids in the order in which mx's agency is offered them."""
    holder = os.urandom(4).hex()
    offers = await sim.offers("mx.inm", holder=holder)
    await sim.mx.ledger.commit(lambda tx: tx.mailbox.let_go(holder))
    return [pb_statement(offer.core).message_id for offer in offers]


def pb_statement(core):
    return pb.OriginStatement.FromString(pb.Core.FromString(core).statement)


def drop(stream, *numbers):
    """A fault that drops the n-th, ... envelope of a stream (from 1), each once."""
    left, seen = set(numbers), [0]

    def fault(at, envelopes):
        if at != stream:
            return envelopes
        kept = []
        for envelope in envelopes:
            seen[0] += 1
            if seen[0] in left:
                left.discard(seen[0])
            else:
                kept.append(envelope)
        return kept

    fault.left = left
    return fault


def seqs(sim, stream):
    return [parse_envelope(data).header.seq for data in sim.transport.all(stream)]


async def started(sim):
    await sim.settle()


# Loss


@pytest.mark.parametrize("lost", [(1,), (2,), (3,), (1, 2), (1, 3), (1, 2, 3)], ids=str)
async def test_a_lost_envelope_is_noticed_sent_again_byte_for_byte_and_all_arrive_in_order(sim, data, lost):
    await started(sim)
    sim.transport.fault = drop(data, *lost)
    sent = await one_by_one(sim, 3)
    stored = sim.rows("us", "SELECT seq, envelope FROM envelopes WHERE topic = ? ORDER BY seq", data.topic)
    await sim.settle()
    assert not sim.transport.fault.left  # the fault happened
    assert len(await arrived(sim)) == min(lost) - 1
    await beat(sim, 3)
    assert await arrived(sim) == sent
    through = {parse_envelope(e).header.seq: e for e in sim.transport.all(data)}
    assert through == dict(stored)
    assert not sim.alarms("us") + sim.alarms("mx")


async def test_a_later_envelope_shows_the_loss_before_the_minute_is_over(sim, data):
    await started(sim)
    sim.clock.now += 20_000  # heads may be sent again
    sim.transport.fault = drop(data, 1)
    sent = await one_by_one(sim, 2)
    await sim.settle(10)
    assert await arrived(sim) == sent


async def test_a_loss_in_control_is_repaired_too(sim):
    await started(sim)
    control = Stream(sim.mx.link.topic_out(CONTROL), 0)
    sim.transport.fault = drop(control, 1)
    [message_id] = await one_by_one(sim, 1)
    await sim.settle()
    assert sim.sent(message_id).state is State.SENT  # its receipt was lost
    await beat(sim, 3)
    assert sim.sent(message_id).state is State.RECEIVED


async def test_control_lost_both_ways_at_once_does_not_lock(sim):
    sim.transport.fault = lambda stream, envelopes: []
    await sim.settle()
    [message_id] = await one_by_one(sim, 1)
    await sim.settle()
    sim.transport.fault = None
    await beat(sim, 4)
    assert sim.sent(message_id).state is State.RECEIVED
    assert not sim.alarms("us") + sim.alarms("mx")


async def test_everything_arrives_whatever_is_lost_on_the_way(sim, data):
    """Every third put is lost, in every stream, until it stops."""
    await started(sim)
    count = [0]

    def fault(_, envelopes):
        count[0] += 1
        return [] if count[0] % 3 == 0 else envelopes

    sim.transport.fault = fault
    sent = await one_by_one(sim, 8)
    await beat(sim, 4)
    sim.transport.fault = None
    await beat(sim, 5)
    assert count[0] > 6
    assert await arrived(sim) == sent
    assert sim.states("us")[0] == {State.RECEIVED: 8}
    assert not sim.alarms("us") + sim.alarms("mx")


# Duplicates and reordering


async def test_every_envelope_twice_changes_nothing(sim, data):
    sim.transport.fault = lambda _, envelopes: [e for envelope in envelopes for e in (envelope, envelope)]
    await started(sim)
    sent = await one_by_one(sim, 3)
    await beat(sim, 2)
    assert await arrived(sim) == sent
    assert sim.states("mx")[1] == {State.DELIVERED: 3}
    assert not sim.alarms("us") + sim.alarms("mx")


async def test_envelopes_out_of_order_are_taken_in_order(sim, data):
    await started(sim)
    held = []

    def fault(stream, envelopes):
        if stream != data:
            return envelopes
        held.extend(envelopes)
        return list(reversed(held)) if len(held) == 3 else []

    sim.transport.fault = fault
    sent = await one_by_one(sim, 3)
    sim.transport.fault = None
    assert seqs(sim, data) == [3, 2, 1]
    await beat(sim, 3)
    assert await arrived(sim) == sent


async def test_what_the_embedded_topic_removed_before_it_was_read_is_put_again(sim, data, tmp_path):
    sim.us.relay.transport = SqliteTransport(tmp_path / "files", "us", "mx")
    sim.mx.relay.transport = SqliteTransport(tmp_path / "files", "mx", "us")
    await started(sim)
    week = RETENTION_MS + MINUTE_MS
    sent = await one_by_one(sim, 1, expires_ms=sim.clock() + 3 * week)  # and mx is away
    await sim.us.relay.sweep()
    sim.clock.now += week
    await sim.us.relay.sweep()
    assert sim.mx.relay.transport.get(data, 0, 9) == []
    sent += await one_by_one(sim, 1, first=2)
    await sim.settle()
    await beat(sim, 3)
    assert await arrived(sim) == sent
    assert not sim.alarms("us") + sim.alarms("mx")
    for gateway in (sim.us, sim.mx):
        gateway.relay.transport.close()


# Sealing again


async def test_what_cannot_be_opened_is_sealed_again_under_new_seqs_after_what_was_taken(sim, data):
    await started(sim)
    good = await one_by_one(sim, 1)
    await sim.settle()
    sim.transport.fault = lambda stream, envelopes: [_resealed(sim, e) if stream == data else e for e in envelopes]
    bad = await one_by_one(sim, 2, first=2)
    sim.transport.fault = None
    await sim.settle()
    await beat(sim, 3)
    assert await arrived(sim) == good + bad
    last = parse_envelope(sim.transport.all(data)[-1]).header
    headers = [parse_envelope(e).header for e in sim.transport.all(data)]
    assert [(h.seq, h.after) for h in headers[:3]] == [(1, 0), (2, 1), (3, 2)]
    assert headers[3].seq > 3
    assert headers[3].after == 1
    assert last.seq == headers[-1].seq
    assert not sim.alarms("us") + sim.alarms("mx")


def _resealed(sim, envelope):
    """The same header and content, sealed to a key that mx does not hold; signed by us."""
    parsed = parse_envelope(envelope)
    ciphertext = hpke_seal(bytes(1024), HpkeKey.generate().public, b"")
    signature = sim.us.link.own_key(codes_pb2.KEY_USE_ENVELOPE, sim.clock()).key.sign(
        parsed.header_hash + H(ciphertext), CTX_ENVELOPE
    )
    return encode(pb.Envelope(header=parsed.header_bytes, enc_ct=ciphertext, signature=signature))


async def test_a_message_that_can_never_be_taken_ends_refused_alone_and_those_behind_it_arrive(sim, monkeypatch):
    """mx finds every envelope with the first message unreadable; after some tries it stands alone and is refused."""
    await started(sim)
    sent = await one_by_one(sim, 3)
    await sim.us.relay.send()
    victim = sim.sent(sent[0]).release
    open_content = sealing.open_content

    def opened(parsed, key):
        content = open_content(parsed, key)
        if any(sealing.release_of(m.release_entry) == victim for m in content.messages):
            raise OpenError("planted")
        return content

    monkeypatch.setattr(sealing, "open_content", opened)
    await sim.settle()
    await beat(sim, 12)
    monkeypatch.undo()
    assert (sim.sent(sent[0]).state, sim.sent(sent[0]).reason) == (State.REFUSED, Reason.ENVELOPE)
    assert await arrived(sim) == sent[1:]


async def test_a_replayed_head_is_not_acted_on_again(sim, data):
    """Whoever controls the transport replays an old complaint: nothing is sealed again for it."""
    await started(sim)
    sim.transport.fault = lambda stream, envelopes: [_resealed(sim, e) if stream == data else e for e in envelopes]
    await one_by_one(sim, 1)
    sim.transport.fault = lambda stream, envelopes: [] if stream == data else envelopes
    await sim.settle()
    await beat(sim, 1)
    control = Stream(sim.mx.link.topic_out(CONTROL), 0)
    before = sim.us.ledger.read(lambda tx: tx.streams.outflow(data))
    assert before.repairs == 1
    old = list(sim.transport.all(control))
    for _ in range(6):
        sim.transport.fault = None
        sim.transport.put(control, old)
        sim.transport.fault = lambda stream, envelopes: [] if stream == data else envelopes
        await sim.turn("us")
    assert sim.us.ledger.read(lambda tx: tx.streams.outflow(data)).repairs == 1
    assert sim.states("us")[0] in ({State.SENT: 1}, {State.ACCEPTED: 1})


async def test_a_duplicate_that_is_taken_after_it_was_sealed_again_accuses_nobody_and_the_stream_goes_on(sim, data):
    """us's clock was ahead: mx complains (TIME), and takes a duplicate of the first envelope before the new one."""
    await started(sim)
    real_now = sim.us.relay.clock
    sim.us.relay.clock = lambda: real_now() + 6 * MINUTE_MS
    [first] = await one_by_one(sim, 1)
    sim.us.relay.clock = real_now
    early = sim.transport.all(data)[0]
    sim.clock.now += 20_000
    await sim.turn("mx")  # complains
    await sim.turn("mx")
    assert sim.mx.ledger.read(lambda tx: tx.streams.inflow(data)).why is Reason.TIME
    sim.clock.now += 2 * MINUTE_MS
    sim.transport.put(data, [early])  # the transport is at least once
    await sim.mx.relay.read_waiting()
    assert sim.came(sim.sent(first).release) is not None
    await sim.turn("us")  # seals again, on the complaint
    [second] = await one_by_one(sim, 1, first=2)
    await beat(sim, 4)
    assert not sim.alarms("us") + sim.alarms("mx")
    assert await arrived(sim) == [first, second]
    assert sim.sent(first).state is State.RECEIVED
    assert sim.sent(second).state is State.RECEIVED


async def unsealed_again(sim, data, *, taken):
    """A message whose first envelope mx complains of (TIME), so that it waits to be sealed again; `taken`: mx takes a
    duplicate of that envelope all the same."""
    await started(sim)
    real_now = sim.us.relay.clock
    sim.us.relay.clock = lambda: real_now() + 6 * MINUTE_MS
    [message_id] = await one_by_one(sim, 1)
    sim.us.relay.clock = real_now
    early = sim.transport.all(data)[0]
    sim.clock.now += 20_000
    await sim.turn("mx")
    await sim.turn("mx")
    sim.clock.now += 2 * MINUTE_MS
    if taken:
        sim.transport.put(data, [early])
        await sim.mx.relay.read_waiting()
    await sim.us.relay.read_waiting()  # the complaint comes; nothing is sealed yet
    seen = sim.sent(message_id)
    assert seen.state is State.ACCEPTED
    assert (sim.came(seen.release) is not None) is taken
    return message_id, seen.release


@pytest.mark.parametrize("taken", [True, False])
async def test_a_recall_while_a_message_waits_to_be_sealed_again_goes_to_the_other_party(sim, data, taken):
    message_id, release = await unsealed_again(sim, data, taken=taken)
    view = await sim.recall("us.cbp", message_id)
    assert view.state == State.ACCEPTED  # it ends by the other party's word, not by ours
    await beat(sim, 2)
    seen = sim.sent(message_id)
    assert seen.state is State.RECALLED
    assert seen.steps[-1].receipt
    assert sim.came(release).state is State.RECALLED
    assert await sim.offers("mx.inm") == []
    assert not sim.alarms("us") + sim.alarms("mx")


@pytest.mark.parametrize("taken", [True, False])
async def test_a_message_that_runs_out_while_it_waits_to_be_sealed_again_ends_by_its_recipients_word(sim, data, taken):
    message_id, release = await unsealed_again(sim, data, taken=taken)
    await sim.pass_time(25 * 60 * MINUTE_MS)
    assert sim.sent(message_id).state is State.ACCEPTED
    await beat(sim, 2)
    seen = sim.sent(message_id)
    assert seen.state is State.EXPIRED
    assert seen.steps[-1].receipt
    assert sim.came(release).state is State.EXPIRED
    assert not sim.alarms("us") + sim.alarms("mx")


async def test_an_answer_to_the_first_envelope_is_no_evidence_although_the_transport_never_said_that_it_has_it(
    sim, data
):
    """Stored, put, and the word of it lost: then sealed again, on a complaint of mx that came too late."""
    message_id, release = await unsealed_again(sim, data, taken=True)
    await sim.us.ledger.commit(  # as if the process had died between the put and its record
        lambda tx: tx.outbox._db.execute("UPDATE outbound SET steps = substr(steps, 1, 16)").fetchall()
    )
    await sim.offers("mx.inm")
    await sim.answer("mx.inm", release)
    await beat(sim, 2)
    assert sim.sent(message_id).state is State.ACKNOWLEDGED
    assert not sim.alarms("us") + sim.alarms("mx")


async def test_content_that_had_to_go_while_it_waited_to_be_sealed_again_ends_here_and_stops_nobody(sim, data):
    message_id, _ = await unsealed_again(sim, data, taken=False)
    await sim.pass_time(366 * 24 * 60 * MINUTE_MS)
    await sim.pass_time(0)
    seen = sim.sent(message_id)
    assert seen.destroyed
    assert seen.state is State.EXPIRED
    assert sim.us.ledger.read(lambda tx: tx.outbox.unsealed(data, 9)) == []


# Bounds


async def test_a_stream_keeps_a_bounded_number_of_envelopes_that_are_not_known_to_be_taken(sim, data, monkeypatch):
    monkeypatch.setattr(relaying, "KEPT_ENVELOPES", 4)
    await started(sim)
    monkeypatch.setattr(sim.mx.inbound, "take", None)  # nobody reads
    await one_by_one(sim, 9)
    assert sim.us.ledger.read(lambda tx: tx.streams.kept(data)) == 4
    monkeypatch.undo()
    monkeypatch.setattr(relaying, "KEPT_ENVELOPES", 4)
    await beat(sim, 8)
    assert len(await arrived(sim)) == 9
    assert sim.us.ledger.read(lambda tx: tx.streams.kept(data)) == 0


def test_a_stream_keeps_at_most_256_envelopes():
    assert relaying.KEPT_ENVELOPES == 256


async def test_heads_are_sent_every_minute_and_not_more_often_while_all_is_well(sim):
    await started(sim)
    out = Stream(sim.us.link.topic_out(CONTROL), 0)
    before = len(sim.transport.all(out))
    for _ in range(5):
        sim.clock.now += 11_000
        await sim.settle(1)
    assert len(sim.transport.all(out)) == before
    sim.clock.now += 6_000
    await sim.settle(1)
    assert len(sim.transport.all(out)) == before + 1


async def test_complaints_are_at_most_one_in_ten_seconds(sim, data):
    await started(sim)
    peer = Hostile(sim)
    content, _, conversation = peer.one(conversation=CONVERSATION)
    out = Stream(sim.mx.link.topic_out(CONTROL), 0)
    sim.clock.now += 11_000
    before = len(sim.transport.all(out))
    for n in range(5):
        await peer.put(data, peer.seal(data, content, seq=50 + n, after=49 + n))
        while await sim.mx.relay.send():
            pass
    assert len(sim.transport.all(out)) == before + 1
    assert conversation


async def test_nothing_is_sealed_while_the_other_party_is_silent(sim, data, monkeypatch):
    await started(sim)
    sim.us.relay.heads._heard -= heads.HELD_AFTER_S + 1
    [message_id] = await one_by_one(sim, 1)
    assert sim.sent(message_id).state is State.ACCEPTED
    await beat(sim, 2)  # mx's heads come
    assert sim.sent(message_id).state is State.RECEIVED


async def test_nothing_is_sealed_while_the_link_is_suspended_by_evidence(sim, data):
    await started(sim)
    await sim.us.ledger.commit(lambda tx: standing.evidence(tx, "EVIDENCE_TWO_HEADERS", b"header", sim.clock()))
    [message_id] = await one_by_one(sim, 1)
    await beat(sim, 2)
    assert sim.sent(message_id).state is State.ACCEPTED
    assert sim.came(sim.sent(message_id).release) is None


# Order and ownership


async def test_two_hundred_messages_of_one_conversation_arrive_in_order_over_many_envelopes(sim):
    await started(sim)
    sent = []
    for start in range(0, 200, 40):
        sent += [
            r.message_id
            for r in await sim.submit([person(n) for n in range(start, start + 40)], conversation=CONVERSATION)
        ]
        await sim.us.relay.send()
    await sim.settle()
    assert await arrived(sim) == sent


async def test_a_full_call_is_one_envelope(sim, data):
    await started(sim)
    await sim.submit([person(n) for n in range(256)], conversation=CONVERSATION)
    await sim.settle()
    [envelope] = sim.transport.all(data)
    assert parse_envelope(envelope).header.count == 256


async def test_large_records_are_split_over_envelopes_that_fit(sim, data):
    await started(sim)
    documents = [passenger_pb2.TravelDocument(type="P", number="9" * 35) for _ in range(16)]
    bags = passenger_pb2.Baggage(tags=[passenger_pb2.BagTag(tag="7" * 35) for _ in range(64)])
    records = [person(n, baggage=bags) for n in range(250)]
    for record in records:
        del record.documents[:]
        record.documents.extend(documents)
    await sim.submit(records, conversation=CONVERSATION)
    await sim.settle()
    envelopes = sim.transport.all(data)
    assert len(envelopes) > 1
    assert all(len(envelope) <= 1_000_000 for envelope in envelopes)
    assert sum(parse_envelope(e).header.count for e in envelopes) == 250
    assert len(await arrived(sim)) == 250


async def test_a_gateway_that_was_replaced_puts_nothing_into_the_transport(sim, data):
    await started(sim)
    await sim.submit([person()], conversation=CONVERSATION)
    await sim.us.ledger.commit(lambda tx: tx.streams.claim(data))  # another process
    with pytest.raises(StreamLost):
        await sim.us.relay.send()
    assert sim.transport.all(data) == []
    await sim.us.relay.claim()
    await sim.settle()
    assert len(await arrived(sim)) == 1


@pytest.mark.parametrize("when", ["committed", "sealed", "sent"])
async def test_a_restart_of_the_sender_at_any_step_loses_nothing_and_sends_the_same_bytes(sim, data, when):
    await started(sim)
    await sim.submit([person(1), person(2)], conversation=CONVERSATION)
    if when == "sealed":
        sim.transport.fault = lambda *_: (_ for _ in ()).throw(ConnectionError)
        with pytest.raises(ConnectionError):
            await sim.us.relay.send()
    elif when == "sent":
        await sim.us.relay.send()
    stored = sim.rows("us", "SELECT envelope FROM envelopes WHERE topic = ?", data.topic)
    sim.transport.fault = None
    sim.reopen("us")
    await sim.settle()
    assert len(await arrived(sim)) == 2
    if stored:
        assert sim.transport.all(data)[:1] == [bytes(stored[0][0])]


async def test_when_the_transport_took_it_and_said_nothing_the_same_bytes_go_again(sim, data):
    """Failed, but persisted: the worst answer of a store."""
    await started(sim)
    await sim.submit([person()], conversation=CONVERSATION)

    def fault(stream, envelopes):
        MemoryTransport.put(sim.transport, stream, envelopes)
        raise ConnectionError

    sim.transport.fault = fault
    with pytest.raises(ConnectionError):
        await sim.us.relay.send()
    sim.transport.fault = None
    await sim.settle()
    first, second = sim.transport.all(data)
    assert first == second
    assert len(await arrived(sim)) == 1


@pytest.mark.parametrize("turns", range(4))
async def test_a_stop_is_heard_although_work_comes_at_the_same_moment(turns):
    work = asyncio.Event()
    waiting = asyncio.create_task(relaying._wait(work))
    await asyncio.sleep(0.01)
    work.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    if waiting.done():
        return
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
