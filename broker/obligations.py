"""What a decision obliges, carried out: caveats, notices, retention, accounting. What we cannot do is not permitted."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import policy
from broker import decision as ruling

DAY_MS = 86_400_000
ACCOUNTING_MS = 5 * 366 * DAY_MS
"""Five years at least (5 USC 552a(c)(2)); longer where the record lives longer."""
SUPPORTED = frozenset({"caveat", "retain", "account", "notice"})
_DURATION = re.compile(r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)D)?")


@dataclass(frozen=True, slots=True)
class Duties:
    """The obligations of a decision as a gateway carries them out. `retain_ms` 0: no rule sets an end."""

    caveats: frozenset[int]
    retain_ms: int
    account: bool
    notices: frozenset[tuple[int, int]]
    """(slot, code), whether or not the record has the section."""

    def added(self, stated: Sequence[int]) -> list[int]:
        """Codes of the caveats that rules add to those that stand already, ascending."""
        return sorted(self.caveats.difference(stated))

    def destroy_by(self, now_ms: int) -> int:
        """When content must be gone (ms); 0: nothing says so."""
        return now_ms + self.retain_ms if self.retain_ms else 0


@lru_cache(maxsize=4096)
def duties(obligations: tuple[policy.Obligation, ...]) -> Duties:
    """What a decision's obligations come to; the shortest retention wins."""
    retain = [duration_ms(o.value) for o in obligations if o.kind == "retain"]
    return Duties(
        caveats=frozenset(ruling.caveat_number(o.value) for o in obligations if o.kind == "caveat"),
        retain_ms=min(retain, default=0),
        account=any(o.kind == "account" for o in obligations),
        notices=frozenset(_notice(o.value) for o in obligations if o.kind == "notice"),
    )


def _notice(value: str) -> tuple[int, int]:
    slot, _, code = value.partition(":")
    return int(slot), ruling.notice_number(code)


def within_reach(decision: policy.Decision) -> policy.Decision:
    """The decision, refused when it obliges something that this gateway cannot carry out."""
    if SUPPORTED.issuperset(o.kind for o in decision.obligations):
        return decision
    return replace(decision, permit=False, failed=True, withheld=(), obligations=())


def notices(decision: policy.Decision) -> list[tuple[int, int]]:
    """(slot, code) that travel, ascending."""
    given = {(w.slot, ruling.notice_number(w.notice)) for w in decision.withheld if w.notice}
    return sorted(given | duties(decision.obligations).notices)


def duration_ms(text: str) -> int:
    """An ISO 8601 duration of years, months (30 days: never longer than the law's) and days, in milliseconds."""
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        raise ValueError("not a duration of years, months or days")
    years, months, days = (int(group or 0) for group in match.groups())
    return (365 * years + (365 * months) // 12 + days) * DAY_MS


def accounting_until(now_ms: int, destroy_by_ms: int) -> int:
    """When the accounting of a disclosure made now may end (ms); `destroy_by_ms` 0: nothing sets an end to content."""
    return max(now_ms + ACCOUNTING_MS, destroy_by_ms)


def subject_of(record: Any) -> bytes:
    """What the subject's keyed hash is made of: name and birth date, upper case; b'' for a record without a person."""
    if not record.HasField("identity"):
        return b""
    name = record.identity.name
    return "|".join((name.surname, name.given, record.identity.birth_date)).upper().encode()
