"""`puente policy check` and `puente policy test`, as a compliance officer runs them."""

import json

import pytest
from typer.testing import CliRunner

from broker.cli.policy import app
from tests.unit.policy_story import copy_packs, spoil

run = CliRunner().invoke


def test_the_cases_pass_and_the_answer_is_one_json_object():
    done = run(app, ["test", "--output", "json"])
    shown = json.loads(done.stdout)
    assert done.exit_code == 0
    assert (shown["schema"], shown["ok"], shown["never_decisive"]) == ("puente.policy_test/1", True, [])
    assert {pack["id"] for pack in shown["packs"]} == {"bilateral", "us", "mx"}


def test_the_table_counts_the_cases():
    done = run(app, ["test"])
    assert done.exit_code == 0
    assert "R18" in done.stdout
    assert "totals" in done.stdout


def test_a_failed_case_fails_the_command(tmp_path):
    packs = copy_packs(tmp_path)
    spoil(packs, "us/cases/R18-forbid-asylum-information.toml", "asylum_information = true", "classified = false")
    done = run(app, ["test", "--packs", str(packs)])
    assert done.exit_code == 1
    assert "failed" in done.stdout


def test_a_pack_that_cannot_be_loaded_says_how_to_mend_it(tmp_path):
    packs = copy_packs(tmp_path)
    spoil(packs, "us/all.cedar", '@id("R18.release.2001")\n', "")
    done = run(app, ["test", "--packs", str(packs)])
    assert done.exit_code == 1
    assert "puente policy check" in done.stderr
    checked = run(app, ["check", "--packs", str(packs)])
    assert checked.exit_code == 1
    assert "problems" in checked.stdout


@pytest.mark.parametrize("output", ["json", "table"])
def test_our_packs_check(output):
    done = run(app, ["check", "--output", output])
    assert done.exit_code == 0
    if output == "json":
        assert json.loads(done.stdout)["problems"] == []
