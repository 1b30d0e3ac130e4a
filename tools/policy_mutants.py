"""Break each policy in turn, and see that a case notices.

Each policy is deleted, inverted, un-dated, and each part of its condition left out. An un-dated section or duty
that no permit of a record can reach on the added days behaves as before: it is listed as equivalent, not run.
"""

import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from policy.case import Case, load_cases, outcome
from policy.cases import load_engines
from policy.decide import PolicyEngine
from policy.law import Interval
from policy.pack import PACKS
from policy.rule import Rule

SCHEMA = "puente.policy_mutants/1"
OUT = Path(__file__).resolve().parent.parent / "build" / "policy_mutants.json"
_RECORD = {"release", "accept"}
Mutant = tuple[str, Rule | None]


def mutants(rule: Rule) -> Iterator[Mutant]:
    """Every mutant of a policy, as (what was done, the mutant); a deleted one is None."""
    yield "deleted", None
    opposite = "permit" if rule.effect == "forbid" else "forbid"
    yield "inverted", replace(rule, effect=opposite, est={**rule.est, "effect": opposite})
    if rule.effective != Interval():
        yield "un-dated", replace(rule, effective=Interval())
    for place, clause in enumerate(rule.est["conditions"]):
        for done, body in [("left out", {"Value": clause["kind"] == "when"}), *condition_mutants(clause["body"])]:
            conditions = list(rule.est["conditions"])
            conditions[place] = {**clause, "body": body}
            yield f"{clause['kind']} {place}: {done}", replace(rule, est={**rule.est, "conditions": conditions})


def condition_mutants(node: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """An expression with one operand, one negation or one element of a set left out, anywhere in it."""
    if isinstance(node, Mapping):
        for operator in ("&&", "||"):
            if operator in node:
                yield f"{where}{operator} right left out", node[operator]["left"]
                yield f"{where}{operator} left left out", node[operator]["right"]
        if "!" in node:
            yield f"{where}! left out", node["!"]["arg"]
        for key, part in node.items():
            for done, changed in condition_mutants(part, f"{where}{key}/"):
                yield done, {**node, key: changed}
            if key in {"contains", "containsAny"}:
                yield from _smaller_sets(node, key, where)


def _smaller_sets(node: Mapping[str, Any], key: str, where: str) -> Iterator[tuple[str, Any]]:
    for side in ("left", "right"):
        elements = node[key][side].get("Set", [])
        for place in range(len(elements) if len(elements) > 1 else 0):
            fewer = {"Set": elements[:place] + elements[place + 1 :]}
            yield f"{where}{key} without element {place}", {**node, key: {**node[key], side: fewer}}


def undated_wholes(rules: Sequence[Rule]) -> Iterator[tuple[Rule, dict[str, Rule | None]]]:
    """For each permit of a record, every policy of its rule un-dated together."""
    for rule in rules:
        if rule.effect == "permit" and _RECORD & set(rule.actions):
            parts = [one for one in rules if one.rule == rule.rule]
            yield rule, {one.id: replace(one, effective=Interval()) for one in parts}


def equivalent(rule: Rule, done: str, rules: Sequence[Rule], bases: Mapping[str, Interval]) -> bool:
    """Whether un-dating cannot show: what the policy needs in order to speak is there on its own days only.

    That is a basis that it names and that is in force on those days; for a section or a duty, a permit of the record
    that reaches it; for a permit of a record, a permit of its sections. Both un-dated together is a mutant of its own.
    """
    if done != "un-dated":
        return False
    if any(rule.effective.covers(bases[basis]) for basis in _bases_needed(rule.est["conditions"])):
        return True
    if rule.effect == "forbid" and _RECORD & set(rule.actions):
        return False
    # A record goes where a policy permits it and another permits its sections; a duty needs the record.
    needed = {"disclose", "show"} if _RECORD & set(rule.actions) else _RECORD
    permits = [one for one in rules if one.effect == "permit" and needed & set(one.actions)]
    return all(rule.effective.covers(one.effective) for one in permits if _reaches(one, rule))


def _reaches(permit: Rule, rule: Rule) -> bool:
    kinds = [_kind(one.est["conditions"]) for one in (permit, rule)]
    same_family = permit.family == rule.family or "all" in {permit.family, rule.family}
    return same_family and (None in kinds or kinds[0] == kinds[1])


def _kind(conditions: Sequence[Mapping[str, Any]]) -> str | None:
    """The kind that a policy pins: `context.kind == Kind::"..."` among the conjuncts of its when."""
    for node in _conjuncts(conditions):
        if node.get("==", {}).get("left") == {".": {"left": {"Var": "context"}, "attr": "kind"}}:
            return str(node["=="]["right"]["Value"]["__entity"]["id"])
    return None


def _bases_needed(conditions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Bases that a policy needs: `context.legal_basis.contains("...")` among the conjuncts of its when."""
    for node in _conjuncts(conditions):
        if node.get("contains", {}).get("left") == {".": {"left": {"Var": "context"}, "attr": "legal_basis"}}:
            yield node["contains"]["right"]["Value"]


def _conjuncts(conditions: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    waiting = [clause["body"] for clause in conditions if clause["kind"] == "when"]
    while waiting:
        node = waiting.pop()
        if "&&" in node:
            waiting += [node["&&"]["left"], node["&&"]["right"]]
        else:
            yield node


def caught(
    engines: Mapping[str, PolicyEngine], rule: Rule, changed: Mapping[str, Rule | None], cases: Sequence[Case]
) -> str | None:
    """The first case that notices the changed policies, those that `rule` determines first; None: all survive."""
    # A bilateral policy stands in every party's packs, and is broken in all.
    broken = {party: _with(engine, changed) for party, engine in engines.items()}
    for case in sorted(cases, key=lambda one: (rule.id not in one.expected.determining, one.rule != rule.rule)):
        if outcome(case.request, broken[case.party].consider(case.request)) != case.expected:
            return case.id
    return None


def _with(engine: PolicyEngine, changed: Mapping[str, Rule | None]) -> PolicyEngine:
    packs = []
    for pack in engine.packs:
        rules = [changed.get(one.id, one) for one in pack.rules]
        packs.append(replace(pack, rules=tuple(one for one in rules if one is not None)))
    return PolicyEngine(engine.party, packs)


def run(engines: Mapping[str, PolicyEngine], cases: Sequence[Case]) -> dict[str, Any]:
    """Run them all, printing each survivor; the report as it is written."""
    rules = {rule.id: rule for engine in engines.values() for rule in engine.rules}
    bases = {key: one.effective for engine in engines.values() for key, one in engine.instruments.items()}
    same, survivors, total = [], [], 0
    for rule in rules.values():
        for done, mutant in mutants(rule):
            if equivalent(rule, done, list(rules.values()), bases):
                same.append(f"{rule.id} {done}")
                continue
            total += 1
            if caught(engines, rule, {rule.id: mutant}, cases) is None:
                survivors.append(f"{rule.id} {done}")
                print(f"survived: {rule.id}: {done}")
    for rule, whole in undated_wholes(list(rules.values())):
        total += 1
        if caught(engines, rule, whole, cases) is None:
            survivors.append(f"{rule.rule} un-dated as a whole")
            print(f"survived: {rule.rule}: un-dated as a whole")
    return {"schema": SCHEMA, "ok": not survivors, "mutants": total, "survivors": survivors, "equivalent": same}


def main() -> int:
    """Run them all; write build/policy_mutants.json; exit 1 when one survives."""
    logging.disable(logging.ERROR)  # a broken policy makes decisions fail, which is how it is caught
    engines = load_engines(PACKS)
    report = run(engines, load_cases(PACKS, engines))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    survived, same = len(report["survivors"]), len(report["equivalent"])
    print(f"{report['mutants']} mutants, {survived} survived, {same} equivalent and not run")
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
