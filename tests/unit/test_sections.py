"""A record is its sections; a message shows some of them and proves all."""

import pytest

from broker import sections
from broker.canonical import H, encode, parse
from broker.errors import FieldInvalid, SectionError
from broker.v1.category_pb2 import DataCategory
from broker.v1.envelope_pb2 import Slot
from broker.v1.passenger_pb2 import Passenger

SEED, MESSAGE_ID = b"s" * 32, b"m" * 16


def passenger():
    record = Passenger(kind=1)
    record.identity.name.surname = "NADIE"
    record.travel.legs.add(carrier="XX", number="1")
    record.documents.add(type="P", number="A1")
    record.documents.add(type="V", number="A2")
    return record


def slots_of(record, hide=()):
    parts = sections.split(encode(record), 16)
    block = sections.salt_block(SEED, MESSAGE_ID, 16)
    leaves = sections.leaves(parts, block)
    slots = [
        Slot(salt=block[32 * n : 32 * n + 32], section=part) if part and n + 1 not in hide else Slot(leaf=leaves[n])
        for n, part in enumerate(parts)
    ]
    return slots, leaves


def test_every_field_of_every_family_says_what_it_holds_and_how_ordinary_its_absence_is():
    for family in sections.families().values():
        assert family.slots in {16, 32}
        assert family.revision >= 1
        assert family.sections[0].name == "kind"
        assert family.sections[0].presence == "always"
        known = {name.removeprefix("DATA_CATEGORY_").lower() for name in DataCategory.keys()} - {"unspecified"}  # noqa: SIM118
        for section in family.sections:
            assert 1 <= section.slot <= family.slots
            assert section.category in known, section.name
            assert section.presence in {"always", "often", "rare"}, section.name
            assert section.kinds, section.name
        assert not family.message_class.DESCRIPTOR.oneofs or all(
            oneof.name.startswith("_") for oneof in family.message_class.DESCRIPTOR.oneofs
        )


def test_the_passenger_family_is_found_with_its_options():
    family = sections.family("passenger")
    assert (family.slots, family.revision, family.message_class) == (16, 1, Passenger)
    identity = family.sections[1]
    assert (identity.slot, identity.name, identity.category, identity.presence) == (2, "identity", "identity", "always")
    assert "api" in identity.kinds


def test_a_family_that_is_unknown_is_refused():
    with pytest.raises(SectionError, match="unknown family"):
        sections.family("tides")


def test_a_record_is_its_sections_in_order():
    record = passenger()
    parts = sections.split(encode(record), 16)
    assert b"".join(parts) == encode(record)
    assert parts[0] == b"\x08\x01"
    assert encode(parse(Passenger, parts[3])) == encode(Passenger(documents=record.documents))
    assert [n + 1 for n, part in enumerate(parts) if part] == [1, 2, 3, 4]


def test_sections_of_more_than_127_bytes_are_split_too():
    record = Passenger(kind=1)
    for n in range(16):
        record.documents.add(type="P", number=f"N{n:030}")
    record.verification.documents = 1
    parts = sections.split(encode(record), 16)
    assert b"".join(parts) == encode(record)
    assert len(parts[3]) > 500


@pytest.mark.parametrize(
    "data", [b"\x12\x00\x08\x01", b"\x08", b"\x12\x05\x0a", b"\x8a\x01\x00", b"\x0d1234", b"\x08\x80", b"\x12\x80"]
)
def test_what_is_no_record_is_not_split(data):
    with pytest.raises(SectionError):
        sections.split(data, 16)


def test_leaves_and_root_are_those_of_the_specification():
    parts = [b"\x08\x01", *[b""] * 15]
    block = sections.salt_block(SEED, MESSAGE_ID, 16)
    leaves = sections.leaves(parts, block)
    assert leaves[0] == H(b"\x00puente/v1/section\x00", (1).to_bytes(4, "big"), block[:32], b"\x08\x01")
    assert leaves[1] == block[32 * 17 : 32 * 18]
    assert sections.record_root(leaves) == H(b"puente/v1/record\x00", (16).to_bytes(4, "big"), *leaves)


def test_open_slots_give_back_the_same_leaves_whatever_is_hidden():
    for hide in [(), (2,), (2, 4), (1, 2, 3, 4)]:
        slots, leaves = slots_of(passenger(), hide)
        found, record, shown = sections.open_slots(slots, 16)
        assert found == leaves
        assert shown == sum(1 << n - 1 for n in {1, 2, 3, 4} - {*hide})
        assert b"".join(slot.section for slot in slots) == record


def test_a_hidden_section_and_an_absent_one_look_the_same():
    slots, _ = slots_of(passenger(), hide=(4,))
    assert [len(slot.leaf) for slot in slots[3:]] == [32] * 13
    assert {slot.ByteSize() for slot in slots[3:]} == {34}


BAD_SLOTS = {
    "neither salt and section nor leaf": Slot(),
    "both": Slot(salt=b"s" * 32, section=b"\x08\x01", leaf=b"l" * 32),
    "a leaf with a salt": Slot(salt=b"s" * 32, leaf=b"l" * 32),
    "a short leaf": Slot(leaf=b"l" * 31),
    "a short leaf filled up by a section": Slot(leaf=b"l" * 30, section=b""),
    "a short salt": Slot(salt=b"s" * 31, section=b"\x08\x01"),
    "a salt without section": Slot(salt=b"s" * 32),
    "another slot's field": Slot(salt=b"s" * 32, section=b"\x12\x00"),
    "another slot's field behind its own": Slot(salt=b"s" * 32, section=b"\x08\x01\x12\x00"),
    "a field that is cut off": Slot(salt=b"s" * 32, section=b"\x08"),
    "a length that never ends": Slot(salt=b"s" * 32, section=b"\x0a" + b"\xff" * 200_000),
    "its tag padded": Slot(salt=b"s" * 32, section=b"\x88\x00\x01"),
}


@pytest.mark.parametrize("slot", BAD_SLOTS.values(), ids=BAD_SLOTS.keys())
def test_a_slot_of_another_shape_is_refused(slot):
    slots, _ = slots_of(passenger())
    with pytest.raises(SectionError):
        sections.open_slots([slot, *slots[1:]], 16)


def test_another_number_of_slots_is_refused():
    slots, _ = slots_of(passenger())
    with pytest.raises(SectionError, match="number of slots"):
        sections.open_slots(slots[:-1], 16)


def test_salts_of_two_messages_differ():
    assert sections.salt_block(SEED, MESSAGE_ID, 16) != sections.salt_block(SEED, b"n" * 16, 16)
    assert len(sections.salt_block(SEED, MESSAGE_ID, 32)) == 2048


def test_a_lawful_record_is_valid_whole_and_in_part():
    sections.validate_record(passenger(), whole=True)
    shown = passenger()
    shown.ClearField("identity")
    sections.validate_record(shown, whole=False)


def test_the_senders_gateway_refuses_a_record_that_lacks_a_section_its_kind_has():
    record = passenger()
    record.ClearField("travel")
    with pytest.raises(FieldInvalid) as error:
        sections.validate_record(record, whole=True)
    assert error.value.violations == (("travel", "section.kinds"),)


def test_a_recipient_refuses_a_disclosed_section_that_is_wrong_by_itself():
    record = passenger()
    record.documents[1].number = ""
    record.identity.nationality = "secret"
    with pytest.raises(FieldInvalid) as error:
        sections.validate_record(record, whole=False)
    paths = {path for path, _ in error.value.violations}
    assert paths == {"documents[1].number", "identity.nationality"}
    assert "secret" not in str(error.value)
