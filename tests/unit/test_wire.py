"""Bytes that are written by hand are those that protobuf writes."""

import os

import pytest
from google.protobuf.internal import encoder

from broker import wire
from broker.canonical import encode, parse
from broker.link import partition_of, topic
from broker.v1.envelope_pb2 import Message, Slot


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 16_383, 16_384, 2**21, 2**32, 2**47, 2**64 - 1])
def test_a_varint_is_minimal(value):
    assert wire.varint(value) == encoder._VarintBytes(value)


@pytest.mark.parametrize("size", [1, 90, 91, 92, 93, 127, 128, 16_383, 16_384, 250_000])
def test_a_message_is_what_protobuf_would_write(size):
    sections = [b"\x08\x01", os.urandom(size), b"", os.urandom(3)]
    leaves, block, shown = [os.urandom(32) for _ in sections], os.urandom(128), 0b0011
    data = wire.message_bytes(b"entry", b"core" * 90, b"s" * 32, wire.slots_bytes(sections, leaves, block, shown))
    slots = [
        Slot(salt=block[32 * n : 32 * n + 32], section=sections[n]) if shown >> n & 1 else Slot(leaf=leaves[n])
        for n in range(4)
    ]
    expected = Message(release_entry=b"entry", core=b"core" * 90, commit_salt=b"s" * 32, slots=slots)
    assert data == encode(expected)
    assert parse(Message, data) == expected


def test_topics_have_no_underscore():
    assert topic("us", "mx", "network_lead") == "puente.us.mx.network-lead"


def test_a_conversation_stays_in_its_partition_and_all_partitions_are_used():
    conversations = [os.urandom(16) for _ in range(400)]
    found = [partition_of(c, 8) for c in conversations]
    assert found == [partition_of(c, 8) for c in conversations]
    assert {*found} == set(range(8))
