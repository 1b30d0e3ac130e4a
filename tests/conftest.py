"""What several folders of tests start from."""

import pytest

from tests.simulator import Simulator


@pytest.fixture
def sim(tmp_path):
    """Both gateways in one process."""
    simulator = Simulator(tmp_path / "link")
    yield simulator
    simulator.close()
