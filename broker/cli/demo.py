"""`puente demo`: two gateways on this machine, a passenger list across the border, and what became of each person."""

import asyncio
import hashlib
import os
import signal
import time
from collections import Counter
from importlib import resources
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final

import typer

from adapters.paxlst import Decoded, DecodeError
from adapters.paxlst import decode as decode_paxlst
from broker.cli import words
from broker.cli.callers import Caller, explained
from broker.cli.decode import Format, FormatOption, TolerantOption
from broker.cli.demo_plan import RECIPIENT, SENDER, plan
from broker.cli.demo_run import Story, run
from broker.cli.demo_stage import Stage, raise_stage
from broker.cli.output import Exit, Output, OutputOption, emit_json, emit_table, fail, note
from broker.v1 import operations_service_pb2 as operations

SCHEMA: Final = "puente.demo/1"
COUNTED: Final = ("submitted", "acknowledged", "refused", "rejected", "expired", "recalled", "in_flight")


def demo(
    check: Annotated[
        bool, typer.Option("--check", help="Headless: exit 1 unless every outcome is as expected.")
    ] = False,
    file: Annotated[Path | None, typer.Option("--input", help="A passenger list of your own.")] = None,
    native: FormatOption = Format.paxlst,
    tolerant: TolerantOption = False,
    output: OutputOption = Output.table,
) -> None:
    """Send a passenger list across: decided, minimised, signed, sealed, delivered, acknowledged, recalled.

    Everything runs on this machine, in a scratch folder that is removed at the end, Ctrl-C included.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)  # or a closed terminal would leave gateways and keys behind
    began = time.monotonic()
    data, decoded = _decoded(file, tolerant=tolerant)
    note("making a development agreement, keys and certificates; starting two gateways")
    with explained():
        stage = raise_stage()
        try:
            stories = asyncio.run(run(stage, plan(decoded.records)))
            statuses = {party: _status(stage, party) for party in ("us", "mx")}
        finally:
            left = stage.close()
    result = _result(stories, statuses, left)
    result["seconds"] = round(time.monotonic() - began, 3)
    result["input"] = {
        "path": str(file) if file else "adapters/demo/passengers.edi",
        "format": native.value,
        "mode": "tolerant" if tolerant else "strict",
        "sha256": hashlib.sha256(data).hexdigest(),
        "records": len(decoded.records),
    }
    if output is Output.json:
        emit_json(result)
    else:
        _show(result, stories)
    if check and not result["ok"]:
        raise typer.Exit(Exit.FAILURE)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """To be told to end is what Ctrl-C is; the gateways are stopped and the folder goes."""
    raise KeyboardInterrupt


def _decoded(file: Path | None, *, tolerant: bool) -> tuple[bytes, Decoded]:
    try:
        data = file.read_bytes() if file else resources.files("adapters").joinpath("demo/passengers.edi").read_bytes()
        return data, decode_paxlst(data, tolerant=tolerant)
    except OSError:
        fail("the file cannot be read", "it is missing, or not for us to read", "name another --input", Exit.USAGE)
    except DecodeError as error:
        place = f"{error.code} in segment {error.position}"
        fail("nothing was sent: the file has errors", place, "see `puente decode FILE`, or try --tolerant")


def _status(stage: Stage, party: str) -> operations.GetStatusResponse:
    operator = Caller(stage.callers[f"{party}.operator"])
    try:
        return operator.call("OperationsService/GetStatus", operations.GetStatusRequest(), operations.GetStatusResponse)
    finally:
        operator.close()


def _result(stories: list[Story], statuses: dict[str, operations.GetStatusResponse], left: int) -> dict[str, Any]:
    """The pinned JSON; `ok` needs every outcome as expected, both ledgers to agree, and nothing left behind."""
    cases = [_case(story) for story in stories]
    us, mx = statuses["us"], statuses["mx"]
    agree = _agree(stories, us.counts, mx.arrived) and not us.alarms and not mx.alarms
    logs = [
        {
            "party": party,
            "log": log.log,
            "size": log.size,
            "root": log.root.hex(),
            "verified": log.verified,
            "cosigned_size": None,
        }
        for party, status in statuses.items()
        for log in status.logs
    ]
    ok = all(case["ok"] for case in cases) and agree and all(log["verified"] for log in logs) and not left
    return {
        "schema": SCHEMA,
        "ok": ok,
        "transport": us.transport,
        "ledger": us.ledger,
        "seconds": 0.0,
        "input": {},
        "processes": [
            *({"role": p, "pid": s.pid, "uid": s.uid, "data_dir": s.data_dir} for p, s in statuses.items()),
            {"role": "client", "pid": os.getpid(), "uid": os.getuid(), "data_dir": None},
        ],
        "cases": cases,
        "counts": {name: getattr(us.counts, name) for name in COUNTED},
        "logs": logs,
        "leftover_processes": left,
    }


def _agree(stories: list[Story], sent: operations.Counts, arrived: operations.Counts) -> bool:
    """The sender's ledger, the recipient's, and what the agencies saw tell the same numbers."""
    seen = Counter(story.observed for story in stories)
    acknowledged = seen["shared"] + seen["minimised"]
    ended = sent.acknowledged + sent.refused + sent.rejected + sent.expired + sent.recalled + sent.in_flight
    return (
        sent.submitted == len(stories) == ended
        and sent.acknowledged == arrived.acknowledged == acknowledged
        and sent.recalled == arrived.recalled == seen["recalled"]
        and sent.refused == seen["refused"]
        and arrived.submitted == len(stories) - seen["refused"]
    )


def _case(story: Story) -> dict[str, Any]:
    decision = story.release_decision
    cites = {cite.id: cite.verified for rule in decision.rules for cite in rule.cites} if decision else {}
    accept = story.received.decision_id.hex() if story.received else None
    states = [words.states(state) for state in story.sent.states] if story.sent else []
    return {
        "id": story.planned.record.key,
        "type": "flow",
        "family": "passenger",
        "kind": "api",
        "message_id": story.submitted.message_id.hex(),
        "expected": story.planned.expected,
        "observed": story.observed,
        "ok": story.observed == story.planned.expected,
        "states": [{"state": s["state"], "at": s["at"], "receipt": s["receipt"]} for s in states],
        "rules": list(decision.decision.rules) if decision else [],
        "cites": [{"id": cite, "verified": verified} for cite, verified in cites.items()],
        "withheld": [{"section": w.section, "category": w.category, "rule": w.rule} for w in story.withheld],
        "decision_ids": {"release": story.submitted.decision_id.hex(), "accept": accept},
        "caught_by": None,
    }


def _show(result: dict[str, Any], stories: list[Story]) -> None:
    rows = []
    for case, story in zip(result["cases"], stories, strict=True):
        name = story.planned.record.record.identity.name
        purpose = words.purpose(story.planned.purpose)
        withheld = ", ".join(f"{w['section']} ({w['rule']})" for w in case["withheld"])
        trail = " → ".join(s["state"] + ("*" if s["receipt"] else "") for s in case["states"])
        mark = "" if case["ok"] else f"  expected {case['expected']}!"
        law = ", ".join(cite["id"] for cite in case["cites"]) if case["observed"] == "refused" else withheld
        person = f"{name.surname}, {name.given}".rstrip(", ")
        rows.append((person, purpose, case["observed"] + mark, " ".join(case["rules"]), law, trail))
    emit_table(
        f"From {SENDER} to {RECIPIENT}  (* proved by a signed receipt)",
        ("person", "purpose", "outcome", "rules", "withheld, or the law that refuses", "states"),
        rows,
    )
    counts = result["counts"]
    typer.echo("both ledgers: " + ", ".join(f"{counts[name]} {name.replace('_', ' ')}" for name in COUNTED))
    sizes = ", ".join(f"{log['party']} {log['log']} {log['size']}" for log in result["logs"])
    typer.echo(f"logs recomputed leaf by leaf: {sizes}")
    typer.echo(f"{result['seconds']} s; two processes as users {_users(result)}; nothing is left behind.")
    typer.echo(
        "\nLook further:\n"
        "  puente demo --input FILE --tolerant          your own passenger list\n"
        "  puente init; puente serve --config puente-dev/us/puente.toml      a link that stays\n"
        "  puente submit, receive, message, decision explain --lang es, flow, links\n"
        "  puente policy test                           the rules and their cases\n"
        "  docs/integrating.md, docs/spec/, ARCHITECTURE.md"
    )


def _users(result: dict[str, Any]) -> str:
    return " and ".join(str(one["uid"]) for one in result["processes"] if one["role"] != "client")
