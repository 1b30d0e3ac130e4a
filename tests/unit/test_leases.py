"""Leases on conversations, and the process that they end with."""

from dataclasses import replace

import pytest

from broker.message import State
from tests.simulator import person


@pytest.fixture
async def two(sim):
    """Two messages of one conversation that have come for mx.inm."""
    results = await sim.submit([person(1), person(2)])
    await sim.settle()
    return [sim.sent(result.message_id).release for result in results]


def stream(sim, name="one"):
    return f"{sim.mx.incarnation}.{name}"


async def test_a_killed_gateways_leases_end_when_it_starts_again(sim, two):
    assert [offer.release for offer in await sim.offers("mx.inm", holder=stream(sim))] == two
    sim.reopen("mx")  # nothing was let go, and not a millisecond has passed
    assert await sim.offers("mx.inm", holder=stream(sim)) == []
    await sim.mx.start()
    again = await sim.offers("mx.inm", holder=stream(sim))
    assert [(offer.release, offer.attempt) for offer in again] == [(release, 2) for release in two]


async def test_a_start_leaves_the_leases_of_its_own_incarnation(sim, two):
    await sim.offers("mx.inm", holder=stream(sim))
    await sim.mx.start()
    assert await sim.offers("mx.inm", holder=stream(sim, "another")) == []
    assert await sim.answer("mx.inm", two[0], holder=stream(sim)) == "OK"


async def test_a_stream_of_an_earlier_process_that_still_runs_hears_that_its_lease_is_lost(sim, two):
    old = stream(sim)
    await sim.offers("mx.inm", holder=old)
    await replace(sim.mx, incarnation="newer").start()
    assert await sim.answer("mx.inm", two[0], holder=old) == "LEASE_LOST"
    await sim.offers("mx.inm", holder="newer.one")
    assert await sim.answer("mx.inm", two[0], holder="newer.one") == "OK"
    await sim.settle()
    assert sim.came(two[0]).state is State.ACKNOWLEDGED


async def test_leases_of_processes_that_are_alive_are_kept(sim, two):
    await sim.offers("mx.inm", holder="alive.one")
    freed = await sim.mx.ledger.commit(lambda tx: tx.mailbox.free_leases(("alive", "also")))
    assert freed == 0
    assert await sim.mx.ledger.commit(lambda tx: tx.mailbox.free_leases(("also",))) == 1


async def test_a_lease_written_by_an_earlier_release_is_freed(sim, two):
    await sim.offers("mx.inm", holder="0123456789abcdef")
    await sim.mx.start()
    assert len(await sim.offers("mx.inm", holder=stream(sim))) == 2
