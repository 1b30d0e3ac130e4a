"""The cases of the packs, the facts flipped under them, and the mutants that they catch."""

from dataclasses import replace

import pytest

from policy import cases
from policy.case import inputs_that_differ, load_cases
from policy.check import check
from policy.flips import flip_facts
from policy.law import Interval, duration_days
from policy.pack import PACKS, PackError
from policy.request import Obligation
from tests.unit.policy_story import copy_packs, spoil
from tools import policy_mutants


@pytest.fixture(scope="module")
def engines():
    return cases.load_engines(PACKS)


@pytest.fixture(scope="module")
def loaded(engines):
    return load_cases(PACKS, engines)


@pytest.fixture(scope="module")
def report(engines, loaded):
    return cases.report(engines, loaded)


def test_every_case_comes_out_as_expected(report):
    assert [one.case.id for one in report.results if not one.ok] == []
    assert report.ok


def test_every_rule_is_decisive_in_one_case_and_not_in_its_neighbour(report):
    assert report.never_decisive == ()
    assert [one.rule for one in report.rules] == (
        ["R01", "R03", "R04", "R11", "R13", "R15", "R17", "R18", "R21", "R37", "R38", "R39", "R42", "R43"]
    )


def test_neighbours_differ_in_exactly_one_input(loaded):
    by_id = {case.id: case for case in loaded}
    pairs = [(case, by_id[case.neighbour]) for case in loaded if case.neighbour]
    assert len(pairs) > 60
    assert all(len(inputs_that_differ(*pair)) == 1 for pair in pairs)


def test_on_the_day_of_the_plan_the_law_of_2002_is_cited_and_not_that_of_2017(report, engines):
    plan = [one for one in report.results if one.case.conflict == "X18"]
    cited = {
        name for one in plan for found in one.decision.policies for name in engines[one.case.party].rule(found).cites
    }
    assert "mx.lftaipg.2002" in cited
    assert not [name for name in cited if name.startswith("mx.lgpdppso")]


def test_nothing_that_leaves_tells_a_fact(engines, loaded):
    flips = flip_facts(engines, loaded)
    assert flips.flipped > 2000
    assert flips.differences == ()


def test_a_fact_that_shows_is_found(engines, loaded):
    """The flip test has teeth: hide @reveals, and retention tells the system that a record comes from."""
    us = engines["us"]
    silent = tuple(
        replace(pack, rules=tuple(replace(rule, reveals=frozenset()) for rule in pack.rules)) for pack in us.packs
    )
    flips = flip_facts({**engines, "us": type(us)("us", silent)}, loaded)
    assert {one.fact for one in flips.differences} == {"source_system"}


def test_deleting_inverting_and_undating_a_policy_is_noticed(engines, loaded):
    bases = {key: one.effective for engine in engines.values() for key, one in engine.instruments.items()}
    rules = {rule.id: rule for engine in engines.values() for rule in engine.rules}
    for rule in rules.values():
        for done, mutant in list(policy_mutants.mutants(rule))[:3]:
            if done in {"deleted", "inverted", "un-dated"} and not policy_mutants.equivalent(
                rule, done, list(rules.values()), bases
            ):
                assert policy_mutants.caught(engines, rule, {rule.id: mutant}, loaded), f"{rule.id} {done}"


def test_a_permit_undated_with_all_its_parts_is_noticed(engines, loaded):
    rules = list({rule.id: rule for engine in engines.values() for rule in engine.rules}.values())
    wholes = list(policy_mutants.undated_wholes(rules))
    assert {rule.rule for rule, _ in wholes} == {"R38", "R42", "R43"}
    assert all(policy_mutants.caught(engines, rule, changed, loaded) for rule, changed in wholes)


def test_a_policy_left_as_it_is_is_no_mutant(engines, loaded):
    rule = engines["us"].rule("R18.release.2001")
    assert policy_mutants.caught(engines, rule, {rule.id: rule}, loaded) is None


def test_the_report_has_the_pinned_shape(report):
    shown = report.to_json()
    assert [*shown][:6] == ["schema", "ok", "packs", "cases", "totals", "rules"]
    assert [*shown][6:] == ["never_decisive", "citations_unknown", "citations_unverified", "sentences_missing"]
    row = shown["cases"][0]
    assert [*row] == ["id", "path", "rule", "conflict", "neighbour", "as_of", "expected", "actual", "ok"]
    assert list(shown["cases"][0]["actual"]) == ["effect", "shared", "withheld", "obligations", "determining"]
    assert list(shown["rules"][0]) == ["id", "decisive", "not_decisive", "cites", "effective"]
    assert shown["totals"] == {"cases": len(report.results), "passed": len(report.results), "failed": 0}
    assert "us.usc.8.1367" in shown["citations_unverified"]
    assert "us.cfr.8.208.6" not in shown["citations_unverified"]


def test_a_case_that_comes_out_otherwise_fails(tmp_path):
    packs = copy_packs(tmp_path)
    spoil(packs, "us/cases/R18-forbid-asylum-information.toml", "asylum_information = true", "asylum_exception = true")
    failed = [one.case.id for one in cases.run(packs).results if not one.ok]
    assert "R18-forbid-asylum-information" in failed


def test_a_neighbour_two_inputs_away_fails(tmp_path):
    packs = copy_packs(tmp_path)
    spoil(packs, "us/cases/R18-permit-no-asylum-information.toml", 'to = "mx.inm"', 'to = "mx.fgr"')
    assert not cases.run(packs).ok


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('rule = "R18"', 'rule = "R17"'),
        ('from = "us.cbp"', 'from = "us.nobody"'),
        ('kind = "api"', 'kind = "api"\nmood = "good"'),
        ("as_of = 2026-01-15", "as_of = 2026-01-15T00:00:00"),
        ("sections = [", "sections = [[], "),
    ],
)
def test_a_file_that_is_no_case_is_refused(tmp_path, old, new):
    packs = copy_packs(tmp_path)
    spoil(packs, "us/cases/R18-forbid-asylum-information.toml", old, new)
    with pytest.raises(PackError, match="R18-forbid-asylum-information"):
        cases.run(packs)


def test_check_finds_nothing_in_our_packs():
    report = check()
    assert report.problems == ()
    assert report.to_json()["ok"]


@pytest.mark.parametrize(
    ("file", "old", "new", "why"),
    [
        ("bilateral/passenger.cedar", '@notice("5:NOT', '@notice("2:NOT', "names no section that may be withheld"),
        (
            "us/all.cedar",
            '@effective("1975-09-27/..")\n@account',
            '@effective("1975-09-27/1980-01-01")\n@account',
            "never",
        ),
        ("mx/all.cedar", '@effective("2016-05-10/2017-01-26")', '@effective("2016-05-01/2017-01-26")', "says the same"),
    ],
)
def test_check_finds_what_can_never_speak_or_says_nothing_new(tmp_path, file, old, new, why):
    packs = copy_packs(tmp_path)
    spoil(packs, file, old, new)
    assert why in " ".join(check(packs).problems)


def test_an_interval_has_both_its_days():
    span = Interval.parse("2017-01-27/2025-03-20")
    first, after = 1485475200000, 1742515200000
    assert [span.holds(first - 1), span.holds(first), span.holds(after - 1), span.holds(after)] == [
        False,
        True,
        True,
        False,
    ]
    assert str(span) == "2017-01-27/2025-03-20"
    assert str(Interval.parse("../..")) == "../.."


def test_a_shorter_period_is_stricter():
    assert duration_days("P12M") < duration_days("P15Y")
    assert duration_days("P1Y6M") < duration_days("P600D")
    with pytest.raises(ValueError, match="PnYnMnD"):
        duration_days("P")


def test_the_strictest_of_each_kind_wins():
    from policy.decide import _strictest

    duties = [Obligation("retain", "P15Y"), Obligation("retain", "P12M"), Obligation("caveat", "SEGREGATE")]
    duties += [Obligation("notice", "5:NOT_FOR_THIS_PURPOSE"), Obligation("notice", "5:SENSITIVE")]
    assert [duty.value for duty in _strictest(duties)] == ["SEGREGATE", "5:SENSITIVE", "P12M"]
