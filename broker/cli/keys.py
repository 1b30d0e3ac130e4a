"""`puente keys`: the keys of the agreement, and what key items make of them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from broker.cli import roots, words
from broker.cli.callers import HOME, HomeOption, calling
from broker.cli.flow import OPERATOR, AsOption
from broker.cli.links import OperatorOption, WhyOption
from broker.cli.output import Exit, Output, OutputOption, emit_json, emit_table, fail
from broker.v1 import operations_service_pb2 as pb

app = typer.Typer(
    no_args_is_help=True,
    help="Keys: which count, and how one is suspended at once, added or reinstated.",
)
KidArgument = Annotated[str, typer.Argument(help="The key's name, 64 hex digits, as `puente keys list` shows it.")]
_COLUMNS = ("kid", "use", "owner", "state", "not_before", "not_after", "version", "added")


@app.command("list")
def list_keys(caller: AsOption = OPERATOR, home: HomeOption = HOME, output: OutputOption = Output.table) -> None:
    """Every key of both parties under the agreement in force: valid, early, ended or suspended."""
    with calling(home, caller) as operator:
        answer = operator.call("OperationsService/ListKeys", pb.ListKeysRequest(), pb.ListKeysResponse)
    found = [_key(one) for one in answer.keys]
    if output is Output.json:
        emit_json({"schema": "puente.keys/1", "ok": True, "keys": found})
        return
    _table(found)


@app.command()
def suspend(
    kid: KidArgument,
    why: WhyOption,
    caller: OperatorOption = OPERATOR,
    home: HomeOption = HOME,
    output: OutputOption = Output.table,
) -> None:
    """Suspend a key of this party at once: an agency's origin or receipt key, or the gateway's attest or envelope key.

    From now on nothing signed with it is accepted here, and nothing there once the other party has read the item:
    within seconds, while it runs. The roots reinstate it (`puente keys issue`), but never an envelope key. The last
    envelope key cannot be suspended: nothing could tell the other party. TLS certificates are another matter: see the
    deny list.
    """
    with calling(home, caller) as operator:
        request = pb.SuspendKeyRequest(kid=_kid(kid), why=why)
        answer = operator.call("OperationsService/SuspendKey", request, pb.SuspendKeyResponse)
    _show("puente.keys.suspend/1", answer.key, output)


@app.command()
def issue(
    item: Annotated[Path, typer.Argument(help="The item, as `puente keys sign` wrote it.")],
    why: WhyOption,
    caller: OperatorOption = OPERATOR,
    home: HomeOption = HOME,
    output: OutputOption = Output.table,
) -> None:
    """Issue an item that this party's roots signed: it adds a key, or reinstates a suspended one."""
    try:
        data = item.read_bytes()
    except OSError as error:
        fail("the item cannot be read", str(error.strerror), "name the file that the roots signed", Exit.USAGE)
    with calling(home, caller) as operator:
        request = pb.IssueKeyItemRequest(item=data, why=why)
        answer = operator.call("OperationsService/IssueKeyItem", request, pb.IssueKeyItemResponse)
    _show("puente.keys.issue/1", answer.key, output)


app.command()(roots.new)
app.command("draft-add")(roots.draft_add)
app.command("draft-reinstate")(roots.draft_reinstate)
app.command()(roots.sign)


def _kid(text: str) -> bytes:
    try:
        kid = bytes.fromhex(text)
    except ValueError:
        kid = b""
    if len(kid) != 32:
        fail("no such key", "a kid is 64 hex digits", "copy it from `puente keys list --output json`", Exit.USAGE)
    return kid


def _show(schema: str, key: pb.KeyView, output: Output) -> None:
    shown = _key(key)
    if output is Output.json:
        emit_json({"schema": schema, "ok": True, "key": shown})
        return
    _table([shown])


def _table(found: list[dict[str, Any]]) -> None:
    emit_table("keys", _COLUMNS, [tuple("" if row[c] is None else str(row[c]) for c in _COLUMNS) for row in found])


def _key(one: pb.KeyView) -> dict[str, Any]:
    return {
        "kid": one.kid.hex(),
        "use": words.use(one.use),
        "owner": one.owner,
        "party": one.party,
        "state": one.state,
        "not_before": words.instant(one.not_before_ms),
        "not_after": words.instant(one.not_after_ms),
        "version": one.version,
        "added": one.added,
    }
