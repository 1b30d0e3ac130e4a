"""The old US form of a list: PAXLST 001:000, with a PDT a person in place of NAD.

`PDT+P/121234324:980701:US+JONES:INDIANA:K:351230:M+PAX+NZAKL:USLAX`: document type/number, expiry and issuing state as
the file has it; surname, given and second name, birth, sex; status; ports of embarkation and disembarkation.
"""

from adapters.edifact import Segment
from adapters.findings import Rule
from adapters.paxlst_legs import Flight
from adapters.paxlst_person import SEXES, Person, take_name
from adapters.paxlst_values import DOCUMENT_TYPE, PORT, STATE, Values
from broker.v1 import passenger_pb2 as pb

VERSION = "001"
CARRIER_ELEMENT = 4
_PASSENGER = "PAX"
_MAX_NUMBER = 35


def take_time(flight: Flight, segment: Segment, values: Values) -> None:
    """`DTM+136+020131+2200+M10`: qualifier, date and local time are elements, not components."""
    flight.take_time(segment, values, segment.get(1), segment.get(2) + segment.get(3))


def begin(segment: Segment, values: Values) -> Person:
    """One PDT is one person and at most one document."""
    person = Person(segment)
    take_name(person, segment, values, 2)
    record = person.record
    record.identity.birth_date = values.past(segment, 2, 3)
    _take_sex(record, segment, values)
    if segment.get(3) in {"", _PASSENGER}:
        record.travel.role = pb.BOARD_ROLE_PASSENGER
    else:
        values.bad(segment)
    record.travel.embarkation_port = values.code(segment, 4, 0, PORT)
    record.travel.disembarkation_port = values.code(segment, 4, 1, PORT)
    _take_document(person, segment, values)
    return person


def _take_sex(record: pb.Passenger, segment: Segment, values: Values) -> None:
    stated = segment.get(2, 4)
    record.identity.sex = SEXES.get(stated, pb.SEX_UNSPECIFIED)
    if stated and stated not in SEXES:
        values.bad(segment)


def _take_document(person: Person, segment: Segment, values: Values) -> None:
    kind, slash, number = segment.get(1).partition("/")
    if not slash:
        kind, number = "", kind
    if not number:
        values.findings.deviate(Rule.DOCUMENT_WITHOUT_NUMBER, segment.place)
        return
    if not kind:
        values.findings.deviate(Rule.DOCUMENT_WITHOUT_TYPE, segment.place)
    elif not DOCUMENT_TYPE.fullmatch(kind):
        values.bad(segment)
        kind = ""
    if len(number) > _MAX_NUMBER:
        values.bad(segment)
        return
    person.documents += 1
    person.record.documents.add(
        type=kind,
        number=number,
        expires=values.future(segment, 1, 1),
        issuing_state=values.code(segment, 1, 2, STATE),
    )
