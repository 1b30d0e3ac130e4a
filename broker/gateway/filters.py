"""The filter of ListDecisions: comparisons joined by AND (a part of AIP-160), turned into SQL with bound values."""

import datetime as dt
import re
from typing import Final

from broker.errors import InvalidError
from broker.v1 import codes_pb2

_COMPARISON: Final = re.compile(r'\s*([a-z_]+)\s*(=|!=|>=|<=|<|>)\s*(?:"([^"]*)"|([A-Za-z0-9._:-]+))\s*')
MAX_LENGTH: Final = 1024
EQUALS: Final = {
    "family": "family = ?",
    "kind": "kind = ?",
    "action": "action = ?",
    "origin": "origin = ?",
    "recipient": "recipient = ?",
    "rule": "instr(rules, ' ' || ? || ' ') > 0",
    "withheld": "instr(withheld, ' ' || ? || ' ') > 0",
}


class FilterInvalid(InvalidError):
    """A filter that is not of this grammar."""

    reason = "FIELD_INVALID"


def parse(text: str) -> tuple[str, tuple[object, ...]]:
    """(SQL condition, values) of a filter; '' matches everything.

    Raises: FilterInvalid.
    """
    if not text.strip():
        return "1", ()
    if len(text) > MAX_LENGTH:
        raise FilterInvalid("a filter is at most 1,024 characters")
    clauses, values = [], []
    for part in re.split(r"\bAND\b", text):
        match = _COMPARISON.fullmatch(part)
        if match is None:
            raise FilterInvalid('a filter is comparisons joined by AND, such as: effect = "forbid" AND rule = "R18"')
        clause, found = _clause(match[1], match[2], match[3] if match[3] is not None else match[4])
        clauses.append(clause)
        values += found
    return " AND ".join(clauses), tuple(values)


def _clause(name: str, operator: str, value: str) -> tuple[str, list[object]]:
    if name == "time":
        return f"time_ms {operator} ?", [_time(value)]
    if operator not in {"=", "!="}:
        raise FilterInvalid("only time can be compared by order")
    negate = "NOT " if operator == "!=" else ""
    if name == "effect" and value in {"permit", "forbid"}:
        return f"{negate}permit = ?", [value == "permit"]
    if name == "purpose":
        return f"{negate}purpose = ?", [_purpose(value)]
    if name == "agency":
        return f"{negate}(origin = ? OR recipient = ?)", [value, value]
    if name not in EQUALS:
        raise FilterInvalid("a filter names time, effect, family, kind, action, agency, rule, withheld or purpose")
    return f"{negate}{EQUALS[name]}", [value]


def _time(value: str) -> int:
    try:
        when = dt.datetime.fromisoformat(value)
    except ValueError:
        raise FilterInvalid("a time is RFC 3339, such as 2026-11-24T00:00:00Z") from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=dt.UTC)
    return int(when.timestamp() * 1000)


def _purpose(value: str) -> int:
    try:
        return codes_pb2.Purpose.Value(f"PURPOSE_{value.upper()}")
    except ValueError:
        raise FilterInvalid("a purpose that is not of the closed list") from None
