"""What is written is read back as it was, and no bytes do more than be refused."""

import contextlib
import datetime as dt
from itertools import pairwise

import protovalidate
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.findings import DecodeError
from adapters.paxlst import decode, encode
from broker.v1 import passenger_pb2 as pb

NOW = dt.datetime(2026, 11, 12, 7, 15, tzinfo=dt.UTC)
SEPARATORS = "+:?*'"
DATES = st.dates(dt.date(1850, 1, 1), dt.date(2199, 12, 31)).map(str)
STATES = st.from_regex("[A-Z]{3}", fullmatch=True)
PORTS = st.from_regex("[A-Z0-9]{3,5}", fullmatch=True)
TIMES = st.builds("{}T{:02}:{:02}".format, DATES, st.integers(0, 23), st.integers(0, 59))


def maybe(strategy):
    return st.one_of(st.just(""), strategy)


def texts(length):
    letters = st.one_of(st.sampled_from(SEPARATORS + "AZ09-"), st.characters(codec="utf-8", categories=["L", "N", "P"]))
    return st.text(letters, min_size=1, max_size=length)


NAMES = st.builds(
    pb.PersonName,
    surname=texts(35),
    given=maybe(texts(35).filter(lambda given: given != "FNU")),
    second=maybe(texts(35)),
)
DOCUMENTS = st.builds(
    pb.TravelDocument,
    type=st.from_regex("[A-Z0-9]{1,3}", fullmatch=True),
    number=texts(35),
    issuing_state=maybe(STATES),
    expires=maybe(DATES),
    issued=maybe(DATES),
)
TAGS = st.builds(pb.BagTag, tag=texts(30).map("7{}".format), count=st.integers(0, 999))


@st.composite
def legs(draw):
    ports = draw(st.lists(PORTS, min_size=2, max_size=4, unique=True))
    return [
        pb.Leg(
            carrier=draw(st.from_regex("[A-Z]{2}|[A-Z][0-9]", fullmatch=True)),
            number=draw(st.from_regex("[1-9][0-9]{0,3}", fullmatch=True)),
            departure_port=one,
            arrival_port=other,
            departs=draw(maybe(TIMES)),
            arrives=draw(maybe(TIMES)),
        )
        for one, other in pairwise(ports)
    ]


@st.composite
def passengers(draw, on, roles):
    record = pb.Passenger(kind=pb.PASSENGER_KIND_API)
    identity, travel = record.identity, record.travel
    identity.name.CopyFrom(draw(NAMES))
    identity.birth_date = draw(maybe(DATES))
    identity.sex = draw(st.sampled_from(list(pb.Sex.values())))
    identity.nationality, identity.nationality_at_birth = draw(maybe(STATES)), draw(maybe(STATES))
    travel.legs.extend(on)
    travel.role = draw(st.sampled_from(roles))
    travel.embarkation_port, travel.disembarkation_port = draw(maybe(PORTS)), draw(maybe(PORTS))
    travel.clearance_port = draw(maybe(PORTS))
    travel.crew_category = draw(st.sampled_from(["", "CR1", "CR5"]))
    record.documents.extend(draw(st.lists(DOCUMENTS, max_size=3)))
    if draw(st.booleans()):
        record.residence.country = draw(STATES)
    if draw(st.booleans()):
        place = record.residence.destination
        place.street, place.city = draw(texts(30)) + " " + draw(texts(30)), draw(maybe(texts(35)))
        place.division, place.postcode = draw(maybe(texts(30))), draw(maybe(texts(17)))
        place.country = draw(maybe(STATES))
    if draw(st.booleans()):
        references = record.references
        references.record_locator, references.seat = draw(texts(35)), draw(maybe(texts(8)))
        references.ticket, references.redress_number = draw(maybe(texts(35))), draw(maybe(texts(35)))
        references.customer = draw(maybe(texts(35)))
    if draw(st.booleans()):
        record.baggage.pieces, record.baggage.weight_kg = draw(st.integers(0, 999)), draw(st.integers(0, 99999))
        record.baggage.tags.extend(draw(st.lists(TAGS, max_size=3)))
    if check := draw(st.integers(0, 2)):
        record.verification.documents = check
    return record


@st.composite
def lists(draw):
    on = draw(legs())
    roles = draw(st.sampled_from([[1, 3], [2, 4]]))
    return draw(st.lists(passengers(on, roles), min_size=1, max_size=3))


@settings(max_examples=150, deadline=None)
@given(lists())
def test_what_is_written_is_read_back_as_it_was(records):
    decoded = decode(encode(records, created=NOW))
    assert [one.record for one in decoded.records] == records
    assert decoded.totals.declared_count == len(records)
    for one in decoded.records:
        protovalidate.validate(one.record)


HEAD = b"UNA:+.?*'UNB+UNOA:4+A+B+261112:0715+1'UNH+1+PAXLST:D:05B'BGM+745'TDT+20+PB7'"
PIECES = st.sampled_from(
    [
        *(
            b"'",
            b"+",
            b":",
            b"?",
            b"*",
            b"\r\n",
            b" ",
            b"\xff",
            b"UNH+2+PAXLST:D:05B:UN",
            b"UNT+7+1",
            b"UNZ+1+1",
            b"UNE+1+1",
        ),
        *(
            b"UNG+PAXLST+A+B+1+1",
            b"NAD+FL+++A:B:C+D+E+F+G+H",
            b"DOC+P:110:111+X",
            b"DOC++",
            b"DTM+36:301301",
            b"NAD+FM",
        ),
        *(
            b"LOC+91+MEX",
            b"LOC+125+JFK",
            b"LOC+87+MEX",
            b"DTM+189:2611129999:201",
            b"CNT+42:1",
            b"CNT+41+8",
            b"EMP+1+CR9",
        ),
        *(b"MEA+CT++9", b"MEA+WT++KGM:9", b"GEI+4+173", b"FTX+BAG+++1:2", b"RFF+ABO:1", b"ATT+2++F", b"NAT+2+MEX"),
        *(b"PDT+P/1:301301:US+A:B::351230", b"UNA:+.? '", b"UNB+UNOA:4", b"BGM+745", b"UNS+D", b"TDT+20+PB7"),
    ]
)


def survives(data):
    for tolerant in (False, True):
        with contextlib.suppress(DecodeError):
            decoded = decode(data, tolerant=tolerant)
            assert tolerant or not decoded.warnings
            assert all(0 <= warning.offset <= len(data) for warning in decoded.warnings)
            for one in decoded.records:
                protovalidate.validate(one.record)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_only_ever_refused(data):
    survives(data)
    survives(HEAD + data)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(PIECES, PIECES.map(lambda piece: piece + b"'"), st.binary(max_size=8)), max_size=30))
def test_segments_in_any_order_are_refused_or_give_records_that_keep_the_rules(pieces):
    survives(HEAD + b"".join(pieces))
