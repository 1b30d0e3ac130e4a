"""What waits to be sealed is bounded: a party that is silent for hours cannot fill the other's disk."""

import pytest

from broker import backlog
from broker.errors import StoreError, StoreFull
from broker.heads import HELD_AFTER_S
from broker.message import Log, State
from broker.v1 import facts_pb2
from tests.simulator import person

DAY_MS = 86_400_000


@pytest.fixture
def three(monkeypatch):
    """Three messages may wait."""
    monkeypatch.setattr(backlog, "UNSEALED_MESSAGES", 3)


def waiting(sim):
    return sim.us.outbound.backlog._messages, sim.us.outbound.backlog._bytes


def counted(sim):
    return sim.us.ledger.read(lambda tx: (tx.outbox.unsealed_count(), tx.outbox.unsealed_bytes()))


async def full(sim):
    """The link is held, and as much waits as may: message ids."""
    sim.us.relay.heads._heard -= HELD_AFTER_S + 1
    return [(await sim.submit([person(n)]))[0].message_id for n in range(3)]


async def test_beyond_the_limit_nothing_is_accepted_decided_or_logged(sim, three):
    await full(sim)
    before = [sim.entries("us", log) for log in Log]
    with pytest.raises(StoreFull):
        await sim.submit([person(9)])
    assert [sim.entries("us", log) for log in Log] == before
    assert sim.states("us")[0] == {State.ACCEPTED: 3}


async def test_it_is_accepted_again_once_the_other_party_speaks(sim, three):
    ids = await full(sim)
    await sim.settle()  # mx's heads come, and what waits is sealed
    assert waiting(sim) == counted(sim) == (0, 0)
    [result] = await sim.submit([person(9)])
    await sim.settle()
    assert {sim.sent(name).state for name in [*ids, result.message_id]} == {State.RECEIVED}


async def test_a_call_may_go_over_the_limit_once(sim, three):
    assert len(await sim.submit([person(n) for n in range(5)])) == 5
    with pytest.raises(StoreFull):
        await sim.submit([person(9)])


async def test_bytes_are_bounded_too(sim, monkeypatch):
    monkeypatch.setattr(backlog, "UNSEALED_BYTES", 1000)
    await sim.submit([person(1)])
    await sim.submit([person(2)])
    with pytest.raises(StoreFull):
        await sim.submit([person(3)])


async def test_a_question_without_a_submission_is_answered_all_the_same(sim, three):
    await full(sim)
    batch, items = sim.batch([person(9)])
    [result] = await sim.us.outbound.submit("us.cbp", batch, items, validate_only=True)
    assert result.outcome == "accepted"


async def test_a_start_counts_what_waits(sim, three):
    await full(sim)
    before = waiting(sim)
    sim.reopen("us")
    assert waiting(sim) == before == counted(sim)
    with pytest.raises(StoreFull):
        await sim.submit([person(9)])


@pytest.mark.parametrize("how", ["recalled", "expired"])
async def test_what_ends_before_it_is_sealed_makes_room_with_the_next_sweep(sim, three, how):
    [first, *_] = await full(sim)
    if how == "recalled":
        await sim.recall("us.cbp", first)
        await sim.pass_time(0)
        assert waiting(sim) == counted(sim)
        assert waiting(sim)[0] == 2
    else:
        await sim.pass_time(DAY_MS)
        assert waiting(sim) == (0, 0)
    assert (await sim.submit([person(9)]))[0].outcome == "accepted"


async def test_refusals_and_what_was_there_before_take_no_room(sim):
    batch, items = sim.batch([person(1)])
    for _ in range(3):
        await sim.us.outbound.submit("us.cbp", batch, items)
    await sim.submit([person(2)], facts=facts_pb2.Facts(asylum_information=True))
    assert waiting(sim) == counted(sim)
    assert waiting(sim)[0] == 1


async def test_what_could_not_be_committed_takes_no_room(sim, monkeypatch):
    def down(*_):
        raise StoreError("down")

    monkeypatch.setattr(sim.us.ledger.keys, "flush", down)
    with pytest.raises(StoreError):
        await sim.submit([person(1)])
    assert waiting(sim) == (0, 0)


async def test_the_bytes_of_very_many_are_estimated(sim, monkeypatch):
    monkeypatch.setattr(backlog, "ADDED_UP", 1)
    ids = await full(sim)
    for name in ids[:1]:
        await sim.recall("us.cbp", name)
    await sim.pass_time(0)
    exact = counted(sim)
    assert waiting(sim)[0] == exact[0] == 2
    assert waiting(sim)[1] == pytest.approx(exact[1], rel=0.1)


async def test_no_submission_asks_the_ledger_how_much_waits(sim, monkeypatch):
    def asked(_):
        raise AssertionError

    monkeypatch.setattr("broker.ledger.outbox.Outbox.unsealed_count", asked)
    await sim.submit([person(1)])
