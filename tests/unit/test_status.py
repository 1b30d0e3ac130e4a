"""What a caller hears of each failure: the code, the reason, when to try again, and nothing of what came in."""

import grpc
import pytest
from google.rpc import error_details_pb2

from broker import errors
from broker.gateway import status

Code = grpc.StatusCode
TABLE = [
    (errors.CanonicalError, Code.INVALID_ARGUMENT, "MALFORMED_MESSAGE"),
    (errors.SectionError, Code.INVALID_ARGUMENT, "MALFORMED_MESSAGE"),
    (errors.SignatureError, Code.INVALID_ARGUMENT, "ORIGIN_INVALID"),
    (errors.OriginError, Code.INVALID_ARGUMENT, "ORIGIN_INVALID"),
    (errors.ConflictError, Code.ALREADY_EXISTS, "IDEMPOTENCY_CONFLICT"),
    (errors.CertificateError, Code.UNAUTHENTICATED, "CERTIFICATE_UNMAPPED"),
    (errors.CertificateExpired, Code.UNAUTHENTICATED, "CERTIFICATE_EXPIRED"),
    (errors.CertificateRevoked, Code.UNAUTHENTICATED, "CERTIFICATE_REVOKED"),
    (errors.DeniedError, Code.PERMISSION_DENIED, "ROLE_REQUIRED"),
    (errors.NotFoundError, Code.NOT_FOUND, "NOT_FOUND"),
    (errors.LinkError, Code.FAILED_PRECONDITION, "LINK_SUSPENDED"),
    (errors.AgreementError, Code.FAILED_PRECONDITION, "AGREEMENT_INVALID"),
    (errors.BusyError, Code.RESOURCE_EXHAUSTED, "RATE_LIMITED"),
    (errors.StoreFull, Code.RESOURCE_EXHAUSTED, "STORE_FULL"),
    (errors.StoreError, Code.UNAVAILABLE, "STORE_UNAVAILABLE"),
    (status.DeadlineRequired, Code.INVALID_ARGUMENT, "DEADLINE_REQUIRED"),
]


def details(answer):
    """The details of a status, by kind."""
    kinds = {"ErrorInfo", "RequestInfo", "RetryInfo", "BadRequest"}
    found = {}
    for packed in answer.details:
        name = packed.type_url.rpartition(".")[2]
        assert name in kinds
        assert name not in found
        found[name] = getattr(error_details_pb2, name)()
        assert packed.Unpack(found[name])
    return found


@pytest.mark.parametrize(("kind", "code", "reason"), TABLE, ids=lambda value: getattr(value, "__name__", str(value)))
def test_each_failure_has_its_row_of_the_table(kind, code, reason):
    answer = status.of(kind("what went wrong"), "request")
    said = details(answer)
    assert (answer.code, answer.message) == (code.value[0], "what went wrong")
    assert (said["ErrorInfo"].reason, said["ErrorInfo"].domain) == (reason, "puente")
    assert said["RequestInfo"].request_id == "request"


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (errors.BusyError("x"), 1),
        (errors.StoreError("x"), 1),
        (errors.StreamLost("x"), 1),
        (errors.StoreFull("x"), 30),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_passes_says_when_to_try_again(error, seconds):
    assert details(status.of(error, ""))["RetryInfo"].retry_delay.seconds == seconds


@pytest.mark.parametrize(
    "error", [errors.OriginError("x"), errors.LinkError("x"), errors.NotFoundError("x"), ValueError("x")]
)
def test_what_does_not_pass_by_itself_says_nothing_of_trying_again(error):
    assert "RetryInfo" not in details(status.of(error, ""))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("CANARIO"),
        KeyError("CANARIO"),
        BaseException("CANARIO"),
        errors.VaultError("CANARIO"),
        errors.ProofError("CANARIO"),
        errors.KeyFileError("CANARIO"),
        errors.ConfigError("CANARIO", "CANARIO"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_no_row_foresees_is_internal_and_tells_the_request_id_alone(error):
    answer = status.of(error, "request")
    said = details(answer)
    assert answer.code == Code.INTERNAL.value[0]
    assert said["ErrorInfo"].reason == "INTERNAL"
    assert said["RequestInfo"].request_id == "request"
    assert b"CANARIO" not in answer.SerializeToString()
    assert b"VaultError" not in answer.SerializeToString()


def test_broken_field_rules_are_named_by_path_and_rule():
    error = errors.FieldInvalid([("identity.birth_date", "string.pattern"), ("", "passenger.kinds")])
    said = details(status.of(error, ""))
    assert said["ErrorInfo"].reason == "FIELD_INVALID"
    assert [(v.field, v.description) for v in said["BadRequest"].field_violations] == [
        ("identity.birth_date", "string.pattern"),
        ("", "passenger.kinds"),
    ]


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("POLICY_DENIED", Code.PERMISSION_DENIED),
        ("IDEMPOTENCY_CONFLICT", Code.ALREADY_EXISTS),
        ("MESSAGE_TOO_LARGE", Code.RESOURCE_EXHAUSTED),
        ("ORIGIN_INVALID", Code.INVALID_ARGUMENT),
        ("FIELD_INVALID", Code.INVALID_ARGUMENT),
    ],
)
def test_a_submission_of_a_call_that_succeeded_has_a_status_of_its_own(reason, code):
    answer = status.of_item(reason, [("travel", "required")])
    said = details(answer)
    assert answer.code == code.value[0]
    assert said["ErrorInfo"].reason == reason
    assert said["BadRequest"].field_violations[0].field == "travel"
    assert "RequestInfo" not in said  # the call was answered
    assert "RetryInfo" not in said  # sent again, it is refused again
