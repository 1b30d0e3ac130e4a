"""`puente receive`: what waits for an agency, verified here, one JSON object a line."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict

from broker.cli import words
from broker.cli.callers import HOME, HomeOption, explained, folder
from broker.cli.output import Output, emit_json, emit_table, note
from broker.client import Client, Delivery, RecallAsked

SCHEMA = "puente.receive/1"
QUIET_S = 2.0
"""Without --ack: so long without a message, and that was all."""


def receive(
    agency: Annotated[str, typer.Option("--as", help="The agency that receives, such as mx.inm.")],
    native: Annotated[Output, typer.Option("--format", "--output", help="json: one object a line.")] = Output.table,
    ack: Annotated[
        bool, typer.Option("--ack", help="Acknowledge, signed; recalled records are answered destroyed.")
    ] = False,
    home: HomeOption = HOME,
) -> None:
    """Show what waits, each record proved by its origin agency's signature; without --ack it stays waiting."""
    own = folder(home, agency)
    rows: list[tuple[str, ...]] = []
    with explained():
        asyncio.run(_receive(own, native, rows, ack=ack))
    if native is Output.table:
        emit_table("received", ("message", "kind", "from", "sections", "caveats", "state"), rows)


async def _receive(own: Path, native: Output, rows: list[tuple[str, ...]], *, ack: bool) -> None:
    async with Client.open(own, durable=False) as client, client.receive(drain=ack) as receiver:
        batches = receiver.batches()
        while True:
            try:
                async with asyncio.timeout(None if ack else QUIET_S):
                    batch = await anext(batches)
            except (StopAsyncIteration, TimeoutError):
                return
            deliveries = [item for item in batch if isinstance(item, Delivery)]
            for item in deliveries:
                if native is Output.json:
                    emit_json({"schema": SCHEMA, "ok": True, **shown(item)})
                else:
                    rows.append(_row(item, ack=ack))
            if ack:
                await receiver.acknowledge(deliveries)
                for asked in [item for item in batch if isinstance(item, RecallAsked)]:
                    await asked.destroyed()
                    note("a record was recalled; answered destroyed")


def shown(item: Delivery) -> dict[str, Any]:
    """A delivery as `receive` prints it."""
    return {
        "message_id": item.message_id.hex(),
        "release": item.release.hex(),
        "family": item.family,
        "kind": item.kind,
        "record": MessageToDict(item.record, preserving_proto_field_name=True),
        "withheld": [{"section": w.section, "code": words.notice(w.code), "by": w.by} for w in item.withheld],
        "caveats": [words.caveat(code) for code in item.caveats],
        "origin": {"agency": item.origin.agency, "assurance": item.origin.assurance, "verified": item.origin.verified},
        "lease_until": words.instant(item.lease_until_ms),
    }


def _row(item: Delivery, *, ack: bool) -> tuple[str, ...]:
    caveats = ", ".join(words.caveat(code) for code in item.caveats)
    return (
        item.message_id.hex(), item.kind, item.origin.agency, ", ".join(item.shown), caveats,
        "acknowledged" if ack else "waiting",
    )  # fmt: skip
