"""Records → one strict D.05B PAXLST: a list of passengers (745) or of crew (250) of one journey.

The character set is the smallest of UNOA, UNOC and UNOY that holds every text: nothing is transliterated. What the
format cannot carry is refused, never dropped: the bytes are read back and compared before they are returned.
"""

import textwrap
from collections.abc import Sequence
from datetime import date, datetime

from adapters.edifact import Separators
from adapters.edifact_charset import CODECS, Repertoire
from adapters.findings import DecodeError
from adapters.paxlst_decode import CREW, PASSENGERS, decode
from adapters.paxlst_person import REFERENCES, ROLES, SEXES
from adapters.paxlst_values import day, latest
from broker.v1 import passenger_pb2 as pb

_MARKS = Separators(repetition="*")
_LINE = 35
_DIVISION_CODE = 9
_ROLE_CODES = {role: code for code, role in ROLES.items()}
_SEX_CODES = {sex: code for code, sex in SEXES.items()}
_CHECK_CODES = {pb.DOCUMENT_CHECK_VERIFIED: "173", pb.DOCUMENT_CHECK_NOT_VERIFIED: "174"}
_CREW_ROLES = frozenset({pb.BOARD_ROLE_CREW, pb.BOARD_ROLE_TRANSIT_CREW})

# An element is one component, or several.
_Element = str | tuple[str, ...]


class EncodeError(ValueError):
    """The records are no list that PAXLST can carry; names no value."""


def encode(
    records: Sequence[pb.Passenger],
    *,
    created: datetime,
    sender: str = "PUENTE",
    recipient: str = "PUENTE",
    reference: str = "1",
) -> bytes:
    """One interchange of one message; `created` is the time of UNB, by which births of two-digit years are read.

    All records are on the same legs, and all are passengers or all crew. Raises EncodeError.
    """
    body = _message(records, created.date())
    header = [
        ("UNH", "1", ("PAXLST", "D", "05B", "UN", "IATA")),
        ("BGM", CREW if _is_crew(records[0]) else PASSENGERS),
    ]
    message = [*header, *body, ("UNT", str(len(header) + len(body) + 1), "1")]
    stamp = (created.strftime("%y%m%d"), created.strftime("%H%M"))
    text = "".join(map(_written, message))
    syntax = _syntax(text)
    opening = _written(("UNB", (syntax, "4"), sender, recipient, stamp, reference))
    closing = _written(("UNZ", "1", reference))
    data = ("UNA:+.?*'" + opening + text + closing).encode(CODECS[syntax][0])
    _check(data, records)
    return data


def _check(data: bytes, records: Sequence[pb.Passenger]) -> None:
    """What was written says what was meant."""
    try:
        read = [one.record for one in decode(data).records]
    except DecodeError as error:
        raise EncodeError(f"PAXLST cannot carry these records: {error.message}") from None
    if read != list(records):
        raise EncodeError("PAXLST cannot carry every field of these records")


def _message(records: Sequence[pb.Passenger], today: date) -> list[tuple[_Element, ...]]:
    if not records:
        raise EncodeError("a list names at least one person")
    first = records[0]
    if any(record.travel.legs != first.travel.legs for record in records):
        raise EncodeError("the records of one list are on the same legs")
    if len({_is_crew(record) for record in records}) != 1:
        raise EncodeError("a list is of passengers or of crew")
    segments = [segment for leg in first.travel.legs for segment in _leg(leg, alone=len(first.travel.legs) == 1)]
    for record in records:
        segments += _person(record, today)
    qualifier = "41" if _is_crew(first) else "42"
    return [*segments, ("CNT", (qualifier, str(len(records))))]


def _is_crew(record: pb.Passenger) -> bool:
    return record.travel.role in _CREW_ROLES


def _leg(leg: pb.Leg, *, alone: bool) -> list[tuple[_Element, ...]]:
    """A flight a leg. Which of several legs crosses the border is not in the record: their ends are "other routing"."""
    segments: list[tuple[_Element, ...]] = [("TDT", "20", leg.carrier + leg.number, "", "", leg.carrier)]
    ends = (("125", leg.departure_port, "189", leg.departs), ("87", leg.arrival_port, "232", leg.arrives))
    for place, port, qualifier, time in ends:
        segments.append(("LOC", place if alone else "92", port))
        if time:
            segments.append(("DTM", _minute(qualifier, time)))
    return segments


def _person(record: pb.Passenger, today: date) -> list[tuple[_Element, ...]]:
    identity, travel = record.identity, record.travel
    segments: list[tuple[_Element, ...]] = [_name_and_address(record)]
    _add(segments, _SEX_CODES.get(identity.sex, ""), "ATT", "2", "")
    if identity.birth_date:
        segments.append(("DTM", ("329", *_past(identity.birth_date, today))))
    segments += _baggage(record.baggage)
    _add(segments, _CHECK_CODES.get(record.verification.documents, ""), "GEI", "4")
    places = {
        "22": travel.clearance_port,
        "174": record.residence.country,
        "178": travel.embarkation_port,
        "179": travel.disembarkation_port,
    }
    for qualifier, place in places.items():
        _add(segments, place, "LOC", qualifier)
    if travel.crew_category:
        segments.append(("EMP", "1", (travel.crew_category, "110", "111")))
    _add(segments, identity.nationality, "NAT", "2")
    _add(segments, identity.nationality_at_birth, "NAT", "1")
    for qualifier, (name, _) in REFERENCES.items():
        if value := getattr(record.references, name):
            segments.append(("RFF", (qualifier, value)))
    for document in record.documents:
        segments += _document(document, today)
    return segments


def _add(segments: list[tuple[_Element, ...]], value: str, *before: str) -> None:
    """A segment that ends in a value, if there is one."""
    if value:
        segments.append((*before, value))


def _name_and_address(record: pb.Passenger) -> tuple[_Element, ...]:
    name, address = record.identity.name, record.residence.destination
    if max(map(len, (name.surname, name.given, name.second, address.city))) > _LINE:
        raise EncodeError(f"a name and a city have at most {_LINE} characters in PAXLST")
    street = tuple(textwrap.wrap(address.street, _LINE))
    if len(street) > 4 or any(len(line) > _LINE for line in street):
        raise EncodeError(f"a street has at most four lines of {_LINE} characters in PAXLST")
    coded = len(address.division) <= _DIVISION_CODE
    division = address.division if coded else ("", "", "", address.division)
    role = _ROLE_CODES.get(record.travel.role, "")
    names = (name.surname, name.given, name.second)
    return ("NAD", role, "", "", names, street, address.city, division, address.postcode, address.country)


def _baggage(baggage: pb.Baggage) -> list[tuple[_Element, ...]]:
    segments: list[tuple[_Element, ...]] = []
    if baggage.HasField("pieces"):
        segments.append(("MEA", "CT", "", ("", str(baggage.pieces))))
    if baggage.HasField("weight_kg"):
        segments.append(("MEA", "WT", "", ("KGM", str(baggage.weight_kg))))
    return segments + [("FTX", "BAG", "", "", (tag.tag, str(tag.count or ""))) for tag in baggage.tags]


def _document(document: pb.TravelDocument, today: date) -> list[tuple[_Element, ...]]:
    segments: list[tuple[_Element, ...]] = [("DOC", (document.type, "110", "111"), document.number)]
    if document.expires:
        short = document.expires.replace("-", "")[2:]
        segments.append(("DTM", ("36", *_short(document.expires, short, day(short)))))
    if document.issued:
        segments.append(("DTM", ("182", *_past(document.issued, today))))
    _add(segments, document.issuing_state, "LOC", "91")
    return segments


def _past(stated: str, today: date) -> tuple[str, ...]:
    short = stated.replace("-", "")[2:]
    return _short(stated, short, latest(short, today))


def _short(stated: str, short: str, read: date | None) -> tuple[str, ...]:
    """Two-digit years, as partners expect them, wherever they are read back as the same date."""
    if read is not None and read.isoformat() == stated:
        return (short,)
    return (stated.replace("-", ""), "102")


def _minute(qualifier: str, stated: str) -> tuple[str, ...]:
    digits = "".join(filter(str.isdigit, stated))
    return (qualifier, digits[2:], "201") if digits[:2] == "20" and digits[2] < "8" else (qualifier, digits, "203")


def _written(segment: tuple[_Element, ...]) -> str:
    """Separators inside values are released; empty ends are left out."""
    elements = [_joined((element,) if isinstance(element, str) else element) for element in segment]
    while elements and not elements[-1]:
        elements.pop()
    return _MARKS.data.join(elements) + _MARKS.terminator


def _joined(components: tuple[str, ...]) -> str:
    last = max((number for number, value in enumerate(components, 1) if value), default=0)
    return _MARKS.component.join(map(_released, components[:last]))


def _released(value: str) -> str:
    return "".join(_MARKS.release + mark if mark in _MARKS.all() else mark for mark in value)


def _syntax(text: str) -> str:
    for syntax in ("UNOA", "UNOC"):
        codec = CODECS[syntax][0]
        if Repertoire.of(syntax, _MARKS.all()).allowed.fullmatch(text) and _holds(codec, text):
            return syntax
    return "UNOY"


def _holds(codec: str, text: str) -> bool:
    try:
        text.encode(codec)
    except UnicodeEncodeError:
        return False
    return True
