"""What several folders of tests start from; and the rule that CI skips nothing that this machine can run."""

import os

import pytest

from tests.simulator import Simulator

ALLOWED_SKIPS = ("shared samples are absent",)


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
    unexpected = [reason for reason in reasons if not any(allowed in reason for allowed in ALLOWED_SKIPS)]
    if unexpected and exitstatus == 0:
        reporter.write_line(f"CI does not allow these skips: {'; '.join(sorted(unexpected))}", red=True)
        session.exitstatus = 1
