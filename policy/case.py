"""One readable case: a question in a file, what is expected of it, and the case that differs in one input."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from policy.decide import PolicyEngine
from policy.law import day_ms
from policy.pack import PackError
from policy.request import Agency, Decision, Request, Section

_TOP = {"rule", "says", "conflict", "neighbour", "as_of", "request", "expected"}
_FLAGS = ("supersedes", "derived_from", "onward_consent")
_REQUEST = {"action", "from", "to", "family", "kind", "purpose", "legal_basis", "sections", "assurance", "facts"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a decision comes to, in words that a person can compare.

    `determining` are policy ids; where no policy spoke, the rule that speaks for all silence.
    """

    effect: str
    shared: tuple[str, ...]
    withheld: tuple[tuple[str, str], ...]
    obligations: tuple[str, ...]
    determining: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As `puente policy test --output json` shows it."""
        return {
            "effect": self.effect,
            "shared": list(self.shared),
            "withheld": [{"section": section, "rule": rule} for section, rule in self.withheld],
            "obligations": list(self.obligations),
            "determining": list(self.determining),
        }


@dataclass(frozen=True, slots=True)
class Case:
    """A case of a pack; `inputs` is the question flattened to comparable pairs."""

    id: str
    path: str
    rule: str
    conflict: str | None
    neighbour: str | None
    as_of: str
    request: Request
    expected: Outcome
    inputs: frozenset[tuple[str, str]]

    @property
    def party(self) -> str:
        """Whose packs decide."""
        return self.request.principal.party


def outcome(request: Request, decision: Decision) -> Outcome:
    """Put a decision into the words of a case."""
    withheld = {one.section for one in decision.withheld}
    shared = [one.name for one in request.sections if decision.permit and one.name not in withheld]
    return Outcome(
        effect="failed" if decision.failed else "permit" if decision.permit else "forbid",
        shared=tuple(shared),
        withheld=tuple((one.section, one.rule) for one in decision.withheld),
        obligations=tuple(f"{duty.kind} {duty.value}".strip() for duty in decision.obligations),
        determining=decision.policies or decision.rules,
    )


def load_cases(packs_dir: Path, engines: Mapping[str, PolicyEngine]) -> list[Case]:
    """Every case of every pack, by path. Raises PackError naming the file that is wrong."""
    roles = {agency: (party, found) for party, engine in engines.items() for agency, found in _roles(engine).items()}
    sections = {key: one.sections for engine in engines.values() for key, one in engine.packs[0].families.items()}
    cases = []
    for path in sorted(packs_dir.glob("*/cases/*.toml")):
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
            cases.append(_case(path.relative_to(packs_dir).as_posix(), document, roles, sections))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PackError([f"{path.name}: not a case: {type(error).__name__}: {error}"]) from error
    return cases


def _roles(engine: PolicyEngine) -> Mapping[str, frozenset[str]]:
    return engine.packs[1].roles


def _case(
    path: str,
    document: Mapping[str, Any],
    roles: Mapping[str, tuple[str, frozenset[str]]],
    sections: Mapping[str, Mapping[str, Section]],
) -> Case:
    """Raises ValueError or KeyError for whatever is unknown, missing or not as the file's name says."""
    asked, expected = document["request"], _expected(document["expected"])
    if document.keys() - _TOP or asked.keys() - _REQUEST - set(_FLAGS):
        raise ValueError("it has an unknown key")
    name = Path(path).stem
    if not name.startswith(f"{document['rule']}-{expected.effect}-") or not document["says"]:
        raise ValueError("its name begins with rule and effect, and it says what it is about")
    return Case(
        id=name,
        path=path,
        rule=document["rule"],
        conflict=document.get("conflict"),
        neighbour=document.get("neighbour"),
        as_of=document["as_of"].isoformat(),
        request=_request(asked, _instant_ms(document["as_of"]), roles, sections),
        expected=expected,
        inputs=frozenset(_inputs(document)),
    )


def _expected(row: Mapping[str, Any]) -> Outcome:
    return Outcome(
        effect=row["effect"],
        shared=tuple(row.get("shared", ())),
        withheld=tuple((one["section"], one["rule"]) for one in row.get("withheld", ())),
        obligations=tuple(row.get("obligations", ())),
        determining=tuple(row["determining"]),
    )


def _request(
    asked: Mapping[str, Any],
    law_ms: int,
    roles: Mapping[str, tuple[str, frozenset[str]]],
    sections: Mapping[str, Mapping[str, Section]],
) -> Request:
    agencies = [Agency(name, *roles[name]) for name in (asked["from"], asked["to"])]
    principal, counterpart = agencies if asked["action"] == "release" else agencies[::-1]
    known = sections[asked["family"]]
    return Request(
        action=asked["action"],
        principal=principal,
        counterpart=counterpart,
        family=asked["family"],
        kind=asked["kind"],
        purpose=asked["purpose"],
        legal_basis=tuple(sorted(asked["legal_basis"])),
        assurance=asked.get("assurance", "agency_signed"),
        sections=tuple(sorted((known[name] for name in asked["sections"]), key=lambda one: one.slot)),
        facts=tuple(sorted(asked.get("facts", {}).items())),
        law_ms=law_ms,
        **{flag: asked[flag] for flag in _FLAGS if flag in asked},
    )


def _instant_ms(as_of: date | datetime) -> int:
    """A day is its first instant, UTC."""
    if not isinstance(as_of, datetime):
        return day_ms(as_of)
    if as_of.tzinfo is None:
        raise ValueError("an instant has its offset")
    return int(as_of.astimezone(UTC).timestamp() * 1000)


def _inputs(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The question as pairs: a fact is an input of its own, and so is each basis and each section."""
    yield "as_of", document["as_of"].isoformat()
    for key, value in document["request"].items():
        if isinstance(value, dict):
            yield from ((f"{key}.{name}", str(part)) for name, part in value.items())
        elif isinstance(value, list):
            yield from ((f"{key}.{part}", "named") for part in value)
        else:
            yield key, str(value)


def inputs_that_differ(one: Case, other: Case) -> Sequence[str]:
    """Names of the inputs in which two cases differ."""
    return sorted({name for name, _ in one.inputs ^ other.inputs})
