"""One signature over the submissions of a call, telling nothing of how many there were."""

import pytest

from broker import origin
from broker.canonical import H, encode
from broker.errors import OriginError
from broker.v1.envelope_pb2 import OriginStatement


def leaves(count):
    return [origin.origin_leaf(bytes([n])) for n in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 100, 255, 256])
def test_every_leaf_leads_to_the_one_root_from_its_own_place(count):
    found = leaves(count)
    root, places = origin.OriginTree.build(found)
    assert len({place for place, _ in places}) == count
    for leaf, (place, siblings) in zip(found, places, strict=True):
        assert origin.origin_root(leaf, place, siblings) == root
        assert origin.origin_root(leaf, place ^ 1, siblings) != root


def test_a_path_has_the_same_shape_however_many_were_signed():
    for count in (1, 5, 256):
        _, places = origin.OriginTree.build(leaves(count))
        for _, siblings in places:
            assert [len(sibling) for sibling in siblings] == [32] * 8


def test_places_are_drawn_anew_for_every_call():
    draws = {origin.OriginTree.build(leaves(1))[1][0][0] for _ in range(60)}
    assert len(draws) > 20
    assert all(0 <= place <= 255 for place in draws)


def test_given_places_and_randomness_give_the_same_tree_again():
    def zeros(size):
        return bytes(size)

    first = origin.OriginTree.build(leaves(2), zeros, places=[9, 200])
    assert first == origin.OriginTree.build(leaves(2), zeros, places=[9, 200])
    assert [place for place, _ in first[1]] == [9, 200]


@pytest.mark.parametrize("places", [[1, 1], [1], [1, 256], [-1, 2]])
def test_places_that_are_no_places_are_refused(places):
    with pytest.raises(OriginError):
        origin.OriginTree.build(leaves(2), places=places)


def test_a_call_holds_1_to_256_submissions():
    for count in (0, 257):
        with pytest.raises(OriginError):
            origin.OriginTree.build([bytes(32)] * count)


def test_a_path_of_another_length_or_a_place_outside_is_refused():
    root, [(place, siblings)] = origin.OriginTree.build(leaves(1))
    assert origin.origin_root(leaves(1)[0], place, siblings) == root
    for bad in [(place, siblings[:7]), (256, siblings), (-1, siblings), (place, [*siblings[:7], b"x" * 31])]:
        with pytest.raises(OriginError):
            origin.origin_root(leaves(1)[0], *bad)


def test_a_batch_statement_is_74_bytes_and_says_who_when_and_what():
    data = origin.batch_statement(b"k" * 32, 1_800_000_000_000, b"r" * 32)
    assert len(data) == 74
    assert data[:2] == b"\x00\x01"
    parsed = origin.parse_batch_statement(data)
    assert (parsed.signer_kid, parsed.created_ms, parsed.root) == (b"k" * 32, 1_800_000_000_000, b"r" * 32)
    for bad in (data + b"\x00", data[:-1], b"\x00\x02" + data[2:], data[:34] + b"\xff" * 8 + data[42:]):
        with pytest.raises(OriginError):
            origin.parse_batch_statement(bad)


def test_facts_are_bound_and_not_told():
    assert origin.facts_commit(b"s" * 32, b"") == H(b"puente/v1/facts\x00", b"s" * 32)
    assert origin.facts_commit(b"s" * 32, b"x") != origin.facts_commit(b"t" * 32, b"x")
    with pytest.raises(OriginError):
        origin.facts_commit(b"", b"x")


def statement(**changes):
    fields = {
        "version": 1,
        "link_id": b"l" * 16,
        "message_id": b"m" * 16,
        "family": "passenger",
        "family_revision": 1,
        "record_root": b"r" * 32,
        "origin_agency": "mx.inm",
        "recipient_agency": "us.cbp",
        "purpose": 1,
        "legal_basis": ["bilateral.basis"],
        "conversation": b"c" * 16,
        "facts_commit": b"f" * 32,
        "created_ms": 1_800_000_000_000,
        "expires_ms": 1_800_000_000_000 + 86_400_000,
        "origin_kid": b"k" * 32,
    }
    return encode(OriginStatement(**(fields | changes)))


def test_a_statement_of_the_right_shape_is_read():
    assert origin.parse_statement(statement(supersedes=b"o" * 16, caveats=[1, 2])).family == "passenger"


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"message_id": b"m" * 15},
        {"conversation": b""},
        {"supersedes": b"m"},
        {"derived_from": [b"m" * 16]},
        {"record_root": b""},
        {"family": "Passenger"},
        {"origin_agency": "mx inm"},
        {"legal_basis": [""]},
        {"family_revision": 0},
        {"purpose": 0},
        {"caveats": [1, 1]},
        {"caveats": [0]},
        {"expires_ms": 1_800_000_000_000},
        {"expires_ms": 1_800_000_000_000 + 30 * 86_400_000 + 1},
        {"created_ms": 0},
        {"created_ms": (1 << 47) - 1, "expires_ms": 1 << 47},
        {"legal_basis": ["a" * 64] * 40},
    ],
    ids=str,
)
def test_a_statement_of_another_shape_is_refused(changes):
    with pytest.raises(OriginError):
        origin.parse_statement(statement(**changes))


def test_a_statement_that_is_not_canonical_is_refused():
    with pytest.raises(OriginError):
        origin.parse_statement(statement() + b"\x08\x01")
