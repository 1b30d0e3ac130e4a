"""Kill -9 at the syncs of either gateway: a few points here, all of them in `make sweeps`."""

import pytest

from bench.sweeps import crash

SHARES = (0.05, 0.3, 0.45, 0.6, 0.75, 0.9)
"""Where in a story the points lie: the start, submitting, answering, recalling, the stop."""


@pytest.fixture(scope="module")
def found():
    return crash.count()


def test_an_undisturbed_story_waits_for_the_disk_on_both_sides(found):
    assert min(found.values()) > 20


@pytest.mark.timeout(300)
@pytest.mark.parametrize("party", ["us", "mx"])
def test_a_gateway_killed_at_a_sync_loses_nothing_and_doubles_nothing(found, party):
    points = [crash.Point(party, max(1, round(found[party] * share))) for share in SHARES]
    swept = crash.sweep(points)
    assert [s.point for s in swept if not s.killed] == []  # the fault really happened
    assert [s for s in swept if s.red] == []
