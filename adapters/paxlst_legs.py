"""The passages of a list: flights, the ports in order of appearance, and the legs between them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from adapters.edifact import Segment
from adapters.findings import Rule
from adapters.paxlst_values import CARRIER, FLIGHT, PORT, Values
from broker.v1 import passenger_pb2 as pb

# LOC: last foreign departure, first arrival, other routing, final; the old US form has 5, PT and 8.
_ENDS = frozenset({"125", "87", "92", "130", "5", "PT", "8"})
_ARRIVALS = frozenset({"87", "130", "8"})
# DTM: scheduled departure and arrival, in the D directories and in the old US form.
_DEPARTS, _ARRIVES = frozenset({"189", "136"}), frozenset({"232", "132"})
# A designator: three letters of ICAO or two characters of IATA, then the number.
_DESIGNATED = re.compile(r"([A-Z]{3}|[A-Z0-9]{2})([0-9]{1,4}[A-Z]?)")


@dataclass(frozen=True, slots=True)
class Leg:
    """One passage; times are local to their port, YYYY-MM-DDTHH:MM, empty when not stated."""

    carrier: str = ""
    number: str = ""
    departure: str = ""
    arrival: str = ""
    departs: str = ""
    arrives: str = ""

    def message(self) -> pb.Leg:
        """As the record holds it."""
        return pb.Leg(
            carrier=self.carrier,
            number=self.number,
            departure_port=self.departure,
            arrival_port=self.arrival,
            departs=self.departs,
            arrives=self.arrives,
        )


@dataclass(slots=True)
class _Stop:
    port: str
    function: str
    departs: str = ""
    arrives: str = ""


@dataclass(slots=True)
class Flight:
    """One TDT and the stops below it."""

    segment: Segment
    carrier: str
    number: str
    stops: list[_Stop] = field(default_factory=list)

    @classmethod
    def of(cls, segment: Segment, values: Values, carrier_element: int) -> "Flight":
        """A flight from its TDT; a carrier that is not stated is the designator before the number."""
        flight = values.code(segment, 2, 0, FLIGHT)
        carrier = values.code(segment, carrier_element, 0, CARRIER)
        designated = _DESIGNATED.fullmatch(flight)
        if carrier:
            return cls(segment, carrier, flight.removeprefix(carrier))
        return cls(segment, designated[1], designated[2]) if designated else cls(segment, "", flight)

    def take_place(self, segment: Segment, values: Values) -> None:
        """A LOC below the flight."""
        function = segment.get(1).lstrip("0")
        if function in _ENDS and segment.get(2):
            self.stops.append(_Stop(values.code(segment, 2, 0, PORT), function))

    def take_time(self, segment: Segment, values: Values, qualifier: str, value: str) -> None:
        """A DTM below the flight: it belongs to the place before it."""
        if qualifier not in _DEPARTS | _ARRIVES:
            return
        if not self.stops:
            values.findings.deviate(Rule.SEGMENT_MISPLACED, segment.place)
            return
        field_name = "departs" if qualifier in _DEPARTS else "arrives"
        values.put(segment, self.stops[-1], field_name, values.minute(segment, value))

    def legs(self, values: Values) -> Iterator[Leg]:
        """The legs between the stops."""
        if len(self.stops) < 2:
            values.findings.deviate(Rule.LEG_INCOMPLETE, self.segment.place)
            yield self._half(self.stops[0] if self.stops else _Stop("", ""))
        for one, other in pairwise(self.stops):
            if not _on_ground(one, other):
                yield Leg(self.carrier, self.number, one.port, other.port, one.departs, other.arrives)

    def _half(self, stop: _Stop) -> Leg:
        """What is known of a leg with one end."""
        if stop.function in _ARRIVALS or (stop.arrives and not stop.departs):
            return Leg(self.carrier, self.number, arrival=stop.port, arrives=stop.arrives)
        return Leg(self.carrier, self.number, departure=stop.port, departs=stop.departs)


def _on_ground(one: _Stop, other: _Stop) -> bool:
    """Two stops with no flight between them: arrived at one, leaving from the other."""
    if one.departs or other.arrives:
        return False
    return bool(one.arrives and other.departs) or one.port == other.port
