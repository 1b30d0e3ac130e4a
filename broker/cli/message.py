"""`puente message show|list|recall`: what became of an agency's messages."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from broker.cli import words
from broker.cli.callers import HOME, HomeOption, explained, folder
from broker.cli.output import Exit, Output, OutputOption, emit_json, emit_table, fail
from broker.client import Client
from broker.v1 import codes_pb2
from broker.v1 import exchange_service_pb2 as pb

app = typer.Typer(no_args_is_help=True, help="What became of an agency's messages.")
AsOption = Annotated[str, typer.Option("--as", help="The agency, such as us.cbp.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="A message id or a release, in hex.", show_default=False)]
_T = TypeVar("_T")


@app.command()
def show(name: IdArgument, agency: AsOption, home: HomeOption = HOME, output: OutputOption = Output.table) -> None:
    """One message with every state that it reached, and by whose word."""
    view = _ask(home, agency, lambda client: client.get(hex_id(name)))
    _print_one("puente.message/1", view, output)


@app.command("list")
def list_(
    agency: AsOption,
    state: Annotated[list[str] | None, typer.Option(help="Only these states.")] = None,
    way: Annotated[str, typer.Option(help="out, in or both.")] = "both",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 100,
    home: HomeOption = HOME,
    output: OutputOption = Output.table,
) -> None:
    """The agency's messages, newest first."""
    states = [_state(word) for word in state or []]
    ways = {"out": pb.WAY_OUT, "in": pb.WAY_IN, "both": pb.WAY_UNSPECIFIED}
    if way not in ways:
        fail("the way is not known", "messages go out or come in", "use out, in or both", Exit.USAGE)

    async def found(client: Client) -> list[pb.MessageView]:
        views: list[pb.MessageView] = []
        async for view in client.list(states=states, way=ways[way]):
            views.append(view)
            if len(views) == limit:
                break
        return views

    views = [words.message(view) for view in _ask(home, agency, found)]
    if output is Output.json:
        emit_json({"schema": "puente.messages/1", "ok": True, "messages": views})
        return
    columns = ("message_id", "way", "kind", "origin", "recipient", "purpose", "state", "reason")
    emit_table("messages", columns, [tuple(str(view[c]) for c in columns) for view in views])


@app.command()
def recall(
    name: IdArgument,
    agency: AsOption,
    home: HomeOption = HOME,
    output: OutputOption = Output.table,
) -> None:
    """Take a message back: refused on arrival, withdrawn, or its recipient is asked to destroy it."""
    view = _ask(home, agency, lambda client: client.recall(hex_id(name), codes_pb2.REASON_AGENCY))
    _print_one("puente.message/1", view, output)


def hex_id(text: str) -> bytes:
    """An id of 16 or 32 bytes in hex."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) not in {16, 32}:
        fail(
            "the id is not one", "ids are 32 or 64 hexadecimal digits", "copy it from `puente message list`", Exit.USAGE
        )
    return found


def _state(word: str) -> codes_pb2.State.ValueType:
    try:
        return codes_pb2.State.Value(f"STATE_{word.upper()}")
    except ValueError:
        fail("the state is not known", "states are a closed list", "see docs/spec, section 7", Exit.USAGE)


def _ask(home: Path, agency: str, question: Callable[[Client], Coroutine[Any, Any, _T]]) -> _T:
    own = folder(home, agency)

    async def asked() -> _T:
        async with Client.open(own, durable=False) as client:
            return await question(client)

    with explained():
        return asyncio.run(asked())


def _print_one(schema: str, view: pb.MessageView, output: Output) -> None:
    found = words.message(view)
    if output is Output.json:
        emit_json({"schema": schema, "ok": True, "message": found})
        return
    emit_table("message", ("what", "value"), [(k, str(v)) for k, v in found.items() if k != "states"])
    rows = [(s["state"], s["reason"], s["at"] or "", s["receipt"] or "") for s in found["states"]]
    emit_table("states", ("state", "reason", "at", "word of"), rows)
