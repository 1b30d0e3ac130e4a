"""Time in law: intervals of days, ISO 8601 durations, and the instruments that rules cite."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

BEGINNING = -(1 << 62)
END = 1 << 62
_DURATION = re.compile(r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)D)?")


def day_ms(day: date) -> int:
    """The first millisecond of a day, UTC."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


@dataclass(frozen=True, slots=True)
class Interval:
    """Days of law, both ends included, as half-open milliseconds UTC."""

    start_ms: int = BEGINNING
    end_ms: int = END

    @staticmethod
    def parse(text: str) -> "Interval":
        """Read `2011-01-03/..`; `..` is open. Raises ValueError."""
        first, slash, last = text.partition("/")
        if not slash:
            raise ValueError("an interval is written from/to")
        return Interval.of(_day(first), _day(last))

    @staticmethod
    def of(first: date | None, last: date | None) -> "Interval":
        """From the first to the last day in force; None is open. Raises ValueError when empty."""
        start = BEGINNING if first is None else day_ms(first)
        end = END if last is None else day_ms(last + timedelta(days=1))
        if end <= start:
            raise ValueError("an interval ends before it begins")
        return Interval(start, end)

    def holds(self, instant_ms: int) -> bool:
        """Whether the instant lies inside."""
        return self.start_ms <= instant_ms < self.end_ms

    def covers(self, other: "Interval") -> bool:
        """Whether every instant of the other lies inside."""
        return self.start_ms <= other.start_ms and other.end_ms <= self.end_ms

    def meets(self, other: "Interval") -> bool:
        """Whether the two share an instant."""
        return self.start_ms < other.end_ms and other.start_ms < self.end_ms

    def __str__(self) -> str:
        return f"{_day_text(self.start_ms, 0)}/{_day_text(self.end_ms, 1)}"


def _day(text: str) -> date | None:
    return None if text == ".." else date.fromisoformat(text)


def _day_text(instant_ms: int, days_back: int) -> str:
    if instant_ms in {BEGINNING, END}:
        return ".."
    return (datetime.fromtimestamp(instant_ms / 1000, UTC).date() - timedelta(days=days_back)).isoformat()


def duration_days(text: str) -> float:
    """The length of P1Y6M10D in days, for comparing which is stricter. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        raise ValueError("a duration is written PnYnMnD")
    years, months, days = (int(part or 0) for part in match.groups())
    return years * 365.25 + months * 30.4375 + days


@dataclass(frozen=True, slots=True)
class Instrument:
    """A law, treaty or notice that a rule cites. `verified`: somebody has checked this citation."""

    id: str
    citation: str
    effective: Interval
    says_en: str
    says_es: str
    verified: bool
