"""Log lines: named events with keys of a closed list."""

import ast
import io
import json
import sys
from pathlib import Path

import pytest

from broker import events

ROOT = Path(__file__).parents[2]


@pytest.fixture
def lines(monkeypatch):
    made = io.StringIO()
    monkeypatch.setattr(sys, "stderr", made)
    events.configure()
    return made


def test_an_event_is_one_json_line(lines):
    events.log("gateway.started", party="us", port=1)
    assert json.loads(lines.getvalue())["event"] == "gateway.started"


def test_a_key_that_is_not_on_the_list_is_dropped_and_counted(lines):
    events.log("gateway.started", party="us", surname="CANARIO")
    line = json.loads(lines.getvalue())
    assert line["dropped"] == 1
    assert "CANARIO" not in lines.getvalue()


def test_a_log_that_cannot_be_written_raises_nothing(lines):
    lines.close()
    events.log("gateway.started", party="us")


def test_every_call_in_the_code_uses_keys_of_the_list():
    calls = 0
    for file in (ROOT / "broker").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "log":
                calls += 1
                assert {keyword.arg for keyword in node.keywords} <= events.ALLOWED, file.name
    assert calls > 3
