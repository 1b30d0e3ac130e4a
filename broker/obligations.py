"""What a decision obliges, carried out: caveats, notices, retention, accounting. What we cannot do, we do not permit."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import policy
from broker import decision as ruling

DAY_MS = 86_400_000
ACCOUNTING_MS = 5 * 366 * DAY_MS
"""Five years at least (5 USC 552a(c)(2)); longer where the record lives longer."""
SUPPORTED = frozenset({"caveat", "retain", "account", "notice"})
_DURATION = re.compile(r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)D)?")


def within_reach(decision: policy.Decision) -> policy.Decision:
    """The decision, refused when it obliges something that this gateway cannot carry out."""
    if all(o.kind in SUPPORTED for o in decision.obligations):
        return decision
    return replace(decision, permit=False, failed=True, withheld=(), obligations=())


def destroy_by(obligations: Iterable[policy.Obligation], now_ms: int) -> int:
    """When content must be gone (ms): the shortest retention; 0 when no rule sets one."""
    ends = [now_ms + duration_ms(o.value) for o in obligations if o.kind == "retain"]
    return min(ends, default=0)


def duration_ms(text: str) -> int:
    """An ISO 8601 duration of years, months (30 days: never longer than the law's) and days, in milliseconds."""
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        raise ValueError("not a duration of years, months or days")
    years, months, days = (int(group or 0) for group in match.groups())
    return (365 * years + (365 * months) // 12 + days) * DAY_MS


def added_caveats(obligations: Iterable[policy.Obligation], stated: Sequence[int]) -> list[int]:
    """Codes of the caveats that rules add to those the agency stated, ascending."""
    wanted = {ruling.caveat_number(o.value) for o in obligations if o.kind == "caveat"}
    return sorted(wanted - set(stated))


def notices(decision: policy.Decision) -> list[tuple[int, int]]:
    """(slot, code) that travel, whether or not the record has the section."""
    found = {(w.slot, ruling.notice_number(w.notice)) for w in decision.withheld if w.notice}
    for obligation in decision.obligations:
        if obligation.kind == "notice":
            slot, _, code = obligation.value.partition(":")
            found.add((int(slot), ruling.notice_number(code)))
    return sorted(found)


def accounts(obligations: Iterable[policy.Obligation]) -> bool:
    """Whether the disclosure must be accounted for."""
    return any(o.kind == "account" for o in obligations)


def accounting_until(now_ms: int) -> int:
    """When the accounting of a disclosure made now may end (ms)."""
    return now_ms + ACCOUNTING_MS


def subject_of(record: Any) -> bytes:
    """What the subject's keyed hash is made of: name and birth date, upper case; b'' for a record without a person."""
    if not record.HasField("identity"):
        return b""
    name = record.identity.name
    return "|".join((name.surname, name.given, record.identity.birth_date)).upper().encode()
