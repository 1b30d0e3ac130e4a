"""Both gateways in one process: a memory transport, a clock that tests own, real crypto, real ledgers."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import policy
from broker import agreement, app, development, keys
from broker.canonical import encode
from broker.ledger.keystore import KeyStore
from broker.ledger.sqlite import SqliteLedger
from broker.message import SignedBatch, Submission
from broker.origin import OriginTree, batch_statement, facts_commit, origin_leaf
from broker.outbound import Result
from broker.sections import family, leaves, record_root, salt_block, split
from broker.transport.memory import MemoryTransport
from broker.v1 import codes_pb2, envelope_pb2, facts_pb2, passenger_pb2

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


class Simulator:
    """`us` and `mx`, each a gateway without its edge."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        made = development.create(folder, ports={"us": 1, "mx": 2})
        self.folder = folder
        self.transport = MemoryTransport()
        self.agreement_bytes = (folder / "us" / "agreement.bin").read_bytes()
        self.agreement = agreement.load(self.agreement_bytes)
        self.callers = made.callers
        self.us = self._gateway("us")
        self.mx = self._gateway("mx")

    def _gateway(self, party: str) -> app.Gateway:
        own = self.folder / party
        link = app.load_link(self.agreement, party, own / "keys", development=True)
        data = own / "data"
        data.mkdir(exist_ok=True)
        ledger = SqliteLedger(data / "ledger.db", KeyStore(data / "keys.db"))
        secrets = {name: (own / "keys" / file).read_bytes() for name, file in app.SECRETS.items()}
        return app.assemble(link, self.agreement_bytes, policy.load(party), ledger, self.transport, secrets, self.clock)

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
                setattr(statement, name, value) if not isinstance(value, list) else getattr(statement, name).extend(value)
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
                while await gateway.relay.seal_waiting():
                    pass
                await gateway.relay.read_waiting()

    def close(self) -> None:
        self.us.close()
        self.mx.close()
