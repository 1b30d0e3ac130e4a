"""Control items as bodies: what is sealed is read again, and what is not of its shape is refused."""

import os

import pytest

from broker import control
from broker.canonical import leaf_hash
from broker.errors import CanonicalError
from broker.ledger.streams import Inflow, Outflow
from broker.message import Reason, State, Stream
from broker.origin import TIME_END
from broker.sealing import SEQ_END
from broker.v1 import envelope_pb2 as pb
from broker.v1.log_pb2 import ENTRY_KIND_ANSWER, StateEntry

NOW = 1_800_000_000_000
RELEASE = bytes(range(32))
OURS = Stream("puente.us.mx.passenger", 2)
THEIRS = Stream("puente.mx.us.passenger", 1)


def test_a_receipt_quotes_the_leaf_of_the_entry_that_it_stands_for():
    decision = os.urandom(32)
    leaf, entry, body = control.state_entry(
        ENTRY_KIND_ANSWER, RELEASE, State.RECALLED, Reason.KEPT, NOW, decision, pb.AgencyReceipt(kid=b"k" * 32)
    )
    found, said = StateEntry.FromString(entry), control.parse_receipt(body)
    assert leaf == leaf_hash(entry) == said.entry
    assert (found.release, found.state, found.reason, found.time_ms, found.decision) == (
        RELEASE, State.RECALLED, Reason.KEPT, NOW, decision,
    )  # fmt: skip
    assert (said.release, said.state, said.reason, said.time_ms) == (RELEASE, State.RECALLED, Reason.KEPT, NOW)
    assert said.agency.kid == b"k" * 32


def test_the_same_state_twice_is_two_entries_that_nobody_can_guess():
    one, two = (control.state_entry(ENTRY_KIND_ANSWER, RELEASE, State.REJECTED, Reason.NONE, NOW)[0] for _ in range(2))
    assert one != two


def test_the_same_item_twice_has_two_salts():
    body = control.receipt(RELEASE, State.RECEIVED, Reason.NONE, RELEASE, NOW)
    (kind, salt, same), (_, another, _) = control.receipt_item(body), control.receipt_item(body)
    assert (kind, same) == (pb.CONTROL_KIND_RECEIPT, body)
    assert salt != another
    assert len(salt) == 32


def test_a_recall_is_read_as_it_was_made():
    kind, salt, body = control.recall_item(RELEASE, "us.cbp", Reason.CORRECTION, NOW)
    said = control.parse_recall(body)
    assert kind == pb.CONTROL_KIND_RECALL
    assert len(salt) == 32
    assert (said.release, said.origin_agency, said.reason, said.expires_ms) == (
        RELEASE, "us.cbp", Reason.CORRECTION, NOW,
    )  # fmt: skip


def test_heads_say_how_far_ours_are_durable_and_how_far_theirs_were_taken_and_why_no_further():
    outflow = Outflow(fence=1, last_seq=9, chain=9, durable=7, taken=5, repairs=0, repaired_at=-1)
    kind, _, body = control.heads_item([(OURS, outflow)], [Inflow(THEIRS, 4, Reason.MISSING, 77)])
    said = control.parse_heads(body)
    assert kind == pb.CONTROL_KIND_HEADS
    assert [(h.topic, h.partition, h.epoch, h.seq) for h in said.sent] == [(*_place(OURS), 1, 7)]
    assert [(h.topic, h.partition, h.epoch, h.taken, h.why) for h in said.taken] == [
        (*_place(THEIRS), 1, 4, Reason.MISSING)
    ]


def _place(stream):
    return stream.topic, stream.partition


def receipt(**changes):
    fields = {"release": RELEASE, "state": 4, "reason": 1, "entry": RELEASE, "time_ms": NOW}
    return pb.Receipt(**(fields | changes)).SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    "body",
    [
        receipt(state=0),
        receipt(reason=0),
        receipt(time_ms=TIME_END),
        receipt(agency=pb.AgencyReceipt(kid=b"k", time_ms=TIME_END)),
        receipt() + b"\x08\x01",
        receipt()[:-1],
        b"",
    ],
    ids=["no state", "no reason", "late", "agency late", "a field twice", "cut", "empty"],
)
def test_a_receipt_of_another_shape_is_refused(body):
    control.parse_receipt(receipt(time_ms=TIME_END - 1))
    with pytest.raises(CanonicalError):
        control.parse_receipt(body)


def recall(**changes):
    fields = {"release": RELEASE, "origin_agency": "us.cbp", "reason": 17, "expires_ms": NOW}
    return pb.Recall(**(fields | changes)).SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    "body", [recall(reason=0), recall(expires_ms=TIME_END), recall()[:-1]], ids=["no reason", "late", "cut"]
)
def test_a_recall_of_another_shape_is_refused(body):
    control.parse_recall(recall(expires_ms=TIME_END - 1))
    with pytest.raises(CanonicalError):
        control.parse_recall(body)


@pytest.mark.parametrize(
    "heads",
    [
        pb.Heads(sent=[pb.SentHead(topic="t", epoch=1, seq=SEQ_END)]),
        pb.Heads(taken=[pb.TakenHead(topic="t", epoch=1, taken=SEQ_END)]),
    ],
    ids=["sent", "taken"],
)
def test_heads_out_of_range_are_refused(heads):
    with pytest.raises(CanonicalError):
        control.parse_heads(heads.SerializeToString(deterministic=True))
