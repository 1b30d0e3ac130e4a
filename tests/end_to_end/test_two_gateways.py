"""Two `puente serve` processes and the agencies' own client: nothing in between is ours to look into, but files."""

import asyncio
import contextlib
import time

import apsw
import grpc
import pytest

from broker.client import Client
from broker.v1 import codes_pb2, facts_pb2, passenger_pb2
from broker.v1 import operations_service_pb2 as operations
from broker.v1 import oversight_service_pb2 as oversight
from tests.end_to_end.edge_story import call
from tests.fixtures import two_gateways
from tests.simulator import person

pytestmark = pytest.mark.timeout(30)
BORDER = {"to": "mx.inm", "purpose": codes_pb2.PURPOSE_BORDER_SECURITY, "basis": ["us.usc.49.44909"]}
CANARY = "CANARIO7F3A"


@pytest.fixture(scope="module")
def link():
    with two_gateways() as gateways:
        yield gateways


@contextlib.asynccontextmanager
async def agency(link, name):
    async with Client.open(link.callers[name]) as client:
        yield client


async def reaches(client, name, state, seconds=15.0):
    """The message's view once it stands in `state`."""
    end = time.monotonic() + seconds
    while (view := await client.get(name)).state != state:
        assert time.monotonic() < end, f"still {codes_pb2.State.Name(view.state)}"
        await asyncio.sleep(0.02)
    return view


async def person_calls(link, name, method, request, answer):
    folder = link.callers[name]
    parts = [(folder / f"{part}.pem").read_bytes() for part in ("ca", "key", "certificate")]
    credentials = grpc.ssl_channel_credentials(*parts)
    async with grpc.aio.secure_channel((folder / "endpoint").read_text().strip(), credentials) as channel:
        return answer.FromString(await call(channel, method, request))


async def status(link, party):
    request = operations.GetStatusRequest()
    return await person_calls(
        link, f"{party}.operator", "OperationsService/GetStatus", request, operations.GetStatusResponse
    )


async def decisions(link, party, filter_=""):
    request = oversight.ListDecisionsRequest(filter=filter_, page_size=1000)
    answer = await person_calls(
        link, f"{party}.officer", "OversightService/ListDecisions", request, oversight.ListDecisionsResponse
    )
    return list(answer.decisions)


async def explained(link, party, decision_id, language):
    request = oversight.ExplainDecisionRequest(decision_id=decision_id, language=language)
    return await person_calls(
        link, f"{party}.officer", "OversightService/ExplainDecision", request, oversight.ExplainDecisionResponse
    )


async def exchanged(link, records, *, answer=True, **how):
    """Submit, receive and acknowledge records; what was submitted, and what mx's agency saw."""
    async with agency(link, "us.cbp") as us, agency(link, "mx.inm") as mx:
        submitted = await us.submit(records, **(BORDER | how))
        wanted, seen = {s.message_id for s in submitted if s.result == "accepted"}, []
        for message_id in wanted:
            await reaches(us, message_id, codes_pb2.STATE_RECEIVED)
        async with mx.receive(drain=True) as receiver:
            async for item in receiver:
                if answer:
                    await item.acknowledge()
                seen.append(item)
        return submitted, [item for item in seen if item.message_id in wanted]


async def test_records_arrive_in_order_proved_and_acknowledged_and_their_sender_has_signed_receipts(link):
    submitted, seen = await exchanged(link, [person(n) for n in range(20)])
    assert [s.result for s in submitted] == ["accepted"] * 20
    assert [item.message_id for item in seen] == [s.message_id for s in submitted]
    assert [item.record.identity.name.surname for item in seen] == [f"PRUEBA{n}" for n in range(20)]
    assert {item.origin.assurance for item in seen} == {"agency_signed"}
    async with agency(link, "us.cbp") as us:
        view = await reaches(us, submitted[-1].message_id, codes_pb2.STATE_ACKNOWLEDGED)
    assert [s.receipt for s in view.states] == [False, False, True, True]
    assert view.states[-1].agency_signed


async def test_what_purpose_does_not_allow_is_not_in_what_the_agency_gets(link):
    purpose = codes_pb2.PURPOSE_CRIMINAL_INVESTIGATION
    [submitted], [item] = await exchanged(link, [person(1)], purpose=purpose)
    assert "residence" not in item.shown
    assert not item.record.HasField("residence")
    assert ("residence", codes_pb2.NOTICE_CODE_NOT_FOR_THIS_PURPOSE) in [w[:2] for w in item.withheld]
    assert codes_pb2.CAVEAT_NO_ONWARD_TRANSFER in item.caveats
    assert item.destroy_by_ms > time.time() * 1000
    assert submitted.result == "accepted"


async def test_an_answer_goes_back_over_the_same_link(link):
    [question], _ = await exchanged(link, [person(1)])
    answer = passenger_pb2.Passenger(kind=4, answer=passenger_pb2.Answer(result=1))
    async with agency(link, "mx.inm") as mx, agency(link, "us.cbp") as us:
        how = BORDER | {"to": "us.cbp", "in_reply_to": question.message_id}
        [reply] = await mx.submit([answer], **how)
        await reaches(mx, reply.message_id, codes_pb2.STATE_RECEIVED)
        async with us.receive(drain=True) as receiver:
            async for item in receiver:
                assert item.in_reply_to == question.message_id
                assert item.kind == "answer"
                await item.acknowledge()
        await reaches(mx, reply.message_id, codes_pb2.STATE_ACKNOWLEDGED)


async def test_a_message_that_is_recalled_before_it_is_answered_is_never_seen(link):
    async with agency(link, "us.cbp") as us, agency(link, "mx.inm") as mx:
        [sent] = await us.submit([person(1)], **BORDER)
        await us.recall(sent.message_id)
        view = await reaches(us, sent.message_id, codes_pb2.STATE_RECALLED)
        assert view.reason == codes_pb2.REASON_AGENCY
        async with mx.receive(drain=True) as receiver:
            assert [i async for i in receiver] == []


async def test_a_recall_after_the_acknowledgement_is_answered_by_the_agency(link):
    [sent], [item] = await exchanged(link, [person(1)])
    async with agency(link, "us.cbp") as us, agency(link, "mx.inm") as mx:
        await reaches(us, sent.message_id, codes_pb2.STATE_ACKNOWLEDGED)
        await us.recall(sent.message_id)
        async with mx.receive() as receiver:
            async for asked in receiver:
                assert asked.recall
                assert asked.release == item.release
                await asked.destroyed()
                break
        view = await reaches(us, sent.message_id, codes_pb2.STATE_RECALLED)
        assert view.reason == codes_pb2.REASON_DESTROYED
        assert view.states[-1].agency_signed
        assert (await mx.get(item.release)).content_destroyed


async def test_what_was_accepted_survives_the_restart_of_either_gateway(link):
    link.stop("mx")
    async with agency(link, "us.cbp") as us:
        submitted = await us.submit([person(n) for n in range(10)], **BORDER)
        assert {s.result for s in submitted} == {"accepted"}
        await reaches(us, submitted[-1].message_id, codes_pb2.STATE_SENT)
    link.stop("us")
    link.start("mx")
    async with agency(link, "mx.inm") as mx:
        seen = []
        async with mx.receive() as receiver:
            async for item in receiver:
                await item.acknowledge()
                seen.append(item.message_id)
                if len(seen) == 10:
                    break
    assert seen == [s.message_id for s in submitted]
    link.start("us")
    async with agency(link, "us.cbp") as us:
        for sent in submitted:
            await reaches(us, sent.message_id, codes_pb2.STATE_ACKNOWLEDGED)


async def test_a_field_that_breaks_its_rule_comes_back_with_its_path(link):
    bad = person(1)
    bad.identity.nationality = CANARY
    async with agency(link, "us.cbp") as us:
        [sent] = await us.submit([bad], **BORDER)
    assert (sent.result, sent.reason) == ("invalid", "FIELD_INVALID")
    assert "identity.nationality" in repr(sent.violations)
    assert CANARY not in repr(sent)


async def test_an_officer_reads_why_in_english_and_in_spanish(link):
    pending = facts_pb2.Facts(protection_claim=facts_pb2.CLAIM_STATUS_PENDING)
    [refused], _ = await exchanged(link, [person(1)], facts=[pending])
    assert refused.result == "refused"
    english, spanish = [await explained(link, "us", refused.decision_id, language) for language in ("en", "es")]
    assert not english.decision.permit
    assert "R37" in english.decision.rules
    [rule] = [r for r in english.rules if r.id.startswith("R37")]
    [regla] = [r for r in spanish.rules if r.id.startswith("R37")]
    assert "protection claim" in rule.says
    assert "solicitud de protección" in regla.says
    assert [i.id for i in rule.cites] == [i.id for i in regla.cites] == ["us.usc.8.1231b3"]
    assert rule.cites[0].in_force_from
    assert english.would_change
    assert english.summary != spanish.summary


async def test_an_officer_finds_decisions_by_effect_rule_agency_purpose_section_and_time(link):
    pending = facts_pb2.Facts(protection_claim=facts_pb2.CLAIM_STATUS_PENDING)
    [refused], _ = await exchanged(link, [person(1)], facts=[pending])
    purpose = codes_pb2.PURPOSE_CRIMINAL_INVESTIGATION
    [narrowed], _ = await exchanged(link, [person(1)], purpose=purpose)

    async def ids(filter_, party="us"):
        return {d.decision_id for d in await decisions(link, party, filter_)}

    assert refused.decision_id in await ids('effect = "forbid"')
    assert narrowed.decision_id not in await ids('effect = "forbid"')
    assert refused.decision_id in await ids('rule = "R37"')
    assert narrowed.decision_id not in await ids('rule = "R37"')
    assert narrowed.decision_id in await ids('purpose = "criminal_investigation" AND withheld = "residence"')
    assert refused.decision_id not in await ids('withheld = "residence"')
    assert {refused.decision_id, narrowed.decision_id} <= await ids('agency = "mx.inm" AND family = "passenger"')
    assert await ids('agency = "mx.fgr"') == set()
    assert await ids('time > "2100-01-01"') == set()
    assert narrowed.decision_id in await ids('time > "2020-01-01T00:00:00Z" AND kind = "api" AND action = "release"')
    assert "accept" in {d.action for d in await decisions(link, "mx")}


async def test_both_gateways_count_the_same_and_their_logs_are_whole(link):
    await exchanged(link, [person(n) for n in range(3)])
    await asyncio.sleep(0.3)
    for party in ("us", "mx"):
        seen = await status(link, party)
        assert {log.log: log.verified for log in seen.logs} == {"exchange": True, "decisions": True}
        assert all(log.size > 0 and len(log.root) == 32 for log in seen.logs)
        assert not seen.alarms
        for counts in (seen.counts, seen.arrived):
            ended = counts.acknowledged + counts.refused + counts.rejected + counts.expired + counts.recalled
            assert counts.submitted == ended + counts.in_flight
    us, mx = await status(link, "us"), await status(link, "mx")
    assert us.counts.acknowledged == mx.arrived.acknowledged
    assert (us.pid, us.data_dir) != (mx.pid, mx.data_dir)


async def test_no_canary_is_in_any_file_or_log_line_of_either_gateway(link):
    record = person(1)
    record.identity.name.surname = CANARY
    facts = facts_pb2.Facts(source_system=CANARY.lower())
    await exchanged(link, [record], facts=[facts])
    looked = 0
    for file in link.folder.rglob("*"):
        if file.is_file() and "callers" not in file.parts:
            looked += 1
            data = file.read_bytes().lower()
            assert CANARY.lower().encode() not in data, file.name
    assert looked > 20
    assert link.log("us").stat().st_size > 0


@pytest.mark.parametrize("party", ["us", "mx"])
async def test_an_entry_that_was_rewritten_behind_the_gateways_back_is_seen(link, party):
    await exchanged(link, [person(1)])
    file = link.folder / party / "data" / "ledger.db"
    database = apsw.Connection(str(file))
    database.set_busy_timeout(5000)
    database.execute("DROP TRIGGER log_keeps")
    [(entry,)] = database.execute("SELECT entry FROM log WHERE log = 2 AND idx = 0").fetchall()
    changed = entry[:-1] + bytes([entry[-1] ^ 1])
    try:
        database.execute("UPDATE log SET entry = ? WHERE log = 2 AND idx = 0", (changed,))
        assert {log.log: log.verified for log in (await status(link, party)).logs} == {
            "exchange": True,
            "decisions": False,
        }
    finally:
        database.execute("UPDATE log SET entry = ? WHERE log = 2 AND idx = 0", (entry,))
        database.close()
    assert all(log.verified for log in (await status(link, party)).logs)
