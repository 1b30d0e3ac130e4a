"""From one agreement to the next: by the clock, without losing or reordering anything, and never back."""

import pytest

from broker import keys, standing
from broker.errors import AgreementError, AgreementExpired, SignatureError
from broker.link import CONTROL, GRACE_MS
from broker.message import Log, Reason, State
from broker.sealing import parse_envelope
from broker.v1 import codes_pb2, log_pb2
from broker.v1 import envelope_pb2 as pb
from broker.v1.agreement_pb2 import Key
from tests.hostile import Hostile
from tests.simulator import person

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
YEAR_MS = 365 * DAY_MS
CONVERSATION = b"conversation one"


def same(_):
    """Nothing but version, previous and times changes."""


def digests(sim, way="us"):
    """Versions of the agreements that envelopes of data were sealed under, in order."""
    link = sim.gateway(way).link
    stream = link.stream_out("passenger", CONVERSATION)
    found = [parse_envelope(data).header.agreement_digest for data in sim.transport.all(stream)]
    return [link.known[digest].version for digest in found]


async def sent(sim, n=1, **how):
    """Submit and let everything move; the state that the sender sees."""
    [result] = await sim.submit([person(n)], conversation=CONVERSATION, **how)
    assert result.outcome == "accepted", result
    await sim.settle()
    return result.message_id


async def states(sim, *message_ids):
    return [sim.sent(name).state for name in message_ids]


async def test_both_begin_to_use_the_next_agreement_at_its_not_before_without_a_restart(sim):
    sim.load(sim.successor(same, after=HOUR_MS))
    first = await sent(sim)
    await sim.pass_time(HOUR_MS - 1)
    second = await sent(sim)
    await sim.pass_time(1)
    third = await sent(sim)
    assert digests(sim) == [1, 1, 2]
    assert await states(sim, first, second, third) == [State.RECEIVED] * 3
    assert not sim.alarms("us") + sim.alarms("mx")


async def test_each_party_logs_the_agreement_that_comes_into_force(sim):
    made = sim.successor(same, after=HOUR_MS)
    sim.load(made)
    await sim.pass_time(0)
    await sim.pass_time(HOUR_MS)
    for party in ("us", "mx"):
        entries = [log_pb2.LinkEntry.FromString(entry) for entry in sim.entries(party, Log.EXCHANGE)]
        told = [entry.subject for entry in entries if entry.kind == log_pb2.ENTRY_KIND_AGREEMENT]
        assert told == [sim.agreement.digest, made.digest]


async def test_what_was_sealed_under_the_old_agreement_is_taken_for_seven_days_after_it(sim):
    sim.load(sim.successor(same, after=HOUR_MS))
    peer = Hostile(sim)
    await sim.settle()
    content, _, conversation = peer.one(expires_ms=sim.clock() + 9 * DAY_MS)
    stream = peer.stream(conversation)
    late = peer.seal(stream, content)
    await sim.pass_time(HOUR_MS + GRACE_MS)
    await peer.put(stream, late)
    assert peer.taken(stream) == 1


async def test_after_seven_days_it_is_not_taken_and_its_sender_seals_it_again(sim):
    sim.load(sim.successor(same, after=HOUR_MS))
    await sim.settle()
    lost = []
    data = sim.us.link.stream_out("passenger", CONVERSATION)
    sim.transport.fault = lambda stream, envelopes: lost.extend(envelopes) or [] if stream == data else envelopes
    [result] = await sim.submit([person()], conversation=CONVERSATION, expires_ms=sim.clock() + 20 * DAY_MS)
    await sim.turn("us")
    sim.transport.fault = None
    await sim.pass_time(HOUR_MS + GRACE_MS + 1)
    sim.transport.put(data, lost)
    await sim.mx.relay.read_waiting()
    assert sim.mx.ledger.read(lambda tx: tx.streams.inflow(data)).why is Reason.AGREEMENT
    await sim.settle()
    await sim.settle()
    assert sim.sent(result.message_id).state is State.RECEIVED
    assert digests(sim) == [1, 2]


async def test_missing_envelopes_that_can_no_longer_pass_are_sealed_again_not_repeated(sim):
    sim.load(sim.successor(same, after=HOUR_MS))
    await sim.settle()
    data = sim.us.link.stream_out("passenger", CONVERSATION)
    sim.transport.fault = lambda stream, envelopes: [] if stream == data else envelopes
    [result] = await sim.submit([person()], conversation=CONVERSATION, expires_ms=sim.clock() + 20 * DAY_MS)
    await sim.settle()
    sim.transport.fault = None
    await sim.pass_time(HOUR_MS + GRACE_MS + 1)
    for _ in range(4):
        await sim.pass_time(61_000)
        await sim.settle()
    assert sim.sent(result.message_id).state is State.RECEIVED
    assert digests(sim) == [2]


async def test_an_agreement_that_the_other_party_does_not_know_moves_nothing_until_it_is_loaded(sim):
    made = sim.successor(same, after=HOUR_MS)
    sim.load(made, "us")
    await sim.settle()
    await sim.pass_time(HOUR_MS)
    name = await sent(sim)
    assert sim.sent(name).state is State.SENT
    assert sim.states("mx")[1] == {}
    assert ("AgreementError", 1) in sim.rows("mx", "SELECT why, times FROM quarantine")
    sim.load(made, "mx")
    for _ in range(4):
        await sim.pass_time(61_000)
        await sim.settle()
    assert sim.sent(name).state is State.RECEIVED
    assert not sim.alarms("us") + sim.alarms("mx")


def new_origin(sim, agency="us.cbp"):
    """An origin key that only the next agreement has, and the change that puts it there."""
    key = keys.SigningKey.generate()

    def change(document):
        [party] = [p for p in document.parties if p.id == agency.split(".", 1)[0]]
        [member] = [a for a in party.agencies if a.id == agency]
        [old] = [k for k in member.keys if k.use == codes_pb2.KEY_USE_ORIGIN]
        old.CopyFrom(Key(public_key=key.public, suite=1, use=old.use, not_before_ms=1, not_after_ms=old.not_after_ms))

    return key, change


async def test_what_an_agency_signed_under_the_old_agreement_counts_under_the_next_one(sim):
    _, change = new_origin(sim)
    sim.load(sim.successor(change, after=HOUR_MS))
    await sim.settle()
    sim.transport.fault = lambda _, __: []
    [result] = await sim.submit([person()], conversation=CONVERSATION)
    sim.transport.fault = None
    await sim.pass_time(HOUR_MS)
    for _ in range(3):
        await sim.pass_time(61_000)
        await sim.settle()
    assert digests(sim) == [2]
    assert sim.sent(result.message_id).state is State.RECEIVED


async def test_an_origin_key_that_the_next_agreement_drops_is_refused_from_then_on(sim, monkeypatch):
    key, change = new_origin(sim)
    sim.load(sim.successor(change, after=HOUR_MS))
    await sim.pass_time(HOUR_MS)
    with pytest.raises(SignatureError):
        await sim.submit([person()])
    monkeypatch.setattr(type(sim), "key", lambda *_: key)
    assert (await sim.submit([person()]))[0].outcome == "accepted"


async def test_a_peer_cannot_use_a_dropped_origin_key_by_an_envelope_under_the_next_agreement(sim):
    _, change = new_origin(sim)
    sim.load(sim.successor(change, after=HOUR_MS))
    await sim.pass_time(HOUR_MS)
    peer = Hostile(sim)
    content, release, conversation = peer.one()
    await peer.send(peer.stream(conversation), content)
    assert (sim.came(release).state, sim.came(release).reason) == (State.REFUSED, Reason.AUTHORITY)


async def test_a_gateway_changes_all_of_its_own_keys_with_the_agreement(sim):
    made = {}

    def change(document):
        [us] = [p for p in document.parties if p.id == "us"]
        for old in us.keys:
            hpke = old.use in {codes_pb2.KEY_USE_HPKE_DATA, codes_pb2.KEY_USE_HPKE_CONTROL}
            key = keys.HpkeKey.generate() if hpke else keys.SigningKey.generate()
            made[old.use] = key
            old.public_key = key.public

    following = sim.successor(change, after=HOUR_MS)
    for use, file in {3: "attest", 4: "envelope", 5: "hpke-data", 6: "hpke-control"}.items():
        path = sim.folder / "us" / "keys" / f"{file}-2.json"
        keys.write_key_file(path, use, made[use].seed, development=True)
    sim.load(following)
    first = await sent(sim)
    await sim.pass_time(HOUR_MS)
    second = await sent(sim, 2)
    assert await states(sim, first, second) == [State.RECEIVED] * 2
    stream = sim.us.link.stream_out("passenger", CONVERSATION)
    kids = [parse_envelope(data).header.sender_kid for data in sim.transport.all(stream)]
    assert kids[-1] == keys.kid(1, 4, made[4].public) != kids[0]
    assert not sim.rows("mx", "SELECT * FROM quarantine")


async def test_a_gateway_that_lacks_the_next_agreements_key_does_not_start(sim):
    def change(document):
        [us] = [p for p in document.parties if p.id == "us"]
        us.keys[0].public_key = keys.SigningKey.generate().public

    with pytest.raises(AgreementError, match="does not name our key"):
        sim.load(sim.successor(change, after=HOUR_MS), "us")
    sim.agreements["us"].pop()
    sim.us = sim._gateway("us")


async def test_after_its_end_data_stops_and_control_goes_on(sim):
    await sim.settle()
    sim.clock.now = sim.agreement.expires_ms - DAY_MS
    last = await sent(sim, expires_ms=sim.clock() + 20 * DAY_MS)
    release = sim.sent(last).release
    await sim.pass_time(3 * DAY_MS)
    with pytest.raises(AgreementExpired):
        await sim.submit([person(3)])
    await sim.offers("mx.inm")
    assert await sim.answer("mx.inm", release) == "OK"
    await sim.settle()
    assert sim.sent(last).state is State.ACKNOWLEDGED


async def test_a_year_after_its_end_control_is_not_taken_either(sim):
    peer = Hostile(sim)
    control = peer.stream(family=CONTROL)
    heads = pb.Content(items=[pb.ControlItem(salt=bytes(32), kind=pb.CONTROL_KIND_HEADS, body=b"")])
    sim.clock.now = sim.agreement.expires_ms + YEAR_MS - 1
    await peer.send(control, heads)
    assert peer.taken(control) == 1
    late = peer.seal(control, heads, created_ms=sim.agreement.expires_ms + YEAR_MS)
    await peer.put(control, late)
    assert peer.taken(control) == 1
    assert peer.inflow(control).why is Reason.AGREEMENT


async def test_a_gateway_does_not_go_back_to_an_older_agreement(sim):
    made = sim.successor(same, after=HOUR_MS)
    sim.load(made)
    await sim.pass_time(HOUR_MS)
    pack = sim.us.engine.pack_digest
    await sim.us.ledger.commit(lambda tx: standing.record(tx, made, pack, {}, sim.clock()))
    with pytest.raises(AgreementError, match="older"):
        await sim.us.ledger.commit(lambda tx: standing.record(tx, sim.agreement, pack, {}, sim.clock()))


async def test_an_envelope_to_a_recipient_key_that_ended_long_ago_is_not_taken(sim):
    """Step 7 asks for the recipient's key as well as for the sender's."""
    end = sim.clock() + DAY_MS

    def change(document):
        [mx] = [p for p in document.parties if p.id == "mx"]
        [data] = [k for k in mx.keys if k.use == codes_pb2.KEY_USE_HPKE_DATA]
        data.not_after_ms = end

    sim.load(sim.successor(change, after=1))
    await sim.pass_time(1)
    peer = Hostile(sim)
    content, _, conversation = peer.one(expires_ms=sim.clock() + 20 * DAY_MS)
    stream = peer.stream(conversation)
    envelope = peer.seal(stream, content)
    sim.clock.now = end + GRACE_MS + 1
    await peer.put(stream, envelope)
    assert peer.inflow(stream).why is Reason.KEY
    sim.clock.now = end + GRACE_MS
    await peer.put(stream, envelope)
    assert peer.taken(stream) == 1
