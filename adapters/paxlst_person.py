"""One person of a list: the segments from NAD to the next NAD → a record. Position gives the meaning of DTM and LOC."""

import re
from dataclasses import dataclass, field

from adapters.edifact import Segment
from adapters.findings import Rule
from adapters.paxlst_values import DOCUMENT_TYPE, PORT, STATE, Values, upto
from broker.v1 import passenger_pb2 as pb

ROLES = {
    "FL": pb.BOARD_ROLE_PASSENGER,
    "FM": pb.BOARD_ROLE_CREW,
    "DDU": pb.BOARD_ROLE_TRANSIT_PASSENGER,
    "DDT": pb.BOARD_ROLE_TRANSIT_CREW,
}
SEXES = {"F": pb.SEX_FEMALE, "M": pb.SEX_MALE, "U": pb.SEX_UNKNOWN, "X": pb.SEX_X}
GIVEN_NAME_UNKNOWN = "FNU"
REFERENCES = {
    "AVF": ("record_locator", 35),
    "SEA": ("seat", 8),
    "YZY": ("ticket", 35),
    "AEA": ("redress_number", 35),
    "CR": ("customer", 35),
}
_PORTS = {"22": "clearance_port", "178": "embarkation_port", "179": "disembarkation_port"}
_NATIONALITIES = {"2": "nationality", "1": "nationality_at_birth"}
_CHECKS = {"173": pb.DOCUMENT_CHECK_VERIFIED, "174": pb.DOCUMENT_CHECK_NOT_VERIFIED}
_KILOGRAMS = {"KGM": 1.0, "LBR": 0.45359237}
_CODE_LISTS = frozenset({"", "110", "ZZZ"})
_CREW_CATEGORY = re.compile("CR[1-5]")
_AMOUNT = re.compile("[0-9]{1,5}")
_COUNT = re.compile("[0-9]{1,3}")
# A tag without a digit (NULL is seen) names no bag.
_TAG = re.compile(r"(?=.*[0-9]).{1,35}")
MAX_NAME, MAX_STREET, MAX_CITY, MAX_POSTCODE = 128, 140, 64, 17
MAX_DOCUMENTS, MAX_TAGS = 16, 64


@dataclass(slots=True)
class Person:
    """A record in the making, with its key in the file (ABO), which is no part of it."""

    segment: Segment
    record: pb.Passenger = field(default_factory=lambda: pb.Passenger(kind=pb.PASSENGER_KIND_API))
    key: str = ""
    documents: int = 0
    # The last DOC, to which DTM and LOC belong; one without a number is read and left out.
    document: pb.TravelDocument | None = None

    @property
    def named(self) -> bool:
        """Whether the record has the surname that it needs."""
        return bool(self.record.identity.name.surname)


def begin(segment: Segment, values: Values) -> Person:
    """NAD: name, role on board, address at destination."""
    person = Person(segment)
    person.record.travel.role = ROLES[segment.get(1)]
    take_name(person, segment, values, 4)
    place = person.record.residence.destination
    street = " ".join(filter(None, (segment.get(5, part).strip() for part in range(4))))
    if len(street) > MAX_STREET:
        values.bad(segment)
        street = ""
    place.street = street
    place.city = values.text(segment, 6, 0, MAX_CITY)
    place.division = values.text(segment, 7, 0 if segment.get(7) else 3, MAX_CITY)
    place.postcode = values.text(segment, 8, 0, MAX_POSTCODE)
    place.country = values.code(segment, 9, 0, STATE)
    if not place.ByteSize():
        person.record.ClearField("residence")
    return person


def take_name(person: Person, segment: Segment, values: Values, element: int) -> None:
    """SURNAME:GIVEN:SECOND; a single name is a surname, and FNU says that there is no given name."""
    surname, given, second = (values.text(segment, element, part, MAX_NAME) for part in range(3))
    if given and not surname:
        values.bad(segment)
        surname, given = given, ""
    name = person.record.identity.name
    name.surname, name.second = surname, second
    name.given = "" if given == GIVEN_NAME_UNKNOWN else given
    if not surname:
        values.findings.deviate(Rule.NAME_MISSING, segment.place)


def take(person: Person, segment: Segment, values: Values) -> None:
    """A segment between this person's NAD and the next; those that a record has no field for are passed over."""
    if segment.tag == "DOC":
        _take_document(person, segment, values)
    elif segment.tag in {"DTM", "LOC"}:
        _take_placed(person, segment, values)
    elif segment.tag == "GEI":
        _take_check(person, segment, values)
    elif segment.tag in _OF_PERSON:
        if person.document is not None:
            values.findings.deviate(Rule.SEGMENT_MISPLACED, segment.place)
        _OF_PERSON[segment.tag](person, segment, values)


def _take_placed(person: Person, segment: Segment, values: Values) -> None:
    """DTM and LOC: of the last DOC or of the person."""
    qualifier = segment.get(1, 0)
    of_document = (segment.tag, qualifier) in _OF_DOCUMENT
    of_person = (segment.tag, qualifier) in _OF_PERSON_PLACED
    if (of_document and person.document is None) or (of_person and person.document is not None):
        values.findings.deviate(Rule.SEGMENT_MISPLACED, segment.place)
    if of_document and person.document is not None:
        _take_of_document(person.document, segment, values)
    elif of_person and segment.tag == "DTM":
        values.put(segment, person.record.identity, "birth_date", values.past(segment, 1, 1))
    elif of_person and segment.get(2):
        _take_place(person, segment, values)


def _take_of_document(document: pb.TravelDocument, segment: Segment, values: Values) -> None:
    if segment.tag == "LOC":
        values.put(segment, document, "issuing_state", values.code(segment, 2, 0, STATE))
    elif segment.get(1) == "36":
        values.put(segment, document, "expires", values.future(segment, 1, 1))
    else:
        values.put(segment, document, "issued", values.past(segment, 1, 1))


def _take_place(person: Person, segment: Segment, values: Values) -> None:
    if segment.get(1) == "174":
        values.put(segment, person.record.residence, "country", values.code(segment, 2, 0, STATE))
    else:
        values.put(segment, person.record.travel, _PORTS[segment.get(1)], values.code(segment, 2, 0, PORT))


def _take_document(person: Person, segment: Segment, values: Values) -> None:
    number = values.code(segment, 2, 0, upto(35))
    kind = values.code(segment, 1, 0, DOCUMENT_TYPE)
    person.document = pb.TravelDocument(number=number)
    if not number:
        values.findings.deviate(Rule.DOCUMENT_WITHOUT_NUMBER, segment.place)
        return
    if not segment.get(1):
        values.findings.deviate(Rule.DOCUMENT_WITHOUT_TYPE, segment.place)
    elif segment.get(1, 1) not in _CODE_LISTS:
        # The type is of a code list that nobody knows: it says nothing.
        values.bad(segment)
        kind = ""
    person.document.type = kind
    person.documents += 1
    if len(person.record.documents) == MAX_DOCUMENTS:
        values.findings.deviate(Rule.TOO_MANY_DOCUMENTS, segment.place)
        return
    person.record.documents.append(person.document)
    person.document = person.record.documents[-1]


def _take_check(person: Person, segment: Segment, values: Values) -> None:
    """GEI, of the person or of a document: one that was not verified decides."""
    if segment.get(1) != "4" or not segment.get(2):
        return
    check = _CHECKS.get(segment.get(2))
    if check is None:
        values.bad(segment)
        return
    person.record.verification.documents = max(check, person.record.verification.documents)


def _take_sex(person: Person, segment: Segment, values: Values) -> None:
    stated = segment.get(3)
    if segment.get(1) != "2" or not stated:
        return
    sex = SEXES.get(stated)
    if sex is None:
        values.bad(segment)
    elif person.record.identity.sex in {pb.SEX_UNSPECIFIED, sex}:
        person.record.identity.sex = sex
    else:
        values.findings.deviate(Rule.FIELD_REPEATED, segment.place)


def _take_nationality(person: Person, segment: Segment, values: Values) -> None:
    if name := _NATIONALITIES.get(segment.get(1)):
        values.put(segment, person.record.identity, name, values.code(segment, 2, 0, STATE))


def _take_reference(person: Person, segment: Segment, values: Values) -> None:
    if segment.get(1) == "ABO":
        values.put(segment, person, "key", values.code(segment, 1, 1, upto(70)))
    elif segment.get(1) in REFERENCES:
        name, length = REFERENCES[segment.get(1)]
        values.put(segment, person.record.references, name, values.code(segment, 1, 1, upto(length)))


def _take_crew(person: Person, segment: Segment, values: Values) -> None:
    values.put(segment, person.record.travel, "crew_category", values.code(segment, 2, 0, _CREW_CATEGORY))


def _take_measure(person: Person, segment: Segment, values: Values) -> None:
    """MEA: number of bags (CT), or their weight (WT), in C174 unit:value."""
    kind, unit, value = segment.get(1), segment.get(3, 0), segment.get(3, 1)
    if kind == "CT":
        if unit and not value and _COUNT.fullmatch(unit):
            values.findings.deviate(Rule.VALUE_MISPLACED, segment.place)
            value = unit
        amount = int(value) if _COUNT.fullmatch(value) else None
    elif kind == "WT":
        weighed = unit in _KILOGRAMS and _AMOUNT.fullmatch(value)
        amount = round(int(value) * _KILOGRAMS[unit]) if weighed else None
    else:
        return
    if amount is not None:
        _put_amount(person, segment, values, "pieces" if kind == "CT" else "weight_kg", amount)
    elif value:
        values.bad(segment)


def _put_amount(person: Person, segment: Segment, values: Values, name: str, amount: int) -> None:
    baggage = person.record.baggage
    if baggage.HasField(name) and getattr(baggage, name) != amount:  # type: ignore[arg-type]
        values.findings.deviate(Rule.FIELD_REPEATED, segment.place)
        return
    setattr(baggage, name, amount)


def _take_bags(person: Person, segment: Segment, values: Values) -> None:
    """FTX+BAG: the first tag and how many follow it."""
    if segment.get(1) != "BAG" or not segment.get(4):
        return
    tag, count = values.code(segment, 4, 0, _TAG), values.code(segment, 4, 1, _COUNT)
    if not tag:
        return
    if len(person.record.baggage.tags) == MAX_TAGS:
        values.findings.deviate(Rule.TOO_MANY_TAGS, segment.place)
        return
    person.record.baggage.tags.add(tag=tag, count=int(count or 0))


_OF_DOCUMENT = {("DTM", "36"), ("DTM", "182"), ("LOC", "91")}
_OF_PERSON_PLACED = {("DTM", "329"), ("LOC", "22"), ("LOC", "174"), ("LOC", "178"), ("LOC", "179")}
_OF_PERSON = {
    "ATT": _take_sex,
    "NAT": _take_nationality,
    "RFF": _take_reference,
    "EMP": _take_crew,
    "MEA": _take_measure,
    "FTX": _take_bags,
}
