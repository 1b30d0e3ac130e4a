"""`puente decode`: a file of a native format → records, without sending anything."""

import hashlib
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from google.protobuf.json_format import MessageToDict

from adapters.findings import LIMITS
from adapters.paxlst import Decoded, DecodedRecord, DecodeError, Leg, Source, Totals
from adapters.paxlst import decode as decode_paxlst
from broker.cli.output import Exit, Output, OutputOption, emit_json, emit_table, fail

SCHEMA = "puente.decode/1"
FAMILY, KIND = "passenger", "api"


class Format(str, Enum):
    """Native formats that can be read."""

    paxlst = "paxlst"


FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The file to read.", show_default=False)]
FormatOption = Annotated[Format, typer.Option("--format", help="paxlst covers the old US form.")]
TolerantOption = Annotated[bool, typer.Option("--tolerant", help="Name deviations as warnings and go on.")]


def decode(
    file: FileArgument,
    native: FormatOption = Format.paxlst,
    tolerant: TolerantOption = False,
    output: OutputOption = Output.table,
) -> None:
    """Read a file as records and show what it holds; strict unless told otherwise."""
    mode = "tolerant" if tolerant else "strict"
    result: dict[str, Any] = {"schema": SCHEMA, "ok": False, "format": native.value, "mode": mode}
    data = b""
    try:
        data = _read(file)
        decoded = decode_paxlst(data, tolerant=tolerant)
    except OSError:
        error = {"code": "FILE_UNREADABLE", "segment": "", "position": 0, "offset": 0}
        unread = {**error, "message": "the file can be read"}
        _refuse(result, data, unread, "name a file that exists and may be read", output)
    except DecodeError as found:
        mend = (
            "ask the sender for a correct file" if tolerant else "ask the sender for a correct file, or try --tolerant"
        )
        _refuse(result, data, _error(found), mend, output)
    if output is Output.json:
        emit_json({**result, "ok": True, **_content(decoded), "error": None})
    else:
        _show(decoded)


def _read(file: Path) -> bytes:
    """The file, up to one byte over the cap, which is refused."""
    with file.open("rb") as opened:
        return opened.read(LIMITS.bytes + 1)


def _content(decoded: Decoded) -> dict[str, Any]:
    source, totals = decoded.source, decoded.totals
    return {
        "source": {
            "sha256": source.sha256,
            "bytes": source.bytes,
            "version": source.version,
            "messages": source.messages,
        },
        "totals": {
            "persons": totals.persons,
            "legs": totals.legs,
            "documents": totals.documents,
            "declared_count": totals.declared_count,
        },
        "legs": [_leg(leg) for leg in decoded.legs],
        "records": [_record(one) for one in decoded.records],
        "warnings": [
            {"code": one.code, "segment": one.segment, "position": one.position, "offset": one.offset}
            for one in decoded.warnings
        ],
    }


def _leg(leg: Leg) -> dict[str, str]:
    return {
        "carrier": leg.carrier,
        "number": leg.number,
        "from": leg.departure,
        "to": leg.arrival,
        "departs": leg.departs,
        "arrives": leg.arrives,
    }


def _record(one: DecodedRecord) -> dict[str, Any]:
    record = MessageToDict(one.record, preserving_proto_field_name=True)
    return {"key": one.key, "family": FAMILY, "kind": KIND, "record": record}


def _error(found: DecodeError) -> dict[str, Any]:
    return {
        "code": found.code,
        "segment": found.segment,
        "position": found.position,
        "offset": found.offset,
        "message": found.message,
    }


def _refuse(result: dict[str, Any], data: bytes, error: dict[str, Any], mend: str, output: Output) -> NoReturn:
    """No record of a file that was refused is shown."""
    if output is Output.json:
        nothing = Decoded(
            source=Source(hashlib.sha256(data).hexdigest(), len(data), "", 0),
            totals=Totals(0, 0, 0, None),
            legs=(),
            records=(),
            warnings=(),
        )
        emit_json({**result, **_content(nothing), "error": error})
        raise typer.Exit(Exit.FAILURE)
    where = f"{error['segment'] or 'segment'} {error['position']}, byte {error['offset']}"
    fail("the file was not decoded", f"{error['code']} at {where}: {error['message']}", mend)


def _show(decoded: Decoded) -> None:
    totals = decoded.totals
    declared = "not declared" if totals.declared_count is None else str(totals.declared_count)
    emit_table(
        f"{decoded.source.version}, {decoded.source.messages} message(s)",
        ["persons", "legs", "documents", "declared for the flight"],
        [[str(totals.persons), str(totals.legs), str(totals.documents), declared]],
    )
    legs = [[leg.carrier, leg.number, leg.departure, leg.arrival, leg.departs, leg.arrives] for leg in decoded.legs]
    emit_table("legs", ["carrier", "number", "from", "to", "departs", "arrives"], legs)
    emit_table(
        "records", ["key", "surname", "given", "born", "nationality", "documents"], [*map(_row, decoded.records)]
    )
    if decoded.warnings:
        rows = [[one.code, one.segment, str(one.position), str(one.offset)] for one in decoded.warnings]
        emit_table("warnings", ["code", "segment", "position", "offset"], rows)


def _row(one: DecodedRecord) -> list[str]:
    identity = one.record.identity
    documents = ", ".join(f"{document.type} {document.number}".strip() for document in one.record.documents)
    name = identity.name
    return [one.key, name.surname, name.given, identity.birth_date, identity.nationality, documents]
