"""The decision of one record: whole record, then each section, then what a permit obliges. Fails closed."""

import logging
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from threading import Lock
from typing import NamedTuple

from policy.cedar import Answer, CedarError, Evaluator
from policy.law import BEGINNING, Instrument, duration_days
from policy.pack import Pack
from policy.request import DEFAULT_DENY, Decision, Obligation, Request, Withheld
from policy.rule import NOTICES, Rule

_log = logging.getLogger(__name__)
CACHE_DECISIONS = 4096
"""How many decisions are kept; a corridor asks a few hundred different questions."""


class CacheInfo(NamedTuple):
    """Counters of the decision cache."""

    hits: int
    misses: int
    size: int
    capacity: int


@dataclass(frozen=True, slots=True)
class _Law:
    """One interval between two changes of law: its rules, compiled, and the instruments in force."""

    evaluator: Evaluator
    in_force: frozenset[str]


class PolicyEngine:
    """Decides by the packs of one party. Thread-safe; a new pack is a new engine, so no decision mixes two."""

    def __init__(self, party: str, packs: Sequence[Pack], *, capacity: int = CACHE_DECISIONS) -> None:
        self.party = party
        self.packs = tuple(packs)
        self.rules = tuple(rule for pack in packs for rule in pack.rules)
        self.instruments = {one.id: one for pack in packs for one in pack.instruments}
        self.pack_digest = sha256(b"puente/v1/packs\0" + b"".join(pack.digest for pack in packs)).digest()
        self._by_id = {rule.id: rule for rule in self.rules}
        self._capacity = capacity
        self._cache: OrderedDict[tuple[int, Request], Decision] = OrderedDict()
        self._laws: dict[int, _Law] = {}
        self._lock = Lock()
        self._hits = self._misses = 0

    def decide(self, request: Request, law_ms: int | None = None) -> Decision:
        """Decide one record, at the request's instant of law or at `law_ms`.

        Never raises: an error, or anything unknown, is a refusal marked `failed`.
        """
        try:
            return self._cached(request, request.law_ms if law_ms is None else law_ms)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the answer is no
            return self._failed(request, error)

    def consider(self, request: Request) -> Decision:
        """Decide as `decide` does, keeping and counting nothing: for questions of the kind "what if"."""
        try:
            return _decide(request, self._law(self._interval(request.law_ms), request.law_ms), self)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the answer is no
            return self._failed(request, error)

    def cache_info(self) -> CacheInfo:
        """Hits, misses, size and capacity of the decision cache."""
        return CacheInfo(self._hits, self._misses, len(self._cache), self._capacity)

    def rule(self, policy_id: str) -> Rule:
        """The rule with this policy id. Raises KeyError."""
        return self._by_id[policy_id]

    def rules_at(self, law_ms: int) -> tuple[Rule, ...]:
        """The rules in effect at an instant."""
        return tuple(rule for rule in self.rules if rule.effective.holds(law_ms))

    def instruments_at(self, law_ms: int) -> dict[str, Instrument]:
        """The instruments in force at an instant, by id."""
        return {key: one for key, one in self.instruments.items() if one.effective.holds(law_ms)}

    def _failed(self, request: Request, error: Exception) -> Decision:
        # The type of the error only: nothing of the request may reach a log.
        _log.error("decision failed: %s", type(error).__name__)
        law_ms = getattr(request, "law_ms", 0)
        return Decision(
            permit=False,
            rules=(),
            policies=(),
            withheld=(),
            obligations=(),
            pack_digest=self.pack_digest,
            law_ms=law_ms if isinstance(law_ms, int) else 0,
            failed=True,
        )

    def _interval(self, law_ms: int) -> int:
        """Which interval between two changes of law an instant lies in."""
        return bisect_right(self._changes, law_ms)

    @cached_property
    def _changes(self) -> list[int]:
        """The instants at which the law changes, ascending."""
        spans = [rule.effective for rule in self.rules] + [one.effective for one in self.instruments.values()]
        return sorted({edge for span in spans for edge in (span.start_ms, span.end_ms)} | {BEGINNING})

    def _cached(self, request: Request, law_ms: int) -> Decision:
        """Decisions are kept by everything they looked at; the instant counts as its interval of law."""
        interval = self._interval(law_ms)
        key = (interval, request)
        with self._lock:
            found = self._cache.get(key)
            if found is not None:
                self._cache.move_to_end(key)
                self._hits += 1
        if found is None:
            found = _decide(replace(request, law_ms=law_ms), self._law(interval, law_ms), self)
            self._keep(key, found)
        return found if found.law_ms == law_ms else _at(found, law_ms)

    def _keep(self, key: tuple[int, Request], decision: Decision) -> None:
        with self._lock:
            self._misses += 1
            self._cache[key] = decision
            while len(self._cache) > self._capacity:
                self._cache.popitem(last=False)

    def _law(self, interval: int, law_ms: int) -> _Law:
        if interval not in self._laws:
            evaluator = Evaluator(self.packs[0].schema, self.rules_at(law_ms))
            self._laws[interval] = _Law(evaluator, frozenset(self.instruments_at(law_ms)))
        return self._laws[interval]


def _at(found: Decision, law_ms: int) -> Decision:
    """The same decision at another instant of the same interval of law."""
    return Decision(
        found.permit,
        found.rules,
        found.policies,
        found.withheld,
        found.obligations,
        found.pack_digest,
        law_ms,
    )


def _decide(request: Request, law: _Law, engine: PolicyEngine) -> Decision:
    """The steps, in order: the whole record; each section present; what the permit obliges."""
    if request.principal.party != engine.party or not isinstance(request.law_ms, int):
        raise CedarError("the principal is an agency of another party")
    if request.facts and request.action != "release":
        raise CedarError("facts are known where a record is released only")
    # A basis that the packs do not know, or that is not in force that day, is no basis.
    bases = frozenset(request.legal_basis) & law.in_force

    # 1. release or accept
    record = law.evaluator.record(request.action, request, bases)
    if not record.allowed:
        return _refusal(request, engine, record.ids)

    # 2. disclose or show, section by section
    sections = law.evaluator.sections(request, bases)
    refused = _refused_with_section(request, sections, engine)
    if refused is not None:  # and it may be empty: default deny of slot 1
        return _refusal(request, engine, refused)

    # 3. oblige, once; it grants nothing
    duties = law.evaluator.record("oblige", request, bases)
    if duties.ids and not duties.allowed:
        raise CedarError("a forbid on oblige")
    obligations = _strictest(duty for found in duties.ids for duty in engine.rule(found).obligations)
    withheld = _withheld(request, sections, obligations, engine)

    policies = sorted({*record.ids, *duties.ids, *(found for answer in sections for found in answer.ids)})
    rules = {engine.rule(found).rule for found in policies} | {one.rule for one in withheld}
    return Decision(
        permit=True,
        rules=tuple(sorted(rules)),
        policies=tuple(policies),
        withheld=withheld,
        obligations=obligations,
        pack_digest=engine.pack_digest,
        law_ms=request.law_ms,
    )


def _refusal(request: Request, engine: PolicyEngine, ids: Sequence[str]) -> Decision:
    """A record refused by the forbids named, or by default deny when there is none."""
    return Decision(
        permit=False,
        rules=tuple(sorted({engine.rule(found).rule for found in ids})) or (DEFAULT_DENY,),
        policies=tuple(sorted(ids)),
        withheld=(),
        obligations=(),
        pack_digest=engine.pack_digest,
        law_ms=request.law_ms,
    )


def _refused_with_section(request: Request, sections: Sequence[Answer], engine: PolicyEngine) -> tuple[str, ...] | None:
    """Policies of a section without which the record cannot go; None when there is none.

    Slot 1 is never withheld. A section that every lawful record has is never withheld because of a fact: its
    absence would tell the fact, so the record is refused.
    """
    for section, answer in zip(request.sections, sections, strict=True):
        by_fact = section.presence == "always" and any(engine.rule(found).reads for found in answer.ids)
        if not answer.allowed and (section.slot == 1 or by_fact):
            return answer.ids
    return None


def _withheld(
    request: Request, sections: Sequence[Answer], obligations: Sequence[Obligation], engine: PolicyEngine
) -> tuple[Withheld, ...]:
    """Sections present that no permit gives, or that a forbid takes. Raises CedarError for a notice on a given one."""
    notices = dict(duty.value.split(":", 1) for duty in obligations if duty.kind == "notice")
    withheld = []
    for section, answer in zip(request.sections, sections, strict=True):
        notice = notices.get(str(section.slot))
        if not answer.allowed:
            rule = min((engine.rule(found).rule for found in answer.ids), default=DEFAULT_DENY)
            withheld.append(Withheld(section.slot, section.name, section.category, rule, notice))
        elif notice is not None:
            raise CedarError("a notice says that a section is not given, and it is")
    return tuple(withheld)


def _strictest(duties: Iterable[Obligation]) -> tuple[Obligation, ...]:
    """The shortest retention, the stronger notice of a slot, and each other duty once; sorted."""
    found = set(duties)
    periods = sorted((duty for duty in found if duty.kind == "retain"), key=lambda duty: duration_days(duty.value))
    notices: dict[str, str] = {}
    for duty in found:
        if duty.kind == "notice":
            slot, code = duty.value.split(":", 1)
            notices[slot] = max(notices.get(slot, code), code, key=NOTICES.index)
    kept = {duty for duty in found if duty.kind not in {"retain", "notice"}} | set(periods[:1])
    kept |= {Obligation("notice", f"{slot}:{code}") for slot, code in notices.items()}
    return tuple(sorted(kept, key=lambda duty: (duty.kind, duty.value)))
