"""Topics and streams: both gateways name them alike, and a conversation stays where it is."""

import pytest

from broker.canonical import H
from broker.link import CONTROL, partition_of, topic
from broker.message import Stream


@pytest.fixture
def link(sim):
    return sim.us.link


def test_a_topic_has_hyphens_where_names_have_underscores():
    assert topic("us", "mx", "firearm_trace") == "puente.us.mx.firearm-trace"


def test_both_gateways_name_a_stream_alike(sim):
    assert sim.us.link.topic_out("passenger") == sim.mx.link.topic_in("passenger") == "puente.us.mx.passenger"
    assert sim.us.link.topic_in(CONTROL) == sim.mx.link.topic_out(CONTROL) == "puente.mx.us.control"


def test_a_conversation_stays_in_one_partition_of_those_agreed(link):
    partitions = link.partitions("passenger")
    found = {link.stream_out("passenger", bytes([n]) * 16).partition for n in range(200)}
    assert found == set(range(partitions))
    assert link.stream_out("passenger", b"c" * 16) == link.stream_out("passenger", b"c" * 16)


def test_a_partition_is_the_first_eight_bytes_of_the_hash_modulo_p():
    conversation = bytes(range(16))
    assert H(conversation)[:8].hex() == "be45cb2605bf36be"
    assert [partition_of(conversation, p) for p in (1, 4, 7)] == [0, 0xBE45CB2605BF36BE % 4, 0xBE45CB2605BF36BE % 7]


def test_every_stream_of_the_other_party_is_read_control_first(link):
    partitions = link.partitions("passenger")
    streams = link.streams_in()
    assert streams[0] == Stream("puente.mx.us.control", 0)
    assert streams[1:] == [Stream("puente.mx.us.passenger", n) for n in range(partitions)]
