"""X18 of the law: both gateways on 15 December 2011, when the plan was new."""

import datetime as dt
from types import SimpleNamespace

import pytest

from broker import development
from broker.gateway.oversight import OversightService
from broker.message import State
from broker.v1 import codes_pb2, envelope_pb2, passenger_pb2
from broker.v1 import oversight_service_pb2 as oversight
from tests import simulator
from tests.simulator import FakeClock, Simulator, person

THEN_MS = int(dt.datetime(2011, 12, 15, 12, tzinfo=dt.UTC).timestamp() * 1000)
OFFICER = SimpleNamespace(id="officer")


@pytest.fixture
def then(tmp_path, monkeypatch):
    """Both gateways, under an agreement that came into force the day before."""
    monkeypatch.setattr(development, "now_ms", lambda: THEN_MS)
    monkeypatch.setattr(simulator, "FakeClock", lambda: FakeClock(THEN_MS))
    made = Simulator(tmp_path / "link")
    yield made
    made.close()


async def explained(gateway, decision_id):
    request = oversight.ExplainDecisionRequest(decision_id=decision_id, language="es")
    return await OversightService(gateway).explain_decision(OFFICER, request)


def cited(answer):
    return {instrument.id for rule in answer.rules for instrument in rule.cites}


async def test_the_joint_security_program_carries_passenger_data_between_both_gateways(then):
    [result] = await then.submit([person()], basis=["bil.jsp.2010"])
    await then.settle()
    assert result.outcome == "accepted"
    assert then.came(then.sent(result.message_id).release).state is State.RECEIVED


async def test_the_law_of_that_day_is_cited_and_no_later_one(then):
    [accepted] = await then.submit([person()], basis=["bil.jsp.2010"])
    await then.settle()
    [ours] = then.us.ledger.read(lambda tx: tx.decisions.page("1", (), 0, 9))
    [theirs] = then.mx.ledger.read(lambda tx: tx.decisions.page("1", (), 0, 9))
    assert ours.record.law_ms == theirs.record.law_ms == THEN_MS
    assert ours.record.leaf == accepted.decision_id
    for gateway, stored in ((then.us, ours), (then.mx, theirs)):
        instruments = cited(await explained(gateway, stored.record.leaf))
        assert "bil.jsp.2010" in instruments
        assert not {i for i in instruments if i.startswith(("mx.lgpdppso", "mx.lsniimsp", "mx.lgtaip", "mx.rlm"))}


async def test_what_only_a_later_law_allows_is_refused_that_day(then):
    """Land crossings pass since 2017."""
    crossing = passenger_pb2.Crossing(port="2304", direction=2, time_ms=THEN_MS)
    record = person(1, travel=None, residence=None, crossing=crossing)
    record.kind = passenger_pb2.PASSENGER_KIND_LAND
    [result] = await then.submit([record], basis=["us.sorn.cbp-007"])
    assert result.outcome == "refused"


async def test_the_caveat_of_the_law_of_2025_is_not_added_that_day(then):
    """SEGREGATE: kept apart from interconnected platforms."""
    await then.submit([person()])
    await then.settle()
    [offer] = await then.offers("mx.inm")
    caveats = envelope_pb2.Core.FromString(offer.core).gateway_caveats
    assert codes_pb2.CAVEAT_NO_ONWARD_TRANSFER in caveats
    assert codes_pb2.CAVEAT_SEGREGATE not in caveats


async def test_a_mexican_record_of_that_day_is_marked_under_the_transparency_law_of_2002(then):
    [result] = await then.submit([person()], basis=["bil.jsp.2010"], agency="mx.inm", recipient="us.cbp")
    assert result.outcome == "accepted"
    [stored] = then.mx.ledger.read(lambda tx: tx.decisions.page("1", (), 0, 9))
    assert "CONFIDENCIAL" in stored.record.obligations
    assert "mx.lftaipg.2002" in cited(await explained(then.mx, stored.record.leaf))
