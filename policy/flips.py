"""What leaves tells no fact (protocol, section 2): flip every fact of every case and compare all that leaves."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from policy.case import Case
from policy.decide import PolicyEngine
from policy.request import FACT_DEFAULTS, Decision, Request

_CLAIMS = ("unspecified", "none", "pending", "granted", "finally_denied")


@dataclass(frozen=True, slots=True)
class Difference:
    """A fact of a case that something leaving gives away."""

    case: str
    fact: str


@dataclass(frozen=True, slots=True)
class Flips:
    """How many facts were flipped, and where that showed."""

    flipped: int
    differences: tuple[Difference, ...]


def flip_facts(engines: Mapping[str, PolicyEngine], cases: Iterable[Case]) -> Flips:
    """Flip each fact of each case of release. A refusal lets nothing leave, so only two permits are compared."""
    flipped = 0
    found: set[Difference] = set()
    for case in cases:
        if case.request.action != "release":
            continue
        engine = engines[case.party]
        before = engine.decide(case.request)
        for fact, request in _flipped(case.request, _systems(engine)):
            flipped += 1
            after = engine.decide(request)
            if _tells(before, after, case.request) and fact not in _revealed(engine, before, after):
                found.add(Difference(case.id, fact))
    return Flips(flipped, tuple(sorted(found, key=lambda one: (one.case, one.fact))))


def _systems(engine: PolicyEngine) -> tuple[str, ...]:
    return "", *sorted(name for name in engine.instruments if ".sorn." in name)


def _flipped(request: Request, systems: tuple[str, ...]) -> Iterator[tuple[str, Request]]:
    """Every request that differs from this one in one fact."""
    stated = dict(request.facts)
    for fact, default in FACT_DEFAULTS.items():
        values = (False, True) if isinstance(default, bool) else systems if default == "" else _CLAIMS
        for value in values:
            if value != stated.get(fact, default):
                facts = {**stated, fact: value}
                yield fact, replace(request, facts=tuple(sorted(facts.items())))


def _tells(before: Decision, after: Decision, request: Request) -> bool:
    return before.permit and after.permit and _leaves(before, request) != _leaves(after, request)


def _leaves(decision: Decision, request: Request) -> tuple[object, ...]:
    """All that the other side can see of a permit: which slots are open, caveats, notices, retention."""
    withheld = {one.slot for one in decision.withheld}
    shown = tuple(one.slot for one in request.sections if one.slot not in withheld)
    return shown, decision.caveats, decision.notices, decision.retain


def _revealed(engine: PolicyEngine, *decisions: Decision) -> frozenset[str]:
    """Facts that the determining policies say they reveal."""
    named = [engine.rule(found).reveals for decision in decisions for found in decision.policies]
    return frozenset().union(*named)
