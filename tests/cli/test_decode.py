"""`puente decode`: the shape that is pinned, exit codes, and errors that echo nothing."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from broker.cli import decode as command

DEMO = Path(__file__).parents[2] / "adapters" / "demo" / "passengers.edi"
FILES = Path(__file__).parents[1] / "data" / "paxlst"
KEYS = ["schema", "ok", "format", "mode", "source", "totals", "legs", "records", "warnings", "error"]


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(command.decode)
    return lambda *arguments: CliRunner().invoke(app, [str(one) for one in arguments])


def test_a_clean_list_is_one_json_object_of_the_pinned_shape(run):
    result = run(DEMO, "--format", "paxlst", "--output", "json")
    printed = json.loads(result.stdout)
    assert result.exit_code == 0
    assert list(printed) == KEYS
    assert (printed["schema"], printed["ok"], printed["mode"], printed["error"]) == (
        "puente.decode/1",
        True,
        "strict",
        None,
    )
    assert printed["source"]["bytes"] == DEMO.stat().st_size
    assert printed["totals"] == {"persons": 14, "legs": 1, "documents": 14, "declared_count": 14}
    assert printed["legs"] == [
        {
            "carrier": "PB",
            "number": "101",
            "from": "JFK",
            "to": "MEX",
            "departs": "2026-11-12T08:30",
            "arrives": "2026-11-12T13:15",
        }
    ]
    first = printed["records"][0]
    assert (first["key"], first["family"], first["kind"]) == ("PBX001", "passenger", "api")
    assert first["record"]["kind"] == "PASSENGER_KIND_API"
    assert first["record"]["identity"]["birth_date"] == "1984-03-12"


def test_a_refused_list_has_no_record_and_says_where_and_which_rule(run):
    result = run(FILES / "bad_values.edi", "--output", "json")
    printed = json.loads(result.stdout)
    assert result.exit_code == 1
    assert list(printed) == KEYS
    assert (printed["ok"], printed["records"], printed["legs"], printed["warnings"]) == (False, [], [], [])
    assert printed["error"] == {
        "code": "BAD_VALUE",
        "segment": "DTM",
        "position": 6,
        "offset": (FILES / "bad_values.edi").read_bytes().index(b"DTM+189"),
        "message": "a value has the form that its field asks for",
    }


def test_tolerant_mode_gives_the_records_and_names_each_deviation(run):
    result = run(FILES / "bad_values.edi", "--tolerant", "--output", "json")
    printed = json.loads(result.stdout)
    assert (result.exit_code, printed["ok"], printed["mode"]) == (0, True, "tolerant")
    assert len(printed["records"]) == 3
    assert set(printed["warnings"][0]) == {"code", "segment", "position", "offset"}


def test_a_person_reads_a_table(run):
    result = run(FILES / "bad_values.edi", "--tolerant")
    assert result.exit_code == 0
    assert "ROJAS" in result.stdout
    assert "BAD_VALUE" in result.stdout


def test_an_error_echoes_no_value_of_the_file(run, tmp_path):
    file = tmp_path / "list.edi"
    file.write_bytes((FILES / "bad_values.edi").read_bytes().replace(b"PB7", b"SECRET?+"))
    result = run(file)
    assert result.exit_code == 1
    assert "BAD_VALUE" in result.stderr
    assert "SECRET" not in result.output


def test_a_missing_file_is_a_clear_error_in_both_forms(run, tmp_path):
    missing = tmp_path / "none.edi"
    printed = json.loads(run(missing, "--output", "json").stdout)
    assert (printed["ok"], printed["error"]["code"]) == (False, "FILE_UNREADABLE")
    result = run(missing)
    assert result.exit_code == 1
    assert "mend" in result.stderr


def test_wrong_usage_exits_with_two(run):
    assert run(DEMO, "--format", "pnrgov").exit_code == 2
    assert run().exit_code == 2
