"""The only home of cedarpy: parse, validate, split by (action, family), evaluate. Any diagnostic is an error.

Policies are handed to Cedar as JSON under their own @id, so the ids of a diagnosis are ours and not positional.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cedarpy

from policy.request import FACT_DEFAULTS, Agency, Request, Section
from policy.rule import Rule

SECTION_ACTION = {"release": "disclose", "accept": "show"}


class CedarError(Exception):
    """Cedar could not parse, validate or evaluate."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One evaluation: allowed or not, and the ids of the policies that determined it."""

    allowed: bool
    ids: tuple[str, ...]


def parse(text: str) -> list[dict[str, Any]]:
    """The policies of a text as Cedar's JSON, in order. Raises CedarError; templates are refused."""
    try:
        found = json.loads(cedarpy.policies_to_json_str(text))
    except ValueError as error:
        raise CedarError(f"not Cedar: {error}") from error
    if found["templates"] or found["templateLinks"]:
        raise CedarError("templates are not used in a pack")
    policies: dict[str, dict[str, Any]] = found["staticPolicies"]
    return [policies[f"policy{place}"] for place in range(len(policies))]


def invalid(text: str, schema: str) -> list[str]:
    """What strict validation finds; empty when the text is valid. Raises CedarError for a bad schema."""
    try:
        return [str(error) for error in cedarpy.validate_policies(text, schema).errors]
    except ValueError as error:
        raise CedarError(f"not a Cedar schema: {error}") from error


class Evaluator:
    """Rules of one interval of law, compiled once for each (action, family) asked."""

    def __init__(self, schema: str, rules: Sequence[Rule]) -> None:
        self._schema = cedarpy.Schema.from_str(schema)
        self._rules = rules
        self._compiled: dict[tuple[str, str], Any] = {}

    def record(self, action: str, request: Request, bases: Iterable[str]) -> Answer:
        """Ask about the whole record: release, accept or oblige. Raises CedarError."""
        return self._ask(action, request, bases, [_uid("Family", request.family)])[0]

    def sections(self, request: Request, bases: Iterable[str]) -> list[Answer]:
        """Ask disclose or show for each section, in the order of the request. Raises CedarError."""
        resources = [_section_uid(request, section) for section in request.sections]
        return self._ask(SECTION_ACTION[request.action], request, bases, resources) if resources else []

    def _ask(
        self, action: str, request: Request, bases: Iterable[str], resources: list[dict[str, str]]
    ) -> list[Answer]:
        base = {
            "principal": _uid("Agency", request.principal.id),
            "action": _uid("Action", action),
            "context": json.dumps(_context(request, bases)),
        }
        questions = [{**base, "resource": resource} for resource in resources]
        try:
            entities = cedarpy.Entities.from_json_str(json.dumps(_entities(request)), self._schema)
            results = cedarpy.is_authorized_batch(
                questions, self._policies(action, request.family), entities, self._schema
            )
        except (ValueError, TypeError) as error:
            raise CedarError("the question cannot be put to Cedar") from error
        return [_answer(result) for result in results]

    def _policies(self, action: str, family: str) -> Any:
        key = (action, family)
        if key not in self._compiled:
            chosen = {
                rule.id: rule.est for rule in self._rules if action in rule.actions and rule.family in {"all", family}
            }
            document = {"staticPolicies": chosen, "templates": {}, "templateLinks": []}
            self._compiled[key] = cedarpy.PolicySet.from_json_str(json.dumps(document))
        return self._compiled[key]


def _answer(result: Any) -> Answer:
    """An error in one policy does not fail Cedar's request by itself, so it does here."""
    if result.diagnostics.errors or result.decision is cedarpy.Decision.NoDecision:
        raise CedarError("Cedar reports an error in a policy or in the question")
    return Answer(result.allowed, tuple(sorted(result.diagnostics.reasons)))


def _uid(kind: str, name: str) -> dict[str, str]:
    return {"type": kind, "id": name}


def _ref(kind: str, name: str) -> dict[str, dict[str, str]]:
    return {"__entity": _uid(kind, name)}


def _section_uid(request: Request, section: Section) -> dict[str, str]:
    return _uid("Section", f"{request.family}/{section.slot}")


def _agency(agency: Agency) -> dict[str, Any]:
    parents = [_uid("Party", agency.party), *(_uid("Role", role) for role in sorted(agency.roles))]
    return {"uid": _uid("Agency", agency.id), "attrs": {}, "parents": parents}


def _section(request: Request, section: Section) -> dict[str, Any]:
    attributes = {
        "slot": section.slot,
        "name": section.name,
        "category": _ref("Category", section.category),
        "presence": _ref("Presence", section.presence),
    }
    family = _uid("Family", request.family)
    return {"uid": _section_uid(request, section), "attrs": attributes, "parents": [family]}


def _entities(request: Request) -> list[dict[str, Any]]:
    agencies = {agency.id: _agency(agency) for agency in (request.principal, request.counterpart)}
    return [*agencies.values(), *(_section(request, section) for section in request.sections)]


def _context(request: Request, bases: Iterable[str]) -> dict[str, Any]:
    return {
        "side": _ref("Side", request.action),
        "sender": _ref("Agency", request.sender.id),
        "recipient": _ref("Agency", request.recipient.id),
        "kind": _ref("Kind", f"{request.family}.{request.kind}"),
        "purpose": _ref("Purpose", request.purpose),
        "legal_basis": sorted(bases),
        "assurance": _ref("Assurance", request.assurance),
        "categories": [_ref("Category", name) for name in sorted({s.category for s in request.sections})],
        "facts": _facts(request),
        "caveats": list(request.caveats),
        "noticed": [slot for slot, _ in request.notices],
        "supersedes": request.supersedes,
        "derived_from": request.derived_from,
        "onward_consent": request.onward_consent,
    }


def _facts(request: Request) -> dict[str, Any]:
    """Every fact of the schema; what is not stated has its default. Raises CedarError for an unknown name."""
    stated = dict(request.facts)
    if not stated.keys() <= FACT_DEFAULTS.keys():
        raise CedarError("an unknown fact is stated")
    facts: dict[str, Any] = FACT_DEFAULTS | stated
    for claim in ("special_relief", "protection_claim"):
        facts[claim] = _ref("Claim", facts[claim])
    return facts
