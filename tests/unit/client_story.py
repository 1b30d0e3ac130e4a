"""An ExchangeService without a gateway: it does what its script says, so that answers can be lost on purpose."""

import contextlib
import os
from pathlib import Path

import grpc

from broker import agreement, development, wire
from broker.canonical import H, encode, leaf_hash
from broker.cli.processes import free_ports
from broker.client import Client, Patience
from broker.gateway import status
from broker.origin import origin_leaf, parse_statement
from broker.sealing import core_commit
from broker.sections import leaves, salt_block, split
from broker.v1 import codes_pb2
from broker.v1 import exchange_service_pb2 as pb
from broker.v1.envelope_pb2 import Core
from broker.v1.log_pb2 import ENTRY_KIND_RELEASE, ReleaseEntry
from broker.v1.passenger_pb2 import PASSENGER_KIND_API, Passenger

Code = grpc.StatusCode
QUICK = Patience(try_s=2.0, total_s=1.0)
BORDER = {"to": "mx.inm", "purpose": codes_pb2.PURPOSE_BORDER_SECURITY, "basis": ["us.usc.49.44909"]}


def person(n=1):
    record = Passenger(kind=PASSENGER_KIND_API)
    record.identity.name.surname = f"PRUEBA{n}"
    record.documents.add(type="P", number=f"X{n}", issuing_state="MEX")
    return record


def _attest_kid(agreed, party):
    return next(key.kid for key in agreed.parties[party].keys if key.use == codes_pb2.KEY_USE_ATTEST)


class Fails(Exception):
    """A scripted answer: the call's status, after doing what it asks or without."""

    def __init__(self, code, reason="", *, does=False):
        super().__init__(reason)
        self.code, self.reason, self.does = code, reason, does


LOST = Fails(Code.UNAVAILABLE, does=True)
AWAY = Fails(Code.UNAVAILABLE)


class Fake:
    """`script`: what the next Submit calls meet; then all go well. `kept`: message id to statement."""

    def __init__(self, folder):
        port = free_ports(1)[0]
        self.made = development.create(folder, ports={"us": port, "mx": port})
        self.agreement_bytes = (folder / "us" / "agreement.bin").read_bytes()
        self.agreement = agreement.load(self.agreement_bytes)
        self.port, self.folder = port, folder
        self.agency = "us.cbp"
        self.script, self.calls, self.kept = [], [], {}
        self.deliveries, self.answers, self.order = [], [], []
        self.outcome, self.ends = "OK", None

    def caller(self, agency):
        self.agency = agency
        return self.made.callers[agency]

    def client(self, agency="us.cbp", **how):
        return Client.open(self.caller(agency), **({"patience": QUICK} | how))

    async def submit(self, data, context):
        self.calls.append(data)
        request = pb.SubmitRequest.FromString(data)
        fails = self.script.pop(0) if self.script else None
        if fails is None or fails.does:
            items = [self._keep(item) for item in request.submissions]
        if fails is not None:
            await _abort(context, fails)
        return pb.SubmitResponse(items=items).SerializeToString()

    def _keep(self, item):
        statement = parse_statement(item.statement)
        again = statement.message_id in self.kept
        self.kept[statement.message_id] = item.statement
        return pb.SubmitItem(
            message_id=statement.message_id, result=pb.SUBMIT_RESULT_ACCEPTED, reason="DUPLICATE" if again else ""
        )

    async def get_message(self, data, context):
        name = pb.GetMessageRequest.FromString(data).id
        if name not in self.kept:
            await _abort(context, Fails(Code.NOT_FOUND, "NOT_FOUND"))
        view = pb.MessageView(message_id=name, state=codes_pb2.STATE_SENT)
        return pb.GetMessageResponse(message=view).SerializeToString()

    async def get_catalog(self, _data, _context):
        party = self.agency.partition(".")[0]
        return pb.GetCatalogResponse(
            party=party,
            agency=self.agency,
            link_id=self.agreement.link_id,
            agreement_digest=self.agreement.digest,
            agreement=self.agreement_bytes,
            attest_kid=_attest_kid(self.agreement, party),
        ).SerializeToString()

    async def receive(self, _requests, context):
        opened = pb.ReceiveRequest.FromString(await context.read())
        assert opened.HasField("open")
        if self.deliveries:
            await context.write(pb.ReceiveResponse(deliveries=self.deliveries).SerializeToString())
        while len(self.answers) < len(self.deliveries):
            act = pb.ReceiveRequest.FromString(await context.read())
            self.order.append(act.WhichOneof("act"))
            answers = list(act.answers.answers)
            self.answers += answers
            if answers and self.ends:
                await _abort(context, self.ends)
            if answers:
                answered = [pb.AnswerOutcome(release=a.release, reason=self.outcome) for a in answers]
                await context.write(pb.ReceiveResponse(answered=answered).SerializeToString())


async def _abort(context, fails):
    if not fails.reason:
        await context.abort(fails.code, "")
    answer = status.build(
        fails.code, fails.reason, fails.reason, "request", retry_s=1 if fails.code is Code.RESOURCE_EXHAUSTED else 0
    )
    await context.abort(fails.code, "", ((("grpc-status-details-bin"), answer.SerializeToString()),))


@contextlib.asynccontextmanager
async def fake_gateway(folder: Path):
    fake = Fake(folder)
    server = grpc.aio.server()
    methods = {"Submit": fake.submit, "GetMessage": fake.get_message, "GetCatalog": fake.get_catalog}
    handlers = {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}
    handlers["Receive"] = grpc.stream_stream_rpc_method_handler(fake.receive)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("broker.v1.ExchangeService", handlers),))
    tls = folder / "us" / "tls"
    pair = ((tls / "key.pem").read_bytes(), (tls / "certificate.pem").read_bytes())
    mx = folder / "mx" / "tls" / "ca.pem"
    roots = (tls / "ca.pem").read_bytes() + mx.read_bytes()
    for own in fake.made.callers.values():
        (own / "ca.pem").write_bytes(roots)  # one fake serves both parties
    credentials = grpc.ssl_server_credentials([pair], root_certificates=roots, require_client_auth=True)
    server.add_secure_port(f"127.0.0.1:{fake.port}", credentials)
    await server.start()
    try:
        yield fake
    finally:
        await server.stop(None)


def delivery_of(request, n=0, *, withhold=()):
    """The n-th submission of a Submit request, released as it is, delivered to its recipient."""
    item = request.submissions[n]
    statement = parse_statement(item.statement)
    parts = split(item.record, 16)
    block = salt_block(item.record_seed, statement.message_id, 16)
    shown = sum(1 << slot for slot, part in enumerate(parts) if part and slot + 1 not in withhold)
    core = encode(
        Core(
            statement=item.statement,
            batch=H(request.batch_statement),
            place=item.place,
            siblings=item.siblings,
            shown=shown,
            gateway_caveats=[codes_pb2.CAVEAT_PURPOSE_ONLY],
        )
    )
    salt = os.urandom(32)
    entry = encode(
        ReleaseEntry(
            kind=ENTRY_KIND_RELEASE, time_ms=statement.created_ms, blind=os.urandom(32),
            message_id=statement.message_id, origin_leaf=origin_leaf(item.statement),
            core_commit=core_commit(salt, core), decision=os.urandom(32),
        )
    )  # fmt: skip
    slots = wire.slots_bytes(parts, leaves(parts, block), block, shown)
    return pb.Delivery(
        message=wire.message_bytes(entry, core, salt, slots),
        batch_statement=request.batch_statement,
        batch_signature=request.batch_signature,
        release=leaf_hash(entry),
        attempt=1,
    )
