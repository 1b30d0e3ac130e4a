"""Both gateways in one process: a memory transport, a clock that tests own, real crypto, real ledgers."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import apsw

import policy
from broker import agreement, answers, app, control, development, keys, receipts
from broker.agreement import Agreement
from broker.canonical import encode
from broker.gateway.exchange import ExchangeService
from broker.ledger.keystore import KeyStore
from broker.ledger.mailbox import Offer
from broker.ledger.sqlite import SqliteLedger
from broker.message import Log, Reason, SignedBatch, State, Stream, Submission
from broker.origin import OriginTree, batch_statement, facts_commit, origin_leaf
from broker.outbound import Result
from broker.sections import family, leaves, record_root, salt_block, split
from broker.transport.memory import MemoryTransport
from broker.v1 import agreement_pb2, codes_pb2, envelope_pb2, facts_pb2, passenger_pb2
from broker.v1 import exchange_service_pb2 as pb

BASIS = ("us.usc.49.44909",)


@dataclass
class FakeClock:
    now: int = field(default_factory=app.now_ms)

    def __call__(self) -> int:
        return self.now


def person(n: int = 1, **changes: object) -> passenger_pb2.Passenger:
    record = passenger_pb2.Passenger(
        kind=passenger_pb2.PASSENGER_KIND_API,
        identity=passenger_pb2.Identity(
            name=passenger_pb2.PersonName(surname=f"PRUEBA{n}", given="ANA"), birth_date="1990-01-02", nationality="MEX"
        ),
        travel=passenger_pb2.Travel(
            legs=[passenger_pb2.Leg(carrier="PB", number="123", departure_port="JFK", arrival_port="MEX")],
            role=passenger_pb2.BOARD_ROLE_PASSENGER,
        ),
        documents=[passenger_pb2.TravelDocument(type="P", number=f"X{n:07d}", issuing_state="MEX")],
        residence=passenger_pb2.Residence(country="MEX"),
    )
    for name, value in changes.items():
        if value is None:
            record.ClearField(name)
        else:
            getattr(record, name).CopyFrom(value)
    return record


class FaultyTransport(MemoryTransport):
    """`fault` sees every put: (stream, envelopes) to the envelopes that really go in; None: all do."""

    def __init__(self) -> None:
        super().__init__()
        self.fault: Callable[[Stream, list[bytes]], list[bytes]] | None = None

    def put(self, stream: Stream, envelopes: Sequence[bytes]) -> None:
        through = list(envelopes) if self.fault is None else self.fault(stream, list(envelopes))
        super().put(stream, through)

    def all(self, stream: Stream) -> list[bytes]:
        return [arrival.data for arrival in self.get(stream, 0, 1_000_000)]


class Simulator:
    """`us` and `mx`, each a gateway without its edge."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        made = development.create(folder, ports={"us": 1, "mx": 2})
        self.folder = folder
        self.transport = FaultyTransport()
        self.agreement_bytes = (folder / "us" / "agreement.bin").read_bytes()
        self.agreement = agreement.load(self.agreement_bytes)
        self.agreements = {"us": [self.agreement], "mx": [self.agreement]}
        self.callers = made.callers
        self.us = self._gateway("us")
        self.mx = self._gateway("mx")

    def _gateway(self, party: str) -> app.Gateway:
        own = self.folder / party
        link = app.load_link(agreement.chain(self.agreements[party]), party, own / "keys", development=True)
        data = own / "data"
        data.mkdir(exist_ok=True)
        ledger = SqliteLedger(data / "ledger.db", KeyStore(data / "keys.db"))
        secrets = {name: (own / "keys" / file).read_bytes() for name, file in app.SECRETS.items()}
        return app.assemble(link, policy.load(party), ledger, self.transport, secrets, self.clock)

    def key(self, agency: str, file: str) -> keys.SigningKey:
        return keys.SigningKey.from_seed(keys.read_key_file(self.callers[agency] / file).seed)

    def batch(
        self,
        records: Sequence[passenger_pb2.Passenger],
        *,
        agency: str = "us.cbp",
        recipient: str = "mx.inm",
        purpose: int = codes_pb2.PURPOSE_BORDER_SECURITY,
        basis: Sequence[str] = BASIS,
        facts: facts_pb2.Facts | None = None,
        **fields: object,
    ) -> tuple[SignedBatch, list[Submission]]:
        key = self.key(agency, "origin.json")
        kid = keys.kid(keys.SUITE, codes_pb2.KEY_USE_ORIGIN, key.public)
        conversation = fields.pop("conversation", os.urandom(16))
        made = []
        for record in records:
            data = encode(record)
            seed, salt, message_id = os.urandom(32), os.urandom(32), os.urandom(16)
            slots = split(data, 16)
            root = record_root(leaves(slots, salt_block(seed, message_id, 16)))
            facts_bytes = encode(facts) if facts else b""
            statement = envelope_pb2.OriginStatement(
                version=1, link_id=self.agreement.link_id, message_id=message_id, family="passenger",
                family_revision=family("passenger").revision, record_root=root, origin_agency=agency,
                recipient_agency=recipient, purpose=purpose, legal_basis=sorted(basis), conversation=conversation,
                facts_commit=facts_commit(salt, facts_bytes), created_ms=self.clock(),
                expires_ms=self.clock() + 86_400_000, origin_kid=kid,
            )  # fmt: skip
            for name, value in fields.items():
                setattr(statement, name, value) if not isinstance(value, list) else getattr(statement, name).extend(
                    value
                )
            made.append((encode(statement), data, seed, facts_bytes, salt))
        root, places = OriginTree.build([origin_leaf(m[0]) for m in made])
        statement = batch_statement(kid, self.clock(), root)
        batch = SignedBatch(statement, key.sign(statement, keys.CTX_ORIGIN))
        return batch, [Submission(*m, place, path) for m, (place, path) in zip(made, places, strict=True)]

    async def submit(self, records: Sequence[passenger_pb2.Passenger], **how: object) -> list[Result]:
        agency = how.get("agency", "us.cbp")
        batch, items = self.batch(records, **how)
        return await (self.us if agency.startswith("us") else self.mx).outbound.submit(agency, batch, items)

    async def settle(self, rounds: int = 6) -> None:
        """Move everything that can move, both ways."""
        for _ in range(rounds):
            for gateway in (self.us, self.mx):
                if not gateway.relay._fences:
                    await gateway.relay.claim()
                while await gateway.relay.send():
                    pass
                await gateway.relay.read_waiting()

    def gateway(self, of: str) -> app.Gateway:
        """The gateway of a party or of one of its agencies."""
        return self.us if of.startswith("us") else self.mx

    async def turn(self, party: str) -> None:
        """One gateway seals and reads what it can; the other does nothing."""
        relay = self.gateway(party).relay
        if not relay._fences:
            await relay.claim()
        while await relay.send():
            pass
        await relay.read_waiting()

    async def pass_time(self, ms: int) -> None:
        """Time passes for both, and what it obliges is done."""
        self.clock.now += ms
        for gateway in (self.us, self.mx):
            if not gateway.relay._fences:
                await gateway.relay.claim()
            while await gateway.relay.sweep():
                pass

    async def offers(self, agency: str, *, holder: str = "stream", limit: int = 256) -> list[Offer]:
        """What an open Receive stream of this agency would be given now."""
        now = self.clock()
        ledger = self.gateway(agency).ledger
        return await ledger.commit(lambda tx: tx.mailbox.lease(agency, holder, now, now + 60_000, limit))

    async def answer(
        self,
        agency: str,
        release: bytes,
        state: State = State.ACKNOWLEDGED,
        reason: Reason = Reason.NONE,
        *,
        holder: str = "stream",
        signed: envelope_pb2.AgencyReceipt | None = None,
    ) -> str:
        """The word that the agency's answer gets."""
        gateway, now = self.gateway(agency), self.clock()
        said = [answers.AgencyAnswer(release, state, reason, signed)]
        return (await gateway.ledger.commit(lambda tx: answers.answer(tx, gateway.link, agency, holder, said, now)))[0]

    def agency_receipt(
        self, agency: str, release: bytes, state: State, reason: Reason = Reason.NONE
    ) -> envelope_pb2.AgencyReceipt:
        key = self.key(agency, "receipt.json")
        kid = keys.kid(keys.SUITE, codes_pb2.KEY_USE_RECEIPT, key.public)
        signature = receipts.sign_agency(key, release, int(state), int(reason), self.clock())
        return envelope_pb2.AgencyReceipt(kid=kid, time_ms=self.clock(), signature=signature)

    async def recall(self, agency: str, message_id: bytes, reason: Reason = Reason.AGENCY) -> pb.MessageView:
        service = ExchangeService(self.gateway(agency))
        request = pb.RecallRequest(message_id=message_id, reason=int(reason))
        return (await service.recall(SimpleNamespace(id=agency), request)).message

    def sent(self, message_id: bytes, agency: str = "us.cbp"):
        """What the sending agency sees of its message."""
        return self.gateway(agency).ledger.read(lambda tx: tx.outbox.get(agency, message_id))

    def came(self, release: bytes, agency: str = "mx.inm"):
        """What the receiving agency sees of it; None when it has not come."""
        return self.gateway(agency).ledger.read(lambda tx: tx.mailbox.get(agency, release))

    def states(self, party: str) -> tuple[dict[State, int], dict[State, int]]:
        """(sent, received) messages of a party by state."""
        return self.gateway(party).ledger.read(lambda tx: (tx.outbox.counts(), tx.mailbox.counts()))

    def alarms(self, party: str) -> list[str]:
        return self.gateway(party).ledger.read(lambda tx: tx.control.alarms())

    def entries(self, party: str, log: Log) -> list[bytes]:
        return self.gateway(party).ledger.read(lambda tx: [entry for _, _, entry in tx.journal.entries(log)])

    def rows(self, party: str, query: str, *values: object) -> list[tuple]:
        """Rows of a party's ledger, by SQL, from outside of it."""
        return _rows(self.folder / party / "data" / "ledger.db", query, values)

    def key_rows(self, party: str) -> list[tuple[bytes, bytes | None, bytes | None]]:
        """(key id, content key, opening key) of a party's key store."""
        return _rows(self.folder / party / "data" / "keys.db", "SELECT key_id, content, opening FROM keys", ())

    def receipts_waiting(self, party: str) -> dict[bytes, tuple[State, Reason]]:
        """Receipts that a party has not sealed yet: release to (state, reason), the last one each."""
        rows = self.rows(
            party,
            "SELECT body FROM control_out WHERE kind = 1"
            " AND row > (SELECT coalesce(max(last_row), 0) FROM control_sealed) ORDER BY row",
        )
        found = [control.parse_receipt(row[0]) for row in rows]
        return {r.release: (State(r.state), Reason(r.reason)) for r in found}

    def roots(self, *parties: str) -> list[keys.SigningKey]:
        """The root keys of these parties, of both when none is named."""
        files = [self.folder / "roots" / f"{party}.json" for party in parties or ("us", "mx")]
        return [keys.SigningKey.from_seed(keys.read_key_file(file).seed) for file in files]

    def successor(
        self,
        change: Callable[[agreement_pb2.AgreementDocument], object],
        *,
        after: int,
        also: Sequence[keys.SigningKey] = (),
    ) -> Agreement:
        """The next version of the newest agreement of us, in force `after` ms from now; `also`: new roots that sign."""
        old = self.agreements["us"][-1]
        document = agreement_pb2.AgreementDocument.FromString(agreement_pb2.Agreement.FromString(old.data).document)
        document.version, document.previous = old.version + 1, old.digest
        document.not_before_ms = self.clock() + after
        change(document)
        return agreement.load(agreement.build(document, [*self.roots(), *also]))

    def load(self, made: Agreement, *parties: str) -> None:
        """These parties (both, when none is named) know it too, from a restart on."""
        for party in parties or ("us", "mx"):
            self.agreements[party].append(made)
            self.reopen(party)

    def reopen(self, party: str) -> None:
        """The process ends and starts again on the same files."""
        self.gateway(party).ledger.close()
        setattr(self, party, self._gateway(party))

    def close(self) -> None:
        self.us.close()
        self.mx.close()


def _rows(path: Path, query: str, values: Sequence[object]) -> list[tuple]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return connection.execute(query, values).fetchall()
    finally:
        connection.close()
