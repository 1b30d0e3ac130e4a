"""A decision explained in English or Spanish: what was asked, what decided it, the law, and what would change it."""

from dataclasses import dataclass

from policy.decide import PolicyEngine
from policy.law import Instrument
from policy.request import DEFAULT_DENY, Decision, Request
from policy.rule import Rule
from policy.what_if import would_change
from policy.words import word

LANGUAGES = ("en", "es")
_SILENCE = (
    "Nothing permits it, and what nothing permits is refused.",
    "Nada lo permite, y lo que nada permite se rechaza.",
)
_NOT_GIVEN = (
    "Nothing permits giving it in such an exchange, and so it is withheld.",
    "Nada permite darla en un intercambio así, y por eso se retiene.",
)
_SUMMARY = {
    "permit": (
        "From {} to {}, for {}: permitted, with {} of {} sections.",
        "De {} a {}, para {}: permitido, con {} de {} secciones.",
    ),
    "forbid": ("From {} to {}, for {}: refused.", "De {} a {}, para {}: rechazado."),
    "failed": (
        "From {} to {}, for {}: refused, because it could not be decided.",
        "De {} a {}, para {}: rechazado, porque no se pudo decidir.",
    ),
}


@dataclass(frozen=True, slots=True)
class RuleSaid:
    """A determining rule: its id, permit, forbid or oblige, its sentence, and the instruments it cites."""

    id: str
    effect: str
    says: str
    cites: tuple[Instrument, ...]


@dataclass(frozen=True, slots=True)
class SectionSaid:
    """A section that was not given, and the sentence of the rule that says so."""

    section: str
    category: str
    rule: str
    says: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `decision explain` shows; holds no value of a record."""

    effect: str
    summary: str
    rules: tuple[RuleSaid, ...]
    withheld: tuple[SectionSaid, ...]
    obligations: tuple[str, ...]
    would_change: tuple[str, ...]


def explain(engine: PolicyEngine, request: Request, decision: Decision, language: str) -> Explanation:
    """Explain a decision by the packs that took it. Raises ValueError: another language; KeyError: other packs."""
    if language not in LANGUAGES:
        raise ValueError("an explanation is in en or es")
    effect = "failed" if decision.failed else "permit" if decision.permit else "forbid"
    return Explanation(
        effect=effect,
        summary=_summary(effect, request, decision, language),
        rules=_rules(engine, decision, language),
        withheld=tuple(
            SectionSaid(one.section, one.category, one.rule, _why_withheld(engine, decision, one.rule, language))
            for one in decision.withheld
        ),
        obligations=tuple(f"{word(duty.kind, language)} {duty.value}".strip() for duty in decision.obligations),
        would_change=() if decision.failed else would_change(engine, request, decision, language),
    )


def _summary(effect: str, request: Request, decision: Decision, language: str) -> str:
    total = len(request.sections)
    template = _SUMMARY[effect][language == "es"]
    given = total - len(decision.withheld)
    return template.format(request.sender.id, request.recipient.id, word(request.purpose, language), given, total)


def _rules(engine: PolicyEngine, decision: Decision, language: str) -> tuple[RuleSaid, ...]:
    """The determining policies' sentences; default deny, where it spoke, in its own."""
    said = [_said(engine, engine.rule(found), language) for found in decision.policies]
    if DEFAULT_DENY in decision.rules and not any(one.id.startswith(DEFAULT_DENY) for one in said):
        said.append(RuleSaid(DEFAULT_DENY, "forbid", _SILENCE[language == "es"], _cites_of_silence(engine, decision)))
    return tuple(said)


def _said(engine: PolicyEngine, rule: Rule, language: str) -> RuleSaid:
    effect = "oblige" if rule.obligations else rule.effect
    cites = tuple(engine.instruments[name] for name in rule.cites)
    return RuleSaid(rule.id, effect, rule.says(language), cites)


def _cites_of_silence(engine: PolicyEngine, decision: Decision) -> tuple[Instrument, ...]:
    """What R01 stands on, on the day of the decision."""
    names = {name for rule in engine.rules_at(decision.law_ms) if rule.rule == DEFAULT_DENY for name in rule.cites}
    return tuple(engine.instruments[name] for name in sorted(names))


def _why_withheld(engine: PolicyEngine, decision: Decision, rule: str, language: str) -> str:
    forbids = (engine.rule(found) for found in decision.policies)
    found = next((one for one in forbids if one.rule == rule and one.effect == "forbid"), None)
    return found.says(language) if found else _NOT_GIVEN[language == "es"]
