"""All cases of all packs, run; which rule decided where; and what no case or citation supports."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policy.case import Case, Outcome, inputs_that_differ, load_cases, outcome
from policy.decide import PolicyEngine
from policy.pack import PACKS, SHARED, Pack, load_packs
from policy.request import Decision
from policy.rule import Rule

SCHEMA = "puente.policy_test/1"


@dataclass(frozen=True, slots=True)
class Result:
    """A case and what came of it. `ok`: as expected, and its neighbour differs in exactly one input."""

    case: Case
    actual: Outcome
    decision: Decision
    ok: bool

    def to_json(self) -> dict[str, Any]:
        """One row of `cases`."""
        case = self.case
        return {
            "id": case.id,
            "path": case.path,
            "rule": case.rule,
            "conflict": case.conflict,
            "neighbour": case.neighbour,
            "as_of": case.as_of,
            "expected": case.expected.to_json(),
            "actual": self.actual.to_json(),
            "ok": self.ok,
        }


@dataclass(frozen=True, slots=True)
class Coverage:
    """Where a rule decided, where one of its cases shows that it did not, and what it stands on."""

    rule: str
    decisive: tuple[str, ...]
    not_decisive: tuple[str, ...]
    paired: bool
    cites: tuple[str, ...]
    effective: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """One row of `rules`."""
        return {
            "id": self.rule,
            "decisive": list(self.decisive),
            "not_decisive": list(self.not_decisive),
            "cites": list(self.cites),
            "effective": list(self.effective),
        }


@dataclass(frozen=True, slots=True)
class TestReport:
    """What `puente policy test` says."""

    __test__ = False  # not a test class, whatever its name suggests to pytest

    packs: tuple[Pack, ...]
    results: tuple[Result, ...]
    rules: tuple[Coverage, ...]
    citations_unknown: tuple[str, ...]
    citations_unverified: tuple[str, ...]
    sentences_missing: tuple[str, ...]

    @property
    def never_decisive(self) -> tuple[str, ...]:
        """Rules without a decisive case whose neighbour, one input away, they do not decide."""
        return tuple(one.rule for one in self.rules if not one.paired)

    @property
    def ok(self) -> bool:
        """Every case as expected, every rule shown decisive, every citation known, every sentence there."""
        gaps = (self.never_decisive, self.citations_unknown, self.sentences_missing)
        return bool(self.results) and all(one.ok for one in self.results) and not any(gaps)

    def to_json(self) -> dict[str, Any]:
        """The pinned object of `puente policy test --output json`."""
        passed = sum(one.ok for one in self.results)
        return {
            "schema": SCHEMA,
            "ok": self.ok,
            "packs": [{"id": pack.id, "digest": pack.digest.hex()} for pack in self.packs],
            "cases": [one.to_json() for one in self.results],
            "totals": {"cases": len(self.results), "passed": passed, "failed": len(self.results) - passed},
            "rules": [one.to_json() for one in self.rules],
            "never_decisive": list(self.never_decisive),
            "citations_unknown": list(self.citations_unknown),
            "citations_unverified": list(self.citations_unverified),
            "sentences_missing": list(self.sentences_missing),
        }


def load_engines(packs_dir: Path) -> dict[str, PolicyEngine]:
    """An engine for each party that has a pack. Raises PackError."""
    parties = sorted(path.parent.name for path in packs_dir.glob("*/roles.toml") if path.parent.name != SHARED)
    return {party: PolicyEngine(party, load_packs(party, packs_dir)) for party in parties}


def run(packs_dir: Path | None = None) -> TestReport:
    """Run every case of every pack. Raises PackError when a pack or a case cannot be loaded."""
    folder = packs_dir or PACKS
    engines = load_engines(folder)
    return report(engines, load_cases(folder, engines))


def report(engines: Mapping[str, PolicyEngine], cases: Sequence[Case]) -> TestReport:
    """Run these cases on these engines."""
    by_id = {case.id: case for case in cases}
    results = tuple(_result(case, by_id, engines[case.party]) for case in cases)
    packs = {pack.id: pack for engine in engines.values() for pack in engine.packs}
    rules = [rule for pack in packs.values() for rule in pack.rules]
    instruments = {one.id: one for pack in packs.values() for one in pack.instruments}
    cited = sorted({name for rule in rules for name in rule.cites})
    return TestReport(
        packs=tuple(packs.values()),
        results=results,
        rules=tuple(_coverage(rule, rules, results) for rule in sorted({one.rule for one in rules})),
        citations_unknown=tuple(name for name in cited if name not in instruments),
        citations_unverified=tuple(name for name in cited if name in instruments and not instruments[name].verified),
        sentences_missing=tuple(rule.id for rule in rules if not (rule.says_en.strip() and rule.says_es.strip())),
    )


def _result(case: Case, by_id: Mapping[str, Case], engine: PolicyEngine) -> Result:
    decision = engine.decide(case.request)
    actual = outcome(case.request, decision)
    beside = by_id.get(case.neighbour or "")
    near = case.neighbour is None or (beside is not None and len(inputs_that_differ(case, beside)) == 1)
    return Result(case, actual, decision, actual == case.expected and near)


def _coverage(rule: str, rules: Iterable[Rule], results: Sequence[Result]) -> Coverage:
    decisive = {one.case.id for one in results if rule in one.decision.rules}
    versions = [one for one in rules if one.rule == rule]
    own = [one.case for one in results if one.case.rule == rule]
    pairs = [{case.id, case.neighbour} for case in own if case.neighbour]
    return Coverage(
        rule=rule,
        decisive=tuple(sorted(decisive)),
        not_decisive=tuple(sorted(case.id for case in own if case.id not in decisive)),
        paired=any(len(pair & decisive) == 1 for pair in pairs),
        cites=tuple(sorted({name for version in versions for name in version.cites})),
        effective=tuple(sorted({str(version.effective) for version in versions})),
    )
