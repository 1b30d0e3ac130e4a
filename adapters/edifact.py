"""ISO 9735 syntax: bytes → segments, with the place of each, in one pass and bounded memory.

Example: `UNA:+.? 'UNB+UNOA:4+US+MX+261103:0900+1'…`. Line breaks may stand between segments; blanks, line breaks inside
segments and text around the interchange are deviations. Values are un-escaped last.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace

from adapters.edifact_charset import CODECS, Repertoire
from adapters.findings import Findings, Place, Rule

_SERVICE_TAGS = frozenset({"UNB", "UNG", "UNH", "UNT", "UNE", "UNZ", "UNS"})
_LIST_TAGS = frozenset({"BGM", "RFF", "DTM", "LOC", "NAD", "CTA", "COM", "TDT", "ATT", "MEA", "GEI", "FTX", "EMP"})
_DETAIL_TAGS = frozenset({"NAT", "DOC", "CPI", "QTY", "CNT", "AUT", "PDT"})
TAGS = _SERVICE_TAGS | _LIST_TAGS | _DETAIL_TAGS
_UNA_LENGTH = 9
_UNA = re.compile(rb"(?<![A-Za-z])UNA.{0,12}?\s*UNB", re.DOTALL)
_UNB = re.compile(rb"(?<![A-Za-z])UNB\+[A-Z]{4}:\d")
_BLANKS = re.compile(rb"[ \t]*+")
_BREAKS = re.compile(rb"[\r\n]+")
_SYNTAX_WITH_REPETITION = "4"


@dataclass(frozen=True, slots=True)
class Separators:
    """Service characters; `release` and `repetition` are empty when not in use."""

    component: str = ":"
    data: str = "+"
    release: str = "?"
    repetition: str = ""
    terminator: str = "'"

    def all(self) -> str:
        """Every character that must be released inside a value."""
        return self.component + self.data + self.release + self.repetition + self.terminator


@dataclass(frozen=True, slots=True)
class Segment:
    """A tag and its elements, each a tuple of components."""

    tag: str
    elements: tuple[tuple[str, ...], ...]
    place: Place

    def get(self, element: int, component: int = 0) -> str:
        """A component, counted from element 1 and component 0; empty when absent."""
        if element > len(self.elements) or component >= len(self.elements[element - 1]):
            return ""
        return self.elements[element - 1][component]


def segments(data: bytes, findings: Findings) -> Iterator[Segment]:
    """Yield the segments from UNB to UNZ; text before and after is a deviation. Raises DecodeError."""
    findings.cap(Rule.TOO_LARGE, len(data), findings.limits.bytes, Place())
    start, base, separators = _open(data, findings)
    if start:
        blank = not data[:start].strip(b" \t")
        findings.deviate(Rule.BLANKS_BEFORE_SEGMENT if blank else Rule.TEXT_BEFORE, Place())
    scanner = _Scanner(data, base, separators, findings)
    for segment in scanner.scan():
        yield segment
        if segment.tag == "UNZ":
            scanner.close(segment)
            return


def _open(data: bytes, findings: Findings) -> tuple[int, int, Separators]:
    """Find the interchange: where it starts, where its segments start, and the separators."""
    head = data[: findings.limits.preamble_bytes]
    if una := _UNA.search(head):
        base = una.start() + _UNA_LENGTH
        return una.start(), base, _service_string(data[una.start() : base], data[base : una.end()], findings)
    unb = _UNB.search(head)
    if unb is None:
        findings.refuse(Rule.NOT_EDIFACT, Place())
    return unb.start(), unb.start(), Separators()


def _service_string(una: bytes, rest: bytes, findings: Findings) -> Separators:
    component, data, decimal, release, repetition, terminator = (chr(byte) for byte in una[3:].ljust(6, b"A"))
    used = [component, data, terminator, *(mark for mark in (release, repetition) if mark != " ")]
    bad = any(not ("!" <= mark <= "~") or mark.isalnum() for mark in [*used, decimal])
    if bad or len(set(used)) != len(used) or rest.strip() != b"UNB":
        findings.refuse(Rule.BAD_SERVICE_STRING, Place())
    return Separators(component, data, release.strip(), repetition.strip(), terminator)


class _Scanner:
    """Cuts the text into segments; offsets lead back to the bytes of the file although line breaks are taken out."""

    def __init__(self, data: bytes, base: int, separators: Separators, findings: Findings) -> None:
        self._findings = findings
        self._data = data
        self._base = base
        self._separators = separators
        self._text = data[base:].translate(None, b"\r\n")
        self._breaks, self._removed = self._line_breaks()
        self._position = 0
        self._end = 0
        self._repertoire: Repertoire | None = None

    def scan(self) -> Iterator[Segment]:
        pattern = _until(self._separators)
        while self._end < len(self._text):
            start = _end_of(_BLANKS, self._text, self._end)
            stop = _end_of(pattern, self._text, start)
            body = self._text[start:stop]
            if not body and stop >= len(self._text):
                return
            self._position += 1
            tag = self._text[start : start + 3].decode("ascii", "replace")
            place = Place(tag if tag in TAGS else "", self._position, self._offset(start))
            self._check_frame(place, start, stop)
            self._end = stop + 1
            yield self._segment(body, place)

    def close(self, last: Segment) -> None:
        """Look at what follows UNZ."""
        rest = self._text[self._end :]
        if _UNA.search(rest) or _UNB.search(rest):
            self._findings.refuse(Rule.SEVERAL_INTERCHANGES, last.place)
        if rest:
            place = Place("UNZ", last.place.position, self._offset(self._end))
            self._findings.deviate(Rule.TEXT_AFTER, place)

    def _line_breaks(self) -> tuple[list[int], list[int]]:
        """Where in the cleaned text breaks stood, and how many bytes had been taken out up to and with each."""
        at: list[int] = []
        removed: list[int] = []
        total = 0
        for found in _BREAKS.finditer(self._data, self._base):
            at.append(found.start() - self._base - total)
            total += found.end() - found.start()
            removed.append(total)
            if len(at) > self._findings.limits.line_breaks:
                self._findings.refuse(Rule.TOO_MANY_LINES, Place("", 0, found.start()))
        return at, removed

    def _offset(self, position: int) -> int:
        index = bisect_right(self._breaks, position)
        return self._base + position + (self._removed[index - 1] if index else 0)

    def _check_frame(self, place: Place, start: int, stop: int) -> None:
        findings = self._findings
        findings.in_time(place)
        findings.cap(Rule.TOO_MANY_SEGMENTS, self._position, findings.limits.segments, place)
        findings.cap(Rule.SEGMENT_TOO_LONG, stop - start, findings.limits.segment_bytes, place)
        if start > self._end:
            findings.deviate(Rule.BLANKS_BEFORE_SEGMENT, place)
        if bisect_right(self._breaks, min(stop, len(self._text) - 1)) > bisect_right(self._breaks, start):
            findings.deviate(Rule.LINE_BREAK_IN_SEGMENT, place)
        if stop >= len(self._text):
            findings.deviate(Rule.TERMINATOR_MISSING, place)

    def _segment(self, body: bytes, place: Place) -> Segment:
        if self._repertoire is None:
            self._repertoire = self._learn(body, place)
        text, clean = self._repertoire.read(body)
        parts = _split(text, self._separators.data, self._separators.release)
        tag = parts[0].strip()
        if not clean:
            self._findings.deviate(Rule.CHARSET_VIOLATION, place)
        if tag not in TAGS:
            self._findings.deviate(Rule.TAG_UNKNOWN, place)
            tag = ""
        elif tag != parts[0]:
            self._findings.deviate(Rule.TAG_PADDED, place)
        return Segment(tag, self._elements(parts[1:], place), place)

    def _elements(self, parts: list[str], place: Place) -> tuple[tuple[str, ...], ...]:
        marks, limits = self._separators, self._findings.limits
        elements = []
        room = limits.components
        for part in parts:
            repeats = _split(part, marks.repetition, marks.release) if marks.repetition else [part]
            if len(repeats) > 1:
                self._findings.deviate(Rule.REPETITION_UNEXPECTED, place)
            components = _split(repeats[0], marks.component, marks.release)
            room -= len(components)
            if room < 0:
                self._findings.refuse(Rule.TOO_MANY_ELEMENTS, place)
            values = tuple(_unescape(value, marks.release) for value in components)
            self._findings.cap(Rule.ELEMENT_TOO_LONG, max(map(len, values)), limits.component_characters, place)
            elements.append(values)
        return tuple(elements)

    def _learn(self, unb: bytes, place: Place) -> Repertoire:
        """UNB says which characters are allowed and, from syntax 4 on, that elements may repeat."""
        marks = self._separators
        fields = unb.decode("latin-1").split(marks.data)
        if fields[0] != "UNB":
            self._findings.refuse(Rule.NOT_EDIFACT, place)
        identifier, _, version = (fields[1] if len(fields) > 1 else "").partition(marks.component)
        if version[:1] != _SYNTAX_WITH_REPETITION:
            self._separators = replace(marks, repetition="")
        if identifier not in CODECS:
            self._findings.deviate(Rule.CHARSET_UNKNOWN, place)
        return Repertoire.of(identifier, marks.all())


def _until(separators: Separators) -> re.Pattern[bytes]:
    """Everything up to a terminator that is not released; possessive, so linear in the input."""
    stop = re.escape(separators.terminator)
    if not separators.release:
        return re.compile(f"[^{stop}]*+".encode(), re.DOTALL)
    release = re.escape(separators.release)
    return re.compile(f"[^{stop}{release}]*+(?:{release}.?+[^{stop}{release}]*+)*+".encode(), re.DOTALL)


def _end_of(pattern: re.Pattern[bytes], text: bytes, start: int) -> int:
    found = pattern.match(text, start)
    return found.end() if found else start


def _split(text: str, separator: str, release: str) -> list[str]:
    """Split at separators that are not released; the parts stay escaped."""
    if not release or release not in text:
        return text.split(separator)
    parts, start, index = [], 0, 0
    while index < len(text):
        if text[index] == release:
            index += 1
        elif text[index] == separator:
            parts.append(text[start:index])
            start = index + 1
        index += 1
    return [*parts, text[start:]]


def _unescape(text: str, release: str) -> str:
    if not release or release not in text:
        return text
    return re.sub(re.escape(release) + "(.)", r"\1", text)
