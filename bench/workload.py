"""What is sent: distinct passengers, of whom some are minimised and some refused, as the law has it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from broker.v1 import codes_pb2
from broker.v1.facts_pb2 import CLAIM_STATUS_GRANTED, CLAIM_STATUS_PENDING, Facts
from broker.v1.passenger_pb2 import (
    BOARD_ROLE_PASSENGER,
    PASSENGER_KIND_API,
    Identity,
    Leg,
    Passenger,
    PersonName,
    PostalAddress,
    References,
    Residence,
    Travel,
    TravelDocument,
)

SENDER: Final = "us.cbp"
RECIPIENT: Final = "mx.inm"
BASIS: Final = ("us.usc.49.44909",)
BORDER: Final = codes_pb2.PURPOSE_BORDER_SECURITY
INVESTIGATION: Final = codes_pb2.PURPOSE_CRIMINAL_INVESTIGATION
CYCLE: Final = 50
MINIMISED: Final = 18
"""Of each cycle, so many go to investigators, who are not given the residence: 36 %."""
REFUSED: Final = 3
"""Of each cycle, so many are protected, and refused: 6 %."""
PROTECTED: Final = (
    Facts(asylum_information=True),
    Facts(special_relief=CLAIM_STATUS_PENDING),
    Facts(protection_claim=CLAIM_STATUS_GRANTED),
    Facts(trafficking_victim=True),
    Facts(classified=True),
)


@dataclass(frozen=True, slots=True)
class Group:
    """Records of one Submit call: it has one purpose."""

    records: Sequence[Passenger]
    facts: Sequence[Facts | None]
    purpose: codes_pb2.Purpose.ValueType

    @property
    def refused(self) -> int:
        """How many policy must refuse."""
        return sum(fact is not None for fact in self.facts)


def passenger(n: int) -> Passenger:
    """The n-th person; no two are alike."""
    return Passenger(
        kind=PASSENGER_KIND_API,
        identity=Identity(
            name=PersonName(surname=f"PRUEBA{n:07d}", given="ANA MARIA"),
            birth_date=f"19{n % 100:02d}-0{n % 9 + 1}-1{n % 10}",
            nationality="MEX",
        ),
        travel=Travel(
            legs=[Leg(carrier="PB", number=str(100 + n % 800), departure_port="JFK", arrival_port="MEX")],
            role=BOARD_ROLE_PASSENGER,
            clearance_port="MEX",
        ),
        documents=[TravelDocument(type="P", number=f"X{n:08d}", issuing_state="MEX", expires="2031-05-06")],
        residence=Residence(
            country="USA", destination=PostalAddress(street=f"Calle {n}", city="Ciudad de Mexico", country="MEX")
        ),
        references=References(record_locator=f"L{n:07d}", seat=f"{n % 40 + 1}A"),
    )


def groups(count: int, size: int) -> Iterator[Group]:
    """`count` records in calls of at most `size`; every cycle has the same shares."""
    waiting: dict[codes_pb2.Purpose.ValueType, list[tuple[Passenger, Facts | None]]] = {BORDER: [], INVESTIGATION: []}
    for n in range(count):
        turn = n % CYCLE
        purpose = INVESTIGATION if turn < MINIMISED else BORDER
        facts = PROTECTED[n // CYCLE % len(PROTECTED)] if turn >= CYCLE - REFUSED else None
        waiting[purpose].append((passenger(n), facts))
        if len(waiting[purpose]) == size:
            yield _group(waiting[purpose], purpose)
            waiting[purpose] = []
    for purpose, left in waiting.items():
        if left:
            yield _group(left, purpose)


def _group(found: Sequence[tuple[Passenger, Facts | None]], purpose: codes_pb2.Purpose.ValueType) -> Group:
    return Group([record for record, _ in found], [facts for _, facts in found], purpose)
