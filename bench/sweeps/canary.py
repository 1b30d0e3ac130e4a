"""Strings and keys that must not leave, planted in an exchange, and looked for in every place outside.

Canaries: text of withheld sections and of refused records, facts, names of the facts that were stated, the seeds and
salts that would open what is closed, and values that were not valid. Each is looked for raw and in hexadecimal. The
same search must find each canary in the sender's own call, and in every place something that lawfully is there.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import apsw

from bench import gateways, workload
from bench.exchange import RunError
from bench.gateways import PARTIES, Link
from broker import agreement, app
from broker.cli.callers import Caller
from broker.client import Client, Delivery, Submitted
from broker.client.calls import Credentials
from broker.client.errors import ClientError
from broker.client.store import Memory
from broker.decision import Secrets, context_of
from broker.keys import SigningKey, read_key_file
from broker.ledger.decisions import DecisionStore
from broker.ledger.keystore import KeyStore
from broker.message import FINAL, State
from broker.sealing import open_content, parse_envelope
from broker.sections import salt_block, split
from broker.v1 import exchange_service_pb2 as pb
from broker.v1 import operations_service_pb2 as operations
from broker.v1 import oversight_service_pb2 as oversight
from broker.v1.codes_pb2 import Purpose
from broker.v1.envelope_pb2 import OriginStatement
from broker.v1.facts_pb2 import CLAIM_STATUS_GRANTED, Facts
from broker.v1.passenger_pb2 import Assistance, Passenger
from broker.vault import Vault

SLOTS: Final = 16
END_S: Final = 20.0
PURPOSES: Final = (workload.BORDER, workload.INVESTIGATION)


@dataclass(frozen=True)
class Place:
    """Bytes that somebody outside can see, and something that lawfully is among them."""

    name: str
    data: bytes
    control: bytes


@dataclass
class Kept(Memory):
    """The client's store, which remembers the calls that were made."""

    requests: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def add(self, name: str, request: bytes) -> None:
        """One more call."""
        self.requests.append(request)
        super().add(name, request)


@dataclass
class Exchange:
    """What both agencies know afterwards."""

    requests: Sequence[bytes]
    results: Mapping[bytes, Submitted]
    delivered: Mapping[bytes, Delivery]
    heard: Sequence[str]
    invalid: Sequence[bytes]


def found_in(data: bytes, marker: bytes) -> bool:
    """Whether the bytes hold the marker, as it is (letters of any case) or in hexadecimal."""
    lowered = data.lower()
    return marker.lower() in lowered or marker.hex().encode() in lowered


def run(bug: str = "") -> dict[str, Any]:
    """`canary` of outputs; `bug`: planted in both gateways."""
    module = ("bench.sweeps.dying", *(("--bug", bug) if bug else ()))
    with gateways.running(module=dict.fromkeys(PARTIES, module)) as link:
        exchanged = asyncio.run(_exchange(link))
        answers = _answers(link)
        link.stop()
        places = list(_places(link, exchanged, answers))
        return judge(_canaries(exchanged), _own(exchanged), places)


def judge(canaries: Mapping[str, bytes], own: bytes, places: Sequence[Place]) -> dict[str, Any]:
    """Look everywhere; `own`: the sender's own calls, where every canary must be found."""
    controls = sum(found_in(own, marker) for marker in canaries.values())
    controls += sum(found_in(place.data, place.control) for place in places)
    return {
        "planted": len(canaries) + len(places),
        "controls_found": controls,
        "places": [{"place": place.name, "bytes": len(place.data)} for place in places],
        "outside": [
            {"canary": name, "place": place.name}
            for place in places
            for name, marker in canaries.items()
            if found_in(place.data, marker)
        ],
    }


def _stated() -> list[Facts]:
    """Facts to state: each alone, with a canary beside it; and the canary alone."""
    made = []
    for descriptor in Facts.DESCRIPTOR.fields:
        if descriptor.name != "source_system":
            value: Any = CLAIM_STATUS_GRANTED if descriptor.enum_type is not None else True
            made.append(Facts(**{descriptor.name: value}, source_system=_word()))
    return [*made, Facts(source_system=_word())]


def _word() -> str:
    return f"canary-{secrets.token_hex(8)}"


def _record(n: int) -> Passenger:
    """Every text of it can be told from every other."""
    made = workload.passenger(n)
    made.identity.name.surname, made.identity.name.given = _word(), _word()
    made.residence.destination.street = _word()
    made.assistance.CopyFrom(Assistance(codes=["WCHR"]))
    return made


async def _exchange(link: Link) -> Exchange:
    """Each fact for each purpose, until every record has its end; and what is heard of values that are not valid."""
    kept, delivered, results = Kept(), dict[bytes, Delivery](), dict[bytes, Submitted]()
    own = link.callers[workload.SENDER]
    endpoint = (own / "endpoint").read_text(encoding="ascii").strip()
    key = SigningKey.from_seed(read_key_file(own / "origin.json").seed)
    recipient = Client.open(link.callers[workload.RECIPIENT], durable=False)
    async with Client(endpoint, Credentials.read(own), key, store=kept) as sender, recipient:
        receiving = asyncio.create_task(_receive(recipient, delivered))
        for n, purpose in enumerate(PURPOSES):
            stated = _stated()
            records = [_record(100 * n + k) for k in range(len(stated))]
            told = await _submit(sender, records, purpose, stated)
            results |= {result.message_id: result for result in told}
        await _end(sender, [name for name, result in results.items() if result.accepted])
        requests = list(kept.requests)
        heard, invalid = await _invalid(sender)
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
    return Exchange(requests, results, delivered, heard, invalid)


async def _submit(
    sender: Client, records: Sequence[Passenger], purpose: Purpose.ValueType, facts: Sequence[Facts | None]
) -> list[Submitted]:
    return await sender.submit(records, to=workload.RECIPIENT, purpose=purpose, basis=workload.BASIS, facts=facts)


async def _receive(recipient: Client, delivered: dict[bytes, Delivery]) -> None:
    async for item in recipient.receive():
        if isinstance(item, Delivery):
            delivered[item.message_id] = item
            await item.acknowledge()


async def _end(sender: Client, accepted: Sequence[bytes]) -> None:
    async with asyncio.timeout(END_S):
        for message_id in accepted:
            while State((await sender.get(message_id)).state) not in FINAL:  # noqa: ASYNC110  another process's state
                await asyncio.sleep(0.02)


async def _invalid(sender: Client) -> tuple[list[str], list[bytes]]:
    """What the sender hears of wrong values, and the values."""
    heard, values = [], [_word().upper() for _ in range(3)]
    wrong = _record(1000)
    wrong.identity.nationality = values[0]
    tries: list[dict[str, Any]] = [
        {"records": [wrong], "facts": [None], "basis": workload.BASIS},
        {"records": [_record(1001)], "facts": [Facts(source_system=values[1])], "basis": workload.BASIS},
        {"records": [_record(1002)], "facts": [None], "basis": (values[2],)},
    ]
    for one in tries:
        try:
            told = await sender.submit(one.pop("records"), to=workload.RECIPIENT, purpose=workload.BORDER, **one)
            heard += [f"{result.result} {result.reason} {result.violations}" for result in told]
        except ClientError as error:
            heard.append(f"{error} {error.reason} {error.violations}")
    return heard, [value.encode() for value in values]


def _canaries(exchanged: Exchange) -> dict[str, bytes]:
    """Name to bytes; all of it is the sender's own."""
    found = {f"invalid {n}": value for n, value in enumerate(exchanged.invalid)}
    for n, request in enumerate(exchanged.requests):
        for k, item in enumerate(pb.SubmitRequest.FromString(request).submissions):
            found |= {f"{n}.{k} {name}": value for name, value in _of_submission(item, exchanged).items()}
    for descriptor in Facts.DESCRIPTOR.fields:
        if "_" in descriptor.name:
            found[f"name {descriptor.name}"] = descriptor.name.encode()
    return found


def _own(exchanged: Exchange) -> bytes:
    """What the sender handed in, and its facts as text, where their names stand."""
    texts = [
        str(Facts.FromString(item.facts)).encode()
        for request in exchanged.requests
        for item in pb.SubmitRequest.FromString(request).submissions
    ]
    return b"".join((*exchanged.requests, *exchanged.invalid, *texts))


def _of_submission(item: pb.Submission, exchanged: Exchange) -> dict[str, bytes]:
    message_id = OriginStatement.FromString(item.statement).message_id
    slots, block = split(item.record, SLOTS), salt_block(item.record_seed, message_id, SLOTS)
    delivery = exchanged.delivered.get(message_id)
    shown = delivery.proven.core.shown if delivery is not None else 0
    record, facts = Passenger.FromString(item.record), Facts.FromString(item.facts)
    found = {"seed": item.record_seed, "facts salt": item.facts_salt, "facts": item.facts}
    found["source"] = facts.source_system.encode()
    texts = {2: record.identity.name.surname, 5: record.residence.destination.street}
    found |= {f"text of slot {slot}": text.encode() for slot, text in texts.items() if not shown >> (slot - 1) & 1}
    return found | {
        f"{what} of slot {n + 1}": value
        for n, section in enumerate(slots)
        if section and not shown >> n & 1
        for what, value in (("salt", block[32 * n : 32 * n + 32]), ("section", section))
        if what == "section" and len(section) >= 16
    }


def _answers(link: Link) -> dict[str, bytes]:
    """What persons are told who may not see any of it."""
    found = {f"answers to {name}": _operations(link, name) for name in ("us.operator", "mx.operator")}
    caller = Caller(link.callers["mx.officer"])
    try:
        asked = oversight.ListDecisionsRequest(page_size=1000)
        page = caller.call("OversightService/ListDecisions", asked, oversight.ListDecisionsResponse)
        told = [page.SerializeToString()]
        for one in page.decisions:
            for language in ("en", "es"):
                explain = oversight.ExplainDecisionRequest(decision_id=one.decision_id, language=language)
                said = caller.call("OversightService/ExplainDecision", explain, oversight.ExplainDecisionResponse)
                told.append(said.SerializeToString())
    finally:
        caller.close()
    return {**found, "answers to mx.officer": b"".join(told)}


def _operations(link: Link, name: str) -> bytes:
    caller = Caller(link.callers[name])
    try:
        calls: list[tuple[str, Any, Any]] = [
            ("GetStatus", operations.GetStatusRequest(), operations.GetStatusResponse),
            ("ListFlows", operations.ListFlowsRequest(), operations.ListFlowsResponse),
            ("ListLinks", operations.ListLinksRequest(), operations.ListLinksResponse),
        ]
        return b"".join(caller.call(f"OperationsService/{m}", q, a).SerializeToString() for m, q, a in calls)
    finally:
        caller.close()


def _places(link: Link, exchanged: Exchange, answers: Mapping[str, bytes]) -> list[Place]:
    """Everything outside the sender's own store, with both gateways down."""
    message_id, surname = _lawful(exchanged)
    released = [delivery.release for delivery in exchanged.delivered.values()] or [b"nothing was delivered"]
    agreed = agreement.load((link.folder / "us" / "agreement.bin").read_bytes())
    places = [
        Place("transport", _files(link.folder / "transport"), agreed.digest),
        Place("transport, opened by its recipient", _opened(link, agreed), surname),
        Place("mx data", _files(link.folder / "mx" / "data"), message_id),
        Place("mx contexts, opened", _contexts(link), b"criminal_investigation"),
        Place(
            "mx deliveries", b"".join(d.delivered.SerializeToString() for d in exchanged.delivered.values()), surname
        ),
        Place("errors", "\n".join(exchanged.heard).encode(), b"nationality"),
    ]
    for party in PARTIES:
        entries = b"".join(row[0] for row in _rows(link.ledger(party), "SELECT entry FROM log"))
        places.append(Place(f"{party} log entries", entries, released[0] if party == "mx" else message_id))
        places.append(Place(f"{party} stderr", (link.folder / f"{party}.stderr").read_bytes(), b"gateway.started"))
    controls = {"answers to us.operator": b"us", "answers to mx.operator": b"mx", "answers to mx.officer": b"accept"}
    return places + [Place(name, data, controls[name]) for name, data in answers.items()]


def _lawful(exchanged: Exchange) -> tuple[bytes, bytes]:
    """Message id and surname of a record that was accepted: an identity is always part of it."""
    for request in exchanged.requests:
        for item in pb.SubmitRequest.FromString(request).submissions:
            message_id = OriginStatement.FromString(item.statement).message_id
            if exchanged.results[message_id].accepted:
                return message_id, Passenger.FromString(item.record).identity.name.surname.encode()
    raise RunError("nothing was accepted")


def _files(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def _opened(link: Link, agreed: agreement.Agreement) -> bytes:
    """Every envelope of both directions, as the gateway that it is for can read it."""
    found = []
    for sender, recipient in (PARTIES, PARTIES[::-1]):
        own = app.load_link([agreed], recipient, link.folder / recipient / "keys", development=True)
        for (data,) in _rows(link.folder / "transport" / f"{sender}-{recipient}.db", "SELECT data FROM envelopes"):
            parsed = parse_envelope(data)
            found.append(parsed.header_bytes)
            found.append(open_content(parsed, own.hpke[parsed.header.recipient_kid]).SerializeToString())
    return b"".join(found)


def _contexts(link: Link) -> bytes:
    """What the recipient's gateway looked at when it decided, as it could open it."""
    data = link.folder / "mx" / "data"
    vault = Vault((link.folder / "mx" / "keys" / app.SECRETS["vault"]).read_bytes())
    keys, connection = KeyStore(data / "keys.db"), apsw.Connection(str(data / "ledger.db"))
    try:
        found = []
        for stored in DecisionStore(connection).page("1 = 1", (), 0, 1000):
            opening = Secrets.opened(vault, stored.key_id, keys.opening(stored.key_id)).opening_key
            found.append(context_of(vault.open(opening, stored.record.context, stored.key_id)))
        return b"".join(found)
    finally:
        keys.close()
        connection.close()


def _rows(path: Path, query: str) -> list[Any]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return list(connection.execute(query))
    finally:
        connection.close()
