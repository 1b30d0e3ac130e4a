"""What becomes of a message: answers, recalls, expiry, corrections and leases, on both sides."""

import os

import pytest

from broker import control
from broker.link import CONTROL
from broker.message import Log, Reason, State
from broker.v1 import envelope_pb2 as pb
from broker.v1 import log_pb2
from tests.hostile import Hostile
from tests.simulator import person

MINUTE_MS, DAY_MS = 60_000, 86_400_000
CONVERSATION = b"conversation one"


async def received(sim, count=1, **how):
    """Messages that mx's agency has waiting: (message id, release) each."""
    how = {"conversation": CONVERSATION} | how
    results = await sim.submit([person(n) for n in range(count)], **how)
    await sim.settle()
    return [(r.message_id, sim.sent(r.message_id).release) for r in results]


async def delivered(sim, count=1, **how):
    found = await received(sim, count, **how)
    await sim.offers("mx.inm")
    return found


async def acknowledged(sim, **how):
    [(message_id, release)] = await delivered(sim, **how)
    assert await sim.answer("mx.inm", release) == "OK"
    await sim.settle()
    return message_id, release


def stands(sim, message_id, release):
    """(sender's state and reason, recipient's state and reason)."""
    ours, theirs = sim.sent(message_id), sim.came(release)
    return (ours.state, ours.reason), (theirs.state, theirs.reason) if theirs else None


def content_key(sim, party, release):
    """The content key kept for a message; None when it was destroyed."""
    table = "outbound" if party == "us" else "inbound"
    rows = sim.rows(party, f"SELECT key_id FROM {table} WHERE release = ?", release)
    return {key_id: content for key_id, content, _ in sim.key_rows(party)}[rows[0][0]]


# Acknowledge, reject


async def test_an_acknowledgement_reaches_the_sender_with_a_receipt(sim):
    message_id, release = await acknowledged(sim)
    both = (State.ACKNOWLEDGED, Reason.NONE)
    assert stands(sim, message_id, release) == (both, both)
    steps = sim.sent(message_id).steps
    assert [s.state for s in steps] == [State.ACCEPTED, State.SENT, State.RECEIVED, State.ACKNOWLEDGED]
    assert [s.receipt for s in steps] == [False, False, True, True]
    assert not any(s.agency_signed for s in steps)
    assert all(s.control for s in steps if s.receipt)  # the envelope that proves it


async def test_a_rejection_reaches_the_sender_with_its_reason_and_the_content_is_destroyed(sim):
    [(message_id, release)] = await delivered(sim)
    assert await sim.answer("mx.inm", release, State.REJECTED, Reason.AGENCY) == "OK"
    await sim.settle()
    both = (State.REJECTED, Reason.AGENCY)
    assert stands(sim, message_id, release) == (both, both)
    assert content_key(sim, "mx", release) is None


async def test_the_agencys_own_signature_is_told_to_the_sender(sim):
    [(message_id, release)] = await delivered(sim)
    signed = sim.agency_receipt("mx.inm", release, State.ACKNOWLEDGED)
    assert await sim.answer("mx.inm", release, signed=signed) == "OK"
    await sim.settle()
    assert sim.sent(message_id).steps[-1].agency_signed


@pytest.mark.parametrize("how", ["other agency", "other state", "other release", "bit", "unknown kid"])
async def test_a_forged_agency_signature_is_refused_and_the_message_stays_open(sim, how):
    [(_, release)] = await delivered(sim)
    signed = sim.agency_receipt("mx.inm", release, State.ACKNOWLEDGED)
    if how == "other agency":
        signed = sim.agency_receipt("mx.fgr", release, State.ACKNOWLEDGED)
    elif how == "other state":
        signed = sim.agency_receipt("mx.inm", release, State.REJECTED)
    elif how == "other release":
        signed = sim.agency_receipt("mx.inm", os.urandom(32), State.ACKNOWLEDGED)
    elif how == "bit":
        signed.signature = signed.signature[:-1] + bytes([signed.signature[-1] ^ 1])
    else:
        signed.kid = bytes(32)
    assert await sim.answer("mx.inm", release, signed=signed) == "AGENCY_SIGNATURE_INVALID"
    assert sim.came(release).state is State.DELIVERED


async def test_an_answer_again_is_ok_and_changes_nothing(sim):
    _, release = await acknowledged(sim)
    before = sim.rows("mx", "SELECT count(*) FROM log")
    assert await sim.answer("mx.inm", release) == "OK"
    assert sim.rows("mx", "SELECT count(*) FROM log") == before


async def test_a_final_state_is_final(sim):
    _, release = await acknowledged(sim)
    assert await sim.answer("mx.inm", release, State.REJECTED, Reason.AGENCY) == "STATE_FINAL"
    assert sim.came(release).state is State.ACKNOWLEDGED


@pytest.mark.parametrize(
    "state", [State.REFUSED, State.ACCEPTED, State.SENT, State.RECEIVED, State.EXPIRED, State.RECALLED]
)
async def test_an_agency_cannot_set_a_state_that_is_not_its_own(sim, state):
    [(_, release)] = await delivered(sim)
    assert await sim.answer("mx.inm", release, state) == "STATE_FINAL"
    assert sim.came(release).state is State.DELIVERED


async def test_an_agency_cannot_answer_for_another(sim):
    [(_, release)] = await delivered(sim)
    assert await sim.answer("mx.fgr", release) == "NOT_FOUND"
    assert await sim.answer("mx.inm", os.urandom(32)) == "NOT_FOUND"


# Leases


async def test_a_stream_that_does_not_hold_the_conversation_cannot_answer(sim):
    [(_, release)] = await delivered(sim)
    assert await sim.answer("mx.inm", release, holder="another") == "LEASE_LOST"


async def test_two_streams_never_share_a_conversation(sim):
    await received(sim, 3)
    first = await sim.offers("mx.inm", holder="one", limit=1)
    assert len(first) == 1
    assert await sim.offers("mx.inm", holder="two") == []
    assert len(await sim.offers("mx.inm", holder="one")) == 2


async def test_two_conversations_may_go_to_two_streams(sim):
    await received(sim, 1)
    await received(sim, 1, conversation=b"conversation two")
    assert len(await sim.offers("mx.inm", holder="one", limit=1)) == 1
    assert len(await sim.offers("mx.inm", holder="two")) == 1


async def test_a_lapsed_lease_is_offered_again_from_the_first_unanswered_message_in_order(sim):
    found = [release for _, release in await received(sim, 4)]
    offered = await sim.offers("mx.inm", holder="one")
    assert [o.release for o in offered] == found
    await sim.answer("mx.inm", found[0], holder="one")
    sim.clock.now += MINUTE_MS - 1
    assert await sim.offers("mx.inm", holder="two") == []
    sim.clock.now += 1
    again = await sim.offers("mx.inm", holder="two")
    assert [o.release for o in again] == found[1:]
    assert [o.attempt for o in again] == [2, 2, 2]
    assert await sim.answer("mx.inm", found[1], holder="one") == "LEASE_LOST"


async def test_a_stream_that_ends_gives_its_conversations_back_at_once(sim):
    await received(sim, 2)
    await sim.offers("mx.inm", holder="one")
    await sim.mx.ledger.commit(lambda tx: tx.mailbox.let_go("one"))
    assert len(await sim.offers("mx.inm", holder="two")) == 2


async def test_an_extended_lease_holds_longer(sim):
    await received(sim, 1)
    await sim.offers("mx.inm", holder="one")
    until = sim.clock() + 10 * MINUTE_MS
    assert await sim.mx.ledger.commit(lambda tx: tx.mailbox.extend("mx.inm", "one", CONVERSATION, until))
    sim.clock.now += 9 * MINUTE_MS
    assert await sim.offers("mx.inm", holder="two") == []
    assert not await sim.mx.ledger.commit(lambda tx: tx.mailbox.extend("mx.inm", "two", CONVERSATION, until))


async def test_an_agency_is_never_offered_what_is_for_another(sim):
    await received(sim, 1)
    assert await sim.offers("mx.fgr") == []


async def test_after_five_attempts_a_message_is_offered_more_slowly_and_those_behind_it_wait(sim):
    found = [release for _, release in await received(sim, 1)]
    for attempt in range(1, 6):
        [offer] = await sim.offers("mx.inm", holder=f"s{attempt}")
        assert offer.attempt == attempt
        await sim.mx.ledger.commit(lambda tx, n=attempt: tx.mailbox.let_go(f"s{n}"))
    found += [release for _, release in await received(sim, 1)]
    assert await sim.offers("mx.inm", holder="s6") == []  # nor the second: it stands behind the first
    sim.clock.now += 10 * MINUTE_MS
    assert [o.release for o in await sim.offers("mx.inm", holder="s7")] == found


async def test_a_slow_conversation_does_not_hold_up_another(sim):
    await received(sim, 1)
    for attempt in range(5):
        await sim.offers("mx.inm", holder=f"s{attempt}")
        await sim.mx.ledger.commit(lambda tx, n=attempt: tx.mailbox.let_go(f"s{n}"))
    [(_, other)] = await received(sim, 1, conversation=b"conversation two")
    assert [o.release for o in await sim.offers("mx.inm", holder="new")] == [other]


async def test_many_conversations_that_are_slow_do_not_hide_one_that_is_not(sim):
    for n in range(6):
        await received(sim, 1, conversation=bytes([n]) * 16)
    for attempt in range(5):
        await sim.offers("mx.inm", holder=f"s{attempt}")
        await sim.mx.ledger.commit(lambda tx, n=attempt: tx.mailbox.let_go(f"s{n}"))
    [(_, other)] = await received(sim, 1, conversation=b"conversation two")
    assert [o.release for o in await sim.offers("mx.inm", holder="new", limit=2)] == [other]


# Recall


async def test_a_recall_before_sealing_ends_the_message_here_and_nothing_leaves(sim):
    await sim.settle()
    [result] = await sim.submit([person()], conversation=CONVERSATION)
    view = await sim.recall("us.cbp", result.message_id)
    assert view.state == State.RECALLED
    await sim.settle()
    assert sim.states("mx")[1] == {}
    assert sim.sent(result.message_id).state is State.RECALLED
    kinds = [log_pb2.StateEntry.FromString(e).kind for e in sim.entries("us", Log.DECISIONS)]
    assert log_pb2.ENTRY_KIND_WITHDRAWAL in kinds


async def test_a_recall_that_overtakes_its_message_refuses_it_on_arrival(sim):
    await sim.settle()
    [result] = await sim.submit([person()], conversation=CONVERSATION)
    held = []
    control_topic = sim.us.link.topic_out(CONTROL)
    sim.transport.fault = lambda stream, e: e if stream.topic == control_topic else held.append((stream, e)) or []
    await sim.turn("us")
    await sim.recall("us.cbp", result.message_id)
    await sim.settle()
    sim.transport.fault = None
    for stream, envelopes in held:
        sim.transport.put(stream, envelopes)
    await sim.settle()
    release = sim.sent(result.message_id).release
    both = (State.RECALLED, Reason.AGENCY)
    assert stands(sim, result.message_id, release) == (both, both)
    assert await sim.offers("mx.inm") == []
    assert content_key(sim, "mx", release) is None


@pytest.mark.parametrize("leased", [False, True])
async def test_a_recall_of_an_unacknowledged_message_withdraws_it(sim, leased):
    [(message_id, release)] = await (delivered(sim) if leased else received(sim))
    await sim.recall("us.cbp", message_id, Reason.CORRECTION)
    await sim.settle()
    both = (State.RECALLED, Reason.CORRECTION)
    assert stands(sim, message_id, release) == (both, both)
    assert await sim.answer("mx.inm", release) == "STATE_FINAL"
    assert await sim.offers("mx.inm", holder="other") == []
    assert content_key(sim, "mx", release) is None


@pytest.mark.parametrize("said", [Reason.DESTROYED, Reason.KEPT])
async def test_a_recall_of_an_acknowledged_message_asks_its_agency_which_answers(sim, said):
    message_id, release = await acknowledged(sim)
    await sim.recall("us.cbp", message_id)
    await sim.settle()
    assert sim.sent(message_id).state is State.ACKNOWLEDGED
    [asked] = sim.mx.ledger.read(lambda tx: tx.mailbox.recalls_to_answer("mx.inm", 9))
    assert (asked.release, asked.recall) == (release, True)
    signed = sim.agency_receipt("mx.inm", release, State.RECALLED, said)
    assert await sim.answer("mx.inm", release, State.RECALLED, said, signed=signed) == "OK"
    await sim.settle()
    both = (State.RECALLED, said)
    assert stands(sim, message_id, release) == (both, both)
    assert sim.sent(message_id).steps[-1].agency_signed
    assert sim.mx.ledger.read(lambda tx: tx.mailbox.recalls_to_answer("mx.inm", 9)) == []
    assert content_key(sim, "mx", release) is None


async def test_seven_days_of_silence_mean_kept(sim):
    message_id, release = await acknowledged(sim)
    await sim.recall("us.cbp", message_id)
    await sim.settle()
    await sim.pass_time(7 * DAY_MS - 1000)
    await sim.settle()
    assert sim.sent(message_id).state is State.ACKNOWLEDGED
    await sim.pass_time(2000)
    await sim.settle()
    both = (State.RECALLED, Reason.KEPT)
    assert stands(sim, message_id, release) == (both, both)


async def test_a_recall_of_a_rejected_message_changes_nothing(sim):
    [(message_id, release)] = await delivered(sim)
    await sim.answer("mx.inm", release, State.REJECTED, Reason.AGENCY)
    await sim.settle()
    await sim.recall("us.cbp", message_id)
    await sim.settle()
    assert sim.sent(message_id).state is State.REJECTED
    assert not sim.alarms("us") + sim.alarms("mx")


async def recall_item(sim, release, origin, expires=None):
    item = control.recall_item(release, origin, Reason.AGENCY, expires or sim.clock() + DAY_MS)
    peer = Hostile(sim)
    stream = peer.stream(family=CONTROL)
    peer.last[stream] = peer.taken(stream)
    await peer.send(stream, pb.Content(items=[pb.ControlItem(kind=item[0], salt=item[1], body=item[2])]))


async def test_a_recall_in_the_name_of_an_agency_that_did_not_send_it_is_a_strangers(sim):
    [(message_id, release)] = await received(sim)
    await recall_item(sim, release, "us.ice")
    assert sim.alarms("mx") == ["RECALL_BY_STRANGER"]
    assert sim.came(release).state is State.RECEIVED
    assert message_id


@pytest.mark.parametrize("origin", ["mx.inm", "us.nobody"])
async def test_a_recall_in_the_name_of_nobody_of_the_other_party_is_a_strangers(sim, origin):
    [(_, release)] = await received(sim)
    await recall_item(sim, release, origin)
    assert sim.alarms("mx") == ["RECALL_BY_STRANGER"]


async def test_a_recall_of_a_finished_message_is_answered_with_its_last_receipt(sim):
    [(_, release)] = await delivered(sim)
    await sim.answer("mx.inm", release, State.REJECTED, Reason.AGENCY)
    await sim.settle()
    await recall_item(sim, release, "us.cbp")
    assert sim.receipts_waiting("mx") == {release: (State.REJECTED, Reason.AGENCY)}


async def test_a_recall_of_what_never_comes_is_forgotten_after_its_time(sim):
    await recall_item(sim, os.urandom(32), "us.cbp")
    assert sim.rows("mx", "SELECT count(*) FROM recalls") == [(1,)]
    await sim.pass_time(DAY_MS + 2 * 3_600_000)
    assert sim.rows("mx", "SELECT count(*) FROM recalls") == [(0,)]


async def test_an_agency_recalls_only_its_own_messages(sim):
    from broker.errors import NotFoundError

    [(message_id, _)] = await received(sim)
    with pytest.raises(NotFoundError):
        await sim.recall("us.ice", message_id)


# Expiry


async def test_what_expires_before_it_is_sealed_never_leaves(sim):
    await sim.settle()
    [result] = await sim.submit([person()], expires_ms=sim.clock() + MINUTE_MS)
    await sim.pass_time(MINUTE_MS)
    await sim.settle()
    assert (sim.sent(result.message_id).state, sim.sent(result.message_id).reason) == (State.EXPIRED, Reason.EXPIRED)
    assert sim.states("mx")[1] == {}


async def test_what_is_not_answered_in_time_expires_at_the_recipient_and_its_sender_hears(sim):
    [(message_id, release)] = await delivered(sim, expires_ms=sim.clock() + MINUTE_MS)
    await sim.pass_time(MINUTE_MS)
    await sim.settle()
    both = (State.EXPIRED, Reason.EXPIRED)
    assert stands(sim, message_id, release) == (both, both)
    assert await sim.answer("mx.inm", release) == "STATE_FINAL"
    assert content_key(sim, "mx", release) is None


async def test_an_acknowledged_message_does_not_expire(sim):
    message_id, release = await acknowledged(sim, expires_ms=sim.clock() + MINUTE_MS)
    await sim.pass_time(DAY_MS)
    await sim.settle()
    assert stands(sim, message_id, release)[0][0] is State.ACKNOWLEDGED


# Corrections


async def test_a_correction_names_the_message_that_it_supersedes_and_is_received(sim):
    message_id, _ = await acknowledged(sim)
    [(correction, release)] = await received(sim, supersedes=message_id)
    assert sim.came(release).state is State.RECEIVED
    assert correction != message_id


async def test_a_correction_in_another_conversation_is_refused_by_authority(sim):
    message_id, _ = await acknowledged(sim)
    [(correction, release)] = await received(sim, supersedes=message_id, conversation=b"another one, yes")
    both = (State.REFUSED, Reason.AUTHORITY)
    assert stands(sim, correction, release) == (both, both)


# Receipts that must not count


async def send_receipts(sim, *receipts, party="us"):
    """mx's gateway, with its real keys, says these of us's messages."""
    items = [control.receipt_item(receipt) for receipt in receipts]
    await sim.mx.ledger.commit(lambda tx: tx.control.enqueue(items))
    await sim.settle()


def receipt(sim, release, state, reason=Reason.NONE, agency=None):
    return control.receipt(release, state, reason, os.urandom(32), sim.clock(), agency)


async def test_a_receipt_for_what_was_never_sent_is_an_alarm(sim):
    await sim.settle()
    await send_receipts(sim, receipt(sim, os.urandom(32), State.RECEIVED))
    assert sim.alarms("us") == ["RECEIPT_UNKNOWN_RELEASE"]


async def test_a_receipt_before_anything_was_sealed_is_evidence(sim):
    await sim.settle()
    [result] = await sim.submit([person()])
    release = sim.sent(result.message_id).release
    items = [control.receipt_item(receipt(sim, release, State.RECEIVED))]
    await sim.mx.ledger.commit(lambda tx: tx.control.enqueue(items))
    await sim.turn("mx")
    await sim.us.relay.read_waiting()
    assert sim.alarms("us") == ["EVIDENCE_IMPOSSIBLE_RECEIPT"]
    assert sim.sent(result.message_id).state is State.ACCEPTED


@pytest.mark.parametrize("state", [State.ACCEPTED, State.DELIVERED, State.REFUSED])
async def test_a_state_that_cannot_follow_is_evidence_and_changes_nothing(sim, state):
    [(message_id, release)] = await received(sim)
    await send_receipts(sim, receipt(sim, release, state))
    assert sim.alarms("us") == ["EVIDENCE_IMPOSSIBLE_RECEIPT"]
    assert sim.sent(message_id).state is State.RECEIVED


async def test_a_state_taken_back_is_evidence(sim):
    message_id, release = await acknowledged(sim)
    await send_receipts(sim, receipt(sim, release, State.REJECTED, Reason.AGENCY))
    assert sim.alarms("us") == ["EVIDENCE_IMPOSSIBLE_RECEIPT"]
    assert sim.sent(message_id).state is State.ACKNOWLEDGED


async def test_the_same_state_again_is_skipped(sim):
    message_id, release = await acknowledged(sim)
    await send_receipts(sim, receipt(sim, release, State.ACKNOWLEDGED))
    assert not sim.alarms("us")
    assert len(sim.sent(message_id).steps) == 4


async def test_receipts_of_one_message_that_come_together_all_count(sim):
    [(message_id, release)] = await received(sim)
    states = [(State.ACKNOWLEDGED, Reason.NONE), (State.RECALLED, Reason.DESTROYED)]
    await send_receipts(sim, *(receipt(sim, release, state, reason) for state, reason in states))
    found = sim.sent(message_id)
    assert [(s.state, s.reason) for s in found.steps[-2:]] == states
    assert (found.state, found.reason) == states[-1]
    assert sim.us.ledger.read(lambda tx: tx.control.counted("receipts_acknowledged")) == 1


async def test_a_gateway_that_forges_its_agencys_signature_is_caught_by_the_sender(sim):
    [(message_id, release)] = await received(sim)
    forged = sim.agency_receipt("mx.fgr", release, State.ACKNOWLEDGED)
    await send_receipts(sim, receipt(sim, release, State.ACKNOWLEDGED, agency=forged))
    assert sim.alarms("us") == ["EVIDENCE_IMPOSSIBLE_RECEIPT"]
    assert sim.sent(message_id).state is State.RECEIVED


async def test_a_control_item_of_an_unknown_kind_is_an_alarm_and_never_fatal(sim):
    await sim.settle()
    await sim.mx.ledger.commit(lambda tx: tx.control.enqueue([(999, os.urandom(32), b"anything")]))
    message_id, _ = await acknowledged(sim)
    assert sim.alarms("us") == ["CONTROL_UNKNOWN_KIND"]
    assert sim.sent(message_id).state is State.ACKNOWLEDGED


@pytest.mark.parametrize("kind", [pb.CONTROL_KIND_RECEIPT, pb.CONTROL_KIND_HEADS, pb.CONTROL_KIND_RECALL])
async def test_a_control_item_that_is_not_canonical_is_an_alarm_and_never_fatal(sim, kind):
    await sim.settle()
    await sim.mx.ledger.commit(lambda tx: tx.control.enqueue([(kind, os.urandom(32), b"\xff\xff\xff")]))
    message_id, _ = await acknowledged(sim)
    assert sim.alarms("us") == ["CONTROL_MALFORMED"]
    assert sim.sent(message_id).state is State.ACKNOWLEDGED


@pytest.mark.parametrize(
    "body",
    [
        pb.Receipt(release=b"r" * 32, time_ms=1),
        pb.Receipt(release=b"r" * 32, state=4, time_ms=1),
        pb.Heads(taken=[pb.TakenHead(topic="x", epoch=1)]),
        pb.Heads(taken=[pb.TakenHead(topic="puente.us.mx.passenger", partition=999, epoch=1, taken=7, why=12)]),
        pb.Recall(release=b"r", origin_agency="mx.inm"),
        pb.Recall(release=b"r" * 32, origin_agency="mx.inm", expires_ms=1),
    ],
    ids=lambda body: type(body).__name__,
)
async def test_a_control_item_with_fields_left_out_never_stops_the_stream(sim, body):
    kinds = {pb.Receipt: 1, pb.Heads: 2, pb.Recall: 7}
    message_id, release = await acknowledged(sim)
    if body.DESCRIPTOR.name == "Receipt":
        body.release = release
    item = (kinds[type(body)], os.urandom(32), body.SerializeToString(deterministic=True))
    await sim.mx.ledger.commit(lambda tx: tx.control.enqueue([item]))
    await sim.settle()
    await sim.us.ledger.commit(lambda tx: tx.standing.resume(sim.clock()))
    other, _ = await acknowledged(sim, conversation=b"conversation two")
    assert sim.sent(other).state is State.ACKNOWLEDGED
    assert sim.sent(message_id).state is State.ACKNOWLEDGED


# A2: the sum


async def test_submitted_is_always_the_sum_of_what_became_of_it_on_both_sides(sim):
    from broker.gateway.operations import _counts

    def holds():
        for party in ("us", "mx"):
            for counts in sim.states(party):
                seen = _counts(counts)
                ended = seen.acknowledged + seen.refused + seen.rejected + seen.expired + seen.recalled
                assert seen.submitted == ended + seen.in_flight

    await sim.settle()
    from broker.v1 import facts_pb2

    facts = facts_pb2.Facts(protection_claim=facts_pb2.CLAIM_STATUS_PENDING)
    await sim.submit([person(1), person(2)], facts=facts)
    holds()
    [gone] = await sim.submit([person(3)])
    await sim.recall("us.cbp", gone.message_id)
    holds()
    results = await sim.submit(
        [person(n) for n in range(5)], conversation=CONVERSATION, expires_ms=sim.clock() + DAY_MS
    )
    await sim.settle()
    holds()
    releases = [sim.sent(r.message_id).release for r in results]
    await sim.offers("mx.inm")
    await sim.answer("mx.inm", releases[0])
    await sim.answer("mx.inm", releases[1], State.REJECTED, Reason.AGENCY)
    await sim.recall("us.cbp", results[2].message_id)
    await sim.settle()
    holds()
    await sim.pass_time(DAY_MS)
    await sim.settle()
    holds()
    sent, came = sim.states("us")[0], sim.states("mx")[1]
    assert sent == {State.REFUSED: 2, State.RECALLED: 2, State.ACKNOWLEDGED: 1, State.REJECTED: 1, State.EXPIRED: 2}
    assert came == {State.ACKNOWLEDGED: 1, State.REJECTED: 1, State.RECALLED: 1, State.EXPIRED: 2}


async def test_what_a_lapsed_lease_has_no_room_for_is_offered_before_anything_newer(sim):
    conversation = bytes(16)
    await sim.submit([person(n) for n in range(3)], conversation=conversation)
    await sim.settle()
    until = sim.clock() + 60_000
    first = await sim.mx.ledger.commit(lambda tx: tx.mailbox.lease("mx.inm", "a", sim.clock(), until, 3))
    await sim.submit([person(9)], conversation=conversation)
    await sim.settle()
    await sim.mx.ledger.commit(lambda tx: tx.mailbox.let_go("a"))
    offered = []
    for _ in range(4):
        offered += await sim.mx.ledger.commit(lambda tx: tx.mailbox.lease("mx.inm", "b", sim.clock(), until, 1))
    assert [offer.release for offer in offered[:3]] == [offer.release for offer in first]
    assert len({offer.release for offer in offered}) == 4
