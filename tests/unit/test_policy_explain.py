"""A decision explained: what decided it, by which law, and what would have changed it."""

import pytest

import policy
from policy.explain import explain
from tests.unit.policy_story import accepted, day, request


@pytest.fixture(scope="module")
def us():
    return policy.load("us")


def explained(engine, asked, language="en"):
    return explain(engine, asked, engine.decide(asked), language)


def test_a_refusal_names_its_rule_its_law_and_what_would_lift_it(us):
    told = explained(us, request(facts=(("asylum_information", True),)))
    assert told.effect == "forbid"
    assert told.summary == "From us.cbp to mx.inm, for border security: refused."
    (rule,) = told.rules
    assert (rule.id, [one.id for one in rule.cites]) == ("R18.release.2001", ["us.cfr.8.208.6"])
    assert told.would_change == (
        "If the record did not have, as a fact, asylum information, the record would be permitted.",
        "If the record had, as a fact, consent or an exception on asylum, the record would be permitted.",
    )


def test_a_permit_says_what_was_withheld_and_on_what_basis_it_would_go(us):
    told = explained(us, request("kind", "identity", "residence", "assistance", purpose="customs_enforcement"))
    assert [one.section for one in told.withheld] == ["residence", "assistance"]
    assert "If the purpose were border security, these sections would be given: residence." in told.would_change
    assert (
        "If bil.mou.repat.2004 or us.sorn.ice-011 were named as a basis, these sections would be given: assistance."
        in told.would_change
    )
    assert "destroy after P12M" in told.obligations


def test_it_speaks_spanish(us):
    told = explained(us, request(legal_basis=()), "es")
    assert told.summary == "De us.cbp a mx.inm, para seguridad fronteriza: rechazado."
    assert told.rules[0].says.startswith("Ningún registro sale sin fundamento")
    assert any(line.startswith("Si se invocara como fundamento bil.jsp.2010") for line in told.would_change)


def test_default_deny_speaks_for_itself(us):
    told = explained(us, request(purpose="statistics"))
    (rule,) = told.rules
    assert rule.id == "R01"
    assert {one.id for one in rule.cites} >= {"bil.plan.2011", "mx.lgpdppso.2025"}


def test_the_law_is_that_of_the_decision():
    mx = policy.load("mx")
    told = explained(mx, accepted("kind", "assistance", law_ms=day("2011-12-15")), "es")
    assert told.withheld[0].says == "Los datos sensibles no se dan ni se muestran sin fundamento legal expreso."
    assert "mx.lftaipg.2002" in {one.id for rule in told.rules for one in rule.cites}
    assert not any("como hecho" in line for line in told.would_change)


def test_what_would_change_is_true(us):
    """A sentence of the explanation, done: the record goes."""
    assert us.decide(request(facts=(("asylum_exception", True), ("asylum_information", True)))).permit


def test_a_decision_that_failed_is_explained_as_such(us):
    told = explained(us, request(purpose="curiosity"))
    assert (told.effect, told.rules, told.would_change) == ("failed", (), ())


def test_another_language_is_refused(us):
    with pytest.raises(ValueError, match="en or es"):
        explained(us, request(), "fr")
