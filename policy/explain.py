"""A decision explained in English or Spanish: what was asked, what decided it, the law, and what would change it."""

from collections.abc import Sequence
from dataclasses import dataclass

from policy.decide import PolicyEngine
from policy.law import Instrument
from policy.request import DEFAULT_DENY, Decision, Obligation, Request
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
    "permitted": (
        "From {} to {}, for {}: permitted; sections withheld: {}.",
        "De {} a {}, para {}: permitido; secciones retenidas: {}.",
    ),
    "forbid": ("From {} to {}, for {}: refused.", "De {} a {}, para {}: rechazado."),
    "failed": (
        "From {} to {}, for {}: refused, because it could not be decided.",
        "De {} a {}, para {}: rechazado, porque no se pudo decidir.",
    ),
}
_MISSING = {
    "pack": (
        "The pack that decided ({}) is not loaded, and no copy that can be used was kept.",
        "El paquete que decidió ({}) no está cargado ni se conservó copia que pueda usarse.",
    ),
    "question": (
        "What the pack that decided ({}) was asked has been destroyed.",
        "Lo que se preguntó al paquete que decidió ({}) fue destruido.",
    ),
    "another": (
        "Asked again, the pack that decided ({}) does not come to this decision.",
        "Al preguntarle de nuevo, el paquete que decidió ({}) no llega a esta decisión.",
    ),
}
_LOG_ALONE = (
    "So this is what the log holds: the rules' texts, their law, and what would have changed it are missing.",
    "Por eso consta sólo el registro: faltan los textos de las reglas, su ley y lo que habría cambiado la decisión.",
)


@dataclass(frozen=True, slots=True)
class RuleSaid:
    """A determining rule: its id, permit, forbid or oblige, its sentence, and the instruments it cites.

    Where only the log speaks, the id is all there is.
    """

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
    missing: str = ""
    """Why only the log speaks; empty where the pack that decided does."""


@dataclass(frozen=True, slots=True)
class Logged:
    """What the log holds of a decision; a refusal without a rule is one that could not be decided."""

    permit: bool
    sender: str
    recipient: str
    purpose: str
    rules: Sequence[str]
    withheld: Sequence[tuple[str, str]]
    """(section, category)."""
    obligations: Sequence[Obligation]
    pack_digest: bytes


def from_log(logged: Logged, missing: str, language: str) -> Explanation:
    """What can be said without the pack that decided, or without the question; no other pack speaks in its place.

    `missing`: pack, question or another, the reason why. Raises ValueError: another language.
    """
    _check_language(language)
    spanish = language == "es"
    effect = "permit" if logged.permit else "forbid" if logged.rules else "failed"
    template = _SUMMARY["permitted" if logged.permit else effect][spanish]
    purpose = word(logged.purpose, language)
    return Explanation(
        effect=effect,
        summary=template.format(logged.sender, logged.recipient, purpose, len(logged.withheld)),
        rules=tuple(RuleSaid(rule, "", "", ()) for rule in logged.rules),
        withheld=tuple(SectionSaid(section, category, "", "") for section, category in logged.withheld),
        obligations=_duties(logged.obligations, language),
        would_change=(),
        missing=f"{_MISSING[missing][spanish].format(logged.pack_digest.hex())} {_LOG_ALONE[spanish]}",
    )


def explain(engine: PolicyEngine, request: Request, decision: Decision, language: str) -> Explanation:
    """Explain a decision by the packs that took it. Raises ValueError: another language, or other packs."""
    _check_language(language)
    if decision.pack_digest != engine.pack_digest:
        raise ValueError("a decision is explained by the packs that took it")
    effect = "failed" if decision.failed else "permit" if decision.permit else "forbid"
    return Explanation(
        effect=effect,
        summary=_summary(effect, request, decision, language),
        rules=_rules(engine, decision, language),
        withheld=tuple(
            SectionSaid(one.section, one.category, one.rule, _why_withheld(engine, decision, one.rule, language))
            for one in decision.withheld
        ),
        obligations=_duties(decision.obligations, language),
        would_change=() if decision.failed else would_change(engine, request, decision, language),
    )


def _check_language(language: str) -> None:
    if language not in LANGUAGES:
        raise ValueError("an explanation is in en or es")


def _duties(obligations: Sequence[Obligation], language: str) -> tuple[str, ...]:
    return tuple(f"{word(duty.kind, language)} {duty.value}".strip() for duty in obligations)


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
