"""`puente flow`: how traffic moves, for operators."""

from typing import Annotated

import typer

from broker.cli import words
from broker.cli.callers import HOME, HomeOption, calling
from broker.cli.output import Output, OutputOption, emit_json, emit_table
from broker.v1 import operations_service_pb2 as pb

AsOption = Annotated[str, typer.Option("--as", help="An operator, officer or auditor of the party to ask.")]
OPERATOR = "us.operator"


def flow(caller: AsOption = OPERATOR, home: HomeOption = HOME, output: OutputOption = Output.table) -> None:
    """Each stream with its lag in messages and in seconds."""
    with calling(home, caller) as operator:
        answer = operator.call("OperationsService/ListFlows", pb.ListFlowsRequest(), pb.ListFlowsResponse)
    found = [
        {
            "topic": f.topic,
            "partition": f.partition,
            "way": f.way,
            "last_seq": f.last_seq,
            "taken": f.taken,
            "lag_messages": f.lag_messages,
            "lag_seconds": round(f.lag_seconds, 3),
            "rate": round(f.rate, 3),
            "oldest": words.instant(f.oldest_ms),
            "why": words.reason(f.why),
        }
        for f in answer.flows
    ]
    if output is Output.json:
        emit_json({"schema": "puente.flow/1", "ok": True, "flows": found})
        return
    columns = ("topic", "partition", "way", "last_seq", "taken", "lag_messages", "lag_seconds", "rate", "why")
    emit_table("flows", columns, [tuple(str(row[c]) for c in columns) for row in found])
