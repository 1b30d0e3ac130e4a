"""A record and its slots (protocol section 2): each top-level field is a section, hashed under its own salt."""

import hashlib
import importlib
import pkgutil
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from broker import v1
from broker.errors import FieldInvalid, SectionError
from broker.v1 import category_pb2
from broker.v1.envelope_pb2 import Slot

_SALT = b"puente/v1/salt\x00"
_LEAF = tuple(b"\x00puente/v1/section\x00" + n.to_bytes(4, "big") for n in range(33))
_ROOT = {slots: b"puente/v1/record\x00" + slots.to_bytes(4, "big") for slots in (16, 32)}
# Tags of slot n, as varint (wire type 0) and as bytes (wire type 2).
_TAGS = tuple(
    (bytes((n << 3,)), bytes((n << 3 | 2,)))
    if n < 16
    else (bytes((n << 3 & 0x7F | 0x80, n >> 4)), bytes((n << 3 & 0x7F | 0x82, n >> 4)))
    for n in range(33)
)
# A length is at most 4 bytes of varint: hostile ones must not grow into numbers that are slow to add to.
_LENGTH_BITS = 21
_PARTS = {slots: struct.Struct("32s" * 2 * slots) for slots in (16, 32)}
_sha256 = hashlib.sha256


@dataclass(frozen=True, slots=True)
class SectionInfo:
    """A top-level field: its slot, and what policy asks about it. Enum values in lower case without prefix."""

    slot: int
    name: str
    category: str
    presence: str
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FamilyInfo:
    """A record message: its id and topic, how many slots, and its sections by ascending slot."""

    id: str
    slots: int
    revision: int
    message_class: type[Message]
    sections: tuple[SectionInfo, ...]


@cache
def families() -> dict[str, FamilyInfo]:
    """Every family of `broker.v1`, by id."""
    found: dict[str, FamilyInfo] = {}
    for module in pkgutil.iter_modules(v1.__path__):
        if not module.name.endswith("_pb2") or module.name.endswith("_service_pb2"):
            continue
        file = importlib.import_module(f"broker.v1.{module.name}").DESCRIPTOR
        for descriptor in file.message_types_by_name.values():
            if descriptor.GetOptions().HasExtension(category_pb2.family):
                info = _family(descriptor)
                found[info.id] = info
    return found


def family(family_id: str) -> FamilyInfo:
    """The family of that id.

    Raises:
        SectionError: no such family in this release.
    """
    info = families().get(family_id)
    if info is None:
        raise SectionError("an unknown family")
    return info


def _family(descriptor: Descriptor) -> FamilyInfo:
    options = descriptor.GetOptions().Extensions[category_pb2.family]
    sections = tuple(_section(field) for field in sorted(descriptor.fields, key=lambda field: field.number))
    return FamilyInfo(options.id, options.slots, options.revision, GetMessageClass(descriptor), sections)


def _section(field: Any) -> SectionInfo:
    options = field.GetOptions().Extensions[category_pb2.section]
    return SectionInfo(
        slot=field.number,
        name=field.name,
        category=category_pb2.DataCategory.Name(options.category).removeprefix("DATA_CATEGORY_").lower(),
        presence=category_pb2.Presence.Name(options.presence).removeprefix("PRESENCE_").lower(),
        kinds=tuple(options.kinds),
    )


def split(record: bytes, slots: int) -> list[bytes]:
    """The sections of a canonical record, slot 1 first; `b""` where there is none.

    Raises:
        SectionError: not a sequence of fields 1..slots in ascending order.
    """
    sections = [b""] * slots
    pos, end, last, start = 0, len(record), 0, 0
    try:
        while pos < end:
            number, after = _tag(record, pos)
            if number != last:
                if last:
                    sections[last - 1] = record[start:pos]
                if not last < number <= slots:
                    raise SectionError("fields out of order, or a slot that the family does not have")
                last, start = number, pos
            pos = after
    except IndexError:
        raise SectionError("a field that is cut off") from None
    if pos != end:
        raise SectionError("a field that is cut off")
    if last:
        sections[last - 1] = record[start:]
    return sections


def _tag(data: bytes, pos: int) -> tuple[int, int]:
    """(field number, position behind the field) at `pos`; IndexError when cut off."""
    byte = data[pos]
    pos += 1
    if byte & 0x80:
        byte, pos = byte & 0x7F | data[pos] << 7, pos + 1
    wire = byte & 7
    if wire == 2:  # bytes, string, message, packed
        length, shift = data[pos], 0
        pos += 1
        if length & 0x80:
            length &= 0x7F
            while shift < _LENGTH_BITS:
                shift += 7
                more = data[pos]
                pos += 1
                length |= (more & 0x7F) << shift
                if not more & 0x80:
                    break
            else:
                raise SectionError("a length that no message has")
        return byte >> 3, pos + length
    if wire:
        raise SectionError("a wire type that records do not have")
    while data[pos] & 0x80:
        pos += 1
    return byte >> 3, pos + 1


def salt_block(record_seed: bytes, message_id: bytes, slots: int) -> bytes:
    """64 bytes a slot: first all salts, then all blanks, 32 bytes each, slot 1 first."""
    return hashlib.shake_256(_SALT + record_seed + message_id).digest(64 * slots)


def leaves(sections: Sequence[bytes], block: bytes) -> list[bytes]:
    """Each slot's leaf: the salted hash of a section, or the blank of an absent one. Slot 1 first, 32 bytes each."""
    parts, slots = _PARTS[len(sections)].unpack(block), len(sections)
    return [
        _sha256(_LEAF[n] + parts[n - 1] + section).digest() if section else parts[slots + n - 1]
        for n, section in enumerate(sections, 1)
    ]


def record_root(slot_leaves: Sequence[bytes]) -> bytes:
    """What an origin statement says of a record: one hash over all its leaves (16 or 32)."""
    return _sha256(_ROOT[len(slot_leaves)] + b"".join(slot_leaves)).digest()


def open_slots(slots: Sequence[Slot], count: int) -> tuple[list[bytes], bytes, int]:
    """(leaves, the record of the open slots, shown) of a message's slots; bit n-1 of shown: slot n is open.

    Raises:
        SectionError: not exactly `count`; a slot that is neither salt and section nor leaf, or both; a salt or leaf
            that is not 32 bytes; an empty section, or one that holds another slot's field.
    """
    if len(slots) != count:
        raise SectionError("another number of slots than the family's")
    found: list[bytes] = []
    opened: list[bytes] = []
    shown = 0
    for n, slot in enumerate(slots, 1):
        leaf = slot.leaf
        if leaf:
            # 34: tag, length and 32 bytes, so neither salt nor section stands beside it.
            if len(leaf) != 32 or slot.ByteSize() != 34:
                raise SectionError("a leaf that is not 32 bytes, or not alone")
            found.append(leaf)
            continue
        salt, section = slot.salt, slot.section
        if len(salt) != 32:
            raise SectionError("a salt that is not 32 bytes")
        _only(section, n)
        found.append(_sha256(_LEAF[n] + salt + section).digest())
        opened.append(section)
        shown |= 1 << n - 1
    return found, b"".join(opened), shown


def _only(section: bytes, slot: int) -> None:
    """Refuse a section that is empty or holds a top-level field other than `slot`."""
    pos, end = 0, len(section)
    tags = _TAGS[slot]
    try:
        while pos < end:
            if not section.startswith(tags, pos):
                raise SectionError("a section that holds another field than its slot's")
            _, pos = _tag(section, pos)
    except IndexError:
        raise SectionError("a section that is cut off") from None
    if not end or pos != end:
        raise SectionError("a section that is empty or cut off")


def validate_record(record: Message, *, whole: bool) -> None:
    """The field rules that the .proto states.

    `whole`: the sender's gateway holds the whole record. A recipient (`whole=False`) judges each disclosed section by
    itself: rules that span sections, or speak of a section that is not there, are not its business.

    Raises:
        FieldInvalid: path and rule of each violation, never a value.
    """
    from protovalidate import collect_violations  # gateways only: clients do not have it

    found = []
    for violation in collect_violations(record):
        proto = violation.proto
        path = proto.field.elements if proto.field else []
        if not whole and (not path or (len(path) == 1 and not _present(record, path[0].field_name))):
            continue
        found.append((_path(path), proto.rule_id))
    if whole:
        found += _misplaced(record)
    if found:
        raise FieldInvalid(found)


def _misplaced(record: Message) -> tuple[tuple[str, str], ...]:
    """A section stands only in records of its kinds; an ALWAYS one stands in all of them."""
    present = tuple([field.number for field, _ in record.ListFields()])
    return _misplaced_in(record.DESCRIPTOR, record.kind, present)  # type: ignore[attr-defined]


@lru_cache(maxsize=4096)
def _misplaced_in(descriptor: Descriptor, kind_number: int, present: tuple[int, ...]) -> tuple[tuple[str, str], ...]:
    info = _family_of(descriptor)
    kind = kind_name(info, kind_number)
    return tuple(
        (section.name, "section.kinds")
        for section in info.sections
        if (section.slot in present and kind not in section.kinds)
        or (section.presence == "always" and kind in section.kinds and section.slot not in present)
    )


@cache
def _family_of(descriptor: Descriptor) -> FamilyInfo:
    return family(descriptor.GetOptions().Extensions[category_pb2.family].id)


@cache
def kind_name(info: FamilyInfo, number: int) -> str:
    """The kind of a record, lower case without prefix; '' for a number that the family does not have."""
    enum = info.message_class.DESCRIPTOR.fields_by_name["kind"].enum_type
    value = enum.values_by_number.get(number) if enum is not None else None
    return value.name.removeprefix(f"{info.id}_KIND_".upper()).lower() if value is not None and number else ""


def _present(record: Message, name: str) -> bool:
    return any(field.name == name for field, _ in record.ListFields())


def _path(elements: Any) -> str:
    """`travel.legs[0].carrier`: names and indices only (records have no maps, so no key can be a value)."""
    parts = []
    for element in elements:
        part = element.field_name
        if element.subscript is not None:
            part += f"[{element.subscript.value}]"
        parts.append(part)
    return ".".join(parts)
