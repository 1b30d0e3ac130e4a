"""A suspended link: one person stops it, evidence stops it, and two different persons resume it."""

from types import SimpleNamespace

import pytest

from broker import standing
from broker.canonical import H, leaf_hash
from broker.errors import ActError
from broker.gateway.acts import Acts
from broker.message import Log, Reason, State
from broker.relay import suspended
from broker.standing import ASKED_MS
from broker.v1 import log_pb2
from broker.v1 import operations_service_pb2 as pb
from tests.simulator import person

CONVERSATION = b"conversation one"


async def suspend(sim, who="us.operator", why="a drill"):
    return (await Acts(sim.us).suspend_link(SimpleNamespace(id=who), pb.SuspendLinkRequest(why=why))).link


async def resume(sim, who, why="looked at"):
    return await Acts(sim.us).resume_link(SimpleNamespace(id=who), pb.ResumeLinkRequest(why=why))


def is_suspended(sim):
    return sim.us.ledger.read(suspended)


async def evidence(sim, what="EVIDENCE_TWO_HEADERS", signed=b"header"):
    await sim.us.ledger.commit(lambda tx: standing.evidence(tx, what, signed, sim.clock()))


def suspensions(sim):
    entries = [log_pb2.LinkEntry.FromString(entry) for entry in sim.entries("us", Log.EXCHANGE)]
    return [entry for entry in entries if entry.kind == log_pb2.ENTRY_KIND_SUSPENSION]


def acts(sim):
    entries = [log_pb2.ActEntry.FromString(entry) for entry in sim.entries("us", Log.DECISIONS)]
    return [entry for entry in entries if entry.kind == log_pb2.ENTRY_KIND_OPERATOR_ACT]


async def test_one_operator_suspends_and_data_waits_both_ways_while_control_goes_on(sim):
    await sim.settle()
    [before] = await sim.submit([person(1)], conversation=CONVERSATION)
    link = await suspend(sim)
    assert (link.state, link.why) == ("suspended", "OPERATOR")
    await sim.settle()
    assert sim.sent(before.message_id).state is State.ACCEPTED
    assert sim.states("us")[1] == {}
    heard = sim.mx.ledger.read(lambda tx: tx.control.counted("heads_at_ms"))
    await sim.pass_time(61_000)
    await sim.settle()
    assert sim.mx.ledger.read(lambda tx: tx.control.counted("heads_at_ms")) > heard
    assert not (await resume(sim, "us.operator")).resumed
    assert (await resume(sim, "us.operator2")).resumed
    await sim.settle()
    assert sim.sent(before.message_id).state is State.RECEIVED


async def test_the_first_person_asks_and_the_second_one_opens(sim):
    await evidence(sim)
    asked = await resume(sim, "us.operator")
    assert (asked.resumed, asked.link.state, asked.link.resume_asked_by) == (False, "suspended", "us.operator")
    assert asked.link.resume_until_ms == sim.clock() + ASKED_MS
    done = await resume(sim, "us.operator2")
    assert (done.resumed, done.link.state, done.link.resume_asked_by) == (True, "open", "")
    assert not is_suspended(sim)
    assert not sim.alarms("us")


async def test_one_person_alone_never_resumes_however_often(sim):
    await evidence(sim)
    for _ in range(3):
        assert not (await resume(sim, "us.operator")).resumed
    assert is_suspended(sim)
    sim.reopen("us")
    assert not (await resume(sim, "us.operator")).resumed


async def test_a_request_lapses_after_a_quarter_of_an_hour(sim):
    await evidence(sim)
    await resume(sim, "us.operator")
    sim.clock.now += ASKED_MS + 1
    assert not (await resume(sim, "us.operator2")).resumed
    assert is_suspended(sim)
    assert (await resume(sim, "us.operator")).resumed  # the second one's request stands now


async def test_what_comes_to_light_between_the_two_starts_it_anew(sim):
    await evidence(sim)
    await resume(sim, "us.operator")
    await evidence(sim, "EVIDENCE_IMPOSSIBLE_RECEIPT", b"receipt")
    assert not (await resume(sim, "us.operator2")).resumed
    assert is_suspended(sim)


async def test_the_same_evidence_again_does_not_suspend_again_and_other_evidence_does(sim):
    await evidence(sim)
    await resume(sim, "us.operator")
    await resume(sim, "us.operator2")
    await evidence(sim)
    assert not is_suspended(sim)
    await evidence(sim, signed=b"another header")
    assert is_suspended(sim)
    assert sim.alarms("us") == ["EVIDENCE_TWO_HEADERS"]


async def test_evidence_cannot_grow_what_we_keep_without_end(sim):
    for n in range(40):
        await evidence(sim, signed=b"header %d" % n)
    assert len(suspensions(sim)) == sim.rows("us", "SELECT count(*) FROM suspensions")[0][0] == 16


async def test_a_person_who_suspends_often_leaves_room_for_evidence(sim):
    for _ in range(20):
        await suspend(sim)
    await evidence(sim)
    assert sim.alarms("us") == ["EVIDENCE_TWO_HEADERS"]


async def test_an_open_link_cannot_be_resumed_in_advance(sim):
    with pytest.raises(ActError, match="not suspended"):
        await resume(sim, "us.operator")


async def test_a_suspension_and_its_end_survive_a_restart(sim):
    await suspend(sim)
    sim.reopen("us")
    assert is_suspended(sim)
    await resume(sim, "us.operator")
    sim.reopen("us")
    assert (await resume(sim, "us.operator2")).resumed
    sim.reopen("us")
    assert not is_suspended(sim)


async def test_each_act_is_an_entry_and_who_did_it_and_why_opens_it(sim):
    await suspend(sim, why="a drill")
    await resume(sim, "us.operator", "looked at")
    await resume(sim, "us.operator2", "seen it too")
    assert [act.act for act in acts(sim)] == ["link.suspend", "link.resume.ask", "link.resume"]
    [(leaf, who, why, salt)] = sim.rows("us", "SELECT leaf, person, why, salt FROM acts WHERE act = 'link.resume'")
    [entry] = [e for e in sim.entries("us", Log.DECISIONS) if leaf_hash(e) == leaf]
    told = b"\0".join((who.encode(), b"us.operator", why.encode()))
    assert log_pb2.ActEntry.FromString(entry).subject == H(b"puente/v1/open\0", salt, told)
    for entry in sim.entries("us", Log.EXCHANGE) + sim.entries("us", Log.DECISIONS):
        assert b"operator" not in entry
        assert b"drill" not in entry


async def test_the_exchange_log_says_by_what_the_link_was_suspended_and_that_it_was_resumed(sim):
    await evidence(sim)
    await resume(sim, "us.operator")
    await resume(sim, "us.operator2")
    await suspend(sim)
    found = suspensions(sim)
    assert [entry.reason for entry in found] == [Reason.PROOF, Reason.NONE, Reason.AUTHORITY]
    assert found[0].subject == leaf_hash(b"header")
    leaves = [leaf_hash(entry) for entry in sim.entries("us", Log.DECISIONS)]
    assert found[1].subject in leaves
    assert found[2].subject in leaves


async def test_a_reason_that_is_too_long_changes_nothing(sim):
    with pytest.raises(ActError, match="500"):
        await suspend(sim, why="x" * 501)
    assert not is_suspended(sim)
    assert not acts(sim)
