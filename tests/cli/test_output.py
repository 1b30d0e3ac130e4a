"""What a command prints of other people's text: all of it, and nothing that acts on a terminal."""

import json

import pytest
import typer

from broker.cli import output

ACTING = (
    "\x1b[2J",
    "\x9b31m",
    "\x07",
    "\r",
    "\n",
    "\x7f",
    "\u202e",
    "\u2066",
    "\u200b",
    "\u2028",
    "\U000e0041",
    "\ud800",
)
KINDS = [f"U+{ord(acting[0]):04X}" for acting in ACTING]


def table(capsys, *values):
    output.emit_table("title", [f"c{n}" for n in range(len(values))], [values])
    return capsys.readouterr().out


@pytest.mark.parametrize("value", ["[bold]", "[/]", "[/bold]", "[red]x", "[link=http://x]y[/link]", ":smile:", "\\[x]"])
def test_markup_in_a_value_is_text(capsys, value):
    assert f" {value} " in table(capsys, value)


def test_markup_in_a_title_is_text(capsys):
    output.emit_table("[/]", ("a",), [("1",)])
    assert "[/]" in capsys.readouterr().out


@pytest.mark.parametrize("acting", ACTING, ids=KINDS)
def test_what_would_act_is_written_out_in_a_table(capsys, acting):
    out = table(capsys, f"before{acting}after")
    assert acting not in out.replace("\n", "") if acting != "\n" else "before\\x0aafter" in out
    assert f"before\\{'x' if ord(acting[0]) < 256 else 'u' if ord(acting[0]) < 65536 else 'U'}" in out


@pytest.mark.parametrize("acting", ACTING, ids=KINDS)
def test_json_has_the_same_value_for_a_program_and_nothing_that_acts_for_a_terminal(capsys, acting):
    output.emit_json({"value": f"before{acting}after"})
    out = capsys.readouterr().out
    assert json.loads(out) == {"value": f"before{acting}after"}
    assert acting[0] not in out.rstrip("\n")


def test_names_of_people_are_printed_as_they_are_written(capsys):
    assert " José Ñandú 李 " in table(capsys, "José Ñandú 李")
    output.emit_json({"name": "José Ñandú 李"})
    assert "José Ñandú 李" in capsys.readouterr().out


def test_a_line_is_one_line(capsys):
    output.emit_line("one\ntwo \x1b[31m[bold]")
    assert capsys.readouterr().out == "one\\x0atwo \\x1b[31m[bold]\n"


def test_an_error_is_text_too(capsys):
    with pytest.raises(typer.Exit) as ended:
        output.fail("what [/] \x1b[2J", "why [bold]", "mend \u202e", output.Exit.DENIED)
    assert ended.value.exit_code == 3
    err = capsys.readouterr().err
    assert "puente: what [/] \\x1b[2J" in err
    assert "why:  why [bold]" in err
    assert "mend: mend \\u202e" in err
    assert "\x1b[2J" not in err
