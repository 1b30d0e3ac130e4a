"""Nothing of what policy withholds, and nothing of the facts, is anywhere outside; and the search would find it."""

import pytest

from bench.sweeps import canary, flips
from bench.sweeps.__main__ import flips_bug_found
from broker.outbound import Outbound


@pytest.mark.timeout(120)
def test_no_canary_is_found_outside_and_every_control_is():
    found = canary.run()
    assert found["outside"] == []
    assert found["controls_found"] == found["planted"] > 100
    assert all(place["bytes"] for place in found["places"])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("bug", ["open_slots", "chatty"])
def test_a_planted_leak_is_found(bug):
    assert canary.run(bug)["outside"]


def test_what_leaves_does_not_tell_whether_facts_were_stated():
    found = flips.run()
    assert found["flipped"] > 100
    assert found["differences"] == 0


def test_a_caveat_that_facts_add_is_found():
    assert flips_bug_found()
    assert Outbound._minimise.__name__ == "_minimise"  # and the bug is gone again
