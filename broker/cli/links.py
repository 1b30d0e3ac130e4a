"""`puente links`: the link to the other party; suspended by one operator, resumed by two."""

from typing import Annotated, Any

import typer

from broker.cli import words
from broker.cli.callers import HOME, HomeOption, calling
from broker.cli.flow import OPERATOR, AsOption
from broker.cli.output import Output, OutputOption, emit_json, emit_table
from broker.v1 import operations_service_pb2 as pb

app = typer.Typer(
    invoke_without_command=True,
    help="""The link to the other party: open, held or suspended, and why.

    Without a verb: show it. Held ends by itself; suspended, by evidence or by an operator, is resumed by two persons.
    """,
)
OperatorOption = Annotated[str, typer.Option("--as", help="An operator of the party whose gateway is to act.")]
WhyOption = Annotated[
    str,
    typer.Option("--why", help="For whoever looks at it later: 500 characters at most. It stays with this party."),
]
_COLUMNS = ("peer", "state", "why", "agreement_version", "agreement_expires", "next_agreement", "last_heads")


@app.callback()
def links(
    context: typer.Context, caller: AsOption = OPERATOR, home: HomeOption = HOME, output: OutputOption = Output.table
) -> None:
    """Show the link, unless a verb follows."""
    if context.invoked_subcommand is not None:
        return
    with calling(home, caller) as operator:
        answer = operator.call("OperationsService/ListLinks", pb.ListLinksRequest(), pb.ListLinksResponse)
    found = [_link(one) for one in answer.links]
    if output is Output.json:
        emit_json({"schema": "puente.links/1", "ok": True, "links": found})
        return
    _table(found)


@app.command()
def suspend(
    why: WhyOption, caller: OperatorOption = OPERATOR, home: HomeOption = HOME, output: OutputOption = Output.table
) -> None:
    """Suspend the link at once: no data is sent, read or accepted until two persons resume it.

    Receipts, recalls and heads go on, for they are still owed. What was accepted before is kept, and sent afterwards.
    The other party is not told; its data waits.
    """
    with calling(home, caller) as operator:
        request = pb.SuspendLinkRequest(why=why)
        answer = operator.call("OperationsService/SuspendLink", request, pb.SuspendLinkResponse)
    _show({"schema": "puente.links.suspend/1", "ok": True}, answer.link, output)


@app.command()
def resume(
    why: WhyOption, caller: OperatorOption = OPERATOR, home: HomeOption = HOME, output: OutputOption = Output.table
) -> None:
    """Resume a suspended link. Two different operators run this, within 15 minutes; the second one opens it.

    Look first at why it is suspended (`puente links`), and keep the evidence. Whatever comes to light between the two
    starts it anew. `resumed` in the output says whether the link is open again.
    """
    with calling(home, caller) as operator:
        request = pb.ResumeLinkRequest(why=why)
        answer = operator.call("OperationsService/ResumeLink", request, pb.ResumeLinkResponse)
    _show({"schema": "puente.links.resume/1", "ok": True, "resumed": answer.resumed}, answer.link, output)


def _show(head: dict[str, Any], link: pb.LinkView, output: Output) -> None:
    shown = _link(link)
    if output is Output.json:
        emit_json({**head, "link": shown})
        return
    _table([shown])
    if link.resume_asked_by:
        typer.echo(f"waiting for a second operator until {words.instant(link.resume_until_ms)}")


def _table(found: list[dict[str, Any]]) -> None:
    emit_table("links", _COLUMNS, [tuple("" if row[c] is None else str(row[c]) for c in _COLUMNS) for row in found])


def _link(one: pb.LinkView) -> dict[str, Any]:
    return {
        "peer": one.peer,
        "link_id": one.link_id.hex(),
        "agreement": one.agreement_digest.hex(),
        "agreement_version": one.agreement_version,
        "agreement_expires": words.instant(one.agreement_expires_ms),
        "next_agreement": words.instant(one.next_agreement_from_ms),
        "state": one.state,
        "why": one.why or None,
        "resume_asked_by": one.resume_asked_by or None,
        "resume_until": words.instant(one.resume_until_ms),
        "last_heads": words.instant(one.last_heads_ms),
        "development": one.development,
    }
