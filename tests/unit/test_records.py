"""Every record type, and every message that is signed, has the shape that the specification's hashes rely on."""

import tomllib
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor

import policy
from broker import sections
from broker.v1 import agreement_pb2, category_pb2, envelope_pb2, facts_pb2, log_pb2

FAMILIES = sections.families()
PACK = Path(policy.__file__).parent / "packs" / "bilateral" / "families.toml"
SIGNED_FILES = (agreement_pb2, envelope_pb2, facts_pb2, log_pb2)
ALLOWED_TYPES = {
    getattr(FieldDescriptor, f"TYPE_{name}")
    for name in ("INT32", "INT64", "UINT32", "UINT64", "SINT32", "SINT64", "BOOL", "ENUM", "STRING", "BYTES", "MESSAGE")
}
"""Wire types 0 and 2, and nothing else."""

each_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def below(descriptor, above=()):
    """The message and all that it holds, at every depth; a message that holds itself has no bounded depth."""
    assert descriptor not in above, f"{descriptor.full_name} holds itself"
    yield descriptor
    for field in descriptor.fields:
        if field.message_type is not None:
            yield from below(field.message_type, (*above, descriptor))


def check_shape(descriptor):
    for message in below(descriptor):
        assert not message.GetOptions().map_entry, f"{message.full_name} is a map entry"
        assert not message.is_extendable
        real = [oneof.name for oneof in message.oneofs if not _is_optional(oneof)]
        assert not real, f"{message.full_name} has oneof {real}"
        for field in message.fields:
            assert field.type in ALLOWED_TYPES, f"{field.full_name} has a wire type that is not allowed"


def _is_optional(oneof):
    """What `optional` makes of one field, which is no choice between several."""
    return len(oneof.fields) == 1 and oneof.name == f"_{oneof.fields[0].name}"


def test_there_are_records():
    assert "passenger" in FAMILIES


@each_family
def test_every_top_level_field_says_what_it_holds_and_for_which_kinds(family):
    kinds = {value.name for value in family.message_class.DESCRIPTOR.fields_by_name["kind"].enum_type.values}
    known = {name.removeprefix(f"{family.id}_KIND_".upper()).lower() for name in kinds} - {"unspecified"}
    for field in family.message_class.DESCRIPTOR.fields:
        assert field.GetOptions().HasExtension(category_pb2.section), field.full_name
    for section in family.sections:
        assert section.category != "unspecified", section.name
        assert section.presence in {"always", "often", "rare"}, section.name
        assert section.kinds, section.name
        assert set(section.kinds) <= known, section.name


@each_family
def test_sections_have_the_numbers_of_slots(family):
    assert family.slots in {16, 32}
    assert all(1 <= section.slot <= family.slots for section in family.sections)


@each_family
def test_slot_1_is_the_kind_and_every_record_has_it(family):
    first = family.sections[0]
    assert (first.slot, first.name, first.presence) == (1, "kind", "always")


@each_family
def test_a_record_holds_nothing_that_could_be_written_in_two_ways(family):
    check_shape(family.message_class.DESCRIPTOR)


@pytest.mark.parametrize("file", SIGNED_FILES, ids=lambda file: file.DESCRIPTOR.name)
def test_nor_does_anything_that_is_hashed_or_signed(file):
    for descriptor in file.DESCRIPTOR.message_types_by_name.values():
        check_shape(descriptor)


def test_policy_knows_every_section_of_every_family_as_the_proto_declares_it():
    declared = {
        family.id: {s.name: {"slot": s.slot, "category": s.category, "presence": s.presence} for s in family.sections}
        for family in FAMILIES.values()
    }
    assert tomllib.loads(PACK.read_text(encoding="utf-8")) == declared
