"""What several folders of tests start from; and the rule that CI skips nothing that this machine can run."""

import os
from pathlib import Path

import pytest

from tests.simulator import Simulator

SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "samples"
ALLOWED_SKIPS = {
    "shared samples are absent": not SAMPLES.is_dir(),
    "users can be changed by root only": os.geteuid() != 0,
}
"""A reason, and whether it is true of this machine."""


@pytest.fixture
def sim(tmp_path):
    """Both gateways in one process."""
    simulator = Simulator(tmp_path / "link")
    yield simulator
    simulator.close()


def pytest_sessionfinish(session, exitstatus):
    """Under CI a skip for any other reason is a failure: a check that silently stopped running."""
    if os.environ.get("CI") != "true" or hasattr(session.config, "workerinput"):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    reasons = {str(report.longrepr[2]) for report in reporter.stats.get("skipped", []) if report.longrepr}
    allowed = [reason for reason, holds in ALLOWED_SKIPS.items() if holds]
    unexpected = [reason for reason in reasons if not any(reason.endswith(good) for good in allowed)]
    if unexpected and exitstatus == 0:
        reporter.write_line(f"CI does not allow these skips: {'; '.join(sorted(unexpected))}", red=True)
        session.exitstatus = 1
