"""The relay ends when it is told to, and by nothing else: neither a store that is down nor a message that cannot go."""

import asyncio
import time

import pytest

from broker.errors import LinkError, StoreError, StreamLost
from broker.link import CONTROL
from broker.message import State, Stream
from tests.simulator import person

MINUTE_MS = 60_000
CONVERSATION = b"conversation one"


async def forever(relay):
    """The relay, until it is cancelled; when this returns it has begun."""
    running = asyncio.create_task(relay.run())
    await asyncio.sleep(0.5)
    return running


@pytest.mark.parametrize("turns", range(5))
async def test_a_relay_that_hears_of_work_while_it_is_stopped_stops(sim, turns):
    """A task that lost its cancellation would run for good, and a gateway would never end."""
    running = await forever(sim.us.relay)
    sim.us.relay.work.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    _, pending = await asyncio.wait({running}, timeout=2)
    assert not pending


async def test_a_gateway_that_stops_waits_for_what_it_is_putting(sim):
    ended = []

    def put(*_):
        time.sleep(1)
        ended.append("put")

    sim.transport.put = put
    sim.transport.close = lambda: ended.append("closed")
    running = await forever(sim.us.relay)  # its first heads are being put
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    sim.us.close()
    assert ended == ["put", "closed"]
    sim.us = sim._gateway("us")


async def test_a_store_that_fails_while_a_lost_stream_is_claimed_again_stops_nothing(sim, monkeypatch):
    relay = sim.us.relay
    monkeypatch.setattr("broker.relay.BACK_OFF_S", 0.0)
    real, told = relay.claim, iter([StoreError("down"), StoreError("down")])

    async def claim():
        for error in told:
            raise error
        await real()

    steps = iter([StreamLost("another owner")])

    async def step():
        for error in steps:
            raise error
        done.set()
        return False

    done = asyncio.Event()
    monkeypatch.setattr(relay, "claim", claim)
    running = asyncio.create_task(relay._forever(step, lambda: asyncio.sleep(1)))
    async with asyncio.timeout(2):
        await done.wait()
    assert relay._fences
    running.cancel()


async def test_control_goes_on_while_data_has_no_key_to_be_sealed_with(sim, monkeypatch):
    await sim.settle()
    [result] = await sim.submit([person()], conversation=CONVERSATION)
    real = type(sim.us.link).recipient_key

    def recipient_key(link, family, now):
        if family != CONTROL:
            raise LinkError("the other party has no valid encryption key")
        return real(link, family, now)

    monkeypatch.setattr(type(sim.us.link), "recipient_key", recipient_key)
    control = Stream(sim.us.link.topic_out(CONTROL), 0)
    before = len(sim.transport.all(control))
    sim.clock.now += MINUTE_MS
    while await sim.us.relay.send():
        pass
    assert len(sim.transport.all(control)) == before + 1  # its heads
    assert sim.sent(result.message_id).state is State.ACCEPTED
    monkeypatch.undo()
    await sim.settle()
    assert sim.sent(result.message_id).state is State.RECEIVED


async def test_a_message_whose_key_goes_while_it_waits_stops_none_of_the_others(sim):
    """Keys are destroyed before the ledger says so; in between, and after a crash in between, the relay finds none."""
    await sim.settle()
    gone, other = await sim.submit([person(1), person(2)], conversation=CONVERSATION)
    [[key_id]] = sim.rows("us", "SELECT key_id FROM outbound WHERE message_id = ?", gone.message_id)
    sim.us.ledger.keys.flush([], [key_id])
    sim.us.outbound.fresh.clear()
    await sim.settle()
    assert sim.sent(other.message_id).state is State.RECEIVED
    assert sim.sent(gone.message_id).state is State.ACCEPTED
    await sim.pass_time(25 * 60 * MINUTE_MS)
    assert sim.sent(gone.message_id).state is State.EXPIRED


async def test_who_is_refused_for_an_envelope_that_is_never_taken_is_the_message_that_was_in_it(sim):
    """Before it in the stream: one whose content had to go, and one that runs out before it was ever sealed."""
    gone, late, culprit = [(await sim.submit([person(n)], conversation=CONVERSATION))[0].message_id for n in range(3)]
    stream = sim.us.link.stream_out("passenger", CONVERSATION)

    def change(tx):
        rows = [tx.outbox.get("us.cbp", name).row for name in (gone, late, culprit)]
        tx.outbox.destroyed(rows[0])
        tx.outbox.set_sealed(rows[2:], 1)
        tx.outbox.unseal(stream, 0)
        return tx.outbox.refuse_first(stream, sim.clock())

    await sim.us.ledger.commit(change)
    states = [sim.sent(name).state for name in (gone, late, culprit)]
    assert states == [State.ACCEPTED, State.ACCEPTED, State.REFUSED]
