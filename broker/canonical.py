"""The one encoding of a message (protocol section 1), and the hash that everything is named by.

Parse, discard what is unknown, serialise deterministically, compare with the bytes that came: whatever protobuf
forgives (a second singular field, long varints, unknown fields, defaults, unpacked scalars) makes the two differ. Enum
values that the descriptor does not know survive that, so they are looked for afterwards, at every depth.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from broker.errors import CanonicalError

# No message of the protocol is larger than an envelope, in bytes.
SIZE_MAX = 1_000_000

_M = TypeVar("_M", bound=Message)
_sha256 = hashlib.sha256


def H(*parts: bytes) -> bytes:  # noqa: N802 - the protocol's own name for it
    """SHA-256 over the concatenation of `parts`, 32 bytes."""
    return _sha256(b"".join(parts)).digest()


def leaf_hash(data: bytes) -> bytes:
    """`H(0x00 || data)`: a leaf of every tree of the protocol (RFC 9162, section 2.1.1)."""
    return _sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """`H(0x01 || left || right)`: an inner node of every tree of the protocol."""
    return _sha256(b"\x01" + left + right).digest()


def parse(message_class: type[_M], data: bytes) -> _M:
    """The message that `data` is the one encoding of.

    Raises:
        CanonicalError: longer than an envelope, not protobuf, not canonical at some depth, or an unknown enum value.
    """
    if len(data) > SIZE_MAX:
        raise CanonicalError("larger than any message may be")
    message = message_class()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise CanonicalError(f"not a {message_class.DESCRIPTOR.name}") from None
    message.DiscardUnknownFields()
    if message.SerializeToString(deterministic=True) != data:
        raise CanonicalError(f"{message_class.DESCRIPTOR.name}: not the canonical encoding")
    for check in _enum_checks(message_class.DESCRIPTOR):
        check(message)
    return message


def encode(message: Message) -> bytes:
    """The canonical bytes of `message`, which must have no unknown field."""
    return message.SerializeToString(deterministic=True)


_Check = Callable[[Message], None]


def check_enums(message: Message) -> None:
    """Raise CanonicalError when an enum at any depth has a value that its list does not."""
    for check in _enum_checks(message.DESCRIPTOR):
        check(message)


@cache
def _enum_checks(descriptor: Descriptor) -> tuple[_Check, ...]:
    """What to run on a message so that no unknown enum value stays: nothing when no enum is below it.

    Enums under singular fields are read by one dotted `attrgetter`, since most of a record is singular.
    """
    paths: list[tuple[str, frozenset[int]]] = []
    checks: list[_Check] = []
    for prefix, field in _singular_tree(descriptor, "", (descriptor,)):
        if field.message_type is not None:
            below = _enum_checks(field.message_type)
            if below:
                checks.append(_each_message(prefix + field.name, below))
        elif field.is_repeated:
            checks.append(_each_value(prefix + field.name, _values(field.enum_type)))
        else:
            paths.append((prefix + field.name, _values(field.enum_type)))
    if paths:
        checks.insert(0, _all_paths(tuple(paths)))
    return tuple(checks)


def _singular_tree(
    descriptor: Descriptor, prefix: str, above: tuple[Descriptor, ...]
) -> list[tuple[str, FieldDescriptor]]:
    """(dotted prefix, field) of every enum and every repeated message that singular messages lead to."""
    found: list[tuple[str, FieldDescriptor]] = []
    for field in descriptor.fields:
        below = field.message_type
        if below is None:
            if field.enum_type is not None:
                found.append((prefix, field))
        elif field.is_repeated:
            found.append((prefix, field))
        elif below in above:
            raise TypeError(f"{descriptor.full_name} holds itself: its depth has no bound")
        else:
            found += _singular_tree(below, f"{prefix}{field.name}.", (*above, below))
    return found


def _values(enum: EnumDescriptor | None) -> frozenset[int]:
    return frozenset(value.number for value in enum.values) if enum is not None else frozenset()


def _unknown(path: str) -> CanonicalError:
    return CanonicalError(f"{path}: a value that its enum does not have")


def _all_paths(paths: tuple[tuple[str, frozenset[int]], ...]) -> _Check:
    read: Callable[[Message], Any] = attrgetter(*(path for path, _ in paths))
    if len(paths) == 1:
        path, known = paths[0]

        def check_one(message: Message) -> None:
            if read(message) not in known:
                raise _unknown(path)

        return check_one

    def check_all(message: Message) -> None:
        for value, (path, known) in zip(read(message), paths, strict=True):
            if value not in known:
                raise _unknown(path)

    return check_all


def _each_value(path: str, known: frozenset[int]) -> _Check:
    read = attrgetter(path)

    def check(message: Message) -> None:
        if not known.issuperset(read(message)):
            raise _unknown(path)

    return check


def _each_message(path: str, checks: tuple[_Check, ...]) -> _Check:
    read = attrgetter(path)

    def check(message: Message) -> None:
        for item in read(message):
            for inner in checks:
                inner(item)

    return check
