"""Key items: a party stops a key of its own within seconds, and only its roots bring one in or back."""

import os
import random

import pytest

from broker import control, keyitem, keyring, keys, relay
from broker.canonical import H, encode
from broker.errors import ActError, CanonicalError, KeyItemError, KeySuspended, SignatureError
from broker.inbound import Waiting
from broker.link import CONTROL
from broker.message import Log, Reason, SignedBatch, State, Stream
from broker.origin import batch_statement
from broker.sealing import parse_envelope
from broker.v1 import codes_pb2, log_pb2
from broker.v1 import envelope_pb2 as pb
from tests.hostile import Hostile
from tests.simulator import person

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
CONVERSATION = b"conversation one"
ORIGIN, ATTEST, ENVELOPE = codes_pb2.KEY_USE_ORIGIN, codes_pb2.KEY_USE_ATTEST, codes_pb2.KEY_USE_ENVELOPE


def named(sim, owner, use=ORIGIN):
    """An owner's key of one use."""
    return next(key for key in sim.agreement.keys.values() if (key.owner, key.use) == (owner, use))


def an_item(key, act, version, *, life=None, **changes):
    """An item about a key of the agreement, or one that it does not have."""
    item = pb.KeyItem(public_key=key.public, suite=1, use=key.use, owner=key.owner, act=act, version=version)
    if life:
        item.not_before_ms, item.not_after_ms = life
    for name, value in changes.items():
        setattr(item, name, value)
    return item


def signed(sim, item, *parties):
    return keyitem.sign(item, sim.agreement.link_id, sim.roots(*parties) if parties else [])


async def suspend(sim, key):
    """An operator of the key's party suspends it."""
    gateway = sim.gateway(key.party)
    await gateway.ledger.commit(lambda tx: keyring.suspend(tx, gateway.link, key.kid, sim.clock()))
    gateway.ledger.read(lambda tx: keyring.refresh(tx, gateway.link))


async def issue(sim, party, body):
    gateway = sim.gateway(party)
    await gateway.ledger.commit(lambda tx: keyring.issue(tx, gateway.link, body, sim.clock()))
    gateway.ledger.read(lambda tx: keyring.refresh(tx, gateway.link))


async def takes(sim, body):
    """mx's gateway reads an item that us's gateway sealed, whatever us's own ledger says; the alarms of mx."""
    await sim.settle()
    await sim.us.ledger.commit(lambda tx: tx.control.enqueue([control.key_item(body)]))
    await sim.settle()
    return sim.alarms("mx")


def suspended(sim, party):
    return sim.gateway(party).link.ring.suspended


def key_entries(sim, party):
    entries = [
        log_pb2.KeyEntry.FromString(entry) for entry in sim.entries(party, Log.EXCHANGE) if entry[:2] == b"\x08\x08"
    ]
    return [(entry.kid, entry.act, entry.version) for entry in entries]


# Suspend


async def test_a_suspended_origin_key_submits_nothing_more_and_the_other_party_knows_at_once(sim):
    await sim.settle()
    key = named(sim, "us.cbp")
    await suspend(sim, key)
    with pytest.raises(KeySuspended):
        await sim.submit([person()])
    await sim.settle(1)
    assert suspended(sim, "us") == suspended(sim, "mx") == {key.kid}
    assert (await sim.submit([person()], agency="us.ice"))[0].outcome in {"accepted", "refused"}
    assert not sim.alarms("us") + sim.alarms("mx")


async def test_what_a_suspended_key_signed_is_refused_by_the_other_party(sim):
    await sim.settle()
    peer = Hostile(sim)
    content, release, conversation = peer.one()
    await suspend(sim, named(sim, "us.cbp"))
    await sim.settle()
    await peer.send(peer.stream(conversation), content)
    assert (sim.came(release).state, sim.came(release).reason) == (State.REFUSED, Reason.AUTHORITY)


async def test_data_behind_a_key_item_waits_for_it(sim):
    await sim.settle()
    held = []
    out = sim.us.link.topic_out(CONTROL)
    await suspend(sim, named(sim, "us.ice"))
    sim.transport.fault = lambda stream, e: held.append((stream, e)) or [] if stream.topic == out else e
    [result] = await sim.submit([person()], conversation=CONVERSATION)
    await sim.turn("us")
    data = sim.us.link.stream_out("passenger", CONVERSATION)
    [envelope] = sim.transport.all(data)
    stream, [item] = held[0]
    assert parse_envelope(envelope).header.control_seq == parse_envelope(item).header.seq
    reading = sim.mx.inbound
    flow = sim.mx.ledger.read(lambda tx: tx.streams.inflow(data))
    with pytest.raises(Waiting):
        reading.take(sim.transport.get(data, 0, 1)[0], flow)
    sim.transport.fault = None
    sim.transport.put(stream, [item])
    await sim.settle()
    assert sim.sent(result.message_id).state is State.RECEIVED
    assert suspended(sim, "mx")


async def test_data_is_not_sealed_before_a_key_item_that_waits(sim):
    await sim.settle()
    receipts = [(1, os.urandom(32), b"x")] * 300
    await sim.us.ledger.commit(lambda tx: tx.control.enqueue(receipts))
    await suspend(sim, named(sim, "us.ice"))
    [result] = await sim.submit([person()])
    await sim.us.relay.seal()
    assert not sim.sent(result.message_id).sealed
    await sim.us.relay.seal()
    assert sim.sent(result.message_id).sealed


async def test_both_parties_log_each_item_and_know_it_after_a_restart(sim):
    await sim.settle()
    key = named(sim, "us.cbp")
    await suspend(sim, key)
    await sim.settle()
    told = [(key.kid, pb.KEY_ACT_SUSPEND, 1)]
    assert key_entries(sim, "us") == key_entries(sim, "mx") == told
    for party in ("us", "mx"):
        sim.reopen(party)
        assert suspended(sim, party) == {key.kid}
    with pytest.raises(KeySuspended):
        await sim.submit([person()])


async def test_a_suspended_attest_key_attests_nothing(sim):
    await sim.settle()
    await suspend(sim, named(sim, "us", ATTEST))
    kid = named(sim, "us", ATTEST).kid
    _, items = sim.batch([person()])
    unsigned = SignedBatch(batch_statement(kid, sim.clock(), bytes(32)), b"")
    with pytest.raises(KeySuspended):
        await sim.us.outbound.submit("us.cbp", unsigned, items)


async def test_a_suspended_receipt_key_signs_no_answer_and_accuses_nobody(sim):
    await sim.settle()
    [result] = await sim.submit([person()], conversation=CONVERSATION)
    await sim.settle()
    release = sim.sent(result.message_id).release
    await sim.offers("mx.inm")
    early = sim.agency_receipt("mx.inm", release, State.ACKNOWLEDGED)
    await suspend(sim, named(sim, "mx.inm", codes_pb2.KEY_USE_RECEIPT))
    await sim.settle()
    assert await sim.answer("mx.inm", release, signed=early) == "AGENCY_SIGNATURE_INVALID"
    body = control.receipt(release, State.ACKNOWLEDGED, Reason.NONE, bytes(32), sim.clock(), early)
    await sim.mx.ledger.commit(lambda tx: tx.control.enqueue([control.receipt_item(body)]))
    await sim.settle()
    assert sim.sent(result.message_id).state is State.ACKNOWLEDGED
    assert not sim.sent(result.message_id).steps[-1].agency_signed
    assert not sim.alarms("us")


# An envelope key


def spare(sim):
    """A second envelope key of us, in its keys folder; the change that puts it into the next agreement."""
    key = keys.SigningKey.generate()
    keys.write_key_file(sim.folder / "us" / "keys" / "envelope-spare.json", ENVELOPE, key.seed, development=True)

    def change(document):
        [us] = [p for p in document.parties if p.id == "us"]
        now = sim.clock()
        us.keys.add(
            public_key=key.public,
            suite=1,
            use=ENVELOPE,
            not_before_ms=now - DAY_MS - 1,
            not_after_ms=now + DAY_MS * 300,
        )

    return keys.kid(1, ENVELOPE, key.public), change


async def test_the_last_envelope_key_cannot_be_suspended_for_nothing_could_say_so(sim):
    await sim.settle()
    with pytest.raises(ActError, match="only envelope key"):
        await suspend(sim, named(sim, "us", ENVELOPE))
    assert not key_entries(sim, "us")


async def test_when_an_envelope_key_is_suspended_the_spare_one_takes_over_and_what_was_on_its_way_is_sealed_again(sim):
    kid, change = spare(sim)
    sim.load(sim.successor(change, after=1))
    await sim.pass_time(1)
    await sim.settle()
    sim.transport.fault = lambda stream, e: [] if "passenger" in stream.topic else e
    [result] = await sim.submit([person()], conversation=CONVERSATION)
    await sim.settle()
    data = sim.us.link.stream_out("passenger", CONVERSATION)
    sim.transport.fault = None
    old = named(sim, "us", ENVELOPE)
    await suspend(sim, old)
    for _ in range(4):
        await sim.pass_time(61_000)
        await sim.settle()
    assert sim.sent(result.message_id).state is State.RECEIVED
    assert [parse_envelope(data).header.sender_kid for data in sim.transport.all(data)] == [kid]
    assert not sim.alarms("us") + sim.alarms("mx")


async def test_an_envelope_under_a_suspended_key_is_skipped(sim):
    _, change = spare(sim)
    sim.load(sim.successor(change, after=1))
    await sim.pass_time(1)
    await sim.settle()
    peer = Hostile(sim)
    old = named(sim, "us", ENVELOPE)
    await suspend(sim, old)
    await sim.settle()
    content, release, conversation = peer.one()
    before = sim.us.link.signing[old.kid]
    await peer.send(peer.stream(conversation), content, signer=before, sender_kid=old.kid)
    assert sim.came(release) is None
    assert ("EnvelopeError", 1) in peer.quarantined()


async def test_control_under_a_suspended_key_that_was_lost_is_sealed_again_with_the_spare_one(sim):
    _, change = spare(sim)
    sim.load(sim.successor(change, after=1))
    await sim.pass_time(1)
    await sim.settle()
    old = named(sim, "us", ENVELOPE)
    out = sim.us.link.topic_out(CONTROL)
    await suspend(sim, old)
    await sim.turn("us")
    await sim.us.ledger.commit(lambda tx: tx.control.enqueue([control.heads_item([], [])]))
    sim.transport.fault = lambda stream, e: [] if stream.topic == out else e
    await sim.turn("us")
    sim.transport.fault = None
    for _ in range(4):
        await sim.pass_time(61_000)
        await sim.settle()
    taken = sim.mx.ledger.read(lambda tx: tx.streams.inflow(peer_control(sim)))
    assert taken.taken == sim.us.ledger.read(lambda tx: tx.streams.outflow(peer_control(sim))).last_seq


def peer_control(sim):
    return Stream(sim.us.link.topic_out(CONTROL), 0)


async def test_an_envelope_key_is_never_reinstated(sim):
    _, change = spare(sim)
    sim.load(sim.successor(change, after=1))
    await sim.pass_time(1)
    key = named(sim, "us", ENVELOPE)
    await suspend(sim, key)
    with pytest.raises(KeyItemError, match="never reinstated"):
        await issue(sim, "us", signed(sim, an_item(key, pb.KEY_ACT_REINSTATE, 2), "us"))


# Reinstate and add


async def test_the_roots_reinstate_a_key_and_it_counts_again_on_both_sides(sim):
    await sim.settle()
    key = named(sim, "us.cbp")
    await suspend(sim, key)
    await sim.settle()
    await issue(sim, "us", signed(sim, an_item(key, pb.KEY_ACT_REINSTATE, 2), "us"))
    [result] = await sim.submit([person()], conversation=CONVERSATION)
    await sim.settle()
    assert sim.sent(result.message_id).state is State.RECEIVED
    assert key_entries(sim, "mx") == [(key.kid, pb.KEY_ACT_SUSPEND, 1), (key.kid, pb.KEY_ACT_REINSTATE, 2)]


def added(sim, key, *, owner="us.cbp", use=ORIGIN, version=1, life=None, public=None):
    life = life or (sim.clock() - HOUR_MS, sim.clock() + 30 * DAY_MS)
    return pb.KeyItem(
        public_key=public or key.public, suite=1, use=use, owner=owner, act=pb.KEY_ACT_ADD, version=version,
        not_before_ms=life[0], not_after_ms=life[1],
    )  # fmt: skip


async def test_the_roots_add_an_origin_key_and_what_it_signs_is_taken(sim, monkeypatch):
    await sim.settle()
    key = keys.SigningKey.generate()
    await issue(sim, "us", signed(sim, added(sim, key), "us"))
    monkeypatch.setattr(type(sim), "key", lambda *_: key)
    [result] = await sim.submit([person()], conversation=CONVERSATION)
    await sim.settle()
    assert sim.sent(result.message_id).state is State.RECEIVED
    for party in ("us", "mx"):
        sim.reopen(party)
    [result] = await sim.submit([person()], conversation=CONVERSATION)
    await sim.settle()
    assert sim.sent(result.message_id).state is State.RECEIVED


async def test_an_added_key_ends_with_its_agreement_unless_the_next_one_has_it(sim, monkeypatch):
    key = keys.SigningKey.generate()
    sim.load(sim.successor(lambda _: None, after=HOUR_MS))
    await sim.settle()
    await issue(sim, "us", signed(sim, added(sim, key), "us"))
    monkeypatch.setattr(type(sim), "key", lambda *_: key)
    assert (await sim.submit([person()]))[0].outcome == "accepted"
    await sim.pass_time(HOUR_MS)
    with pytest.raises(SignatureError):
        await sim.submit([person()])


async def test_a_key_that_the_next_agreement_takes_over_counts_when_the_old_one_is_no_longer_loaded(sim, monkeypatch):
    key = keys.SigningKey.generate()
    await sim.settle()
    await issue(sim, "us", signed(sim, added(sim, key), "us"))

    def change(document):
        [us] = [p for p in document.parties if p.id == "us"]
        [cbp] = [a for a in us.agencies if a.id == "us.cbp"]
        end = document.expires_ms
        cbp.keys.add(public_key=key.public, suite=1, use=ORIGIN, not_before_ms=sim.clock(), not_after_ms=end)

    sim.load(sim.successor(change, after=HOUR_MS))
    await sim.pass_time(HOUR_MS)
    monkeypatch.setattr(type(sim), "key", lambda *_: key)
    assert (await sim.submit([person()]))[0].outcome == "accepted"
    del sim.agreements["us"][0]
    sim.reopen("us")
    assert (await sim.submit([person()]))[0].outcome == "accepted"
    assert not sim.us.link.ring.added


async def test_an_envelope_key_that_was_added_opens_the_way_for_a_spare_one(sim):
    key = keys.SigningKey.generate()
    keys.write_key_file(sim.folder / "us" / "keys" / "envelope-spare.json", ENVELOPE, key.seed, development=True)
    sim.reopen("us")
    await sim.settle()
    life = (sim.clock() - HOUR_MS, sim.clock() + DAY_MS)
    await issue(sim, "us", signed(sim, added(sim, key, owner="us", use=ENVELOPE, life=life), "us"))
    with pytest.raises(ActError, match="the other party knows"):
        await suspend(sim, named(sim, "us", ENVELOPE))  # it has not taken the item yet
    await sim.settle()
    await sim.pass_time(61_000)
    await sim.settle()
    await suspend(sim, named(sim, "us", ENVELOPE))
    [result] = await sim.submit([person()], conversation=CONVERSATION)
    for _ in range(3):
        await sim.pass_time(61_000)
        await sim.settle()
    assert sim.sent(result.message_id).state is State.RECEIVED


# What a peer must not do: each item is sealed by us's gateway with its real envelope key


async def refused(sim, body, alarm="KEY_ITEM_REFUSED"):
    before = key_entries(sim, "mx")
    assert await takes(sim, body) == [alarm]
    assert key_entries(sim, "mx") == before
    [result] = await sim.submit([person()], conversation=CONVERSATION)
    await sim.settle()
    assert sim.sent(result.message_id).state is State.RECEIVED  # and the streams go on


@pytest.mark.parametrize("owner", ["mx.inm", "mx"])
async def test_a_peer_cannot_suspend_a_key_of_ours(sim, owner):
    key = named(sim, owner, ORIGIN if "." in owner else ENVELOPE)
    await refused(sim, encode(keyitem.suspension(key, 1)))
    assert not suspended(sim, "mx")


async def test_nor_by_calling_our_key_its_own(sim):
    key = named(sim, "mx.inm")
    await refused(sim, encode(an_item(key, pb.KEY_ACT_SUSPEND, 1, owner="us.cbp")))


@pytest.mark.parametrize("owner", ["mx.inm", "mx", "us.nobody", "us"])
async def test_a_peer_cannot_add_an_origin_key_under_an_owner_of_ours_or_one_that_may_have_none(sim, owner):
    await refused(sim, signed(sim, added(sim, keys.SigningKey.generate(), owner=owner), "us"))


async def test_a_peer_cannot_add_a_key_to_us_even_with_its_own_roots_and_a_threshold(sim):
    await refused(sim, signed(sim, added(sim, keys.SigningKey.generate(), owner="mx", use=ATTEST), "us"))


@pytest.mark.parametrize("roots", [(), ("mx",)])
async def test_a_gateway_alone_adds_nothing(sim, roots):
    await refused(sim, signed(sim, added(sim, keys.SigningKey.generate()), *roots))


async def test_a_gateway_alone_reinstates_nothing(sim):
    await sim.settle()
    key = named(sim, "us.ice")
    await suspend(sim, key)
    await sim.settle()
    await refused(sim, signed(sim, an_item(key, pb.KEY_ACT_REINSTATE, 2)))
    assert suspended(sim, "mx") == {key.kid}


async def test_an_old_reinstatement_that_comes_again_lifts_nothing(sim):
    await sim.settle()
    key = named(sim, "us.ice")
    await suspend(sim, key)
    again = signed(sim, an_item(key, pb.KEY_ACT_REINSTATE, 2), "us")
    await issue(sim, "us", again)
    await suspend(sim, key)
    await sim.settle()
    assert await takes(sim, again) == []
    other = signed(sim, an_item(key, pb.KEY_ACT_REINSTATE, 3), "us")
    await refused(sim, other)
    assert suspended(sim, "mx") == {key.kid}
    assert key_entries(sim, "mx")[-1] == (key.kid, pb.KEY_ACT_SUSPEND, 3)


async def test_a_version_far_ahead_is_refused_so_that_nobody_uses_the_numbers_up(sim):
    await refused(sim, encode(keyitem.suspension(named(sim, "us.ice"), 101)))


async def test_a_key_that_begins_before_any_agreement_or_ends_before_it_begins_is_refused(sim):
    start = sim.agreement.not_before_ms
    item = added(sim, keys.SigningKey.generate(), life=(start - 1, start + DAY_MS))
    await refused(sim, signed(sim, item, "us"))
    backwards = added(sim, keys.SigningKey.generate(), life=(start + 2, start + 1))
    with pytest.raises(KeyItemError):
        await issue(sim, "us", signed(sim, backwards, "us"))


def new_roots(sim, party="us"):
    """Another root for a party, and the change that puts it into the next agreement."""
    root = keys.SigningKey.generate()

    def change(document):
        [one] = [p for p in document.parties if p.id == party]
        del one.root_keys[:]
        one.root_keys.append(root.public)

    return root, change


async def test_roots_that_the_next_agreement_replaced_bring_nothing_in_or_back(sim):
    key, fresh = named(sim, "us.ice"), keys.SigningKey.generate()
    await sim.settle()
    await suspend(sim, key)
    await sim.settle()
    root, change = new_roots(sim)
    old, life = sim.roots("us"), (sim.clock(), sim.clock() + DAY_MS)
    sim.load(sim.successor(change, after=HOUR_MS, also=[root]))
    await sim.pass_time(HOUR_MS)
    link_id = sim.agreement.link_id
    back = an_item(key, pb.KEY_ACT_REINSTATE, 2)
    await refused(sim, keyitem.sign(back, link_id, old))
    with pytest.raises(KeyItemError):
        await issue(sim, "us", keyitem.sign(added(sim, fresh, life=life), link_id, old))
    await issue(sim, "us", keyitem.sign(back, link_id, [root]))
    assert not suspended(sim, "us")


async def test_a_key_is_added_once_so_that_nothing_suspended_comes_back_as_new(sim):
    await sim.settle()
    key = keys.SigningKey.generate()
    await issue(sim, "us", signed(sim, added(sim, key), "us"))
    await suspend(sim, sim.us.link.find(keys.kid(1, ORIGIN, key.public)))
    with pytest.raises(KeyItemError, match="stands already"):
        await issue(sim, "us", signed(sim, added(sim, key, version=3), "us"))


async def test_a_key_that_was_written_into_the_record_without_the_roots_does_not_count(sim):
    key = keys.SigningKey.generate()
    body = signed(sim, added(sim, key), "mx")
    kid = keys.kid(1, ORIGIN, key.public)
    await sim.us.ledger.commit(lambda tx: tx.standing.keep_key_item(kid, 1, pb.KEY_ACT_ADD, body, sim.clock()))
    sim.reopen("us")
    assert sim.us.link.find(kid) is None


async def test_a_suspension_is_not_issued_as_an_item(sim):
    with pytest.raises(KeyItemError, match="suspend the key"):
        await issue(sim, "us", encode(keyitem.suspension(named(sim, "us", ENVELOPE), 1)))


async def test_many_key_items_go_into_as_many_envelopes_as_they_need(sim):
    await sim.settle()
    items = [control.key_item(os.urandom(50_000)) for _ in range(4)]
    await sim.us.ledger.commit(lambda tx: tx.control.enqueue(items))
    await sim.settle(10)
    assert sim.us.ledger.read(lambda tx: tx.control.unsealed(1)) == []
    assert sim.alarms("mx") == ["CONTROL_MALFORMED"]


async def test_a_peer_cannot_grow_our_log_by_suspending_its_key_again_and_again(sim):
    await sim.settle()
    key = named(sim, "us.ice")
    await suspend(sim, key)
    await sim.settle()
    await refused(sim, encode(keyitem.suspension(key, 2)))


async def test_an_item_of_another_link_is_refused(sim):
    item = added(sim, keys.SigningKey.generate())
    await refused(sim, keyitem.sign(item, b"l" * 16, sim.roots("us")))


@pytest.mark.parametrize(
    "change",
    [
        {"owner": "us.ice"},
        {"not_after_ms": 1 << 46},
        {"version": 2},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_an_item_that_was_changed_after_the_roots_signed_it_is_refused(sim, change):
    item = pb.KeyItem.FromString(signed(sim, added(sim, keys.SigningKey.generate()), "us"))
    for name, value in change.items():
        setattr(item, name, value)
    await refused(sim, encode(item))


@pytest.mark.parametrize("use", [codes_pb2.KEY_USE_HPKE_DATA, codes_pb2.KEY_USE_HPKE_CONTROL])
async def test_an_encryption_key_goes_with_its_agreement(sim, use):
    key = named(sim, "us", use)
    await refused(sim, encode(an_item(key, pb.KEY_ACT_SUSPEND, 1)))
    with pytest.raises(KeyItemError, match="goes with its agreement"):
        keyitem.parse_item(encode(an_item(key, pb.KEY_ACT_SUSPEND, 1)))


async def test_a_key_that_stands_already_is_not_added_again_under_another_use_or_owner(sim):
    public = named(sim, "mx.inm").public
    await refused(sim, signed(sim, added(sim, None, public=public), "us"))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"act": 0},
        {"not_before_ms": 5},
        {"not_after_ms": 1 << 47},
        {"signatures": [pb.KeySignature(kid=b"k" * 32, signature=b"s")]},
        {"signatures": [pb.KeySignature(kid=b"k" * 32, signature=b"s")] * 17},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_an_item_of_another_shape_is_malformed(sim, change):
    item = an_item(named(sim, "us.ice"), pb.KEY_ACT_SUSPEND, 1)
    for name, value in change.items():
        item.signatures.extend(value) if name == "signatures" else setattr(item, name, value)
    with pytest.raises(CanonicalError):
        keyitem.parse_item(encode(item))
    await refused(sim, encode(item), "CONTROL_MALFORMED")


async def test_an_operator_suspends_no_key_of_the_other_party_and_none_twice(sim):
    await sim.settle()
    key = named(sim, "us.ice")
    await suspend(sim, key)
    with pytest.raises(ActError, match="already"):
        await suspend(sim, key)
    theirs = named(sim, "mx.inm")
    with pytest.raises(ActError, match="this party"):
        await sim.us.ledger.commit(lambda tx: keyring.suspend(tx, sim.us.link, theirs.kid, sim.clock()))


async def test_the_roots_sign_the_item_without_its_signatures_on_this_link(sim):
    item = added(sim, keys.SigningKey.generate())
    assert keyitem.signed_digest(item, b"l" * 16) == H(b"puente/v1/key\0", b"l" * 16, encode(item))


@pytest.mark.parametrize("seed", range(60))
async def test_nothing_is_lost_or_reordered_over_a_succession_and_a_suspension_whatever_is_lost(sim, seed, monkeypatch):
    monkeypatch.setattr(relay, "CONTROL_PATIENCE_S", 0.02)
    chance = random.Random(seed)
    _, change = spare(sim)
    sim.load(sim.successor(change, after=HOUR_MS))
    await sim.settle()
    sim.transport.fault = lambda _, envelopes: [e for e in envelopes if chance.random() > 0.3]
    suspends, sent = chance.randrange(9, 13), []
    for step in range(14):
        [result] = await sim.submit([person(step)], conversation=CONVERSATION)
        sent.append(result.message_id)
        if step == suspends:
            await suspend(sim, named(sim, "us", ENVELOPE))
        await sim.settle(1)
        await sim.pass_time(HOUR_MS if step == 8 else chance.choice([1_000, 61_000]))
    sim.transport.fault = None
    for _ in range(12):
        await sim.pass_time(61_000)
        await sim.settle(2)
    assert [sim.sent(name).state for name in sent] == [State.RECEIVED] * len(sent)
    assert [row[0] for row in sim.rows("mx", "SELECT message_id FROM inbound ORDER BY row")] == sent
    assert not sim.alarms("us") + sim.alarms("mx")
