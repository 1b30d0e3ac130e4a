"""What every command prints: one JSON object or a table on stdout, progress and errors on stderr.

Values are other people's text. Nothing of it acts on a terminal: no markup, control sequence or change of direction.
"""

import json
import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from enum import Enum, IntEnum
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

_ACTING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories: controls, formats (directions, invisible signs), halves of pairs, separators of lines."""
_SUSPECT = re.compile(r"[^ -~]")


class Output(str, Enum):
    """How a result is printed."""

    table = "table"
    json = "json"


class Exit(IntEnum):
    """Exit codes, the same for every command."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    DENIED = 3
    UNAUTHENTICATED = 4
    VERIFICATION = 5
    UNAVAILABLE = 6
    CONFLICT = 7


OutputOption = Annotated[Output, typer.Option("--output", help="table for people, json for programs.")]


def shown(text: str) -> str:
    """A value as a terminal may have it: characters that would act are written out, by their number."""
    return _SUSPECT.sub(lambda found: _written_out(found[0]), text)


def _written_out(char: str) -> str:
    if unicodedata.category(char) not in _ACTING:
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def emit_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object, keys in the order given; characters that would act on a terminal stand as JSON escapes."""
    sys.stdout.write(_SUSPECT.sub(lambda found: _in_json(found[0]), json.dumps(value, ensure_ascii=False)) + "\n")
    sys.stdout.flush()


def _in_json(char: str) -> str:
    """The same string for who parses it."""
    if unicodedata.category(char) not in _ACTING:
        return char
    return "\\u007f" if char == "\x7f" else json.dumps(char)[1:-1]


def emit_line(text: str) -> None:
    """Print one line for a person."""
    typer.echo(shown(text))


def emit_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the title is one line above it."""
    table = Table(title=Text(shown(title)), title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(shown(value)) for value in row))
    Console().print(table)


def note(text: str) -> None:
    """Progress for a person: stderr, and only on a terminal."""
    if sys.stderr.isatty():
        Console(stderr=True).print(Text(shown(text)), style="dim")


def fail(what: str, why: str, mend: str, code: Exit = Exit.FAILURE) -> NoReturn:
    """Say what failed, why, and how to mend it; then exit. Echo no value of the input."""
    console = Console(stderr=True, highlight=False)
    console.print(Text("puente:", style="bold red"), Text(shown(what)))
    console.print(Text(f"  why:  {shown(why)}"))
    console.print(Text(f"  mend: {shown(mend)}"))
    raise typer.Exit(code)
