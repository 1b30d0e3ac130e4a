"""Numbers that no gateway keeps, from a peer whose keys are valid: refused or put aside, and reading goes on."""

import os

import pytest

from broker import relay
from broker.canonical import encode
from broker.link import CONTROL
from broker.message import State
from broker.v1 import envelope_pb2 as pb
from tests.hostile import Hostile

BIG = 2**63


@pytest.fixture
def peer(sim):
    return Hostile(sim)


async def goes_on(peer):
    content, release, conversation = peer.one()
    await peer.send(peer.stream(conversation), content)
    assert peer.sim.came(release).state is State.RECEIVED


async def test_the_same_release_twice_in_an_envelope_gets_the_same_receipt_and_stops_nothing(peer):
    content, _, conversation = peer.one()
    content.messages.add().CopyFrom(content.messages[0])
    await peer.send(peer.stream(conversation), content)
    await goes_on(peer)


async def test_a_seq_out_of_range_is_put_aside(peer):
    content, _, conversation = peer.one()
    await peer.send(peer.stream(conversation), content, seq=BIG, after=0)


async def test_a_seq_after_another_seq_out_of_range_is_put_aside(peer):
    content, _, conversation = peer.one()
    await peer.send(peer.stream(conversation), content, seq=BIG, after=BIG - 1)


async def test_a_control_seq_out_of_range_is_put_aside(peer, monkeypatch):
    content, _, conversation = peer.one()

    monkeypatch.setattr(relay, "CONTROL_PATIENCE_S", 0.01)
    await peer.send(peer.stream(conversation), content, control_seq=BIG)
    assert peer.inflow(peer.stream(conversation)).taken == 0


async def test_a_destroy_by_out_of_range_refuses_that_message_alone(peer):
    content, _, conversation = peer.one(core={"destroy_by_ms": BIG})
    await peer.send(peer.stream(conversation), content)
    await goes_on(peer)


async def control(peer, kind, body):
    stream = peer.stream(family=CONTROL)
    await peer.send(stream, pb.Content(items=[pb.ControlItem(salt=os.urandom(32), kind=kind, body=encode(body))]))


async def test_a_sent_head_out_of_range_is_malformed(peer):
    s = peer.stream(os.urandom(16))
    await control(peer, 2, pb.Heads(sent=[pb.SentHead(topic=s.topic, partition=s.partition, epoch=1, seq=BIG)]))


async def test_a_taken_head_out_of_range_is_malformed(peer):
    s = peer.sim.mx.link.stream_out("passenger", os.urandom(16))
    await control(
        peer, 2, pb.Heads(taken=[pb.TakenHead(topic=s.topic, partition=s.partition, epoch=1, taken=BIG, why=1)])
    )


async def test_a_complaint_out_of_range_is_malformed(peer):
    s = peer.sim.mx.link.stream_out("passenger", os.urandom(16))
    await control(
        peer, 2, pb.Heads(taken=[pb.TakenHead(topic=s.topic, partition=s.partition, epoch=1, taken=BIG, why=18)])
    )


async def test_a_recall_that_ends_out_of_range_is_malformed(peer):
    await control(peer, 7, pb.Recall(release=bytes(32), origin_agency="us.cbp", reason=1, expires_ms=BIG))


async def test_a_head_of_a_partition_that_does_not_exist_changes_nothing(peer):
    s = peer.sim.mx.link.stream_out("passenger", os.urandom(16))
    await control(
        peer, 2, pb.Heads(taken=[pb.TakenHead(topic=s.topic, partition=4_000_000_000, epoch=1, taken=1, why=1)])
    )


async def test_a_receipt_out_of_time_is_malformed(peer):
    await control(peer, 1, pb.Receipt(release=bytes(32), state=4, reason=1, entry=bytes(32), time_ms=2**64 - 1))
