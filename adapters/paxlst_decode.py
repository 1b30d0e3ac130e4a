"""PAXLST → records: UN/EDIFACT D.02B to D.15B, passengers (745) and crew (250), and the old US form.

Group order of D.21A: UNH BGM, NAD of the reporting party, TDT (LOC DTM), NAD (… DOC (DTM LOC)), CNT, UNT.
"""

import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from adapters import paxlst_person, paxlst_us
from adapters.edifact import Segment, segments
from adapters.edifact_envelope import Envelope
from adapters.findings import LIMITS, Deviation, Findings, Limits, Place, Rule
from adapters.paxlst_legs import Flight, Leg
from adapters.paxlst_person import Person
from adapters.paxlst_values import Values, sent
from broker.v1 import passenger_pb2 as pb

PASSENGERS, CREW = "745", "250"
CARRIER_ELEMENT = 5
MAX_LEGS = 32
_FIRST_RELEASE, _LAST_RELEASE = "02B", "15B"
_RELEASE = re.compile("[0-9]{2}[AB]")
_NUMBERED_KEY = re.compile("p[0-9]+")
_COUNTS = frozenset({"41", "42"})
_COUNT = re.compile("[0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class Source:
    """The file: SHA-256 in hex, its size, "D.05B" or "US", and how many messages it holds."""

    sha256: str
    bytes: int
    version: str
    messages: int


@dataclass(frozen=True, slots=True)
class Totals:
    """What the file names. `persons` over the number of records says that a person had no name to make a record of."""

    persons: int
    legs: int
    documents: int
    declared_count: int | None


@dataclass(frozen=True, slots=True)
class DecodedRecord:
    """A record and its key in the file, which never leaves the sender."""

    key: str
    record: pb.Passenger


@dataclass(frozen=True, slots=True)
class Decoded:
    """A file as it was read; `warnings` is empty when it was read strictly."""

    source: Source
    totals: Totals
    legs: tuple[Leg, ...]
    records: tuple[DecodedRecord, ...]
    warnings: tuple[Deviation, ...]


@dataclass(slots=True)
class _List:
    """One message: a list, or a part of one."""

    header: Segment
    old_us: bool
    kind: str = ""
    flights: list[Flight] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)
    person: Person | None = None
    in_flight: bool = False
    count: int | None = None
    count_place: Place = field(default_factory=Place)

    @property
    def reference(self) -> str:
        """The common access reference, which the parts of one list share."""
        return self.header.get(3)


def decode(
    data: bytes, *, tolerant: bool = False, limits: Limits = LIMITS, clock: Callable[[], float] = time.monotonic
) -> Decoded:
    """Read one interchange whole; raises DecodeError at the first deviation, or in tolerant mode at a fatal one.

    A person without a name makes no record: tolerant mode warns (NAME_MISSING) and still counts the person. A person
    of a list without legs (NO_LEG) has one leg of which nothing is known. `declared_count` is that of the flights
    (CNT) and is compared with nothing.
    """
    findings = Findings(tolerant=tolerant, limits=limits, clock=clock)
    reader = _Reader(findings)
    reader.read(data)
    legs = tuple(dict.fromkeys(leg for legs in reader.legs for leg in legs))
    return Decoded(
        source=Source(hashlib.sha256(data).hexdigest(), len(data), reader.version, len(reader.lists)),
        totals=Totals(len(reader.people), len(legs), sum(person.documents for person in reader.people), reader.count()),
        legs=legs,
        records=tuple(_keyed(reader.people)),
        warnings=tuple(findings.deviations),
    )


def _keyed(people: list[Person]) -> list[DecodedRecord]:
    """The key is the ABO reference where it is unique in the file, else p and the ordinal of the person."""
    seen = Counter(person.key for person in people)
    keys = [
        person.key if seen[person.key] == 1 and person.key and not _NUMBERED_KEY.fullmatch(person.key) else f"p{number}"
        for number, person in enumerate(people, 1)
    ]
    return [DecodedRecord(key, person.record) for key, person in zip(keys, people, strict=True) if person.named]


class _Reader:
    """Walks the groups of each message."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._envelope = Envelope(findings)
        self._values = Values(findings, None)
        self.version = ""
        self.lists: list[_List] = []
        self.legs: list[tuple[Leg, ...]] = []
        self.people: list[Person] = []

    def read(self, data: bytes) -> None:
        """Read every message, then what only the whole file shows."""
        for segment in self._envelope.contents(segments(data, self._findings)):
            if segment.tag == "UNH":
                self._end_list()
                self.lists.append(self._begin(segment))
            else:
                self._take(self.lists[-1], segment)
        self._end_list()
        self._check_parts()
        if not self.people:
            self._findings.deviate(Rule.NO_PERSON, self.lists[-1].header.place)

    def count(self) -> int | None:
        """Sum over the lists of the file; the parts of one list declare the same count."""
        counts: dict[object, int] = {}
        for one, legs in zip(self.lists, self.legs, strict=True):
            if one.count is None:
                continue
            name = (one.kind, one.reference or legs)
            if counts.setdefault(name, one.count) != one.count:
                self._findings.deviate(Rule.COUNT_DIFFERS, one.count_place)
        return sum(counts.values()) if counts else None

    def _begin(self, header: Segment) -> _List:
        unb = self._envelope.unb
        if unb is not None and not self.lists:
            today = sent(unb.get(4))
            if today is None:
                self._findings.deviate(Rule.BAD_VALUE, unb.place)
            self._values = Values(self._findings, today)
        if header.get(2) != "PAXLST":
            self._findings.refuse(Rule.WRONG_MESSAGE_TYPE, header.place)
        old_us = header.get(2, 1) == paxlst_us.VERSION
        release = header.get(2, 2)
        in_range = _RELEASE.fullmatch(release) and _FIRST_RELEASE <= release <= _LAST_RELEASE
        if not old_us and not (header.get(2, 1) == "D" and in_range):
            self._findings.refuse(Rule.VERSION_UNSUPPORTED, header.place)
        self.version = self.version or ("US" if old_us else f"D.{release}")
        return _List(header, old_us)

    def _take(self, one: _List, segment: Segment) -> None:
        match segment.tag:
            case "BGM":
                self._take_kind(one, segment)
            case "TDT":
                element = paxlst_us.CARRIER_ELEMENT if one.old_us else CARRIER_ELEMENT
                one.flights.append(Flight.of(segment, self._values, element))
                one.in_flight, one.person = True, None
            case "NAD" if not one.old_us:
                one.in_flight, one.person = False, None
                if segment.get(1) in paxlst_person.ROLES:
                    self._add(one, paxlst_person.begin(segment, self._values))
            case "PDT" if one.old_us:
                one.in_flight = False
                self._add(one, paxlst_us.begin(segment, self._values))
            case "CNT":
                one.in_flight, one.person = False, None
                self._take_count(one, segment)
            case _ if one.in_flight:
                self._take_of_flight(one, segment)
            case _ if one.person is not None:
                paxlst_person.take(one.person, segment, self._values)

    def _add(self, one: _List, person: Person) -> None:
        one.person = None if one.old_us else person
        one.people.append(person)
        self.people.append(person)
        limit = self._findings.limits.persons
        self._findings.cap(Rule.TOO_MANY_PERSONS, len(self.people), limit, person.segment.place)

    def _take_kind(self, one: _List, segment: Segment) -> None:
        one.kind = segment.get(1)
        if one.kind and one.kind not in {PASSENGERS, CREW}:
            self._findings.refuse(Rule.LIST_KIND_UNSUPPORTED, segment.place)

    def _take_of_flight(self, one: _List, segment: Segment) -> None:
        flight = one.flights[-1]
        if segment.tag == "LOC":
            flight.take_place(segment, self._values)
        elif segment.tag == "DTM" and one.old_us:
            paxlst_us.take_time(flight, segment, self._values)
        elif segment.tag == "DTM":
            flight.take_time(segment, self._values, segment.get(1), segment.get(1, 1))

    def _take_count(self, one: _List, segment: Segment) -> None:
        if segment.get(1) not in _COUNTS:
            return
        value = segment.get(1, 1)
        if not value and _COUNT.fullmatch(segment.get(2)):
            self._findings.deviate(Rule.VALUE_MISPLACED, segment.place)
            value = segment.get(2)
        if _COUNT.fullmatch(value):
            one.count, one.count_place = int(value), segment.place
        elif value:
            self._findings.deviate(Rule.BAD_VALUE, segment.place)

    def _end_list(self) -> None:
        """At the end of a message its persons get its legs, or those of an earlier part of the same list."""
        if not self.lists:
            return
        one = self.lists[-1]
        place = one.header.place
        if not one.kind and not one.old_us:
            self._findings.deviate(Rule.LIST_KIND_MISSING, place)
        legs = tuple(dict.fromkeys(leg for flight in one.flights for leg in flight.legs(self._values)))
        legs = legs or self._legs_of(one.reference)
        if not legs:
            self._findings.deviate(Rule.NO_LEG, place)
        if len(legs) > MAX_LEGS:
            self._findings.deviate(Rule.TOO_MANY_LEGS, place)
            legs = legs[:MAX_LEGS]
        self.legs.append(legs)
        for person in one.people:
            person.record.travel.legs.extend(leg.message() for leg in legs or (Leg(),))

    def _legs_of(self, reference: str) -> tuple[Leg, ...]:
        for earlier, legs in zip(self.lists, self.legs, strict=False):
            if reference and earlier.reference == reference and legs:
                return legs
        return ()

    def _check_parts(self) -> None:
        """S010 of UNH: parts are numbered from 1, and where the first is marked C the last is marked F."""
        by_reference: dict[str, list[_List]] = {}
        for one in self.lists:
            if one.header.get(4):
                by_reference.setdefault(one.reference, []).append(one)
        for parts in by_reference.values():
            numbers = [part.header.get(4).lstrip("0") for part in parts]
            marks = [part.header.get(4, 1) for part in parts]
            place = parts[-1].header.place
            if len(set(numbers)) != len(numbers):
                self._findings.deviate(Rule.PART_REPEATED, place)
            expected = {str(number) for number in range(1, len(set(numbers)) + 1)}
            if set(numbers) != expected or ("C" in marks and "F" not in marks):
                self._findings.deviate(Rule.PARTS_INCOMPLETE, place)
