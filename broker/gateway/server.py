"""The gateway's process: one gRPC port with mutual TLS, and the relay beside it."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import grpc
from grpc_health.v1 import health, health_pb2_grpc

import policy
from broker import app
from broker.app import Gateway
from broker.config import Config
from broker.errors import ConfigError
from broker.events import log
from broker.gateway.acts import Acts
from broker.gateway.exchange import ExchangeService
from broker.gateway.guard import REQUEST_MAX, TRANSPORT_MAX, Guard, Unary
from broker.gateway.operations import OperationsService
from broker.gateway.oversight import OversightService
from broker.gateway.receive import Receiver
from broker.v1 import exchange_service_pb2 as exchange_pb
from broker.v1 import operations_service_pb2 as operations_pb
from broker.v1 import oversight_service_pb2 as oversight_pb

OPTIONS: Final = (
    ("grpc.max_receive_message_length", TRANSPORT_MAX),
    ("grpc.max_send_message_length", REQUEST_MAX * 8),
    ("grpc.max_concurrent_streams", 100),
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    ("grpc.http2.max_ping_strikes", 2),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.so_reuseport", 0),
)
CONCURRENT_CALLS: Final = 512
GRACE_S: Final = 5.0
AGENCY: Final = frozenset({"agency"})
OVERSIGHT: Final = frozenset({"officer", "auditor"})
OPERATIONS: Final = frozenset({"operator", "officer", "auditor"})
OPERATOR: Final = frozenset({"operator"})


async def serve(config: Config, engine: policy.PolicyEngine, ready: Callable[[Gateway, int], None]) -> None:
    """Run a gateway until SIGTERM or SIGINT; what was accepted is durable whenever it ends.

    `ready` is called once the port answers. Raises ConfigError and what `app.gateway` raises.
    """
    gateway = app.gateway(config, engine)
    server, port = build(config, gateway)
    await gateway.start()
    await server.start()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    relay = asyncio.create_task(gateway.relay.run())
    log("gateway.started", party=config.party, port=port, pid=os.getpid())
    ready(gateway, port)
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait({stop, relay}, return_when=asyncio.FIRST_COMPLETED)
    await server.stop(GRACE_S)
    relay.cancel()
    failure = (await asyncio.gather(relay, return_exceptions=True))[0]
    gateway.close()
    log("gateway.stopped", party=config.party)
    if isinstance(failure, Exception):
        raise failure


def build(config: Config, gateway: Gateway) -> tuple[grpc.aio.Server, int]:
    """The server with its three services; (server, port). Raises ConfigError when the port cannot be had."""
    server = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=CONCURRENT_CALLS)
    guard = Guard(config, gateway.link, gateway.clock)
    server.add_generic_rpc_handlers(tuple(_handlers(config, gateway, guard)))
    status: Any = cast("Any", health).aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    try:
        port = server.add_secure_port(config.listen, _credentials(config))
    except RuntimeError:
        raise ConfigError("the address cannot be listened on", "choose a free port in `listen`") from None
    return server, port


def _handlers(config: Config, gateway: Gateway, guard: Guard) -> list[Any]:
    exchange, oversight = ExchangeService(gateway), OversightService(gateway)
    operations, acts = OperationsService(gateway, config), Acts(gateway)
    receiver = Receiver(gateway, guard)

    def unary(behaviour: Unary, request: Any, roles: frozenset[str]) -> Any:
        return guard.unary(behaviour, request, roles)

    return [
        grpc.method_handlers_generic_handler(
            "broker.v1.ExchangeService",
            {
                "Submit": unary(exchange.submit, exchange_pb.SubmitRequest, AGENCY),
                "Receive": receiver.handler(),
                "GetMessage": unary(exchange.get_message, exchange_pb.GetMessageRequest, AGENCY),
                "ListMessages": unary(exchange.list_messages, exchange_pb.ListMessagesRequest, AGENCY),
                "Recall": unary(exchange.recall, exchange_pb.RecallRequest, AGENCY),
                "GetCatalog": unary(exchange.get_catalog, exchange_pb.GetCatalogRequest, AGENCY),
            },
        ),
        grpc.method_handlers_generic_handler(
            "broker.v1.OversightService",
            {
                "ListDecisions": unary(oversight.list_decisions, oversight_pb.ListDecisionsRequest, OVERSIGHT),
                "ExplainDecision": unary(oversight.explain_decision, oversight_pb.ExplainDecisionRequest, OVERSIGHT),
            },
        ),
        grpc.method_handlers_generic_handler(
            "broker.v1.OperationsService",
            {
                "GetStatus": unary(operations.get_status, operations_pb.GetStatusRequest, OPERATIONS),
                "ListFlows": unary(operations.list_flows, operations_pb.ListFlowsRequest, OPERATIONS),
                "ListLinks": unary(operations.list_links, operations_pb.ListLinksRequest, OPERATIONS),
                "ListKeys": unary(operations.list_keys, operations_pb.ListKeysRequest, OPERATIONS),
                "SuspendLink": unary(acts.suspend_link, operations_pb.SuspendLinkRequest, OPERATOR),
                "ResumeLink": unary(acts.resume_link, operations_pb.ResumeLinkRequest, OPERATOR),
                "SuspendKey": unary(acts.suspend_key, operations_pb.SuspendKeyRequest, OPERATOR),
                "IssueKeyItem": unary(acts.issue_key_item, operations_pb.IssueKeyItemRequest, OPERATOR),
            },
        ),
    ]


def _credentials(config: Config) -> grpc.ServerCredentials:
    """Mutual TLS, always: a client without a certificate of the party's CA ends in the handshake."""
    pair = (_pem(config.tls.key), _pem(config.tls.certificate))
    return grpc.ssl_server_credentials([pair], root_certificates=_pem(config.tls.ca), require_client_auth=True)


def _pem(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"a TLS file cannot be read: {error.strerror}", f"check {path.name}") from None
