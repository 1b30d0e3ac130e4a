"""The error table: which status and reason a caller hears. Nothing of the input is echoed."""

from collections.abc import Sequence
from typing import Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from broker.errors import (
    ActError,
    AgreementError,
    BusyError,
    CertificateError,
    ConflictError,
    DeniedError,
    FieldInvalid,
    InvalidError,
    LinkError,
    NotFoundError,
    PuenteError,
    StoreError,
)

DOMAIN: Final = "puente"
RETRY_S: Final = 1
Code = grpc.StatusCode

_CODES: Final[tuple[tuple[type[PuenteError], grpc.StatusCode], ...]] = (
    (CertificateError, Code.UNAUTHENTICATED),
    (DeniedError, Code.PERMISSION_DENIED),
    (NotFoundError, Code.NOT_FOUND),
    (ConflictError, Code.ALREADY_EXISTS),
    (InvalidError, Code.INVALID_ARGUMENT),
    (LinkError, Code.FAILED_PRECONDITION),
    (ActError, Code.FAILED_PRECONDITION),
    (AgreementError, Code.FAILED_PRECONDITION),
    (BusyError, Code.RESOURCE_EXHAUSTED),
    (StoreError, Code.UNAVAILABLE),
)
_REASON_CODES: Final = {"MESSAGE_TOO_LARGE": Code.RESOURCE_EXHAUSTED, "STORE_FULL": Code.RESOURCE_EXHAUSTED}
_ITEM_CODES: Final = {
    "POLICY_DENIED": Code.PERMISSION_DENIED,
    "IDEMPOTENCY_CONFLICT": Code.ALREADY_EXISTS,
    "MESSAGE_TOO_LARGE": Code.RESOURCE_EXHAUSTED,
}


class DeadlineRequired(InvalidError):
    """A call without a deadline could wait for ever."""

    reason = "DEADLINE_REQUIRED"


def of(error: BaseException, request_id: str) -> status_pb2.Status:
    """The status of a failed call; what is not ours is INTERNAL and says nothing but the request id."""
    if not isinstance(error, PuenteError):
        return build(Code.INTERNAL, "INTERNAL", "an internal error; give the request id to your operator", request_id)
    code = _REASON_CODES.get(error.reason) or next((c for kind, c in _CODES if isinstance(error, kind)), Code.INTERNAL)
    if code is Code.INTERNAL:
        return build(code, "INTERNAL", "an internal error; give the request id to your operator", request_id)
    violations = error.violations if isinstance(error, FieldInvalid) else ()
    retry = code in {Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED} and error.reason != "MESSAGE_TOO_LARGE"
    retry_s = error.retry_s if isinstance(error, StoreError) else RETRY_S
    return build(code, error.reason, str(error), request_id, violations=violations, retry_s=retry_s if retry else 0)


def of_item(reason: str, violations: Sequence[tuple[str, str]]) -> status_pb2.Status:
    """The status of one submission in a call that succeeded."""
    return build(_ITEM_CODES.get(reason, Code.INVALID_ARGUMENT), reason, reason, "", violations=violations)


def build(
    code: grpc.StatusCode,
    reason: str,
    message: str,
    request_id: str,
    *,
    violations: Sequence[tuple[str, str]] = (),
    retry_s: int = 0,
) -> status_pb2.Status:
    """A google.rpc.Status with ErrorInfo, and BadRequest or RetryInfo where they belong."""
    details = [error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)]
    if request_id:
        details.append(error_details_pb2.RequestInfo(request_id=request_id))
    if violations:
        fields = [error_details_pb2.BadRequest.FieldViolation(field=p, description=r) for p, r in violations]
        details.append(error_details_pb2.BadRequest(field_violations=fields))
    if retry_s:
        details.append(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=retry_s)))
    return status_pb2.Status(code=code.value[0], message=message, details=[_packed(detail) for detail in details])


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
