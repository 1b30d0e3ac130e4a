"""The commands as transcripts, against two real gateways."""

import json
import os
import subprocess
import sys
from importlib import resources

import pytest

from tests.fixtures import two_gateways


@pytest.fixture(scope="module")
def link():
    with two_gateways() as gateways:
        yield gateways


def puente(link, *arguments: str) -> tuple[int, str, str]:
    environment = {**os.environ, "PUENTE_HOME": str(link.folder)}
    command = [sys.executable, "-m", "broker.cli", *arguments]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, text=True, env=environment)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def submitted(link, tmp_path_factory) -> tuple[int, dict]:
    facts = tmp_path_factory.mktemp("facts") / "facts.json"
    facts.write_text('{"PBX002": {"special_relief": "pending"}}')
    path = str(resources.files("adapters").joinpath("demo/passengers.edi"))
    code, out, _ = puente(
        link, "submit", path, "--format", "paxlst", "--as", "us.cbp", "--to", "mx.inm", "--purpose", "border_security",
        "--basis", "us.usc.49.44909", "--facts", str(facts), "--output", "json",
    )  # fmt: skip
    return code, json.loads(out)


def test_submit_says_what_became_of_each_record_and_exits_3_when_policy_refused_one(submitted):
    code, result = submitted
    assert code == 3
    by_key = {item["key"]: item for item in result["items"]}
    assert by_key["PBX001"]["result"] == "accepted"
    assert (by_key["PBX002"]["result"], by_key["PBX002"]["reason"]) == ("refused", "POLICY_DENIED")
    assert len(by_key["PBX002"]["decision_id"]) == 64


def test_receive_shows_each_record_verified_and_acknowledges(link, submitted):
    accepted = {item["message_id"] for item in submitted[1]["items"] if item["result"] == "accepted"}
    code, out, _ = puente(link, "receive", "--as", "mx.inm", "--format", "json", "--ack")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert {line["message_id"] for line in lines} == accepted
    assert all(line["origin"] == {"agency": "us.cbp", "assurance": "agency_signed", "verified": True} for line in lines)
    assert all("no_onward_transfer" in line["caveats"] for line in lines)


def test_message_show_tells_every_state_and_by_whose_word(link, submitted):
    accepted = next(item for item in submitted[1]["items"] if item["result"] == "accepted")
    code, out, _ = puente(link, "message", "show", accepted["message_id"], "--as", "us.cbp", "--output", "json")
    message = json.loads(out)["message"]
    assert code == 0
    assert message["states"][0]["state"] == "accepted"
    assert message["destroy_by"]


def test_decision_explain_names_rule_and_law_in_spanish(link, submitted):
    refused = next(item for item in submitted[1]["items"] if item["result"] == "refused")
    code, out, _ = puente(link, "decision", "explain", refused["decision_id"], "--lang", "es", "--output", "json")
    found = json.loads(out)
    assert code == 0
    assert found["effect"] == "forbid"
    assert [rule["id"] for rule in found["rules"]] == ["R17"]
    assert found["rules"][0]["cites"][0]["id"] == "us.usc.8.1367"
    assert "rechazado" in found["summary"]
    assert found["would_change"]


def test_decision_list_filters_by_rule(link, submitted):
    code, out, _ = puente(link, "decision", "list", "--filter", 'rule = "R17"', "--output", "json")
    assert code == 0
    assert len(json.loads(out)["decisions"]) == 1


@pytest.mark.parametrize("command", ["flow", "links"])
def test_operators_see_streams_and_links(link, submitted, command):
    code, out, _ = puente(link, command, "--output", "json")
    found = json.loads(out)
    assert (code, found["ok"]) == (0, True)
    assert found["flows" if command == "flow" else "links"]


def test_an_operator_may_not_read_decisions(link):
    code, _, err = puente(link, "decision", "list", "--as", "us.operator")
    assert code == 3
    assert "mend:" in err


def test_an_unknown_caller_is_told_what_to_do(link):
    code, _, err = puente(link, "links", "--as", "us.nobody")
    assert code == 2
    assert "puente init" in err


def test_recall_takes_an_acknowledged_message_back(link, submitted):
    accepted = [item for item in submitted[1]["items"] if item["result"] == "accepted"][-1]
    code, _, _ = puente(link, "message", "recall", accepted["message_id"], "--as", "us.cbp", "--output", "json")
    assert code == 0


def test_init_refuses_a_folder_that_is_not_empty(link):
    code, _, err = puente(link, "init")
    assert code == 2
    assert "not empty" in err
