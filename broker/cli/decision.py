"""`puente decision list|show|explain`: every decision and the law behind it."""

from typing import Annotated, Any

import typer

from broker.cli import words
from broker.cli.callers import HOME, Caller, HomeOption, calling
from broker.cli.message import hex_id
from broker.cli.output import Output, OutputOption, emit_json, emit_line, emit_table
from broker.v1 import oversight_service_pb2 as pb

app = typer.Typer(no_args_is_help=True, help="Decisions and the law behind them, for officers and auditors.")
AsOption = Annotated[str, typer.Option("--as", help="An officer or auditor of the party that decided.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="A decision id, in hex.", show_default=False)]
LangOption = Annotated[str, typer.Option("--lang", help="en or es.")]
OFFICER = "us.officer"


@app.command("list")
def list_(
    text: Annotated[
        str, typer.Option("--filter", help='effect = "forbid" AND rule = "R18" AND time > 2026-01-01')
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    caller: AsOption = OFFICER,
    home: HomeOption = HOME,
    output: OutputOption = Output.table,
) -> None:
    """Decisions, newest first."""
    with calling(home, caller) as officer:
        answer = officer.call(
            "OversightService/ListDecisions",
            pb.ListDecisionsRequest(filter=text, page_size=limit),
            pb.ListDecisionsResponse,
        )
    found = [view(decision) for decision in answer.decisions]
    if output is Output.json:
        emit_json({"schema": "puente.decisions/1", "ok": True, "decisions": found, "next_page": answer.next_page_token})
        return
    rows = [
        (d["decision_id"], d["at"] or "", d["action"], d["effect"], d["kind"], d["origin"], d["recipient"],
         " ".join(d["rules"]), " ".join(d["withheld"]))
        for d in found
    ]  # fmt: skip
    emit_table("decisions", ("id", "at", "action", "effect", "kind", "from", "to", "rules", "withheld"), rows)


@app.command()
def show(
    name: IdArgument, caller: AsOption = OFFICER, home: HomeOption = HOME, output: OutputOption = Output.table
) -> None:
    """One decision as it stands in the log."""
    with calling(home, caller) as officer:
        found = view(explained(officer, hex_id(name), "en").decision)
    if output is Output.json:
        emit_json({"schema": "puente.decision/1", "ok": True, "decision": found})
        return
    emit_table("decision", ("what", "value"), [(k, str(v)) for k, v in found.items()])


@app.command()
def explain(
    name: IdArgument,
    language: LangOption = "en",
    caller: AsOption = OFFICER,
    home: HomeOption = HOME,
    output: OutputOption = Output.table,
) -> None:
    """What was asked, what decided it, the law with its date, what was withheld, and what would have changed it."""
    with calling(home, caller) as officer:
        answer = explained(officer, hex_id(name), language)
    if output is Output.json:
        emit_json({"schema": "puente.decision_explain/1", "ok": True, **explanation(answer)})
        return
    emit_line(answer.summary)
    if answer.missing:
        _paragraph(answer.missing)
    for rule in answer.rules:
        _paragraph(f"{rule.id} ({rule.effect}): {rule.says}" if rule.says else rule.id)
        for cite in rule.cites:
            mark = "" if cite.verified else "  [unverified]"
            emit_line(f"    {cite.citation}, {cite.in_force_from}/{cite.in_force_to}{mark}")
    for section in answer.withheld:
        why = f", {section.rule}: {section.says}" if section.says else ""
        _paragraph(f"- {section.section} ({section.category}){why}")
    for duty in answer.obligations:
        emit_line(f"* {duty}")
    for sentence in answer.would_change:
        emit_line(f"? {sentence}")


def _paragraph(text: str) -> None:
    typer.echo()
    emit_line(text)


def explained(officer: Caller, decision_id: bytes, language: str) -> pb.ExplainDecisionResponse:
    """Ask a gateway to explain one of its decisions."""
    request = pb.ExplainDecisionRequest(decision_id=decision_id, language=language)
    return officer.call("OversightService/ExplainDecision", request, pb.ExplainDecisionResponse)


def view(decision: pb.DecisionView) -> dict[str, Any]:
    """A decision as `list` and `show` print it."""
    return {
        "decision_id": decision.decision_id.hex(),
        "at": words.instant(decision.time_ms),
        "action": decision.action,
        "effect": "permit" if decision.permit else "forbid",
        "family": decision.family,
        "kind": decision.kind,
        "origin": decision.origin_agency,
        "recipient": decision.recipient_agency,
        "purpose": words.purpose(decision.purpose),
        "rules": list(decision.rules),
        "withheld": list(decision.withheld),
        "obligations": list(decision.obligations),
        "pack": decision.pack_digest.hex(),
        "law_as_of": words.instant(decision.law_ms),
    }


def explanation(answer: pb.ExplainDecisionResponse) -> dict[str, Any]:
    """An explanation as `explain` prints it."""
    return {
        "decision_id": answer.decision.decision_id.hex(),
        "effect": "permit" if answer.decision.permit else "forbid",
        "law_as_of": words.instant(answer.decision.law_ms),
        "summary": answer.summary,
        "rules": [
            {
                "id": rule.id.partition(".")[0],
                "policy": rule.id,
                "effect": rule.effect,
                "cites": [_cite(cite) for cite in rule.cites],
                "says": rule.says,
            }
            for rule in answer.rules
        ],
        "withheld": [
            {"section": w.section, "category": w.category, "rule": w.rule, "says": w.says} for w in answer.withheld
        ],
        "obligations": list(answer.obligations),
        "would_change": list(answer.would_change),
        "missing": answer.missing,
    }


def _cite(cite: pb.Instrument) -> dict[str, Any]:
    return {
        "id": cite.id,
        "citation": cite.citation,
        "says": cite.says,
        "from": cite.in_force_from,
        "to": cite.in_force_to,
        "verified": cite.verified,
    }
