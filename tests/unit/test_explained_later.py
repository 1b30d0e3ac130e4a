"""A decision explained after the pack has changed: by the pack that took it, or by the log alone, never by another."""

from dataclasses import replace
from types import SimpleNamespace

import apsw
import pytest

import policy
from broker.gateway.oversight import OversightService
from broker.v1 import codes_pb2, facts_pb2
from broker.v1 import oversight_service_pb2 as pb
from tests.simulator import person
from tests.unit.policy_story import copy_packs, spoil

OFFICER = SimpleNamespace(id="officer")
SAID = "Asylum information goes nowhere, since yesterday."


@pytest.fixture
def newer(tmp_path):
    """Our packs with one sentence changed, so that its digest and what it says are others."""
    packs = copy_packs(tmp_path)
    [old] = [rule.says_en for rule in policy.load("us").rules if rule.id == "R18.release.2001"]
    spoil(packs, "us/all.cedar", old, SAID)
    return policy.load("us", packs)


async def activate(gateway, engine):
    started = replace(gateway, engine=engine)
    await started.start()
    return started


async def explained(gateway, decision_id, language="en"):
    request = pb.ExplainDecisionRequest(decision_id=decision_id, language=language)
    return await OversightService(gateway).explain_decision(OFFICER, request)


async def refused(sim):
    [result] = await sim.submit([person()], facts=facts_pb2.Facts(asylum_information=True))
    assert result.outcome == "refused"
    return result.decision_id


async def test_the_pack_that_decided_explains_although_another_is_in_force(sim, newer):
    before = await activate(sim.us, sim.us.engine)
    decision = await refused(sim)
    at_once = await explained(before, decision)
    later = await explained(await activate(sim.us, newer), decision)
    assert later == at_once
    assert at_once.would_change
    assert not later.missing
    assert SAID not in str(later)


async def test_a_pack_that_was_not_kept_is_named_and_no_other_speaks_for_it(sim, newer):
    decision = await refused(sim)
    now = await activate(sim.us, newer)
    english, spanish = [await explained(now, decision, language) for language in ("en", "es")]
    digest = sim.us.engine.pack_digest.hex()
    assert english.missing.startswith(
        f"The pack that decided ({digest}) is not loaded, and no copy that can be used was kept."
    )
    assert spanish.missing.startswith(
        f"El paquete que decidió ({digest}) no está cargado ni se conservó copia que pueda usarse."
    )
    assert english.summary == "From us.cbp to mx.inm, for border security: refused."
    assert [(rule.id, rule.says, list(rule.cites)) for rule in english.rules] == [("R18", "", [])]
    assert not english.would_change
    assert not spanish.would_change


async def test_what_the_log_holds_of_a_permit_is_shown_without_its_pack(sim, newer):
    [result] = await sim.submit([person()], purpose=codes_pb2.PURPOSE_CRIMINAL_INVESTIGATION)
    told = await explained(await activate(sim.us, newer), result.decision_id)
    assert told.missing
    assert [(one.section, one.category) for one in told.withheld] == [("residence", "location")]
    assert told.summary.endswith("permitted; sections withheld: 1.")
    assert "destroy after P12M" in told.obligations
    assert "R01" in [rule.id for rule in told.rules]


async def test_kept_files_that_are_not_those_of_the_digest_do_not_speak(sim, newer):
    decision = await refused(sim)
    other = policy.sources(newer)
    await sim.us.ledger.commit(lambda tx: tx.packs.keep(sim.us.engine.pack_digest, other))
    told = await explained(await activate(sim.us, newer), decision)
    assert "no copy that can be used was kept" in told.missing


async def test_a_question_that_was_destroyed_leaves_what_the_log_holds(sim, monkeypatch):
    decision = await refused(sim)
    monkeypatch.setattr(sim.us.ledger.keys, "opening", lambda key_id: b"destroyed")
    told = await explained(sim.us, decision)
    assert told.missing.startswith("What the pack that decided")
    assert [rule.id for rule in told.rules] == ["R18"]


async def test_a_decision_that_does_not_come_out_again_is_not_explained_as_another(sim, monkeypatch):
    """The engine failed at the time, and the refusal stands for that."""
    failed = policy.Decision(False, (), (), (), (), sim.us.engine.pack_digest, sim.clock(), failed=True)
    monkeypatch.setattr(sim.us.engine, "decide", lambda request, law_ms: failed)
    [result] = await sim.submit([person()])
    monkeypatch.undo()
    told = await explained(sim.us, result.decision_id)
    assert told.summary.endswith("refused, because it could not be decided.")
    assert told.missing.startswith("Asked again")


async def test_a_pack_is_kept_once_and_nobody_changes_it(sim, tmp_path):
    for _ in range(2):
        await activate(sim.us, sim.us.engine)
    kept = sim.us.ledger.read(lambda tx: tx.packs.sources(sim.us.engine.pack_digest))
    assert kept == {pack.id: dict(pack.files) for pack in sim.us.engine.packs}
    assert sum(len(files) for files in kept.values()) == len(sim.rows("us", "SELECT 1 FROM packs"))
    connection = apsw.Connection(str(tmp_path / "link" / "us" / "data" / "ledger.db"))
    for statement in ("UPDATE packs SET content = x''", "DELETE FROM packs"):
        with pytest.raises(apsw.ConstraintError):
            connection.execute(statement)
    connection.close()
