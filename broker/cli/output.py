"""What every command prints: one JSON object or a table on stdout, progress and errors on stderr."""

import json
import sys
from collections.abc import Mapping, Sequence
from enum import Enum, IntEnum
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table


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


def emit_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object, keys in the order given."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def emit_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the title is one line above it."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def note(text: str) -> None:
    """Progress for a person: stderr, and only on a terminal."""
    if sys.stderr.isatty():
        Console(stderr=True).print(text, style="dim")


def fail(what: str, why: str, mend: str, code: Exit = Exit.FAILURE) -> NoReturn:
    """Say what failed, why, and how to mend it; then exit. Echo no value of the input."""
    console = Console(stderr=True, highlight=False)
    console.print(f"[bold red]puente:[/] {what}")
    console.print(f"  why:  {why}")
    console.print(f"  mend: {mend}")
    raise typer.Exit(code)
