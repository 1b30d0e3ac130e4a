"""Content of a list: what position means, what each trap of real files becomes, and what is refused."""

import datetime as dt
from collections import Counter
from pathlib import Path

import protovalidate
import pytest

from adapters.paxlst import DecodeError, EncodeError, Leg, decode, encode
from broker.v1 import passenger_pb2 as pb

FILES = Path(__file__).parents[1] / "data" / "paxlst"
DEMO = Path(__file__).parents[2] / "adapters" / "demo" / "passengers.edi"
NOW = dt.datetime(2026, 11, 12, 7, 15, tzinfo=dt.UTC)
HEAD = "UNB+UNOA:4+PB+US+261112:0715+1'UNH+1+PAXLST:D:05B'BGM+745'"
FLIGHT = "TDT+20+PB7'LOC+125+JFK'LOC+87+MEX'"


def file(name, **options):
    return decode((FILES / name).read_bytes(), **options)


def listed(*persons, head=HEAD, flight=FLIGHT):
    body = flight + "".join(segment + "'" for segment in persons)
    count = (head + body).count("'")
    return f"{head}{body}UNT+{count}+1'UNZ+1+1'".encode()


def one(*segments, **options):
    (person,) = decode(listed("NAD+FL+++NADIE", *segments), **options).records
    return person.record


def codes(*segments, **options):
    return [warning.code for warning in decode(listed(*segments, **options), tolerant=True).warnings]


def refusal(data, **options):
    with pytest.raises(DecodeError) as refused:
        decode(data, **options)
    return refused.value.code


def test_the_demonstration_list_is_strict_and_names_fourteen_persons_by_their_own_keys():
    decoded = decode(DEMO.read_bytes())
    assert decoded.warnings == ()
    assert (decoded.totals.persons, decoded.totals.declared_count, len(decoded.legs)) == (14, 14, 1)
    assert [person.key for person in decoded.records] == [f"PBX{number:03d}" for number in range(1, 15)]
    for person in decoded.records:
        protovalidate.validate(person.record)
        assert person.record.documents
        assert person.record.references.seat
    assert any(person.record.residence.HasField("destination") for person in decoded.records)


def test_parts_of_one_list_add_up_their_persons_and_not_their_count_or_legs():
    decoded = file("two_parts.edi")
    assert (decoded.source.messages, decoded.totals.persons, decoded.totals.declared_count) == (2, 2, 160)
    assert decoded.legs == (Leg("PB", "7", "JFK", "MEX", "", ""),)
    roles = [person.record.travel.role for person in decoded.records]
    assert roles == [pb.BOARD_ROLE_PASSENGER, pb.BOARD_ROLE_TRANSIT_PASSENGER]
    assert [len(person.record.travel.legs) for person in decoded.records] == [1, 1]


def test_missing_repeated_and_disagreeing_parts_are_named():
    data = (FILES / "two_parts.edi").read_bytes()
    for change, code in (
        ((b"02:F", b"03:F"), "PARTS_INCOMPLETE"),
        ((b"02:F", b"02"), "PARTS_INCOMPLETE"),
        ((b"02:F", b"01:F"), "PART_REPEATED"),
        ((b"160'\nUNT+9", b"161'\nUNT+9"), "COUNT_DIFFERS"),
    ):
        changed = data.replace(*change)
        assert [warning.code for warning in decode(changed, tolerant=True).warnings] == [code]
        assert refusal(changed) == code


def test_a_later_part_that_names_no_flight_has_the_legs_of_the_first():
    data = (FILES / "two_parts.edi").read_bytes()
    first, second = data.split(b"UNH+M2")
    second = second.replace(b"TDT+20+PB7'\nLOC+125+JFK'\nLOC+87+MEX'\n", b"").replace(b"UNT+0000009", b"UNT+6")
    people = decode(first + b"UNH+M2" + second).records
    assert people[0].record.travel.legs == people[1].record.travel.legs


def test_a_crew_list_gives_roles_category_and_both_legs_of_one_flight():
    decoded = file("crew.edi")
    assert decoded.source.version == "D.15B"
    assert decoded.legs == (
        Leg("ABC", "45A", "JFK", "MTY", "2026-11-12T08:30", "2026-11-12T11:00"),
        Leg("ABC", "45A", "MTY", "MEX", "2026-11-12T12:00", "2026-11-12T13:15"),
    )
    marsh, solo = (person.record for person in decoded.records)
    assert (marsh.travel.role, marsh.travel.crew_category) == (pb.BOARD_ROLE_CREW, "CR2")
    assert (solo.travel.role, solo.identity.name.surname) == (pb.BOARD_ROLE_TRANSIT_CREW, "SOLO")
    identity = marsh.identity
    assert (identity.birth_date, identity.sex) == ("2000-02-29", pb.SEX_X)
    assert (identity.nationality, identity.nationality_at_birth) == ("GBR", "IRL")
    place = marsh.residence.destination
    assert (place.street, place.division) == ("PIER 1 BOX 9", "VERACRUZ DE LA LLAVE")
    assert marsh.references.ticket == "2981212121212C1"
    licence, passport = marsh.documents
    assert (licence.issued, licence.expires, licence.issuing_state) == ("1999-12-31", "2031-06-30", "GBR")
    assert (passport.number, passport.expires, passport.issuing_state) == ("PP1", "", "")
    assert marsh.verification.documents == pb.DOCUMENT_CHECK_NOT_VERIFIED


def test_escaped_separators_are_text_also_where_the_text_contains_unt():
    person = file("released.edi").records[0].record
    assert (person.identity.name.surname, person.identity.name.given) == ("O'LEARY*UNT:Y", "AN(A)")
    assert person.documents[0].number == "UNT*50:B"


def test_a_bad_value_leaves_its_field_empty_and_its_list_whole():
    decoded = file("bad_values.edi", tolerant=True)
    rojas, *others = decoded.records
    assert [person.key for person in decoded.records] == ["p1", "p2", "p3"]
    assert [person.record.identity.name.surname for person in others] == ["ONE", "TWO"]
    record = rojas.record
    assert (record.identity.name.given, record.identity.birth_date, record.identity.nationality) == ("", "", "")
    assert (record.identity.sex, record.travel.embarkation_port) == (pb.SEX_UNSPECIFIED, "")
    assert [(paper.type, paper.number, paper.expires) for paper in record.documents] == [("", "A1", ""), ("", "A2", "")]
    assert record.travel.legs[0].departs == ""
    counted = Counter(warning.code for warning in decoded.warnings)
    assert counted == {"BAD_VALUE": 7, "DOCUMENT_WITHOUT_TYPE": 1, "NAME_MISSING": 1, "VALUE_MISPLACED": 1}
    for person in decoded.records:
        protovalidate.validate(person.record)


def test_a_person_without_a_name_is_no_record_but_is_counted():
    decoded = file("bad_values.edi", tolerant=True)
    assert (decoded.totals.persons, len(decoded.records), decoded.totals.declared_count) == (4, 3, 8)


def test_each_count_and_reference_of_the_envelope_is_named_on_its_own():
    decoded = file("envelope.edi", tolerant=True)
    assert [(warning.code, warning.segment) for warning in decoded.warnings] == [
        ("UNT_COUNT", "UNT"),
        ("UNT_REFERENCE", "UNT"),
        ("UNE_COUNT", "UNE"),
        ("UNE_REFERENCE", "UNE"),
        ("UNZ_COUNT", "UNZ"),
        ("UNZ_REFERENCE", "UNZ"),
    ]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("PAXLST", "CUSRES"), "WRONG_MESSAGE_TYPE"),
        (("BGM+745", "BGM+336"), "LIST_KIND_UNSUPPORTED"),
        (("BGM+745", "BGM+266"), "LIST_KIND_UNSUPPORTED"),
        (("D:05B", "D:01B"), "VERSION_UNSUPPORTED"),
        (("D:05B", "D:16A"), "VERSION_UNSUPPORTED"),
        (("D:05B", "S:05B"), "VERSION_UNSUPPORTED"),
    ],
)
def test_what_is_no_supported_list_is_refused_in_both_modes(change, code):
    data = listed("NAD+FL+++NADIE").decode().replace(*change).encode()
    assert {refusal(data), refusal(data, tolerant=True)} == {code}


@pytest.mark.parametrize(
    ("segments", "options", "expected"),
    [
        ((), {}, ["NO_PERSON"]),
        (("NAD+FL+++NADIE",), {"flight": ""}, ["NO_LEG"]),
        (("NAD+FL+++NADIE",), {"flight": "TDT+20+PB7'LOC+125+JFK'"}, ["LEG_INCOMPLETE"]),
        (("NAD+FL+++NADIE",), {"head": HEAD.replace("BGM+745'", "")}, ["LIST_KIND_MISSING"]),
        (("NAD+FL+++NADIE",), {"head": HEAD.replace("261112", "269912")}, ["BAD_VALUE"]),
        (("NAD+FL+++NADIE", "DTM+36:300101"), {}, ["SEGMENT_MISPLACED"]),
        (("NAD+FL+++NADIE", "DOC+P+1", "NAT+2+MEX"), {}, ["SEGMENT_MISPLACED"]),
        (("NAD+FL+++NADIE", "NAT+2+MEX", "NAT+2+USA"), {}, ["FIELD_REPEATED"]),
        (("NAD+FL+++NADIE", "NAT+2+MEX", "NAT+2+MEX"), {}, []),
        (("NAD+FL+++NADIE", *["DOC+P+1"] * 17), {}, ["TOO_MANY_DOCUMENTS"]),
        (("NAD+FL+++NADIE", *["FTX+BAG+++T1"] * 65), {}, ["TOO_MANY_TAGS"]),
        (("NAD+FL+++NADIE", "LOC+174+", "DTM+329:"), {}, []),
    ],
)
def test_what_a_list_lacks_or_has_twice_is_named(segments, options, expected):
    assert codes(*segments, **options) == expected


def test_a_person_of_a_list_without_legs_still_keeps_the_rules_of_a_record():
    decoded = decode(listed("NAD+FL+++NADIE", flight=""), tolerant=True)
    assert decoded.totals.legs == 0
    protovalidate.validate(decoded.records[0].record)


@pytest.mark.parametrize(
    ("written", "read"),
    [("261112", "2026-11-12"), ("261113", "1926-11-13"), ("000229", "2000-02-29"), ("19050101", "1905-01-01")],
)
def test_a_birth_is_in_the_latest_year_that_is_not_after_the_message(written, read):
    assert one(f"DTM+329:{written}").identity.birth_date == read


def test_an_expiry_is_of_this_century():
    assert one("DOC+P:110:111+1", "DTM+36:610131").documents[0].expires == "2061-01-31"


@pytest.mark.parametrize(
    ("flight", "carrier", "number"),
    [
        ("UA123+++UA", "UA", "123"),
        ("A92707", "A9", "2707"),
        ("B2740", "B2", "740"),
        ("AMX12", "AMX", "12"),
        ("UA123+++LH", "LH", "UA123"),
        ("CHARTER", "", "CHARTER"),
    ],
)
def test_a_carrier_that_is_not_stated_is_the_designator_before_the_number(flight, carrier, number):
    (leg,) = decode(listed("NAD+FL+++NADIE", flight=FLIGHT.replace("PB7", flight))).legs
    assert (leg.carrier, leg.number) == (carrier, number)


def test_a_change_of_airport_on_the_ground_is_no_leg():
    stops = (
        "TDT+20+PB7'LOC+92+MEX'DTM+189:2611120800:201'LOC+92+JFK'DTM+232:2611121200:201'"
        "LOC+92+EWR'DTM+189:2611121600:201'LOC+92+YUL'DTM+232:2611121700:201'"
    )
    legs = decode(listed("NAD+FL+++NADIE", flight=stops)).legs
    assert [(leg.departure, leg.arrival) for leg in legs] == [("MEX", "JFK"), ("EWR", "YUL")]


def test_a_weight_in_pounds_is_kept_in_kilograms():
    assert one("MEA+WT++LBR:50").baggage.weight_kg == 23


def test_the_old_us_form_may_state_second_name_sex_and_ports():
    head = "UNB+UNOA:1+PB+US+020131:2359+1'UNH+1+PAXLST:001:000:NZ'"
    flight = "TDT++SA812+40+SA'LOC+005+NZAKL:50'DTM+136+020131+1030+M05'LOC+008+USLAX:50'UNS+D'"
    person = "PDT+P/18:502010:US+MANGO:SIM:P:590429:M+PAX+NZAKL:USLAX"
    decoded = decode(listed(person, head=head, flight=flight), tolerant=True)
    record = decoded.records[0].record
    assert [(warning.code, warning.segment) for warning in decoded.warnings] == [("BAD_VALUE", "PDT")]
    assert (record.identity.name.second, record.identity.sex) == ("P", pb.SEX_MALE)
    assert record.identity.birth_date == "1959-04-29"
    assert (record.travel.embarkation_port, record.travel.disembarkation_port) == ("NZAKL", "USLAX")
    assert (record.documents[0].expires, record.documents[0].issuing_state) == ("", "US")


def test_writing_refuses_what_a_list_cannot_carry():
    record = one()
    other = one()
    other.travel.legs[0].number = "8"
    crew = one()
    crew.travel.role = pb.BOARD_ROLE_CREW
    helped = one()
    helped.assistance.codes.append("WCHR")
    long = one()
    long.identity.name.surname = "A" * 36
    for records in ([], [record, other], [record, crew], [helped], [long]):
        with pytest.raises(EncodeError):
            encode(records, created=NOW)


def test_a_name_beyond_the_plain_set_is_written_in_a_set_that_holds_it():
    record = one()
    for name, syntax in (("NUÑEZ", b"UNOC:4"), ("ŁUŻ", b"UNOY:4"), ("NUNEZ", b"UNOA:4")):
        record.identity.name.surname = name
        data = encode([record], created=NOW)
        assert syntax in data
        assert decode(data).records[0].record == record
