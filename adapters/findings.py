"""What a reader finds wrong in a file: a rule and a place, and never a value of the file.

Strict reading refuses at the first deviation. Tolerant reading names it and goes on. A fatal finding ends both.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, unique
from typing import NoReturn


@unique
class Rule(Enum):
    """Everything that can be wrong; the name is the code, the value says what the rule asks for."""

    # The end of both modes.
    NOT_EDIFACT = "the file holds no EDIFACT interchange"
    BAD_SERVICE_STRING = "UNA gives six distinct separators, none of them alphanumeric or a control character"
    SEVERAL_INTERCHANGES = "a file holds one interchange"
    NO_MESSAGE = "an interchange holds at least one message"
    WRONG_MESSAGE_TYPE = "every message is a PAXLST"
    VERSION_UNSUPPORTED = "a PAXLST is of a directory from D.02B to D.15B, or of the old US form"
    LIST_KIND_UNSUPPORTED = "a list is of passengers (745) or of crew (250)"
    TOO_LARGE = "the file is within the cap on bytes"
    TOO_MANY_LINES = "the file is within the cap on line breaks"
    TOO_MANY_SEGMENTS = "the file is within the cap on segments"
    TOO_MANY_MESSAGES = "the file is within the cap on messages"
    TOO_MANY_PERSONS = "the file is within the cap on persons"
    TOO_MANY_DEVIATIONS = "the file is within the cap on deviations"
    SEGMENT_TOO_LONG = "a segment is within the cap on bytes"
    TOO_MANY_ELEMENTS = "a segment is within the cap on components"
    ELEMENT_TOO_LONG = "a component is within the cap on characters"
    TIME_EXCEEDED = "the file is read within the cap on time"

    # Transport and syntax.
    TEXT_BEFORE = "nothing stands before the interchange"
    TEXT_AFTER = "nothing but line breaks stands after UNZ"
    BLANKS_BEFORE_SEGMENT = "only line breaks stand between segments"
    LINE_BREAK_IN_SEGMENT = "no line break stands inside a segment"
    TERMINATOR_MISSING = "the last segment ends with a terminator"
    TAG_PADDED = "a segment tag has no blank around it"
    TAG_UNKNOWN = "a segment tag is one of a passenger list"
    REPETITION_UNEXPECTED = "no element of a passenger list repeats"
    CHARSET_UNKNOWN = "the syntax identifier names a known character set"
    CHARSET_VIOLATION = "every character is in the set that UNB declares"

    # Envelope.
    UNT_MISSING = "a message ends with UNT"
    UNE_MISSING = "a group ends with UNE"
    UNZ_MISSING = "an interchange ends with UNZ"
    UNT_COUNT = "UNT counts the segments of its message"
    UNE_COUNT = "UNE counts the messages of its group"
    UNZ_COUNT = "UNZ counts the groups, or the messages where there is no group"
    UNT_REFERENCE = "UNT repeats the reference of UNH"
    UNE_REFERENCE = "UNE repeats the reference of UNG"
    UNZ_REFERENCE = "UNZ repeats the reference of UNB"
    SEGMENT_OUTSIDE_MESSAGE = "segments of a list stand inside a message"
    SEGMENT_MISPLACED = "a segment stands in its group"
    PARTS_INCOMPLETE = "a list in several parts is here from the first part to the final one"
    PART_REPEATED = "each part of a list is here once"

    # Content.
    LIST_KIND_MISSING = "BGM says which list this is"
    NO_LEG = "a list names at least one leg"
    LEG_INCOMPLETE = "a leg has both its ends"
    TOO_MANY_LEGS = "a list has at most 32 legs"
    NO_PERSON = "a list names at least one person"
    NAME_MISSING = "a person has a surname"
    DOCUMENT_WITHOUT_NUMBER = "a document has a number"
    DOCUMENT_WITHOUT_TYPE = "a document has a type"
    TOO_MANY_DOCUMENTS = "a person has at most 16 documents"
    TOO_MANY_TAGS = "a person has at most 64 bag tags"
    BAD_VALUE = "a value has the form that its field asks for"
    VALUE_MISPLACED = "a value stands in its component"
    FIELD_REPEATED = "a field is given one value"
    COUNT_DIFFERS = "the parts of one list declare one count"


@dataclass(frozen=True, slots=True)
class Place:
    """Where: tag, ordinal of the segment (UNB is 1, what stands before it 0), offset in bytes from 0."""

    segment: str = ""
    position: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Deviation:
    """One warning of tolerant reading."""

    code: str
    segment: str
    position: int
    offset: int


class DecodeError(ValueError):
    """The file is refused; says which rule and where, and echoes no value."""

    def __init__(self, rule: Rule, place: Place) -> None:
        where = f"{place.segment or 'segment'} {place.position}, byte {place.offset}"
        super().__init__(f"{rule.name} at {where}: {rule.value}")
        self.code = rule.name
        self.segment = place.segment
        self.position = place.position
        self.offset = place.offset
        self.message = rule.value


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps of one file. A list of 300 persons has some 120 KB and 5,000 segments."""

    bytes: int = 8 << 20
    preamble_bytes: int = 4096
    line_breaks: int = 400_000
    segments: int = 100_000
    segment_bytes: int = 8192
    components: int = 200  # of one segment
    component_characters: int = 1024
    messages: int = 99
    persons: int = 10_000
    deviations: int = 10_000
    seconds: float = 20.0


LIMITS = Limits()


@dataclass(slots=True)
class Findings:
    """Collects deviations in tolerant mode, refuses the first one in strict mode; keeps the caps."""

    tolerant: bool = False
    limits: Limits = LIMITS
    clock: Callable[[], float] = time.monotonic
    deviations: list[Deviation] = field(default_factory=list)
    _deadline: float = field(init=False)

    def __post_init__(self) -> None:
        self._deadline = self.clock() + self.limits.seconds

    def deviate(self, rule: Rule, place: Place) -> None:
        """Name a deviation; raises DecodeError in strict mode."""
        if not self.tolerant:
            self.refuse(rule, place)
        self.cap(Rule.TOO_MANY_DEVIATIONS, len(self.deviations) + 1, self.limits.deviations, place)
        self.deviations.append(Deviation(rule.name, place.segment, place.position, place.offset))

    def refuse(self, rule: Rule, place: Place) -> NoReturn:
        """End the reading in both modes."""
        raise DecodeError(rule, place)

    def cap(self, rule: Rule, amount: int, limit: int, place: Place) -> None:
        """Refuse an amount over its limit."""
        if amount > limit:
            self.refuse(rule, place)

    def in_time(self, place: Place) -> None:
        """Refuse to go on after the deadline."""
        if self.clock() > self._deadline:
            self.refuse(Rule.TIME_EXCEEDED, place)
