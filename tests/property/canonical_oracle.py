"""A byte checker written from docs/spec section 1 alone: it knows descriptors, and no protobuf parser.

`check_bytes(descriptor, data)` returns None when `data` is canonical, else a word for what is not.
"""

INT = {"int32": (-(1 << 31), 1 << 31), "int64": (-(1 << 63), 1 << 63), "uint32": (0, 1 << 32), "uint64": (0, 1 << 64)}
TYPES = {
    3: "int64",
    4: "uint64",
    5: "int32",
    8: "bool",
    9: "string",
    11: "message",
    12: "bytes",
    13: "uint32",
    14: "enum",
}


def check_bytes(descriptor, data):
    try:
        check_message(descriptor, data)
    except NotCanonicalError as refused:
        return str(refused)
    return None


class NotCanonicalError(Exception):
    pass


def varint(data, pos):
    value = shift = 0
    start = pos
    while True:
        if pos >= len(data) or pos - start == 10:
            raise NotCanonicalError("varint cut off or too long")
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            break
    if pos - start > 1 and data[pos - 1] == 0:
        raise NotCanonicalError("padded varint")
    if value >= 1 << 64:
        raise NotCanonicalError("varint out of range")
    return value, pos


def check_message(descriptor, data):
    last = 0
    pos = 0
    while pos < len(data):
        tag, pos = varint(data, pos)
        number, wire = tag >> 3, tag & 7
        field = descriptor.fields_by_number.get(number)
        if field is None:
            raise NotCanonicalError("unknown field")
        kind = TYPES[field.type]
        length_delimited = kind in {"string", "bytes", "message"} or field.is_repeated
        if wire != (2 if length_delimited else 0):
            raise NotCanonicalError("wire type")
        if number < last:
            raise NotCanonicalError("descending")
        packed = field.is_repeated and kind not in {"string", "bytes", "message"}
        if number == last and (packed or not field.is_repeated):
            raise NotCanonicalError("twice")
        last = number
        value, pos = varint(data, pos)
        if not length_delimited:
            scalar(field, kind, value, may_be_default=field.has_presence)
            continue
        if pos + value > len(data):
            raise NotCanonicalError("cut off")
        inner, pos = data[pos : pos + value], pos + value
        if packed:
            check_packed(field, kind, inner)
        else:
            check_body(field, kind, inner)


def check_packed(field, kind, inner):
    if not inner:
        raise NotCanonicalError("empty packed")
    at = 0
    while at < len(inner):
        value, at = varint(inner, at)
        scalar(field, kind, value, may_be_default=True)


def check_body(field, kind, inner):
    if kind == "message":
        check_message(field.message_type, inner)
        return
    if not inner and not field.is_repeated and not field.has_presence:
        raise NotCanonicalError("default")
    if kind == "string":
        try:
            inner.decode("utf-8")
        except UnicodeDecodeError:
            raise NotCanonicalError("utf-8") from None


def scalar(field, kind, value, *, may_be_default):
    if not value and not may_be_default:
        raise NotCanonicalError("default")
    if kind == "bool":
        if value > 1:
            raise NotCanonicalError("bool")
        return
    if kind == "enum":
        if value not in {known.number for known in field.enum_type.values}:
            raise NotCanonicalError("enum")
        return
    low, high = INT[kind]
    signed = value - (1 << 64) if low < 0 and value >= 1 << 63 else value
    if not low <= signed < high:
        raise NotCanonicalError("range")
