"""What would have changed a decision: each single change of an input, tried, and told where it changes the outcome."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from policy.decide import PolicyEngine
from policy.request import FACT_DEFAULTS, Agency, Decision, Request
from policy.words import word

MAX_TRIALS = 96
"""Decisions tried for one explanation, each some milliseconds."""
_PURPOSES = (
    "border_security",
    "customs_enforcement",
    "criminal_investigation",
    "prosecution",
    "repatriation",
    "consular_protection",
    "child_protection",
    "victim_assistance",
    "financial_intelligence",
    "facilitation",
    "statistics",
    "oversight",
    "imminent_danger",
)
_ROLES = ("migration", "customs", "border", "criminal_investigation", "prosecution", "victim_protection", "consular")
_CHANGES = {
    "fact": ("If the record had, as a fact, {}", "Si el registro tuviera, como hecho, {}"),
    "no_fact": ("If the record did not have, as a fact, {}", "Si el registro no tuviera, como hecho, {}"),
    "flag": ("If there were {}", "Si hubiera {}"),
    "no_flag": ("If there were not {}", "Si no hubiera {}"),
    "purpose": ("If the purpose were {}", "Si el fin fuera {}"),
    "basis": ("If {} were named as a basis", "Si se invocara como fundamento {}"),
    "no_basis": ("Without the basis {}", "Sin el fundamento {}"),
    "role": ("If the recipient had the role {}", "Si el destinatario tuviera la función {}"),
    "no_role": ("If the recipient did not have the role {}", "Si el destinatario no tuviera la función {}"),
}
_OUTCOMES = {
    "permit": ("the record would be permitted", "el registro se permitiría"),
    "forbid": ("the record would be refused", "el registro se rechazaría"),
    "given": ("these sections would be given: {}", "se darían estas secciones: {}"),
    "withheld": ("these sections would be withheld: {}", "se retendrían estas secciones: {}"),
}


@dataclass(frozen=True, slots=True)
class _Trial:
    """One changed input: its kind in `_CHANGES`, what it names, and the request that has it."""

    kind: str
    names: tuple[str, ...]
    request: Request


def would_change(engine: PolicyEngine, request: Request, decision: Decision, language: str) -> tuple[str, ...]:
    """Sentences, each true by trial; changes with the same outcome stand in one. At most MAX_TRIALS decisions."""
    told: dict[tuple[str, str], list[str]] = {}
    for _, trial in zip(range(MAX_TRIALS), _trials(engine, request), strict=False):
        outcome = _outcome(request, decision, engine.consider(trial.request), language)
        if outcome:
            named = ": ".join(word(name, language) for name in trial.names)
            told.setdefault((trial.kind, outcome), []).append(named)
    return tuple(_sentence(kind, names, outcome, language) for (kind, outcome), names in told.items())


def _sentence(kind: str, names: list[str], outcome: str, language: str) -> str:
    spanish = language == "es"
    return f"{_CHANGES[kind][spanish].format(_either(names, language))}, {outcome}."


def _either(names: list[str], language: str) -> str:
    link = " o " if language == "es" else " or "
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])}{link}{names[-1]}"


def _outcome(request: Request, before: Decision, after: Decision, language: str) -> str:
    """What differs between two decisions, in words; empty when nothing that this tells differs."""
    spanish = language == "es"
    if after.failed:
        return ""
    if before.permit != after.permit:
        return _OUTCOMES["permit" if after.permit else "forbid"][spanish]
    hidden_before = {one.section for one in before.withheld}
    hidden_after = {one.section for one in after.withheld}
    parts = []
    for key, names in (("given", hidden_before - hidden_after), ("withheld", hidden_after - hidden_before)):
        listed = [word(one.name, language) for one in request.sections if one.name in names]
        if listed:
            parts.append(_OUTCOMES[key][spanish].format(", ".join(listed)))
    return (" y " if spanish else " and ").join(parts)


def _trials(engine: PolicyEngine, request: Request) -> Iterator[_Trial]:
    if request.action == "release":
        yield from _facts(request)
        yield from _flags(request)
    yield from _roles(request)
    yield from _purposes(request)
    yield from _bases(engine, request)


def _facts(request: Request) -> Iterator[_Trial]:
    """Facts that can matter to what goes: booleans flipped, claims none and pending."""
    stated = dict(request.facts)
    for fact, default in FACT_DEFAULTS.items():
        now = stated.get(fact, default)
        if isinstance(default, bool):
            changed = {**stated, fact: not now}
            yield _Trial("no_fact" if now else "fact", (fact,), _with_facts(request, changed))
        elif default:
            for claim in ("none", "pending"):
                if claim != now:
                    yield _Trial("fact", (fact, claim), _with_facts(request, {**stated, fact: claim}))


def _with_facts(request: Request, facts: dict[str, str | bool]) -> Request:
    return replace(request, facts=tuple(sorted(facts.items())))


def _flags(request: Request) -> Iterator[_Trial]:
    yield _Trial(
        "no_flag" if request.derived_from else "flag",
        ("derived_from",),
        replace(request, derived_from=not request.derived_from),
    )
    yield _Trial(
        "no_flag" if request.onward_consent else "flag",
        ("onward_consent",),
        replace(request, onward_consent=not request.onward_consent),
    )


def _roles(request: Request) -> Iterator[_Trial]:
    held = request.recipient.roles
    for role in _ROLES:
        changed = replace(request.recipient, roles=held ^ {role})
        yield _Trial("no_role" if role in held else "role", (role,), _with_recipient(request, changed))


def _with_recipient(request: Request, recipient: Agency) -> Request:
    if request.action == "release":
        return replace(request, counterpart=recipient)
    return replace(request, principal=recipient)


def _purposes(request: Request) -> Iterator[_Trial]:
    for purpose in _PURPOSES:
        if purpose != request.purpose:
            yield _Trial("purpose", (purpose,), replace(request, purpose=purpose))


def _bases(engine: PolicyEngine, request: Request) -> Iterator[_Trial]:
    named = set(request.legal_basis)
    for basis in sorted(named | engine.instruments_at(request.law_ms).keys()):
        changed = tuple(sorted(named ^ {basis}))
        yield _Trial("no_basis" if basis in named else "basis", (basis,), replace(request, legal_basis=changed))
