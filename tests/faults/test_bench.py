"""The bench's own honesty: a run adds up as both operators say, and one that does not is a failure."""

from dataclasses import replace

import pytest

from bench import exchange, gateways, report, workload


@pytest.fixture(scope="module")
def ran():
    with gateways.running() as link:
        run = exchange.at_full_speed(link, 300, 256, 2, (100,))
        yield link, run


def test_a_run_adds_up_as_both_operators_say(ran):
    link, run = ran
    proof = exchange.proof(link, run)
    assert proof.submitted == 300 == proof.acknowledged + proof.refused
    assert proof.receipts_verified == proof.acknowledged
    assert proof.refused == 300 * workload.REFUSED / workload.CYCLE
    assert proof.decisions == {"us": 300, "mx": proof.acknowledged}


@pytest.mark.parametrize("wrong", [{"records": 301}, {"refused": 17}])
def test_a_run_that_does_not_add_up_is_a_failure(ran, wrong):
    link, run = ran
    with pytest.raises(exchange.RunError):
        exchange.proof(link, replace(run, **wrong))


def test_peaks_of_memory_are_those_of_both_gateways(ran):
    _, run = ran
    assert {party for _, party in run.peaks} == {"us", "mx"}
    assert all(peak > 20 for peak in run.peaks.values())


def test_the_workload_is_distinct_and_has_its_shares():
    groups = list(workload.groups(1000, 256))
    records = [record.SerializeToString() for group in groups for record in group.records]
    assert len(set(records)) == 1000
    minimised = sum(len(group.records) for group in groups if group.purpose == workload.INVESTIGATION)
    assert minimised >= 300
    assert sum(group.refused for group in groups) >= 50


def test_a_percentile_is_a_value_that_was_measured():
    assert report.percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert report.percentile([1.0] * 99 + [9.0], 0.99) == 1.0
    assert report.percentile([1.0] * 98 + [9.0, 9.0], 0.99) == 9.0
