"""ISO 9735 envelope: UNB/UNZ, UNG/UNE and UNH/UNT, with each count and each reference checked on its own."""

from collections.abc import Callable, Iterator

from adapters.edifact import Segment
from adapters.findings import Findings, Place, Rule


class Envelope:
    """Walks the segments of one interchange and hands out those inside messages; UNH opens each message."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._interchange = ""
        self._group: str | None = None
        self._message: str | None = None
        self._groups = self._in_group = self._in_message = 0
        self._closed = False
        self._last = Place()
        self.unb: Segment | None = None
        self.messages = 0

    def contents(self, segments: Iterator[Segment]) -> Iterator[Segment]:
        """Yield UNH and what follows it up to UNT, message by message; raises DecodeError."""
        service: dict[str, Callable[[Segment], None]] = {
            "UNB": self._open_interchange,
            "UNG": self._open_group,
            "UNH": self._open_message,
            "UNT": self._close_message,
            "UNE": self._close_group,
            "UNZ": self._close_interchange,
        }
        for segment in segments:
            self._last = segment.place
            if segment.tag in service:
                service[segment.tag](segment)
                if segment.tag == "UNH":
                    yield segment
            elif self._message is None:
                self._findings.deviate(Rule.SEGMENT_OUTSIDE_MESSAGE, segment.place)
            else:
                self._in_message += 1
                yield segment
        self._finish()

    def _open_interchange(self, segment: Segment) -> None:
        if self.unb is not None:
            self._findings.refuse(Rule.SEVERAL_INTERCHANGES, segment.place)
        self.unb = segment
        self._interchange = segment.get(5)

    def _open_group(self, segment: Segment) -> None:
        self._leave_group(segment.place)
        self._groups += 1
        self._group, self._in_group = segment.get(5), 0

    def _open_message(self, segment: Segment) -> None:
        self._leave_message(segment.place)
        if self._groups and self._group is None:
            self._findings.deviate(Rule.SEGMENT_MISPLACED, segment.place)
        self.messages += 1
        self._findings.cap(Rule.TOO_MANY_MESSAGES, self.messages, self._findings.limits.messages, segment.place)
        self._in_group += 1
        self._message, self._in_message = segment.get(1), 1

    def _close_message(self, segment: Segment) -> None:
        if self._message is None:
            self._findings.deviate(Rule.SEGMENT_OUTSIDE_MESSAGE, segment.place)
            return
        self._check(segment, Rule.UNT_COUNT, self._in_message + 1, Rule.UNT_REFERENCE, self._message)
        self._message = None

    def _close_group(self, segment: Segment) -> None:
        self._leave_message(segment.place)
        if self._group is None:
            self._findings.deviate(Rule.SEGMENT_MISPLACED, segment.place)
            return
        self._check(segment, Rule.UNE_COUNT, self._in_group, Rule.UNE_REFERENCE, self._group)
        self._group = None

    def _close_interchange(self, segment: Segment) -> None:
        self._leave_group(segment.place)
        self._check(segment, Rule.UNZ_COUNT, self._groups or self.messages, Rule.UNZ_REFERENCE, self._interchange)
        self._closed = True

    def _check(self, segment: Segment, count: Rule, expected: int, reference: Rule, opened: str) -> None:
        """A trailer: its count may be zero-padded, its reference may not differ."""
        stated = segment.get(1)
        if not (stated.isascii() and stated.isdigit() and stated.lstrip("0") == str(expected)):
            self._findings.deviate(count, segment.place)
        if segment.get(2) != opened:
            self._findings.deviate(reference, segment.place)

    def _leave_message(self, place: Place) -> None:
        if self._message is not None:
            self._findings.deviate(Rule.UNT_MISSING, place)
            self._message = None

    def _leave_group(self, place: Place) -> None:
        self._leave_message(place)
        if self._group is not None:
            self._findings.deviate(Rule.UNE_MISSING, place)
            self._group = None

    def _finish(self) -> None:
        self._leave_group(self._last)
        if not self._closed:
            self._findings.deviate(Rule.UNZ_MISSING, self._last)
        if not self.messages:
            self._findings.refuse(Rule.NO_MESSAGE, self._last)
