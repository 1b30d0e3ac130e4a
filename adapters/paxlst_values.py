"""Values of a list: what form each has, and what a date of two-digit years means.

A value that is empty is not stated. A value of another form is a deviation, and its field stays empty.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from adapters.edifact import Segment
from adapters.findings import Findings, Rule

PORT = re.compile(r"[A-Z0-9]{3,5}")
STATE = re.compile(r"[A-Z]{1,3}")
DOCUMENT_TYPE = re.compile(r"[A-Z0-9]{1,3}")
CARRIER = re.compile(r"[A-Z0-9]{2,3}")
FLIGHT = re.compile(r"[A-Z0-9]{1,12}")
_DATE = re.compile(r"[0-9]{6}|[0-9]{8}")
_MINUTE = re.compile(r"[0-9]{10}|[0-9]{12}")
# EDIFACT is of 1987: no message is older than this century's year 80.
_PIVOT = 80


def upto(length: int) -> re.Pattern[str]:
    """One to `length` characters."""
    return re.compile(f".{{1,{length}}}")


@dataclass(frozen=True, slots=True)
class Values:
    """Reads values of segments; `today` is the date of the message, by which births are dated."""

    findings: Findings
    today: date | None

    def code(self, segment: Segment, element: int, component: int, form: re.Pattern[str]) -> str:
        """A value of a form; empty, with a deviation, when it is of another."""
        value = segment.get(element, component)
        if value and not form.fullmatch(value):
            self.bad(segment)
            return ""
        return value

    def text(self, segment: Segment, element: int, component: int, length: int) -> str:
        """Free text without blanks around it; empty, with a deviation, when longer than `length`."""
        value = segment.get(element, component).strip()
        if len(value) > length:
            self.bad(segment)
            return ""
        return value

    def past(self, segment: Segment, element: int, component: int) -> str:
        """A birth or an issue, YYYY-MM-DD: of two-digit years the latest that is not after the message."""
        value = segment.get(element, component)
        return self._dated(segment, value, self._past(value))

    def future(self, segment: Segment, element: int, component: int) -> str:
        """An expiry, YYYY-MM-DD: two-digit years are of this century."""
        value = segment.get(element, component)
        return self._dated(segment, value, day(value))

    def minute(self, segment: Segment, value: str) -> str:
        """A local time, YYYY-MM-DDTHH:MM."""
        found = minute(value)
        if value and found is None:
            self.bad(segment)
        return found.isoformat(timespec="minutes") if found else ""

    def put(self, segment: Segment, message: Any, field: str, value: str) -> None:
        """Set a field that is still empty; a second, other value is a deviation and is left out."""
        if not value:
            return
        if getattr(message, field) in {"", value}:
            setattr(message, field, value)
        else:
            self.findings.deviate(Rule.FIELD_REPEATED, segment.place)

    def bad(self, segment: Segment) -> None:
        """A value that its field cannot hold."""
        self.findings.deviate(Rule.BAD_VALUE, segment.place)

    def _dated(self, segment: Segment, value: str, found: date | None) -> str:
        if value and found is None:
            self.bad(segment)
        return found.isoformat() if found else ""

    def _past(self, value: str) -> date | None:
        if not re.fullmatch("[0-9]{6}", value):
            return day(value)
        return latest(value, self.today) if self.today else None


def day(value: str) -> date | None:
    """YYMMDD of this century, or CCYYMMDD."""
    return _date("20" + value if len(value) == len("YYMMDD") else value) if _DATE.fullmatch(value) else None


def latest(value: str, today: date) -> date | None:
    """The latest date with the digits YYMMDD that is not after `today`."""
    return max((found for found in _centuries(value) if found <= today), default=None)


def sent(value: str) -> date | None:
    """The date of a message, YYMMDD or CCYYMMDD."""
    if re.fullmatch("[0-9]{6}", value) and int(value[:2]) >= _PIVOT:
        value = "19" + value
    return day(value)


def minute(value: str) -> datetime | None:
    """YYMMDDHHMM or CCYYMMDDHHMM."""
    if not _MINUTE.fullmatch(value):
        return None
    date_of = sent(value[:-4])
    hour, past_hour = int(value[-4:-2]), int(value[-2:])
    if date_of is None or hour > 23 or past_hour > 59:
        return None
    return datetime(date_of.year, date_of.month, date_of.day, hour, past_hour)  # noqa: DTZ001 - local to its port


def _centuries(value: str) -> Iterator[date]:
    for century in ("19", "20"):
        if found := _date(century + value):
            yield found


def _date(value: str) -> date | None:
    try:
        return date(int(value[:4]), int(value[4:6]), int(value[6:]))
    except ValueError:
        return None
