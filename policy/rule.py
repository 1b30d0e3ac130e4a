"""A rule: one Cedar policy with its annotations read, and what a lawful one must keep to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policy.law import Interval, duration_days
from policy.request import FACT_DEFAULTS, Obligation

ACTIONS = ("release", "accept", "disclose", "show", "oblige")
_REQUIRED = {"id", "rule", "family", "cites", "effective", "says_en", "says_es"}
_OBLIGATIONS = {"retain", "caveat", "notify", "account", "notice"}
CAVEATS = (
    "LEAD_NOT_EVIDENCE",
    "NO_ONWARD_TRANSFER",
    "PURPOSE_ONLY",
    "NO_ADVERSE_ACTION_ALONE",
    "CUSTOMS_CONFIDENCE",
    "CUI_REL_MEX",
    "RESERVADA",
    "CONFIDENCIAL",
    "FINANCIAL_INTELLIGENCE",
    "SEGREGATE",
)
NOTICES = ("NOT_FOR_THIS_PURPOSE", "SENSITIVE")
"""Notice codes, the weaker first."""


class RuleError(Exception):
    """A policy that a pack may not hold; the message names the policy."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One policy. `rule` is the id in law.md (R38), `id` its own (R38.release.2010); `est` is Cedar's JSON."""

    id: str
    rule: str
    pack: str
    effect: str
    actions: tuple[str, ...]
    family: str
    cites: tuple[str, ...]
    effective: Interval
    says_en: str
    says_es: str
    obligations: tuple[Obligation, ...]
    reveals: frozenset[str]
    reads: frozenset[str]
    est: Mapping[str, Any]

    def says(self, language: str) -> str:
        """The rule's sentence in English or Spanish."""
        return self.says_es if language == "es" else self.says_en


def read_rule(est: Mapping[str, Any], pack: str, family: str) -> Rule:
    """Read one policy of a file of the family. Raises RuleError for whatever is unknown, missing or not allowed."""
    notes = {name: value or "" for name, value in est.get("annotations", {}).items()}
    name = notes.get("id") or "a policy without @id"
    if missing := _REQUIRED - notes.keys():
        raise RuleError(f"{pack}: {name}: missing {', '.join(f'@{one}' for one in sorted(missing))}")
    if unknown := notes.keys() - _REQUIRED - _OBLIGATIONS - {"reveals"}:
        raise RuleError(f"{pack}: {name}: unknown {', '.join(f'@{one}' for one in sorted(unknown))}")
    if notes["family"] != family:
        raise RuleError(f"{pack}: {name}: @family is not that of its file")
    try:
        rule = Rule(
            id=notes["id"],
            rule=notes["rule"],
            pack=pack,
            effect=est["effect"],
            actions=_actions(est["action"]),
            family=family,
            cites=tuple(notes["cites"].split()),
            effective=Interval.parse(notes["effective"]),
            says_en=notes["says_en"],
            says_es=notes["says_es"],
            obligations=_obligations(notes),
            reveals=frozenset(notes.get("reveals", "").split()),
            reads=frozenset(_facts_read(est)),
            est=dict(est),
        )
    except ValueError as error:
        raise RuleError(f"{pack}: {name}: {error}") from error
    _keep_to_the_rules(rule)
    return rule


def _actions(scope: Mapping[str, Any]) -> tuple[str, ...]:
    """The actions of a policy's head. Raises ValueError when it names none."""
    entities = [scope["entity"]] if "entity" in scope else scope.get("entities", [])
    if not entities:
        raise ValueError("the head names no action")
    return tuple(entity["id"] for entity in entities)


def _obligations(notes: Mapping[str, str]) -> tuple[Obligation, ...]:
    """The obligations of the annotations, values separated by spaces. Raises ValueError for an unknown one."""
    found = []
    for kind in sorted(_OBLIGATIONS & notes.keys()):
        values = notes[kind].split() if kind != "account" else [""]
        if not values:
            raise ValueError(f"@{kind} has no value")
        found += [Obligation(kind, value) for value in values]
    for duty in found:
        _check_obligation(duty)
    return tuple(found)


def _check_obligation(duty: Obligation) -> None:
    if duty.kind == "retain":
        duration_days(duty.value)
    if duty.kind == "caveat" and duty.value not in CAVEATS:
        raise ValueError("@caveat has an unknown code")
    if duty.kind == "notice":
        slot, _, code = duty.value.partition(":")
        if not slot.isdecimal() or code not in NOTICES:
            raise ValueError("@notice is written slot:CODE, of the known codes")


def _facts_read(node: Any) -> Iterator[str]:
    """Names of the facts that an expression reads. Raises ValueError when facts are used whole."""
    if isinstance(node, list):
        for part in node:
            yield from _facts_read(part)
    elif isinstance(node, Mapping):
        access = node.get(".")
        if isinstance(access, Mapping) and _is_facts(access.get("left")):
            yield access["attr"]
        elif _is_facts(node):
            raise ValueError("facts are read one by one, never whole")
        else:
            for part in node.values():
                yield from _facts_read(part)


def _is_facts(node: Any) -> bool:
    return bool(node == {".": {"left": {"Var": "context"}, "attr": "facts"}})


def _keep_to_the_rules(rule: Rule) -> None:
    """Obligations grant nothing, and what leaves tells no fact (protocol, section 2). Raises RuleError."""
    asks, where = set(rule.actions), f"{rule.pack}: {rule.id}"
    if not asks <= set(ACTIONS):
        raise RuleError(f"{where}: an unknown action")
    if "oblige" in asks and (asks != {"oblige"} or rule.effect != "permit" or not rule.obligations):
        raise RuleError(f"{where}: a policy on oblige is a permit, on nothing else, with an obligation")
    if rule.obligations and asks != {"oblige"}:
        raise RuleError(f"{where}: an obligation stands on oblige only")
    if not rule.rule or not rule.cites or not rule.says_en.strip() or not rule.says_es.strip():
        raise RuleError(f"{where}: a rule, a citation and a sentence in both languages are required")
    if not rule.reveals <= rule.reads or not rule.reads <= FACT_DEFAULTS.keys():
        raise RuleError(f"{where}: @reveals names a fact that the policy does not read, or reads an unknown one")
    if rule.reads and asks & {"accept", "show"}:
        raise RuleError(f"{where}: no facts are known where a record is accepted")
    if rule.reads - rule.reveals and rule.effect != "forbid":
        raise RuleError(f"{where}: reads a fact that @reveals does not name, and does more than refuse")
