"""`puente policy check`: what is wrong with the packs before anyone relies on them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from policy.case import load_cases
from policy.cases import load_engines
from policy.decide import PolicyEngine
from policy.flips import flip_facts
from policy.pack import PACKS, Family, Pack, PackError
from policy.rule import Rule

SCHEMA = "puente.policy_check/1"
_RECORD = {"release", "accept"}


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What the check found. `problems` must be mended; `unverified` citations wait for somebody to read them."""

    packs: tuple[Pack, ...]
    problems: tuple[str, ...]
    unverified: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """No problem."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """One object on stdout."""
        return {
            "schema": SCHEMA,
            "ok": self.ok,
            "packs": [{"id": pack.id, "digest": pack.digest.hex(), "policies": len(pack.rules)} for pack in self.packs],
            "problems": list(self.problems),
            "citations_unverified": list(self.unverified),
        }


def check(packs_dir: Path | None = None) -> CheckReport:
    """Check every pack of a folder, its cases included. Raises nothing: a pack that cannot be read is a problem."""
    folder = packs_dir or PACKS
    try:
        engines = load_engines(folder)
        cases = load_cases(folder, engines)
    except PackError as error:
        return CheckReport((), error.problems, ())
    packs = {pack.id: pack for engine in engines.values() for pack in engine.packs}
    problems = [problem for engine in engines.values() for problem in _engine_problems(engine)]
    if not engines:
        problems.append("no pack of a party is there")
    if not problems:
        flips = flip_facts(engines, cases)
        problems += [f"{one.case}: what leaves tells the fact {one.fact}" for one in flips.differences]
    cited = {name for pack in packs.values() for rule in pack.rules for name in rule.cites}
    known = {one.id: one for pack in packs.values() for one in pack.instruments}
    unverified = tuple(sorted(name for name in cited if not known[name].verified))
    return CheckReport(tuple(packs.values()), tuple(dict.fromkeys(problems)), unverified)


def _engine_problems(engine: PolicyEngine) -> Iterator[str]:
    yield from _redundant(engine.rules)
    yield from _unreachable(engine.rules)
    yield from _notices(engine.rules, engine.packs[0].families)


def _redundant(rules: Sequence[Rule]) -> Iterator[str]:
    """Two policies that say the same of the same days."""
    for one, other in combinations(rules, 2):
        if one.effective.meets(other.effective) and _meaning(one) == _meaning(other):
            yield f"{other.pack}: {other.id} says the same as {one.id}, on days that they share"


def _meaning(rule: Rule) -> str:
    parts = {key: value for key, value in rule.est.items() if key != "annotations"}
    duties = [(duty.kind, duty.value) for duty in rule.obligations]
    return json.dumps([rule.family, parts, duties], sort_keys=True)


def _unreachable(rules: Sequence[Rule]) -> Iterator[str]:
    """A section is asked about, and a duty arises, only where some policy permits the record that day."""
    for rule in rules:
        if not _RECORD & set(rule.actions) and not any(_opens(one, rule) for one in rules):
            yield f"{rule.pack}: {rule.id} can never speak: no policy permits the record on its days"


def _opens(permit: Rule, rule: Rule) -> bool:
    same_family = permit.family == rule.family or "all" in {permit.family, rule.family}
    opens = permit.effect == "permit" and bool(_RECORD & set(permit.actions))
    return opens and same_family and permit.effective.meets(rule.effective)


def _notices(rules: Sequence[Rule], families: Mapping[str, Family]) -> Iterator[str]:
    """A notice names a slot of its family that lawful records may lack."""
    for rule in rules:
        for slot in (int(duty.value.split(":")[0]) for duty in rule.obligations if duty.kind == "notice"):
            sections = families[rule.family].sections.values() if rule.family in families else ()
            if not any(one.slot == slot and one.presence != "always" for one in sections):
                yield f"{rule.pack}: {rule.id}: its notice names no section that may be withheld"
