"""What a client hears, typed by what it can do about it. `reason` is the gateway's word (operations, error table).

    PuenteError
    └── ClientError
        ├── Unauthenticated     the certificate names nobody, expired, or was revoked
        ├── Denied              this caller may not do this
        ├── Invalid             the request is wrong; `violations` say where
        ├── Conflict            the id stands for something else already
        ├── NotFound            absent, or not for this caller to see
        ├── Suspended           the link or the agreement is not in force
        ├── Busy                nothing was accepted; try again after `retry_after` seconds
        ├── Unavailable         the gateway cannot be reached, or is down
        ├── OutcomeUnknown      it may have been accepted: `Client.resume` asks again with the same bytes
        ├── AnswerRefused       an answer that did not count
        └── VerificationError   what the gateway handed over does not prove itself

No text holds a value of the input.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from broker.errors import PuenteError

if TYPE_CHECKING:
    from broker.client.submission import Submitted

DETAILS = "grpc-status-details-bin"
Violations = tuple[tuple[str, str], ...]


class ClientError(PuenteError):
    """A call that failed. `submitted`: what earlier calls of the same `submit` were told, in order."""

    def __init__(
        self,
        what: str,
        reason: str = "",
        *,
        retry_after: float = 0.0,
        violations: Violations = (),
        request_id: str = "",
    ) -> None:
        super().__init__(f"{what} ({reason})" if reason else what)
        self.reason = reason
        self.retry_after = retry_after
        self.violations = violations
        self.request_id = request_id
        self.said = ""
        """The gateway's own words, which hold no value of the input."""
        self.unknown = False
        """Whether a try ended without the gateway's own word on it."""
        self.submitted: list[Submitted] = []


class Unauthenticated(ClientError):
    """The certificate names nobody that the gateway serves, expired, or was revoked."""


class Denied(ClientError):
    """This caller may not do this."""


class Invalid(ClientError):
    """The request is wrong; sent again as it is, it is refused again."""


class Conflict(ClientError):
    """The id stands for something else already."""


class NotFound(ClientError):
    """Absent, or not for this caller to see."""


class Suspended(ClientError):
    """The link is suspended, or no agreement is in force."""


class Busy(ClientError):
    """Nothing was accepted; try again after `retry_after` seconds."""


class Unavailable(ClientError):
    """The gateway cannot be reached, or is down."""


class OutcomeUnknown(ClientError):
    """A submission may have been accepted. It is kept: `Client.resume` asks again with the same bytes."""


class AnswerRefused(ClientError):
    """Answers that did not count. `refused`: (release, reason) each; all others of the call are durable."""

    def __init__(self, refused: Sequence[tuple[bytes, str]]) -> None:
        super().__init__("an answer did not count", refused[0][1])
        self.refused = tuple(refused)


class VerificationError(ClientError):
    """What the gateway handed over does not prove itself, or is of a family that this release does not know."""


_KINDS: dict[grpc.StatusCode, type[ClientError]] = {
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: Denied,
    grpc.StatusCode.INVALID_ARGUMENT: Invalid,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: Suspended,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Busy,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
}
# The gateway has decided nothing when it answers so.
_DEFINITE: frozenset[type[ClientError]] = frozenset(
    {Unauthenticated, Denied, Invalid, Conflict, NotFound, Suspended, Busy}
)
# What one says of a failed call; the gateway's own words are its reason.
_WORDS: dict[type[ClientError], str] = {
    Unauthenticated: "the gateway does not know this caller",
    Denied: "the gateway denies this",
    Invalid: "the gateway finds the request invalid",
    Conflict: "the id stands for something else",
    NotFound: "no such message",
    Suspended: "the exchange is not in force",
    Busy: "the gateway is busy",
    Unavailable: "the gateway cannot be reached",
    ClientError: "the gateway failed",
}


def of(error: grpc.aio.AioRpcError) -> ClientError:
    """The typed error of a failed call."""
    code = error.code()
    details = _details(error)
    kind = _KINDS.get(code, ClientError)
    if not details["reason"] and _over_the_transports_cap(error):
        details["reason"] = "MESSAGE_TOO_LARGE"
    if details["reason"] == "MESSAGE_TOO_LARGE":
        kind = Invalid
    typed = kind(_WORDS[kind], details.pop("reason") or code.name, **details)
    typed.said = error.details() or ""
    typed.unknown = kind not in _DEFINITE
    return typed


def _over_the_transports_cap(error: grpc.aio.AioRpcError) -> bool:
    """Whether the library refused the request's size before the gateway could answer, here or there."""
    said = error.details() or ""
    return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and (
        "SERVER: Received message larger than max" in said or "CLIENT: Sent message larger than max" in said
    )


def violations_of(status: status_pb2.Status) -> Violations:
    """(path, rule) of each field violation in a status."""
    return _unpacked(status)["violations"]  # type: ignore[no-any-return]


def _details(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    status = status_pb2.Status()
    metadata: Any = error.trailing_metadata() or ()
    for name, value in metadata:
        if name == DETAILS and isinstance(value, bytes):
            try:
                status.ParseFromString(value)
            except DecodeError:
                status.Clear()
    return _unpacked(status)


def _unpacked(status: status_pb2.Status) -> dict[str, Any]:
    """Reason, seconds to wait, violations and request id of a status; whatever is not there is empty."""
    found: dict[str, Any] = {"reason": "", "retry_after": 0.0, "violations": (), "request_id": ""}
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    fields, request = error_details_pb2.BadRequest(), error_details_pb2.RequestInfo()
    for detail in status.details:
        if detail.Unpack(info):
            found["reason"] = info.reason
        elif detail.Unpack(retry):
            found["retry_after"] = retry.retry_delay.ToTimedelta().total_seconds()
        elif detail.Unpack(fields):
            found["violations"] = tuple((v.field, v.description) for v in fields.field_violations)
        elif detail.Unpack(request):
            found["request_id"] = request.request_id
    return found
