"""What a demonstration sends, and what must become of it; the plan is made before anything is asked of a gateway."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from adapters.paxlst import DecodedRecord
from broker.v1 import codes_pb2
from broker.v1.facts_pb2 import CLAIM_STATUS_GRANTED, CLAIM_STATUS_PENDING, Facts

SENDER: Final = "us.cbp"
RECIPIENT: Final = "mx.inm"
BASIS: Final = ("us.usc.49.44909",)
BORDER: Final = codes_pb2.PURPOSE_BORDER_SECURITY
INVESTIGATION: Final = codes_pb2.PURPOSE_CRIMINAL_INVESTIGATION
PROTECTED: Final = (
    Facts(asylum_information=True),
    Facts(special_relief=CLAIM_STATUS_PENDING),
    Facts(protection_claim=CLAIM_STATUS_GRANTED),
    Facts(trafficking_victim=True),
    Facts(classified=True),
)
"""Facts that forbid a record, one kind a refused person."""
EVERY: Final = 5


@dataclass(frozen=True, slots=True)
class Planned:
    """One record: its facts, its purpose, and the outcome that the law gives it."""

    record: DecodedRecord
    purpose: codes_pb2.Purpose.ValueType
    facts: Facts | None
    expected: str
    """shared, minimised, refused or recalled."""


def plan(records: Sequence[DecodedRecord]) -> list[Planned]:
    """Every fifth is protected, every fifth is recalled; two in five go to investigators, without a residence."""
    return [_planned(n, record) for n, record in enumerate(records)]


def _planned(n: int, record: DecodedRecord) -> Planned:
    turn = n % EVERY
    if turn == 3:
        return Planned(record, BORDER, PROTECTED[n // EVERY % len(PROTECTED)], "refused")
    if turn == 4:
        return Planned(record, BORDER, None, "recalled")
    if turn in {1, 2}:
        cut = record.record.HasField("residence")
        return Planned(record, INVESTIGATION, None, "minimised" if cut else "shared")
    return Planned(record, BORDER, None, "shared")
