"""What goes when the accounting of disclosures has ended, and what stays for good."""

from types import SimpleNamespace

import apsw
import pytest

from broker import pruning, retention
from broker.errors import VaultError
from broker.gateway.oversight import OversightService
from broker.ledger.history import _OVER, WAYS
from broker.message import Log, State
from broker.obligations import ACCOUNTING_MS, DAY_MS
from broker.v1 import codes_pb2, facts_pb2, log_pb2
from broker.v1 import oversight_service_pb2 as oversight
from tests.hostile import Hostile
from tests.simulator import person

YEAR_MS = 366 * DAY_MS
OVER_MS = ACCOUNTING_MS + DAY_MS
"""From acceptance: its life of a day, and the accounting."""
TABLES = ("outbound", "outbound_bodies", "inbound", "inbound_bodies", "accounting", "batches", "control_in")


async def acknowledged(sim, **how):
    """A message of us that mx.inm has acknowledged: (message id, release)."""
    [result] = await sim.submit([person()], **how)
    await sim.settle()
    release = sim.sent(result.message_id).release
    await sim.offers("mx.inm")
    await sim.answer("mx.inm", release)
    await sim.settle()
    return result.message_id, release


def rows(sim, party):
    """How many rows each table has, empty ones left out."""
    counted = {name: sim.rows(party, f"SELECT count(*) FROM {name}")[0][0] for name in TABLES}
    return {name: count for name, count in counted.items() if count}


def acts(sim, party):
    found = [log_pb2.ActEntry.FromString(entry) for entry in sim.entries(party, Log.DECISIONS)]
    return [entry.act for entry in found if entry.kind == log_pb2.ENTRY_KIND_PURGE]


async def test_a_disclosure_cannot_be_looked_up_by_its_subject_once_its_accounting_has_ended(sim):
    await acknowledged(sim)
    [(subject, until)] = sim.rows("us", "SELECT subject, keep_until_ms FROM accounting")
    await sim.pass_time(until - sim.clock() - 1)
    assert rows(sim, "us")["accounting"] == 1
    await sim.pass_time(1)
    assert "accounting" not in rows(sim, "us")
    assert acts(sim, "us") == ["purge", "accounting"]
    sim.us.ledger.close()
    assert subject not in (sim.folder / "us" / "data" / "ledger.db").read_bytes()
    sim.us = sim._gateway("us")


async def test_nothing_of_a_message_goes_before_its_accounting_has_ended(sim):
    message_id, release = await acknowledged(sim)
    await sim.pass_time(ACCOUNTING_MS - 1)
    assert rows(sim, "us") == {"outbound": 1, "outbound_bodies": 1, "accounting": 1, "batches": 1, "control_in": 2}
    assert rows(sim, "mx") == {"inbound": 1, "inbound_bodies": 1, "batches": 1}
    assert sim.sent(message_id).steps[-1].receipt
    assert sim.came(release).destroyed


async def test_states_bodies_receipts_and_keys_go_with_it_on_both_sides(sim):
    message_id, release = await acknowledged(sim)
    await sim.pass_time(YEAR_MS)
    await sim.pass_time(OVER_MS - YEAR_MS)
    assert sim.sent(message_id) is None
    assert sim.came(release) is None
    assert not {"outbound", "outbound_bodies", "accounting"} & rows(sim, "us").keys()
    assert not {"inbound", "inbound_bodies"} & rows(sim, "mx").keys()
    assert sim.key_rows("us") == sim.key_rows("mx") == []
    assert acts(sim, "us") == ["purge", "accounting", "opening"]
    assert acts(sim, "mx") == ["purge", "opening"]


async def test_a_sweep_that_comes_years_late_does_it_all_in_order(sim):
    await acknowledged(sim)
    await sim.pass_time(3 * ACCOUNTING_MS)
    assert acts(sim, "us") == ["purge", "accounting", "opening"]


async def test_logs_and_the_count_of_how_messages_ended_stay(sim):
    await acknowledged(sim)
    await sim.submit([person(2)], facts=facts_pb2.Facts(asylum_information=True))
    await sim.submit([person(3)])
    await sim.pass_time(DAY_MS)
    before, logs = sim.states("us"), sim.entries("us", Log.EXCHANGE)
    assert before[0] == {State.REFUSED: 1, State.ACKNOWLEDGED: 1, State.EXPIRED: 1}
    await sim.pass_time(OVER_MS)
    assert "outbound" not in rows(sim, "us")
    assert sim.states("us") == before
    assert sim.states("mx")[1] == {State.ACKNOWLEDGED: 1}
    assert sim.entries("us", Log.EXCHANGE)[: len(logs)] == logs


async def test_batches_and_proofs_go_when_they_are_older_than_every_message_that_is_kept(sim):
    await acknowledged(sim)
    await sim.pass_time(OVER_MS + pruning.MARGIN_MS)
    assert rows(sim, "us") == rows(sim, "mx") == {}


async def test_a_message_that_is_kept_keeps_the_proofs_of_its_time(sim):
    """From the targeting system: fifteen years."""
    short, _ = await acknowledged(sim)
    long, _ = await acknowledged(sim, facts=facts_pb2.Facts(source_system="us.sorn.cbp-006"))
    await sim.pass_time(14 * YEAR_MS)
    assert sim.sent(short) is None
    seen = sim.sent(long)
    assert not seen.destroyed
    kept = rows(sim, "us")
    assert (kept["outbound"], kept["accounting"], kept["batches"]) == (1, 1, 2)
    assert sim.rows("us", "SELECT row FROM control_in WHERE row = ?", seen.steps[-1].control)
    await sim.pass_time(2 * YEAR_MS + pruning.MARGIN_MS)
    assert rows(sim, "us") == {}


async def test_what_has_no_end_is_never_pruned(sim):
    [result] = await sim.submit([person()])
    await sim.us.relay.claim()
    while await sim.us.relay.send():
        pass
    await sim.pass_time(20 * YEAR_MS)
    assert sim.sent(result.message_id).state is State.SENT


async def test_headers_lose_their_bytes_and_keep_their_hash(sim):
    await acknowledged(sim)
    before = sim.rows("mx", "SELECT topic, seq, hash FROM headers ORDER BY rowid")
    await sim.pass_time(OVER_MS + pruning.MARGIN_MS)
    stripped = sim.rows("mx", "SELECT topic, seq, hash, header, signature, enc_ct_hash FROM headers ORDER BY rowid")
    assert stripped == [(*row, None, None, None) for row in before]
    assert before


async def test_a_second_header_for_an_old_seq_is_evidence_still(sim):
    peer = Hostile(sim)
    content, _, conversation = peer.one()
    stream = peer.stream(conversation)
    await peer.send(stream, content)
    second = peer.seal(stream, peer.one(conversation=conversation)[0], seq=1, after=0)
    await sim.pass_time(OVER_MS + pruning.MARGIN_MS)
    assert sim.rows("mx", "SELECT header FROM headers") == [(None,)]
    await peer.put(stream, second)
    assert sim.alarms("mx") == ["EVIDENCE_TWO_HEADERS"]


async def test_removal_is_in_small_batches(sim, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    for n in range(5):
        await sim.submit([person(n)], facts=facts_pb2.Facts(asylum_information=True))
    sim.clock.now += OVER_MS
    counts = []
    while await sim.us.relay.sweep():
        counts.append(rows(sim, "us")["outbound"])
    assert counts == [3, 1]
    assert rows(sim, "us") == {"batches": 5}  # these later, by their own time


async def test_an_old_decision_is_explained_by_the_log_alone(sim):
    message_id, _ = await acknowledged(sim, purpose=codes_pb2.PURPOSE_CRIMINAL_INVESTIGATION)
    decision = sim.sent(message_id).decision
    await sim.pass_time(OVER_MS)
    request = oversight.ExplainDecisionRequest(decision_id=decision, language="es")
    told = await OversightService(sim.us).explain_decision(SimpleNamespace(id="officer"), request)
    assert told.missing.startswith("Lo que se preguntó al paquete")
    assert [one.section for one in told.withheld] == ["residence"]
    with pytest.raises(VaultError):
        sim.us.ledger.keys.opening(b"any")


@pytest.mark.parametrize("way", WAYS)
def test_what_is_due_is_found_by_an_index(sim, way):
    connection = apsw.Connection(str(sim.folder / "us" / "data" / "ledger.db"))
    plan = " ".join(str(row) for row in connection.execute("EXPLAIN QUERY PLAN " + _OVER[way], (1, 1)))
    connection.close()
    assert f"{way}_over" in plan
    assert "TEMP B-TREE" not in plan
