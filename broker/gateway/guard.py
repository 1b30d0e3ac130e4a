"""The outermost layer of every call: who is it, may they, is it well-formed. No error tells anything of ours.

Raw bytes come in: garbage is answered from the error table like everything else, never by the library.
"""

import uuid
from collections.abc import Awaitable, Callable, Container
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from broker.canonical import check_enums
from broker.config import Config
from broker.errors import CanonicalError, CertificateError, DeniedError, InvalidError
from broker.events import log
from broker.gateway import status
from broker.identity import Principal, identify
from broker.link import Link
from broker.message import Clock

Context = Any
"""grpc.aio's servicer context, whose stubs lack what we read of it."""
Unary = Callable[[Principal, Any], Awaitable[Message]]
_M = TypeVar("_M", bound=Message)
DENY_MAX_BYTES: Final = 1_000_000
REQUEST_MAX: Final = 16 * 1024 * 1024
"""Bytes of a request, or of one act on a stream."""
TRANSPORT_MAX: Final = 2 * REQUEST_MAX
"""What the library takes in at most: up to here the answer is ours, with its reason; beyond, the library's own."""


class RequestTooLarge(InvalidError):
    """Over REQUEST_MAX: nothing of it was parsed."""

    reason = "MESSAGE_TOO_LARGE"


class DenyList:
    """Serials and fingerprints that are refused; read again when the file changes. Unreadable: all are refused."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] = (0, 0)
        self._denied: frozenset[str] = frozenset()

    def current(self) -> Container[str]:
        """What is denied now. Raises CertificateError when the list cannot be read: nobody is known to be good."""
        try:
            stat = self._path.stat()
            if (stat.st_mtime_ns, stat.st_size) != self._stamp:
                lines = self._path.read_text(encoding="utf-8")[:DENY_MAX_BYTES].splitlines()
                self._denied = frozenset(line.split("#")[0].strip().lower() for line in lines) - {""}
                self._stamp = (stat.st_mtime_ns, stat.st_size)
        except (OSError, UnicodeDecodeError):
            raise CertificateError("the deny list cannot be read") from None
        return self._denied


class Guard:
    """Authenticates, authorises, parses, and translates what goes wrong."""

    def __init__(self, config: Config, link: Link, clock: Clock) -> None:
        self._config = config
        self._link = link
        self._clock = clock
        self._deny = DenyList(config.tls.deny_list)
        self._persons = {"officer": config.officers, "operator": config.operators, "auditor": config.auditors}

    def principal(self, context: Context) -> Principal:
        """Who calls, by certificate, at this very moment. Raises CertificateError."""
        certificates = context.auth_context().get("x509_pem_cert", ())
        if len(certificates) != 1:
            raise CertificateError("one client certificate is needed")
        caller = identify(certificates[0], self._clock(), self._deny.current())
        if caller.party != self._config.party or not self._known(caller):
            raise CertificateError("the certificate names nobody that this gateway serves")
        return caller

    def _known(self, caller: Principal) -> bool:
        if caller.role == "agency":
            agency = self._link.at(self._clock()).agencies.get(caller.id)
            return agency is not None and agency.party == caller.party
        return caller.id in self._persons.get(caller.role, ())

    def unary(
        self, behaviour: Unary, request: type[Message], roles: frozenset[str]
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """A handler of raw bytes around a behaviour of (caller, request)."""

        async def handle(data: bytes, context: Context) -> bytes:
            request_id = uuid.uuid4().hex
            try:
                caller = self.admitted(context, roles)
                if context.time_remaining() is None:
                    raise status.DeadlineRequired("set a deadline")
                answer = await behaviour(caller, parsed(request, data))
            except Exception as error:  # noqa: BLE001  nothing of ours may leak
                return await self.refuse(context, error, request_id, behaviour.__name__)
            return answer.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(handle)

    def admitted(self, context: Context, roles: frozenset[str]) -> Principal:
        """The caller, if its role may call this. Raises CertificateError, DeniedError."""
        caller = self.principal(context)
        if caller.role not in roles:
            raise DeniedError("this role may not call this")
        return caller

    async def refuse(self, context: Context, error: Exception, request_id: str, method: str) -> bytes:
        """Answer from the error table; what is not in it is our bug and is told to the operator alone."""
        answer = status.of(error, request_id)
        log("call.refused", method=method, error=type(error).__name__, request_id=request_id)
        code = next(c for c in grpc.StatusCode if c.value[0] == answer.code)
        metadata = (("grpc-status-details-bin", answer.SerializeToString()),)
        await context.abort(code, answer.message, metadata)
        raise AssertionError  # abort does not return


def parsed(request: type[_M], data: bytes) -> _M:
    """A request without unknown fields or enum values at any depth. Raises CanonicalError, RequestTooLarge."""
    if len(data) > REQUEST_MAX:
        raise RequestTooLarge("a request is at most 16 MiB; send fewer records in one call")
    message = request()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise CanonicalError("the request is not protobuf of this method") from None
    size = message.ByteSize()
    message.DiscardUnknownFields()
    if message.ByteSize() != size:
        raise CanonicalError("the request has unknown fields")
    check_enums(message)
    return message
