"""What a receiving gateway does with what arrives, row by row of protocol section 5; the peer has valid keys."""

import os

import apsw
import pytest

from broker import control, inbound, keys, relay, sealing
from broker.canonical import H, encode, leaf_hash
from broker.errors import StoreError
from broker.link import CONTROL
from broker.message import Reason, State, Stream
from broker.origin import OriginTree, batch_statement, origin_leaf
from broker.sealing import LIMITS, core_commit
from broker.v1 import codes_pb2, passenger_pb2
from broker.v1 import envelope_pb2 as pb
from broker.v1.log_pb2 import ReleaseEntry
from tests.hostile import Hostile, other_hpke
from tests.simulator import person

DAY_MS = 86_400_000


@pytest.fixture
def peer(sim):
    return Hostile(sim)


def nothing_came(peer, stream):
    return peer.sim.states("mx")[1] == {} and peer.taken(stream) == 0


async def skipped(peer, stream, data):
    """Send bytes that must be skipped; the next good envelope is then taken as if nothing had happened."""
    before = peer.inflow(stream)
    await peer.put(stream, data)
    after = peer.inflow(stream)
    assert (after.taken, after.why) == (before.taken, before.why)
    assert after.position > before.position
    assert nothing_came(peer, stream)
    assert [times for _, times in peer.quarantined()] == [1]


# An honest message, so that each case below fails for its own reason


async def test_what_an_honest_peer_would_send_is_received(peer):
    content, release, conversation = peer.one()
    await peer.send(peer.stream(conversation), content)
    assert peer.sim.receipts_waiting("mx") == {release: (State.RECEIVED, Reason.NONE)}
    assert peer.sim.came(release).state is State.RECEIVED
    assert not peer.sim.alarms("mx")


# Steps 1 to 6: skipped, one bounded record


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", b"\xff" * 64, b"\x0a\xff\xff\xff\xff\x0f", os.urandom(2048), bytes(LIMITS.envelope + 1)],
    ids=["empty", "zero", "ff", "long length", "random", "too large"],
)
async def test_garbage_is_skipped_and_the_stream_goes_on(peer, data):
    content, release, conversation = peer.one()
    stream = peer.stream(conversation)
    await skipped(peer, stream, data)
    await peer.send(stream, content)
    assert peer.sim.came(release).state is State.RECEIVED


@pytest.mark.parametrize(
    "changes",
    [
        {"topic": "puente.us.mx.control"},
        {"partition": 99},
        {"sender_party": "mx", "recipient_party": "us"},
        {"recipient_party": "xx"},
        {"sender_kid": bytes(32)},
        {"recipient_kid": bytes(32)},
        {"agreement_digest": H(b"another agreement")},
        {"epoch": 0},
    ],
    ids=str,
)
async def test_an_envelope_of_another_place_party_key_or_agreement_is_skipped(peer, changes):
    content, _, conversation = peer.one()
    stream = peer.stream(conversation)
    await skipped(peer, stream, peer.seal(stream, content, **changes))


async def test_an_envelope_put_into_another_partition_is_skipped(peer):
    content, _, conversation = peer.one()
    stream = peer.stream(conversation)
    elsewhere = Stream(stream.topic, (stream.partition + 1) % peer.link.partitions("passenger"))
    await skipped(peer, elsewhere, peer.seal(stream, content))


async def test_a_key_of_the_right_owner_and_another_use_seals_nothing(peer):
    content, _, conversation = peer.one()
    stream = peer.stream(conversation)
    attest = peer.link.own_key(codes_pb2.KEY_USE_ATTEST, peer.sim.clock())
    await skipped(peer, stream, peer.seal(stream, content, signer=attest.key, sender_kid=attest.kid))


async def test_a_data_envelope_to_the_control_key_is_skipped(peer):
    content, _, conversation = peer.one()
    stream = peer.stream(conversation)
    control = peer.link.recipient_key(CONTROL, peer.sim.clock())
    await skipped(peer, stream, peer.seal(stream, content, key=control.public, recipient_kid=control.kid))


@pytest.mark.parametrize("where", [0, 3308, 3309, 3372], ids=["ML-DSA first", "ML-DSA last", "Ed25519 first", "last"])
async def test_an_envelope_whose_signature_is_half_wrong_is_skipped(peer, where):
    content, _, conversation = peer.one()
    stream = peer.stream(conversation)

    def edit(data):
        envelope = pb.Envelope.FromString(data)
        signature = bytearray(envelope.signature)
        signature[where] ^= 1
        envelope.signature = bytes(signature)
        return encode(envelope)

    await skipped(peer, stream, peer.seal(stream, content, edit=edit))


async def test_a_changed_ciphertext_or_header_is_skipped_by_its_signature(peer):
    content, _, conversation = peer.one()
    stream = peer.stream(conversation)

    def edit(data):
        envelope = pb.Envelope.FromString(data)
        ciphertext = bytearray(envelope.enc_ct)
        ciphertext[-1] ^= 1
        envelope.enc_ct = bytes(ciphertext)
        return encode(envelope)

    await skipped(peer, stream, peer.seal(stream, content, edit=edit))


async def test_a_stranger_cannot_strip_a_signature_and_claim_the_ciphertext(peer):
    content, _, conversation = peer.one()
    stream = peer.stream(conversation)
    stranger = keys.SigningKey.generate()
    kid = keys.kid(keys.SUITE, codes_pb2.KEY_USE_ENVELOPE, stranger.public)
    await skipped(peer, stream, peer.seal(stream, content, signer=stranger, sender_kid=kid))


async def test_an_envelope_with_an_unknown_field_is_skipped(peer):
    content, _, conversation = peer.one()
    stream = peer.stream(conversation)
    await skipped(peer, stream, peer.seal(stream, content, edit=lambda data: data + b"\xf8\x01\x01"))


async def test_garbage_cannot_grow_what_we_keep(peer, monkeypatch):
    monkeypatch.setattr(inbound, "QUARANTINE_ROWS", 4)
    stream = peer.stream(b"c" * 16)
    await peer.put(stream, *(os.urandom(40) for _ in range(20)))
    records = peer.quarantined()
    assert len(records) == 5
    assert sum(times for _, times in records) == 20


async def test_the_same_garbage_again_is_counted_and_not_kept_again(peer):
    stream = peer.stream(b"c" * 16)
    await peer.put(stream, b"garbage", b"garbage", b"garbage")
    assert [times for _, times in peer.quarantined()] == [3]


# Step 7: turn and time


async def not_taken(peer, stream, envelope, why):
    before = peer.taken(stream)
    await peer.put(stream, envelope)
    assert peer.taken(stream) == before
    assert peer.inflow(stream).why is why


async def test_an_envelope_ahead_of_a_missing_one_waits_for_nobody_and_heads_say_missing(peer):
    content, _, conversation = peer.one()
    stream = peer.stream(conversation)
    await not_taken(peer, stream, peer.seal(stream, content, seq=5, after=4), Reason.MISSING)
    first, release, _ = peer.one(conversation=conversation)
    await peer.send(stream, first)  # and its turn is still open
    assert peer.sim.came(release).state is State.RECEIVED
    assert peer.inflow(stream).why is Reason.NONE


async def test_an_envelope_that_builds_on_an_older_one_is_behind(peer):
    content, _, conversation = peer.one()
    stream = peer.stream(conversation)
    await peer.send(stream, content)
    other, _, _ = peer.one(conversation=conversation)
    await not_taken(peer, stream, peer.seal(stream, other, seq=2, after=0), Reason.BEHIND)


async def test_a_replayed_envelope_is_ignored_without_a_receipt_or_an_alarm(peer):
    content, release, conversation = peer.one()
    stream = peer.stream(conversation)
    envelope = await peer.send(stream, content)
    receipts = peer.sim.rows("mx", "SELECT count(*) FROM control_out")
    await peer.put(stream, envelope, envelope)
    assert peer.inflow(stream).taken == 1
    assert peer.inflow(stream).why is Reason.NONE
    assert peer.sim.rows("mx", "SELECT count(*) FROM control_out") == receipts
    assert peer.sim.rows("mx", "SELECT count(*) FROM inbound") == [(1,)]
    assert not peer.sim.alarms("mx")
    assert peer.sim.came(release)


async def test_an_envelope_of_another_epoch_is_not_taken(peer):
    content, _, conversation = peer.one()
    stream = peer.stream(conversation)
    await not_taken(peer, stream, peer.seal(stream, content, epoch=2), Reason.EPOCH)


async def test_the_next_envelope_is_missing_control_whatever_was_said_of_those_before_it(peer, monkeypatch):
    monkeypatch.setattr(relay, "CONTROL_PATIENCE_S", 0.0)
    content, _, conversation = peer.one()
    stream = peer.stream(conversation)
    await peer.send(stream, content)
    await peer.put(stream, peer.seal(stream, content, seq=2, after=0))
    assert peer.inflow(stream).why is Reason.BEHIND
    await peer.put(stream, peer.seal(stream, content, seq=3, after=1, control_seq=99))
    assert peer.inflow(stream).why is Reason.MISSING


async def test_a_clock_that_is_ahead_by_more_than_five_minutes_is_not_believed(peer):
    content, _, conversation = peer.one()
    stream = peer.stream(conversation)
    late = peer.sim.clock() + 5 * 60_000 + 1
    await not_taken(peer, stream, peer.seal(stream, content, created_ms=late), Reason.TIME)
    await peer.send(stream, content, created_ms=late - 1, seq=2, after=0)
    assert peer.taken(stream) == 2


async def test_data_made_outside_the_agreements_life_is_not_taken(peer):
    content, _, conversation = peer.one()
    stream = peer.stream(conversation)
    early = peer.link.agreement.not_before_ms - 1
    await not_taken(peer, stream, peer.seal(stream, content, created_ms=early), Reason.AGREEMENT)


async def test_control_goes_on_after_the_agreement_expired_and_data_does_not(peer):
    sim = peer.sim
    content, _, conversation = peer.one()
    stream, control = peer.stream(conversation), peer.stream(family=CONTROL)
    data = peer.seal(stream, content)
    heads = pb.Content(items=[pb.ControlItem(salt=bytes(32), kind=pb.CONTROL_KIND_HEADS, body=b"")])
    item = peer.seal(control, heads)
    end = peer.link.agreement.expires_ms
    sim.clock.now = end + DAY_MS
    await peer.put(control, item)
    assert peer.taken(control) == 1
    await peer.put(stream, data)
    assert peer.taken(stream) == 1  # made while it was in force


async def test_an_envelope_under_a_sender_key_that_ended_long_ago_is_not_taken(peer):
    content, _, conversation = peer.one()
    stream = peer.stream(conversation)
    envelope = peer.seal(stream, content)
    own = peer.link.own_key(codes_pb2.KEY_USE_ENVELOPE, peer.sim.clock())
    peer.sim.clock.now = peer.link.agreement.keys[own.kid].not_after_ms + 7 * DAY_MS + 1
    await not_taken(peer, stream, envelope, Reason.KEY)


async def test_two_headers_for_one_seq_are_evidence_and_suspend_the_link(peer):
    sim = peer.sim
    content, _, conversation = peer.one()
    stream = peer.stream(conversation)
    await peer.send(stream, content)
    other, _, _ = peer.one(conversation=conversation)
    await peer.put(stream, peer.seal(stream, other, seq=1, after=0))
    assert sim.alarms("mx") == ["EVIDENCE_TWO_HEADERS"]
    assert sim.rows("mx", "SELECT length(evidence) > 0 FROM alarms") == [(1,)]
    assert sim.mx.ledger.read(relay.suspended)
    assert sim.rows("mx", "SELECT count(*) FROM inbound") == [(1,)]


async def test_two_headers_are_evidence_even_when_the_first_was_not_taken(peer):
    content, _, conversation = peer.one()
    stream = peer.stream(conversation)
    other, _, _ = peer.one(conversation=conversation)
    await peer.put(stream, peer.seal(stream, content, seq=7, after=6), peer.seal(stream, other, seq=7, after=6))
    assert peer.sim.alarms("mx") == ["EVIDENCE_TWO_HEADERS"]


async def test_data_that_came_with_evidence_on_control_waits(peer):
    sim, control_stream = peer.sim, peer.stream(family=CONTROL)
    items = [pb.Content(items=[pb.ControlItem(salt=bytes([n] * 32), kind=9, body=b"")]) for n in range(2)]
    sim.transport.put(control_stream, [peer.seal(control_stream, one, seq=1, after=0) for one in items])
    content, release, conversation = peer.one()
    await peer.send(peer.stream(conversation), content)
    assert sim.mx.ledger.read(relay.suspended)
    assert sim.came(release) is None


async def test_data_ahead_of_the_control_it_depends_on_waits_and_then_counts_as_missing(peer, monkeypatch):
    monkeypatch.setattr(relay, "CONTROL_PATIENCE_S", 0.05)
    content, release, conversation = peer.one()
    stream = peer.stream(conversation)
    envelope = peer.seal(stream, content, control_seq=1)
    await not_taken(peer, stream, envelope, Reason.MISSING)
    control = peer.stream(family=CONTROL)
    heads = pb.Content(items=[pb.ControlItem(salt=bytes(32), kind=pb.CONTROL_KIND_HEADS, body=b"")])
    await peer.send(control, heads)
    await peer.put(stream, envelope)
    assert peer.sim.came(release).state is State.RECEIVED


async def test_heads_under_a_key_that_ended_long_ago_do_not_act_out_of_turn_either(peer):
    """Who has an old key must not make us forget what was never taken, nor drown out the heads of now."""
    sim, control_stream = peer.sim, peer.stream(family=CONTROL)
    await sim.settle()
    flow = sim.mx.ledger.read(lambda tx: tx.streams.outflow(Stream(sim.mx.link.topic_out(CONTROL), 0)))
    head = pb.TakenHead(topic=sim.mx.link.topic_out(CONTROL), epoch=1, taken=flow.last_seq, why=1)
    body = encode(pb.Heads(taken=[head]))
    content = pb.Content(items=[pb.ControlItem(salt=bytes(32), kind=pb.CONTROL_KIND_HEADS, body=body)])
    envelope = peer.seal(control_stream, content, seq=900, after=899)
    before = sim.mx.ledger.read(lambda tx: tx.control.counted("heads_seq"))
    own = peer.link.own_key(codes_pb2.KEY_USE_ENVELOPE, sim.clock(), family=CONTROL)
    sim.clock.now = peer.link.agreement.keys[own.kid].not_after_ms + 400 * DAY_MS
    await peer.put(control_stream, envelope)
    assert sim.mx.ledger.read(lambda tx: tx.control.counted("heads_seq")) == before < 900


# Steps 8 and 9


async def test_an_envelope_sealed_to_another_key_does_not_open_and_heads_say_so(peer):
    content, _, conversation = peer.one()
    stream = peer.stream(conversation)
    await not_taken(peer, stream, peer.seal(stream, content, key=other_hpke()), Reason.OPEN)


async def test_content_of_another_root_or_count_is_not_taken(peer, monkeypatch):
    content, _, conversation = peer.one()
    other, _, _ = peer.one(conversation=conversation)
    stream = peer.stream(conversation)
    real = sealing.content_leaves
    monkeypatch.setattr(sealing, "content_leaves", lambda c: real(other) if c is content else real(c))
    await not_taken(peer, stream, peer.seal(stream, content), Reason.CONTENT)
    monkeypatch.setattr(sealing, "content_leaves", lambda c: real(content) * 2 if c is content else real(c))
    await not_taken(peer, stream, peer.seal(stream, content, seq=2, after=0), Reason.CONTENT)
    monkeypatch.undo()
    await peer.send(stream, content, seq=3, after=0)
    assert peer.taken(stream) == 3


async def test_control_items_on_a_data_topic_are_not_taken(peer):
    stream = peer.stream(b"c" * 16)
    items = pb.Content(items=[pb.ControlItem(salt=bytes(32), kind=pb.CONTROL_KIND_HEADS, body=b"")])
    await not_taken(peer, stream, peer.seal(stream, items), Reason.CONTENT)


async def test_messages_on_the_control_topic_are_not_taken(peer):
    content, release, _ = peer.one()
    stream = peer.stream(family=CONTROL)
    await not_taken(peer, stream, peer.seal(stream, content), Reason.CONTENT)
    assert peer.sim.came(release) is None


# Steps 10 to 13: that message alone is refused, with a receipt


async def refused(peer, made, reason, *, state=State.REFUSED):
    content, release, conversation = made
    good, good_release, _ = peer.one(conversation=conversation)
    content.batches.extend(good.batches)
    content.messages.extend(good.messages)
    stream = peer.stream(conversation)
    await peer.send(stream, content)
    assert peer.sim.receipts_waiting("mx") == {release: (state, reason), good_release: (State.RECEIVED, Reason.NONE)}
    assert peer.taken(stream) == 1
    assert len(await peer.sim.offers("mx.inm")) == 1
    assert not peer.sim.alarms("mx")


@pytest.mark.parametrize(
    "fields",
    [
        {"link_id": bytes(16)},
        {"family_revision": 2},
        {"origin_agency": "us.nobody"},
        {"origin_agency": "us.ice"},
        {"origin_agency": "mx.inm"},
        {"recipient_agency": "us.ice"},
        {"recipient_agency": "mx.nobody"},
        {"family": "tunnel"},
    ],
    ids=str,
)
async def test_a_statement_for_another_link_agency_or_family_is_refused_by_authority(peer, fields):
    content, release, conversation = peer.one(**fields)
    await peer.send(peer.stream(conversation), content)
    assert peer.sim.receipts_waiting("mx") == {release: (State.REFUSED, Reason.AUTHORITY)}


async def test_a_conversation_in_another_partition_is_refused_by_authority(peer):
    content, release, conversation = peer.one()
    stream = peer.stream(conversation)
    elsewhere = Stream(stream.topic, (stream.partition + 1) % peer.link.partitions("passenger"))
    await peer.send(elsewhere, content)
    assert peer.sim.receipts_waiting("mx") == {release: (State.REFUSED, Reason.AUTHORITY)}


async def test_a_message_without_its_batch_is_refused(peer):
    content, release, conversation = peer.one()
    del content.batches[:]
    await peer.send(peer.stream(conversation), content)
    assert peer.sim.receipts_waiting("mx") == {release: (State.REFUSED, Reason.AUTHORITY)}


async def test_a_gateway_cannot_forge_an_agencys_word_with_its_own_key(peer):
    """The peer's gateway signs a statement in its agency's name with its attest key, and says origin key."""
    content, _, conversation = peer.one()
    batch = content.batches[0]
    forged = peer.link.own_key(codes_pb2.KEY_USE_ATTEST, peer.sim.clock()).key.sign(batch.statement, keys.CTX_ORIGIN)
    batch.signature = forged
    release = leaf_hash(content.messages[0].release_entry)
    await refused(peer, (content, release, conversation), Reason.PROOF)


async def test_one_agencys_key_does_not_speak_for_another(peer):
    sim = peer.sim
    conversation = os.urandom(16)
    ice = keys.kid(keys.SUITE, codes_pb2.KEY_USE_ORIGIN, sim.key("us.ice", "origin.json").public)
    content, _, _ = peer.one(conversation=conversation, origin_kid=ice)
    statement = pb.Core.FromString(content.messages[0].core).statement
    root, [(place, siblings)] = OriginTree.build([origin_leaf(statement)])
    data = batch_statement(ice, sim.clock(), root)
    content.batches[0].statement = data
    content.batches[0].signature = sim.key("us.ice", "origin.json").sign(data, keys.CTX_ORIGIN)
    rebuilt = _with_core(content.messages[0], peer, batch=H(data), place=place, siblings=siblings)
    content.messages[0].CopyFrom(rebuilt)
    await refused(peer, (content, leaf_hash(rebuilt.release_entry), conversation), Reason.AUTHORITY)


def _with_core(message, peer, **changes):
    """The same message released again with another core."""
    core = pb.Core.FromString(message.core)
    for name, value in changes.items():
        if isinstance(value, tuple | list):
            del getattr(core, name)[:]
            getattr(core, name).extend(value)
        else:
            setattr(core, name, value)
    entry = ReleaseEntry.FromString(message.release_entry)
    data = encode(core)
    entry.core_commit = core_commit(message.commit_salt, data)
    return pb.Message(release_entry=encode(entry), core=data, commit_salt=message.commit_salt, slots=message.slots)


async def test_a_signature_over_other_submissions_does_not_cover_this_one(peer):
    content, _, conversation = peer.one()
    changed = _with_core(
        content.messages[0], peer, place=(pb.Core.FromString(content.messages[0].core).place + 1) % 256
    )
    content.messages[0].CopyFrom(changed)
    await refused(peer, (content, leaf_hash(changed.release_entry), conversation), Reason.PROOF)


async def test_a_section_altered_under_the_agencys_signature_is_refused(peer):
    def alter(slots):
        slots[1].section = encode(passenger_pb2.Passenger(identity=passenger_pb2.Identity(
            name=passenger_pb2.PersonName(surname="OTRA"))))  # fmt: skip

    await refused(peer, peer.one(slots=alter), Reason.PROOF)


async def test_a_section_moved_to_another_slot_is_refused(peer):
    def swap(slots):
        third, fourth = pb.Slot(), pb.Slot()
        third.CopyFrom(slots[2])
        fourth.CopyFrom(slots[3])
        slots[2].CopyFrom(fourth)
        slots[3].CopyFrom(third)

    await refused(peer, peer.one(slots=swap), Reason.PROOF)


@pytest.mark.parametrize("cut", [15, 17])
async def test_another_count_of_slots_is_refused(peer, cut):
    def change(slots):
        if cut < 16:
            del slots[cut:]
        else:
            slots.add().CopyFrom(slots[15])

    await refused(peer, peer.one(slots=change), Reason.PROOF)


async def test_a_slot_shown_beyond_the_core_is_refused(peer):
    await refused(peer, peer.one(core={"shown": 0b01111}), Reason.PROOF)


async def test_a_message_without_its_kind_is_refused(peer):
    await refused(peer, peer.one(withhold=(1,)), Reason.PROOF)


async def test_an_entry_about_another_message_is_refused(peer):
    await refused(peer, peer.one(entry={"message_id": os.urandom(16)}), Reason.PROOF)


@pytest.mark.parametrize("entry", [{"core_commit": bytes(32)}, {"origin_leaf": bytes(32)}], ids=str)
async def test_an_entry_that_does_not_commit_to_what_came_is_refused(peer, entry):
    await refused(peer, peer.one(entry=entry), Reason.PROOF)


async def test_a_message_that_cannot_even_be_read_is_refused_by_its_release(peer):
    content, _, conversation = peer.one()
    content.messages[0].core = b"\xff\xff"
    release = leaf_hash(content.messages[0].release_entry)
    await refused(peer, (content, release, conversation), Reason.PROOF)


async def test_a_record_that_breaks_a_field_rule_is_refused(peer):
    wrong = passenger_pb2.Identity(name=passenger_pb2.PersonName(surname="X"), nationality="mexico")
    await refused(peer, peer.one(person_changes={"identity": wrong}), Reason.RECORD_INVALID)


async def test_a_message_that_arrives_after_its_expiry_is_expired(peer):
    content, release, conversation = peer.one(expires_ms=peer.sim.clock() + 1000)
    peer.sim.clock.now += 1000
    await peer.send(peer.stream(conversation), content)
    assert peer.sim.receipts_waiting("mx") == {release: (State.EXPIRED, Reason.EXPIRED)}
    assert await peer.sim.offers("mx.inm") == []


async def test_the_same_message_id_with_another_release_conflicts_and_the_first_is_untouched(peer):
    sim = peer.sim
    conversation = os.urandom(16)
    batch, items = sim.batch([person(1)], conversation=conversation)
    first, second = peer.message(items[0], batch), peer.message(items[0], batch, withhold=(5,))
    signed = [pb.SignedBatch(statement=batch.statement, signature=batch.signature)]
    stream = peer.stream(conversation)
    await peer.send(stream, pb.Content(batches=signed, messages=[first]))
    await peer.send(stream, pb.Content(batches=signed, messages=[second]))
    one, two = leaf_hash(first.release_entry), leaf_hash(second.release_entry)
    assert sim.receipts_waiting("mx") == {
        one: (State.RECEIVED, Reason.NONE),
        two: (State.REFUSED, Reason.CONFLICT),
    }
    assert [offer.release for offer in await sim.offers("mx.inm")] == [one]


async def test_the_same_release_again_gets_its_last_receipt_again_and_nothing_else(peer):
    sim = peer.sim
    content, release, conversation = peer.one()
    stream = peer.stream(conversation)
    await peer.send(stream, content)
    await peer.send(stream, content)
    assert peer.taken(stream) == 2
    bodies = sim.rows("mx", "SELECT body FROM control_out WHERE kind = 1")
    assert len(bodies) == 2
    assert bodies[0] == bodies[1]
    assert sim.rows("mx", "SELECT count(*) FROM inbound") == [(1,)]
    await sim.offers("mx.inm")
    await sim.answer("mx.inm", release)
    await peer.send(stream, content)
    assert sim.receipts_waiting("mx")[release][0] is State.ACKNOWLEDGED


async def test_a_correction_of_what_never_came_is_refused(peer):
    await refused(peer, peer.one(supersedes=os.urandom(16)), Reason.AUTHORITY)


@pytest.mark.parametrize("ended", ["expired", "recalled"])
async def test_what_corrects_a_message_that_ended_before_it_came_is_received_also_in_the_same_envelope(peer, ended):
    sim, conversation = peer.sim, os.urandom(16)
    how = {"expires_ms": sim.clock() + 1000} if ended == "expired" else {}
    original, release, _ = peer.one(conversation=conversation, **how)
    statement = pb.OriginStatement.FromString(pb.Core.FromString(original.messages[0].core).statement)
    correction, corrected, _ = peer.one(conversation=conversation, supersedes=statement.message_id)
    if ended == "expired":
        sim.clock.now += 1000
    else:
        kind, salt, body = control.recall_item(release, "us.cbp", Reason.AGENCY, statement.expires_ms)
        recall = pb.Content(items=[pb.ControlItem(salt=salt, kind=kind, body=body)])
        await peer.send(peer.stream(family=CONTROL), recall)
    both = pb.Content(
        batches=[*original.batches, *correction.batches], messages=[*original.messages, *correction.messages]
    )
    await peer.send(peer.stream(conversation), both)
    found = sim.receipts_waiting("mx")
    assert found[release][0] is (State.EXPIRED if ended == "expired" else State.RECALLED)
    assert found[corrected] == (State.RECEIVED, Reason.NONE)


async def test_a_refused_message_is_never_offered_and_its_content_is_not_kept(peer):
    sim = peer.sim
    content, release, conversation = peer.one(supersedes=os.urandom(16))
    await peer.send(peer.stream(conversation), content)
    assert await sim.offers("mx.inm") == []
    assert all(content is None for _, content, _ in sim.key_rows("mx"))
    assert sim.came(release).state is State.REFUSED


async def test_what_our_own_law_withholds_is_closed_before_our_agency_sees_it(peer):
    """The peer's gateway lets health data through on no express basis: R11 closes it here."""
    sim = peer.sim
    sick = {"assistance": passenger_pb2.Assistance(codes=["WCHR"])}
    content, release, conversation = peer.one(person_changes=sick)
    await peer.send(peer.stream(conversation), content)
    offer = (await sim.offers("mx.inm"))[0]
    assert offer.release == release
    assert [slot for slot, _ in offer.withheld] == [8]
    content_key, _ = sim.mx.ledger.keys.both(offer.key_id)
    key = sim.mx.vault.unwrap(content_key, offer.key_id)
    slots = sim.mx.vault.open(key, offer.content, offer.key_id)
    assert b"WCHR" not in slots


async def test_a_purpose_that_our_own_law_does_not_know_is_refused_by_policy(peer):
    content, release, conversation = peer.one(purpose=codes_pb2.PURPOSE_STATISTICS)
    await peer.send(peer.stream(conversation), content)
    assert peer.sim.receipts_waiting("mx") == {release: (State.REFUSED, Reason.POLICY)}
    decision = peer.sim.mx.ledger.read(lambda tx: tx.decisions.page("1", (), 0, 9))[0].record
    assert (decision.action, decision.permit) == ("accept", False)


# Atomicity


async def test_a_store_that_fails_leaves_the_position_so_that_the_envelope_is_read_again(peer, monkeypatch):
    sim = peer.sim
    content, release, conversation = peer.one()
    stream = peer.stream(conversation)
    monkeypatch.setattr(sim.mx.ledger.keys, "flush", lambda *_: (_ for _ in ()).throw(apsw.IOError("disk")))
    with pytest.raises(StoreError):
        await peer.send(stream, content)
    assert peer.inflow(stream).position == 0
    monkeypatch.undo()
    await sim.mx.relay.read_waiting()
    assert sim.came(release).state is State.RECEIVED


async def test_the_position_stands_after_a_restart_and_nothing_is_read_twice(peer):
    sim = peer.sim
    content, release, conversation = peer.one()
    stream = peer.stream(conversation)
    await peer.send(stream, content)
    sim.reopen("mx")
    await sim.mx.relay.read_waiting()
    assert sim.rows("mx", "SELECT count(*) FROM inbound") == [(1,)]
    assert sim.rows("mx", "SELECT count(*) FROM control_out") == [(1,)]
    assert sim.came(release)
