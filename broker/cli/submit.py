"""`puente submit`: a file's records, one message each, in one conversation."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.json_format import ParseDict, ParseError

from adapters.paxlst import Decoded, DecodeError
from adapters.paxlst import decode as decode_paxlst
from broker.cli.callers import HOME, HomeOption, explained, folder
from broker.cli.decode import Format, FormatOption, TolerantOption
from broker.cli.output import Exit, Output, OutputOption, emit_json, emit_table, fail, note
from broker.client import Client, Submitted
from broker.v1 import codes_pb2
from broker.v1.facts_pb2 import Facts

SCHEMA = "puente.submit/1"
PurposeOption = Annotated[str, typer.Option("--purpose", help="border_security, criminal_investigation, ...")]
BasisOption = Annotated[list[str], typer.Option("--basis", help="Ids of legal instruments, repeated or with commas.")]


def submit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to send.", show_default=False)],
    agency: Annotated[str, typer.Option("--as", help="The agency that sends, such as us.cbp.")],
    to: Annotated[str, typer.Option("--to", help="The agency of the other party, such as mx.inm.")],
    purpose: PurposeOption,
    basis: BasisOption,
    native: FormatOption = Format.paxlst,
    tolerant: TolerantOption = False,
    facts: Annotated[Path | None, typer.Option(help="JSON: {key of a record: its facts}; never leaves us.")] = None,
    validate_only: Annotated[bool, typer.Option("--validate-only", help="Decide and answer; keep nothing.")] = False,
    home: HomeOption = HOME,
    output: OutputOption = Output.table,
) -> None:
    """Decode a file, sign its records as an agency, and submit them. Exit 3 when policy refused one."""
    del native
    own = folder(home, agency)
    decoded = _decoded(file, tolerant=tolerant)
    told = read_facts(facts, [one.key for one in decoded.records]) if facts else {}
    note(f"{len(decoded.records)} records to submit")
    bases = sorted({word.strip() for item in basis for word in item.split(",") if word.strip()})
    with explained():
        results = asyncio.run(
            _submit(
                own, decoded, told, to=to, purpose=purpose_number(purpose), basis=bases, validate_only=validate_only
            )
        )
    _print(decoded, results, output)
    _leave(results)


async def _submit(own: Path, decoded: Decoded, told: Mapping[str, Facts], **terms: Any) -> list[Submitted]:
    """What has no answer from an earlier run is asked for first."""
    async with Client.open(own) as client:
        await client.resume()
        records = [one.record for one in decoded.records]
        return await client.submit(records, facts=[told.get(one.key) for one in decoded.records], **terms)


def purpose_number(word: str) -> codes_pb2.Purpose.ValueType:
    """The code of a purpose of the closed list."""
    try:
        return codes_pb2.Purpose.Value(f"PURPOSE_{word.upper()}")
    except ValueError:
        known = ", ".join(name.removeprefix("PURPOSE_").lower() for name in codes_pb2.Purpose.keys()[1:])
        fail("the purpose is not known", "purposes are a closed list", f"use one of: {known}", Exit.USAGE)


def read_facts(path: Path, keys: Sequence[str]) -> dict[str, Facts]:
    """Facts by key. A fact for nobody is a mistake that would let a record pass: refused."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        found = {key: ParseDict(_long_names(facts), Facts()) for key, facts in value.items()}
    except (OSError, ValueError, AttributeError, ParseError):
        fail(
            "the facts cannot be read",
            "the file is not {key: facts}, as docs/integrating.md shows",
            "correct it",
            Exit.USAGE,
        )
    if not set(found) <= set(keys):
        fail("facts for nobody", "a key of the facts names no record of the file", "correct the keys", Exit.USAGE)
    return found


def _long_names(facts: dict[str, Any]) -> dict[str, Any]:
    """Enum values may be written short: pending for CLAIM_STATUS_PENDING."""
    enums = {field.name: field.enum_type for field in Facts.DESCRIPTOR.fields if field.enum_type is not None}
    return {
        name: f"CLAIM_STATUS_{word.upper()}" if name in enums and not str(word).startswith("CLAIM_STATUS_") else word
        for name, word in facts.items()
    }


def _decoded(file: Path, *, tolerant: bool) -> Decoded:
    try:
        return decode_paxlst(file.read_bytes(), tolerant=tolerant)
    except OSError:
        fail("the file cannot be read", "it is missing, or not for us to read", "name another file", Exit.USAGE)
    except DecodeError as error:
        place = f"{error.code} in segment {error.position}"
        fail("nothing was submitted: the file has errors", place, "see `puente decode FILE`, or try --tolerant")


def _print(decoded: Decoded, results: Sequence[Submitted], output: Output) -> None:
    items = [
        {
            "key": one.key,
            "message_id": result.message_id.hex() or None,
            "result": result.result,
            "reason": result.reason or None,
            "decision_id": result.decision_id.hex() or None,
        }
        for one, result in zip(decoded.records, results, strict=True)
    ]
    if output is Output.json:
        emit_json({"schema": SCHEMA, "ok": all(result.accepted for result in results), "items": items})
        return
    rows = [
        (str(i["key"]), str(i["result"]), i["reason"] or "", i["message_id"] or "", i["decision_id"] or "")
        for i in items
    ]
    emit_table("submitted", ("key", "result", "reason", "message", "decision"), rows)


def _leave(results: Sequence[Submitted]) -> None:
    if any(result.result == "refused" for result in results):
        raise typer.Exit(Exit.DENIED)
    if not all(result.accepted for result in results):
        raise typer.Exit(Exit.FAILURE)
