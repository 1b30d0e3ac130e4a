"""Every sample list is read as a person reads it: the expectations below were written from the files by hand."""

import json
from collections import Counter
from pathlib import Path

import protovalidate
import pytest

from adapters.paxlst import DecodeError, Leg, decode
from broker.v1 import passenger_pb2 as pb

SAMPLES = Path(__file__).parents[3] / "shared" / "samples" / "paxlst"
pytestmark = [
    pytest.mark.samples,
    pytest.mark.skipif(not SAMPLES.is_dir(), reason="shared samples are absent"),
]

# key | surname,given,second | birth | sex | nationality | residence | type,number,issuer,expiry | seat | locator
A = ["p1|DJEMFISJER,REDJAE,|1993-04-08|M|ABC||P,3DEJ2ED3E,LIM,2028-09-07|9F|ABC123"]
B = ["p1|AERWDEDE,FERDE,H|1983-02-12|F|AUT||P,FER342423,AUT,2028-07-27|2A|LWUMQZ"]
C = [
    "p1|MULLERSFER,ERWED,|2015-12-04|F|AUT||P,756178630,AUT,2027-10-12|17B|DHOLDH",
    "p2|MULLERSFER,MAAUTIA,|2013-05-23|F|AUT||P,736393519,AUT,2024-10-30|17A|DHOLDH",
    "p3|RDEERF,EERFRWDTF,|1959-06-10|M|AUT||P,730087856,AUT,2023-01-21|17C|DHOLDH",
]
LOADER = [
    "UUI34T543|BARRETT,TODD,|1968-02-23|M|FRA|FRA|P,YY3478621G,FRA,2008-12-30||GJIO3RT",
    "ABC124|LANG,KRISTIN,|1960-06-06|F|ESP|ESP|P,TRQWE99800,ESP,2009-09-16||GJIO3RT",
]
APIS = ["ABC123|CLARK,MICHAEL,|1972-09-07|M|||||TYR123", "TYL009|CLARK,CHERYL,|1973-04-07|F|||||TYR123"]
MINELYTICS = [
    "p1|ALI YYÉ,,|||||||ABC123",
    "p2|EVELYN,AAKESSON,|2013-04-14|M|SWE|SWE|P,G839083,SWE,2020-01-01|16D|89TVRV",
    "p3|IIDA,VILEN,|1932-12-10|M|FIN|FIN|P,41570439,FIN,2020-01-02|61D|UQA8AC",
    # Born 21-09-06 by a message of 20-05-06: in 1921.
    "p4|JONUZ,MAJSTOROVIC,|1921-09-06|F|SVN|SVN|P,24416860,SVN,2020-01-03|78C|17I57Q",
    "p5|KARI,SAEVARSSON,|1950-05-22|M|ISL|ISL|P,O1694677,ISL,2020-01-04|10B|17I57Q",
    "p6|LIBERA,MARCHESI,|1938-08-22|M|ITA|ITA|P,M709842,ITA,2020-01-05|43D|P6PEPI",
    # The first expiry is empty, so the second is the only one.
    "p7|MAX,VOGEL,|1990-01-06|M|DEU|DEU|P,42878759,DEU,2021-01-03|79A|P3HPUN",
    "p8|NUWWARRAH,WASEM,|1985-08-22|F|EGY|EGY|P,F980648,EGY,|74B|P3HPUN",
    "p9|RAIMO,LAURILA,|1947-08-22|F|FIN|FIN|P,11490614,FIN,|22G|HCTVT5",
    "p10|TOBIAS,DECKER,|2018-12-03|M|DEU|DEU|P,X6091008,DEU,|46E|HUJD8S",
]
US = ["p1|JONES,INDIANA,|1935-12-30||||P,121234324,US,2098-07-01||"]

A_LEGS = ["A9 2707 VIE 2021-07-13T11:00 VIE 2021-07-13T12:00"]
BC_LEGS = ["B2 740 VIE 2021-08-27T04:15 FRA 2021-08-27T06:50"]
LOADER_LEGS = [
    "QQ 877 MIA 2008-07-10T15:00 IAD 2008-07-10T17:55",
    "QQ 827 IAD 2008-08-10T18:30 JFK 2008-08-10T19:30",
    "QQ 827 JFK 2008-08-10T20:00 CDG 2008-08-11T06:30",
]
APIS_LEGS = ["AA 123 ATL 2007-02-19T15:40 ORD 2007-02-19T17:40", "AA 124 ORD 2007-02-19T18:40 JFK 2007-02-19T19:55"]
MINELYTICS_LEGS = ["YY 123 IAD 2020-05-06T12:00 BRU 2020-05-07T13:22"]
US_LEGS = [
    "SA 812 NZAKL 2002-01-31T22:00 USHNL 2002-01-31T19:00",
    "SA 812 USHNL - USLAX 2002-01-31T23:00",
    "SA 812 USLAX - USJFK 2002-02-01T04:00",
]

PART = {"UNT_COUNT": 1, "PARTS_INCOMPLETE": 1}
TELEX = {**PART, "TEXT_BEFORE": 1, "TEXT_AFTER": 1}
# file: persons, legs, declared count, version, deviations, the first of which strict mode refuses
EXPECTED = {
    "ediclean_A_clean.txt": (A, A_LEGS, 47, "D.05B", {**PART, "BAD_VALUE": 1}, "BAD_VALUE FTX"),
    "ediclean_A_telex.txt": (
        *(A, A_LEGS, 47, "D.05B"),
        {**TELEX, "BAD_VALUE": 1, "LINE_BREAK_IN_SEGMENT": 9},
        "TEXT_BEFORE ",
    ),
    "ediclean_B_clean.txt": (B, BC_LEGS, 130, "D.05B", PART, "UNT_COUNT UNT"),
    "ediclean_B_telex.txt": (B, BC_LEGS, 130, "D.05B", {**TELEX, "LINE_BREAK_IN_SEGMENT": 7}, "TEXT_BEFORE "),
    "ediclean_C_clean.txt": (C, BC_LEGS, 130, "D.05B", PART, "UNT_COUNT UNT"),
    "ediclean_C_telex.txt": (C, BC_LEGS, 130, "D.05B", {**TELEX, "LINE_BREAK_IN_SEGMENT": 13}, "TEXT_BEFORE "),
    "loader_multiple_flight_leg_apis.txt": (
        *(LOADER, LOADER_LEGS, 2, "D.05B"),
        {"BLANKS_BEFORE_SEGMENT": 3, "TEXT_AFTER": 1},
        "BLANKS_BEFORE_SEGMENT UNB",
    ),
    # A blank before each of its 33 lines.
    "parsers_apisMessage.txt": (APIS, APIS_LEGS, 2, "D.05B", {"BLANKS_BEFORE_SEGMENT": 33}, "BLANKS_BEFORE_SEGMENT "),
    "minelytics_text_001.edi": (
        *(MINELYTICS, MINELYTICS_LEGS, 10, "D.02B"),
        {
            "CHARSET_VIOLATION": 1,
            "VALUE_MISPLACED": 3,
            "DOCUMENT_WITHOUT_NUMBER": 1,
            "FIELD_REPEATED": 2,
            "UNT_COUNT": 1,
        },
        "CHARSET_VIOLATION NAD",
    ),
    "us_progressive.edi": (US, US_LEGS, None, "US", PART, "UNT_COUNT UNT"),
}
SEXES = {pb.SEX_UNSPECIFIED: "", pb.SEX_FEMALE: "F", pb.SEX_MALE: "M"}
ALL = pytest.mark.parametrize("name", EXPECTED)


def sample(name):
    return (SAMPLES / name).read_bytes()


def line_of_person(one):
    record = one.record
    name = record.identity.name
    documents = ";".join(",".join([d.type, d.number, d.issuing_state, d.expires]) for d in record.documents)
    return "|".join(
        [
            one.key,
            ",".join([name.surname, name.given, name.second]),
            record.identity.birth_date,
            SEXES[record.identity.sex],
            record.identity.nationality,
            record.residence.country,
            documents,
            record.references.seat,
            record.references.record_locator,
        ]
    )


def line_of_leg(leg):
    return f"{leg.carrier} {leg.number} {leg.departure} {leg.departs or '-'} {leg.arrival} {leg.arrives or '-'}"


def test_there_is_an_expectation_for_every_sample():
    assert set(EXPECTED) == set(json.loads(sample("counts.json")))


@ALL
def test_totals_are_those_that_came_with_the_samples(name):
    totals = decode(sample(name), tolerant=True).totals
    counted = {"persons": totals.persons, "legs": totals.legs, "documents": totals.documents}
    assert counted == json.loads(sample("counts.json"))[name]


@ALL
def test_every_person_and_leg_of_a_sample_is_read(name):
    people, legs, count, version, _, _ = EXPECTED[name]
    decoded = decode(sample(name), tolerant=True)
    assert [line_of_person(one) for one in decoded.records] == people
    assert [line_of_leg(leg) for leg in decoded.legs] == legs
    assert (decoded.totals.declared_count, decoded.source.version, decoded.source.messages) == (count, version, 1)


@ALL
def test_tolerant_mode_names_exactly_the_deviations_of_a_sample(name):
    decoded = decode(sample(name), tolerant=True)
    assert Counter(one.code for one in decoded.warnings) == EXPECTED[name][4]


@ALL
def test_no_sample_is_whole_and_strict_mode_says_what_comes_first(name):
    with pytest.raises(DecodeError) as refused:
        decode(sample(name))
    assert f"{refused.value.code} {refused.value.segment}" == EXPECTED[name][5]


@ALL
def test_every_record_of_a_sample_keeps_the_rules_of_the_proto(name):
    for one in decode(sample(name), tolerant=True).records:
        protovalidate.validate(one.record)


@ALL
def test_the_place_of_a_warning_is_a_byte_of_the_file_where_its_segment_begins(name):
    data = sample(name)
    for one in decode(data, tolerant=True).warnings:
        if one.segment and one.code != "TEXT_AFTER":
            assert data[one.offset :].replace(b"\r\n", b"").startswith(one.segment.encode())


@pytest.mark.parametrize("letter", "ABC")
def test_a_list_that_came_by_telex_holds_what_the_cleaned_one_holds(letter):
    clean = decode(sample(f"ediclean_{letter}_clean.txt"), tolerant=True)
    telex = decode(sample(f"ediclean_{letter}_telex.txt"), tolerant=True)
    assert (telex.records, telex.legs, telex.totals) == (clean.records, clean.legs, clean.totals)


def test_bags_ports_and_references_of_the_samples_are_read():
    first = decode(sample("ediclean_A_clean.txt"), tolerant=True).records[0].record
    assert (first.baggage.pieces, list(first.baggage.tags)) == (0, [])
    travel = first.travel
    assert (travel.clearance_port, travel.embarkation_port, travel.disembarkation_port) == ("VIE", "TBS", "VIE")
    tagged = decode(sample("ediclean_C_clean.txt"), tolerant=True).records
    assert [one.record.baggage.tags[0].tag for one in tagged] == ["B2585631", "B2585632", "B2585629"]
    clark = decode(sample("parsers_apisMessage.txt"), tolerant=True).records[0].record.references
    assert (clark.redress_number, clark.customer) == ("1234567890ABC", "20060907NY123")
    weights = [one.record.baggage for one in decode(sample("minelytics_text_001.edi"), tolerant=True).records]
    assert [(bag.pieces, bag.weight_kg) for bag in weights[:5]] == [(1, 10), (0, 0), (2, 20), (0, 0), (3, 30)]


def test_every_person_of_a_sample_is_on_all_legs_of_the_list():
    for one in decode(sample("loader_multiple_flight_leg_apis.txt"), tolerant=True).records:
        assert len(one.record.travel.legs) == 3
        assert one.record.travel.role == pb.BOARD_ROLE_PASSENGER
        assert one.record.kind == pb.PASSENGER_KIND_API


def test_a_leg_is_a_value_that_can_be_compared():
    assert decode(sample("us_progressive.edi"), tolerant=True).legs[1] == Leg(
        "SA", "812", "USHNL", "USLAX", "", "2002-01-31T23:00"
    )
