"""The demonstration, as a stranger runs it: real processes, real gRPC, both ledgers asked."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[3] / "shared" / "samples" / "paxlst"


def demo(*arguments: str, timeout: float = 90) -> tuple[int, dict]:
    command = [sys.executable, "-m", "broker.cli", "demo", "--check", "--output", "json", *arguments]
    done = subprocess.run(command, capture_output=True, timeout=timeout, check=False)
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def shown() -> dict:
    code, result = demo()
    assert code == 0
    return result


def test_every_outcome_is_as_expected_and_all_four_kinds_occur(shown):
    assert shown["ok"]
    assert {case["observed"] for case in shown["cases"]} == {"shared", "minimised", "refused", "recalled"}
    assert all(case["ok"] for case in shown["cases"])


def test_counts_add_up_and_nothing_is_in_flight(shown):
    counts = shown["counts"]
    ended = sum(counts[name] for name in ("acknowledged", "refused", "rejected", "expired", "recalled", "in_flight"))
    assert counts["submitted"] == ended == len(shown["cases"]) == shown["input"]["records"]
    assert counts["in_flight"] == 0


def test_a_minimised_person_lacks_sections_by_a_rule_and_a_refused_one_cites_the_law(shown):
    for case in shown["cases"]:
        if case["observed"] == "minimised":
            assert [w["section"] for w in case["withheld"]] == ["residence"]
        if case["observed"] == "refused":
            assert case["cites"]
            assert case["decision_ids"]["accept"] is None


def test_acknowledgements_are_signed_by_the_recipient_agency(shown):
    for case in shown["cases"]:
        if case["observed"] in {"shared", "minimised"}:
            last = case["states"][-1]
            assert (last["state"], last["receipt"]) == ("acknowledged", "agency")


def test_logs_are_whole_and_no_process_is_left(shown):
    assert all(log["verified"] for log in shown["logs"])
    assert {(log["party"], log["log"]) for log in shown["logs"]} == {
        (party, log) for party in ("us", "mx") for log in ("exchange", "decisions")
    }
    assert shown["leftover_processes"] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="users can be changed by root only")
def test_as_root_each_gateway_runs_as_a_user_of_its_own(shown):
    uids = {one["role"]: one["uid"] for one in shown["processes"]}
    assert len({uids["us"], uids["mx"], 0}) == 3


@pytest.mark.samples
def test_a_list_that_nobody_here_wrote_crosses_in_tolerant_mode():
    if not SAMPLES.is_dir():
        pytest.skip("shared samples are absent")
    code, result = demo("--input", str(SAMPLES / "minelytics_text_001.edi"), "--tolerant")
    assert (code, result["input"]["records"]) == (0, 10)


def test_a_file_that_is_no_list_is_refused_with_its_place_and_nothing_starts(tmp_path):
    path = tmp_path / "list.edi"
    path.write_bytes(b"SECRETNAME is not EDIFACT")
    command = [sys.executable, "-m", "broker.cli", "demo", "--check", "--input", str(path)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, text=True)
    assert done.returncode == 1
    assert "SECRETNAME" not in done.stdout + done.stderr
    assert "mend:" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
@pytest.mark.parametrize("after_s", [0.2, 1.0])
def test_whoever_ends_a_demonstration_finds_nothing_left_behind(tmp_path, number, after_s):
    """Counted from when its folder is there, for before that there is nothing to leave."""
    command = [sys.executable, "-m", "broker.cli", "demo"]
    running = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    tmp_path.chmod(0o711)
    deadline = time.monotonic() + 30
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(after_s)
    running.send_signal(number)
    assert running.wait(30) != 0
    assert list(tmp_path.iterdir()) == []
    assert subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, check=False).stdout == b""
