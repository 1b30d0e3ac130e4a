"""What stands in the log of a decision, and that it can be taken again from it."""

import json

from broker import decision as ruling
from broker.canonical import H, leaf_hash, parse
from broker.decision import Secrets, context_of, request_of
from broker.message import Log
from broker.v1 import codes_pb2, facts_pb2
from broker.v1.log_pb2 import DecisionEntry
from tests.simulator import person


async def several(sim):
    """Decisions of both parties: permitted, narrowed, refused."""
    await sim.submit([person(1)])
    await sim.submit([person(2)], purpose=codes_pb2.PURPOSE_CRIMINAL_INVESTIGATION)
    await sim.submit([person(3)], facts=facts_pb2.Facts(asylum_information=True))
    await sim.submit([person(4)], basis=["us.usc.5.552a.b7"])
    await sim.settle()


def stored(sim, party):
    return sim.gateway(party).ledger.read(lambda tx: tx.decisions.page("1", (), 0, 99))


def opened(gateway, found):
    opening = gateway.ledger.keys.opening(found.key_id)
    secrets = Secrets.opened(gateway.vault, found.key_id, opening)
    return secrets, context_of(gateway.vault.open(secrets.opening_key, found.record.context, found.key_id))


async def test_every_decision_is_taken_again_from_its_context_to_the_same_result(sim):
    await several(sim)
    seen = 0
    for party in ("us", "mx"):
        gateway = sim.gateway(party)
        for found in stored(sim, party):
            _, context = opened(gateway, found)
            again = gateway.engine.decide(request_of(context, found.record.law_ms), found.record.law_ms)
            record = found.record
            assert again.permit == record.permit
            assert set(again.rules) == set(record.rules.split())
            assert [w.section for w in again.withheld] == record.withheld.split()
            assert again.pack_digest == record.pack_digest
            seen += 1
    assert seen == 6


async def test_an_entry_is_canonical_and_its_leaf_is_the_decisions_id(sim):
    await several(sim)
    for party in ("us", "mx"):
        entries = sim.entries(party, Log.DECISIONS)
        for entry in entries:
            parse(DecisionEntry, entry)
        assert {leaf_hash(e) for e in entries} == {found.record.leaf for found in stored(sim, party)}


async def test_an_entry_commits_to_its_context_and_shows_none_of_it(sim):
    await several(sim)
    by_leaf = {leaf_hash(e): DecisionEntry.FromString(e) for e in sim.entries("us", Log.DECISIONS)}
    for found in stored(sim, "us"):
        secrets, context = opened(sim.us, found)
        entry = by_leaf[found.record.leaf]
        assert entry.context_open == H(b"puente/v1/open\0", secrets.context_salt, context)
        assert b"mx.inm" not in entry.SerializeToString()
        assert b"asylum" not in entry.SerializeToString()


async def test_the_context_holds_the_facts_and_is_sealed_in_the_ledger(sim):
    await several(sim)
    contexts = [json.loads(opened(sim.us, found)[1]) for found in stored(sim, "us")]
    assert any(["asylum_information", True] in context["facts"] for context in contexts)
    assert all(b"asylum" not in row[0] for row in sim.rows("us", "SELECT context FROM decisions"))


async def test_a_release_entry_names_the_decision_that_allowed_it(sim):
    await several(sim)
    permitted = {found.record.leaf for found in stored(sim, "us") if found.record.permit}
    released = {row[0] for row in sim.rows("us", "SELECT decision FROM outbound WHERE release IS NOT NULL")}
    assert released == permitted


def test_facts_are_told_by_name_and_word():
    data = facts_pb2.Facts(protection_claim=facts_pb2.CLAIM_STATUS_PENDING, classified=True).SerializeToString()
    assert ruling.facts_of(data) == (("classified", True), ("protection_claim", "pending"))
