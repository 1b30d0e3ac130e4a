"""One real gRPC port of us's gateway, with a certificate authority and a clock that the test owns."""

import contextlib
import dataclasses
import io
import sys

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

import policy
from broker import app, config, development, events, identity
from broker.cli.processes import free_ports
from broker.gateway import server
from broker.v1 import exchange_service_pb2 as exchange
from broker.v1 import operations_service_pb2 as operations
from broker.v1 import oversight_service_pb2 as oversight
from tests.simulator import FakeClock

METHODS = {
    "ExchangeService/Submit": (exchange.SubmitRequest, {"agency"}),
    "ExchangeService/GetMessage": (exchange.GetMessageRequest, {"agency"}),
    "ExchangeService/ListMessages": (exchange.ListMessagesRequest, {"agency"}),
    "ExchangeService/Recall": (exchange.RecallRequest, {"agency"}),
    "ExchangeService/GetCatalog": (exchange.GetCatalogRequest, {"agency"}),
    "OversightService/ListDecisions": (oversight.ListDecisionsRequest, {"officer", "auditor"}),
    "OversightService/ExplainDecision": (oversight.ExplainDecisionRequest, {"officer", "auditor"}),
    "OperationsService/GetStatus": (operations.GetStatusRequest, {"operator", "officer", "auditor"}),
    "OperationsService/ListFlows": (operations.ListFlowsRequest, {"operator", "officer", "auditor"}),
    "OperationsService/ListLinks": (operations.ListLinksRequest, {"operator", "officer", "auditor"}),
    "OperationsService/ListKeys": (operations.ListKeysRequest, {"operator", "officer", "auditor"}),
    "OperationsService/SuspendLink": (operations.SuspendLinkRequest, {"operator"}),
    "OperationsService/ResumeLink": (operations.ResumeLinkRequest, {"operator"}),
    "OperationsService/SuspendKey": (operations.SuspendKeyRequest, {"operator"}),
    "OperationsService/IssueKeyItem": (operations.IssueKeyItemRequest, {"operator"}),
}
PERSONS = {"agency": "us.cbp", "officer": "us.officer", "operator": "us.operator", "auditor": "us.auditor"}


@dataclasses.dataclass
class Refused:
    """What a caller hears of a failed call."""

    code: grpc.StatusCode
    reason: str
    request_id: str
    retry_s: float
    text: bytes
    """Everything of the answer, to look for what must not be in it."""

    def __iter__(self):
        return iter((self.code, self.reason))


def refused(error):
    status = status_pb2.Status()
    metadata = dict(error.trailing_metadata() or ())
    status.ParseFromString(metadata.get("grpc-status-details-bin", b""))
    info, retry, request = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), error_details_pb2.RequestInfo()
    for detail in status.details:
        _ = detail.Unpack(info) or detail.Unpack(retry) or detail.Unpack(request)
    text = str(error.details()).encode() + repr(metadata).encode() + status.SerializeToString()
    return Refused(error.code(), info.reason, request.request_id, retry.retry_delay.ToTimedelta().total_seconds(), text)


class Edge:
    def __init__(self, folder):
        self.clock = FakeClock()
        self.made = development.create(folder, ports=dict(zip(("us", "mx"), free_ports(2), strict=True)))
        self.ca = identity.make_ca("us")
        tls = folder / "us" / "tls"
        (tls / "ca.pem").write_bytes(self.ca.certificate)
        own = identity.issue(self.ca, "gateway", "us.gateway", "us", dns=["localhost"], ips=["127.0.0.1"])
        (tls / "certificate.pem").write_bytes(own.certificate)
        (tls / "key.pem").write_bytes(own.key)
        self.deny = tls / "deny.txt"
        self.config = config.load(self.made.configs["us"])
        self.gateway = app.gateway(self.config, policy.load("us"), self.clock)
        self.channels = []

    async def start(self):
        self.server, self.port = server.build(self.config, self.gateway)
        await self.server.start()

    async def stop(self):
        for channel in self.channels:
            await channel.close()
        await self.server.stop(None)
        self.gateway.close()

    def issue(self, role="agency", name="us.cbp", party="us", **how):
        return identity.issue(self.ca, role, name, party, **how)

    def channel(self, issued=None):
        pair = {"private_key": issued.key, "certificate_chain": issued.certificate} if issued else {}
        credentials = grpc.ssl_channel_credentials(self.ca.certificate, **pair)
        options = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
        channel = grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options)
        self.channels.append(channel)
        return channel

    def caller(self, role="agency", name=None):
        return self.channel(self.issue(role, name or PERSONS[role]))


async def call(channel, method, data, seconds=10.0):
    """The raw answer of one unary call; `data` is bytes or a message."""
    if not isinstance(data, bytes):
        data = data.SerializeToString()
    return await channel.unary_unary(f"/broker.v1.{method}")(data, timeout=seconds)


async def code(channel, method, data):
    """The status of a call, whatever it is."""
    try:
        await call(channel, method, data)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def says(stream, acts):
    """Act on a Receive stream, and read what comes first."""
    for act in acts:
        await stream.write(act if isinstance(act, bytes) else act.SerializeToString())
    return await stream.read()


async def fails(channel, method, data=b"", seconds=10.0):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, method, data, seconds)
    return refused(caught.value)


def logged(monkeypatch):
    """What the gateway logs from now on."""
    lines = io.StringIO()
    monkeypatch.setattr(sys, "stderr", lines)
    events.configure()
    return lines


@contextlib.asynccontextmanager
async def one_edge(folder):
    edge = Edge(folder)
    await edge.start()
    try:
        yield edge
    finally:
        await edge.stop()
