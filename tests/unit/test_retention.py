"""What time does: content that must go goes, and what proves the exchange stays."""

import pytest

from broker import retention
from broker.errors import VaultError
from broker.ledger.control import KeptRecall
from broker.message import KEPT_MS, Log, Reason, State
from broker.v1 import log_pb2
from tests.simulator import person

DAY_MS = 86_400_000
YEAR_MS = 366 * DAY_MS


async def kept(sim):
    """An acknowledged message of us: (message id, release)."""
    [result] = await sim.submit([person()])
    await sim.settle()
    release = sim.sent(result.message_id).release
    await sim.offers("mx.inm")
    assert await sim.answer("mx.inm", release) == "OK"
    await sim.settle()
    return result.message_id, release


def keys_of(sim, party, release):
    table = "outbound" if party == "us" else "inbound"
    [(key_id,)] = sim.rows(party, f"SELECT key_id FROM {table} WHERE release = ?", release)
    return key_id


def purges(sim, party):
    entries = [log_pb2.ActEntry.FromString(e) for e in sim.entries(party, Log.DECISIONS)]
    return [e for e in entries if e.kind == log_pb2.ENTRY_KIND_PURGE]


@pytest.mark.parametrize("party", ["us", "mx"])
async def test_content_is_destroyed_when_its_time_has_come_on_both_sides(sim, party):
    message_id, release = await kept(sim)
    key_id = keys_of(sim, party, release)
    store = sim.gateway(party).ledger.keys
    assert store.both(key_id)
    await sim.pass_time(YEAR_MS)
    with pytest.raises(VaultError):
        store.both(key_id)
    seen = sim.sent(message_id) if party == "us" else sim.came(release)
    assert seen.destroyed
    assert seen.state is State.ACKNOWLEDGED
    assert sim.rows(party, f"SELECT content FROM {'out' if party == 'us' else 'in'}bound_bodies") == [(None,)]


async def test_content_is_not_destroyed_a_day_early(sim):
    _, release = await kept(sim)
    await sim.pass_time(364 * DAY_MS)
    assert sim.us.ledger.keys.both(keys_of(sim, "us", release))
    assert not purges(sim, "us")


@pytest.mark.parametrize("party", ["us", "mx"])
async def test_each_destruction_is_one_entry_that_names_nothing_in_the_clear(sim, party):
    message_id, release = await kept(sim)
    await sim.pass_time(YEAR_MS)
    [entry] = purges(sim, party)
    data = entry.SerializeToString()
    assert release not in data
    assert message_id not in data
    await sim.pass_time(YEAR_MS)
    assert len(purges(sim, party)) == 1  # once


async def test_what_proves_the_exchange_outlives_the_content(sim):
    message_id, release = await kept(sim)
    before = {party: sim.entries(party, Log.EXCHANGE) for party in ("us", "mx")}
    headers, proofs = (sim.rows("us", f"SELECT count(*) FROM {t}") for t in ("headers", "control_in"))
    await sim.pass_time(YEAR_MS)
    for party, entries in before.items():
        assert sim.entries(party, Log.EXCHANGE)[: len(entries)] == entries
    assert sim.rows("us", "SELECT count(*) FROM headers") == headers
    assert sim.rows("us", "SELECT count(*) FROM control_in") == proofs
    assert [len(r[0]) > 0 and len(r[1]) > 0 for r in sim.rows("mx", "SELECT entry, core FROM inbound_bodies")] == [True]
    assert sim.us.ledger.keys.opening(keys_of(sim, "us", release))  # salts: the decision can still be explained
    assert sim.sent(message_id).steps[-1].receipt


async def test_the_accounting_of_a_disclosure_outlives_its_content(sim):
    _, release = await kept(sim)
    await sim.pass_time(YEAR_MS)
    [(found, until)] = sim.rows("us", "SELECT release, keep_until_ms FROM accounting")
    assert found == release
    assert until > sim.clock()


async def test_content_whose_key_is_gone_is_never_handed_out(sim):
    [result] = await sim.submit([person()])
    await sim.settle()
    release = sim.sent(result.message_id).release
    [offer] = await sim.offers("mx.inm")
    await sim.mx.ledger.commit(lambda tx: tx.keys.shred(offer.key_id))
    with pytest.raises(VaultError):
        sim.mx.ledger.keys.both(keys_of(sim, "mx", release))


async def test_a_sweep_does_a_bounded_amount_and_says_that_there_is_more(sim, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    await sim.settle()
    await sim.submit([person(n) for n in range(5)], expires_ms=sim.clock() + 1000)
    sim.clock.now += 1000
    assert await sim.us.relay.sweep()
    assert sim.states("us")[0] == {State.EXPIRED: 2, State.ACCEPTED: 3}
    await sim.pass_time(0)
    assert sim.states("us")[0] == {State.EXPIRED: 5}


async def test_a_purge_that_was_cut_off_runs_again(sim, monkeypatch):
    """Keys are shredded, and the ledger's transaction fails: the next sweep records it."""
    _, release = await kept(sim)
    sim.clock.now += YEAR_MS
    flush = sim.us.ledger.keys.flush

    def cut(*changes):
        flush(*changes)
        raise OSError

    monkeypatch.setattr(sim.us.ledger.keys, "flush", cut)
    with pytest.raises(OSError):
        await sim.us.relay.sweep()
    monkeypatch.undo()
    assert not purges(sim, "us")
    with pytest.raises(VaultError):
        sim.us.ledger.keys.both(keys_of(sim, "us", release))
    await sim.pass_time(0)
    assert len(purges(sim, "us")) == 1


async def test_the_shortest_of_both_sides_times_counts_at_the_recipient(sim):
    message_id, release = await kept(sim)
    assert sim.came(release).destroy_by_ms == sim.sent(message_id).destroy_by_ms > 0


async def test_a_correction_of_purged_content_is_still_a_correction(sim):
    message_id, _ = await kept(sim)
    conversation = sim.sent(message_id).conversation
    await sim.pass_time(20 * DAY_MS)
    [result] = await sim.submit([person(2)], supersedes=message_id, conversation=conversation)
    assert result.outcome == "accepted"


# No rule sets an end: what mx sends has no retention


async def came(sim):
    """A message of mx that has come for us.cbp: (message id, release)."""
    [result] = await sim.submit([person()], agency="mx.inm", recipient="us.cbp", basis=["bil.jsp.2010"])
    await sim.settle()
    return result.message_id, sim.sent(result.message_id, "mx.inm").release


async def answered(sim, state=State.ACKNOWLEDGED):
    message_id, release = await came(sim)
    await sim.offers("us.cbp")
    assert await sim.answer("us.cbp", release, state) == "OK"
    await sim.settle()
    return message_id, release


def kept_by(sim, party, release):
    """Whether a party still has the content of this release."""
    table = "outbound" if party == "mx" else "inbound"
    [(key_id, destroyed)] = sim.rows(party, f"SELECT key_id, destroyed FROM {table} WHERE release = ?", release)
    [content] = [content for name, content, _ in sim.key_rows(party) if name == key_id]
    assert bool(destroyed) is (content is None)
    return content is not None


async def test_without_a_rule_content_goes_thirty_days_after_its_message_ended_on_both_sides(sim):
    message_id, release = await answered(sim)
    await sim.pass_time(KEPT_MS - 1)
    assert kept_by(sim, "mx", release)
    assert kept_by(sim, "us", release)
    await sim.pass_time(1)
    for party in ("mx", "us"):
        assert not kept_by(sim, party, release)
        assert len(purges(sim, party)) == 1
    assert sim.sent(message_id, "mx.inm").destroyed
    assert sim.came(release, "us.cbp").state is State.ACKNOWLEDGED


async def test_without_a_rule_a_sender_keeps_content_until_the_final_receipt(sim):
    _, release = await came(sim)
    await sim.pass_time(2 * KEPT_MS)  # expired at us: the receipt has not come back yet
    assert kept_by(sim, "mx", release)
    await sim.settle()
    await sim.pass_time(KEPT_MS - 1)
    assert kept_by(sim, "mx", release)
    await sim.pass_time(1)
    assert not kept_by(sim, "mx", release)


async def test_the_end_is_by_our_own_clock_not_by_the_time_in_the_receipt(sim):
    message_id, release = await came(sim)
    await sim.offers("us.cbp")
    now = sim.clock.now
    sim.clock.now = now + 400 * DAY_MS  # us is far ahead
    assert await sim.answer("us.cbp", release) == "OK"
    sim.clock.now = now
    await sim.settle()
    seen = sim.sent(message_id, "mx.inm")
    assert seen.steps[-1].at_ms > now + 300 * DAY_MS
    assert seen.destroy_by_ms == now + KEPT_MS


@pytest.mark.parametrize("state", [State.REJECTED, State.EXPIRED, State.RECALLED])
async def test_a_recipient_destroys_at_once_what_ended_without_its_agencys_word_and_a_sender_later(sim, state):
    if state is State.REJECTED:
        _, release = await answered(sim, state)
    else:
        message_id, release = await came(sim)
        if state is State.RECALLED:
            await sim.recall("mx.inm", message_id)
        else:
            await sim.pass_time(DAY_MS)
        await sim.settle()
    assert not kept_by(sim, "us", release)
    assert kept_by(sim, "mx", release)
    await sim.pass_time(KEPT_MS)
    assert not kept_by(sim, "mx", release)
    assert [len(purges(sim, party)) for party in ("us", "mx")] == [1, 1]


@pytest.mark.parametrize("state", [State.EXPIRED, State.RECALLED])
async def test_what_never_left_has_an_end_too(sim, state):
    [result] = await sim.submit([person()], agency="mx.inm", recipient="us.cbp", basis=["bil.jsp.2010"])
    release = sim.sent(result.message_id, "mx.inm").release
    if state is State.RECALLED:
        await sim.recall("mx.inm", result.message_id)
    else:
        await sim.pass_time(DAY_MS)
    assert sim.sent(result.message_id, "mx.inm").state is state
    await sim.pass_time(KEPT_MS)
    assert not kept_by(sim, "mx", release)


async def test_a_rules_end_is_not_moved_by_the_end_of_the_message(sim):
    message_id, _ = await kept(sim)
    until = sim.sent(message_id).destroy_by_ms
    assert until > sim.clock() + 360 * DAY_MS


async def test_what_was_never_kept_is_never_purged(sim):
    """Recalled before it came: the recipient judged it, with a rule's end, and kept nothing of it."""
    [result] = await sim.submit([person()])
    release = sim.sent(result.message_id).release
    await sim.mx.ledger.commit(
        lambda tx: tx.control.keep_recall(
            KeptRecall(release, "us.cbp", Reason.AGENCY, sim.clock() + DAY_MS, sim.clock() + DAY_MS)
        )
    )
    await sim.settle()
    assert sim.came(release).state is State.RECALLED
    await sim.pass_time(2 * YEAR_MS)
    assert purges(sim, "mx") == []
    assert len(purges(sim, "us")) == 1
