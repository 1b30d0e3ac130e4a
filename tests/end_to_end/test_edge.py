"""The gRPC edge, over real TLS: what bad input and bad callers get (the error table), and that nothing is echoed."""

import asyncio
import datetime as dt
import os
import time

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from grpc_health.v1 import health_pb2

from broker import identity, standing
from broker.client import errors as client_errors
from broker.errors import BusyError, StoreError, StoreFull
from broker.gateway import guard, receive
from broker.v1 import codes_pb2, facts_pb2
from broker.v1 import exchange_service_pb2 as pb
from broker.v1 import operations_service_pb2 as operations
from broker.v1 import oversight_service_pb2 as oversight
from tests.end_to_end.edge_story import METHODS, PERSONS, call, code, fails, logged, one_edge, refused, says
from tests.simulator import Simulator, person

Code = grpc.StatusCode
CANARY = b"CANARIO-7F3A"


@pytest.fixture
async def edge(tmp_path):
    async with one_edge(tmp_path / "link") as made:
        yield made


def a_request(edge, records=(), **how):
    """A valid Submit request of us.cbp."""
    batch, items = Simulator.batch(_Signer(edge), records or [person(1)], **how)
    return pb.SubmitRequest(
        batch_statement=batch.statement,
        batch_signature=batch.signature,
        submissions=[
            pb.Submission(
                statement=i.statement, record=i.record, record_seed=i.record_seed, facts=i.facts,
                facts_salt=i.facts_salt, place=i.place, siblings=i.siblings,
            )
            for i in items
        ],
    )  # fmt: skip


class _Signer:
    """As much of a simulator as signing needs."""

    def __init__(self, edge):
        self.clock, self.callers, self.agreement = edge.clock, edge.made.callers, edge.gateway.link.agreement

    key = Simulator.key


# Well-formed


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\x05ab", os.urandom(200)], ids=["ff", "cut", "random"])
async def test_garbage_is_malformed(edge, method, data):
    role = min(METHODS[method][1])
    answer = await fails(edge.caller(role), method, data)
    assert tuple(answer) == (Code.INVALID_ARGUMENT, "MALFORMED_MESSAGE")
    assert len(answer.request_id) == 32


@pytest.mark.parametrize("method", METHODS)
async def test_an_unknown_field_is_malformed(edge, method):
    role = min(METHODS[method][1])
    answer = await fails(edge.caller(role), method, b"\xaa\x7d\x04spam")
    assert tuple(answer) == (Code.INVALID_ARGUMENT, "MALFORMED_MESSAGE")
    assert b"spam" not in answer.text


async def test_an_unknown_field_deep_inside_is_malformed(edge):
    request = a_request(edge).SerializeToString()
    inner = pb.Submission(statement=b"x").SerializeToString() + b"\xaa\x7d\x04spam"
    request += b"\x1a" + bytes([len(inner)]) + inner
    assert tuple(await fails(edge.caller(), "ExchangeService/Submit", request)) == (
        Code.INVALID_ARGUMENT,
        "MALFORMED_MESSAGE",
    )


async def test_more_than_a_request_may_hold_is_refused_before_it_is_read(edge):
    answer = await fails(edge.caller(), "ExchangeService/Submit", bytes(guard.REQUEST_MAX + 1))
    assert tuple(answer) == (Code.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
    assert len(answer.request_id) == 32
    assert not answer.retry_s  # it will not get smaller


async def test_a_request_of_just_the_largest_size_is_read(edge):
    answer = await fails(edge.caller(), "ExchangeService/Submit", bytes(guard.REQUEST_MAX))
    assert answer.reason == "MALFORMED_MESSAGE"


async def test_an_act_on_a_stream_that_is_too_large_ends_it_with_its_reason(edge):
    stream = edge.caller().stream_stream("/broker.v1.ExchangeService/Receive")()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await says(stream, [bytes(guard.REQUEST_MAX + 1)])
    assert tuple(refused(caught.value)) == (Code.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")


async def test_far_more_is_never_taken_in_and_the_client_is_told_the_same(edge):
    """The library answers, without our reason; it does not keep what it refuses."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(edge.caller(), "ExchangeService/Submit", bytes(guard.TRANSPORT_MAX + 1))
    assert tuple(refused(caught.value)) == (Code.RESOURCE_EXHAUSTED, "")
    told = client_errors.of(caught.value)
    assert isinstance(told, client_errors.Invalid)
    assert told.reason == "MESSAGE_TOO_LARGE"
    assert not told.unknown


@pytest.mark.parametrize("method", METHODS)
async def test_a_call_without_a_deadline_is_refused(edge, method):
    role = min(METHODS[method][1])
    answer = await fails(edge.caller(role), method, b"", seconds=None)
    assert tuple(answer) == (Code.INVALID_ARGUMENT, "DEADLINE_REQUIRED")


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("ExchangeService/ListMessages", pb.ListMessagesRequest(page_token="canario")),
        ("ExchangeService/ListMessages", pb.ListMessagesRequest(page_token="1.canario")),
        ("ExchangeService/ListMessages", pb.ListMessagesRequest(page_token="1." + "9" * 40)),
        ("ExchangeService/ListMessages", pb.ListMessagesRequest(page_size=-1)),
        ("ExchangeService/ListMessages", pb.ListMessagesRequest(states=[99])),
        ("ExchangeService/ListMessages", pb.ListMessagesRequest(way=99)),
        ("ExchangeService/Recall", pb.RecallRequest(message_id=bytes(16), reason=99)),
        ("OversightService/ListDecisions", oversight.ListDecisionsRequest(page_token="9" * 40)),
        ("OversightService/ListDecisions", oversight.ListDecisionsRequest(page_token="²")),
        ("OversightService/ListDecisions", oversight.ListDecisionsRequest(page_size=-5)),
        ("OversightService/ListDecisions", oversight.ListDecisionsRequest(filter="canario")),
        ("OversightService/ListDecisions", oversight.ListDecisionsRequest(filter='time > "canario"')),
        ("OversightService/ListDecisions", oversight.ListDecisionsRequest(filter='purpose = "canario"')),
        ("OversightService/ListDecisions", oversight.ListDecisionsRequest(filter='family = "x" OR 1=1 --"')),
        ("OversightService/ListDecisions", oversight.ListDecisionsRequest(filter="x" * 2000)),
        ("OversightService/ExplainDecision", oversight.ExplainDecisionRequest(language="canario")),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value).strip()[:40],
)
async def test_a_field_that_breaks_its_rule_is_invalid_and_is_never_our_bug(edge, method, request_):
    role = min(METHODS[method][1])
    answer = await fails(edge.caller(role), method, request_)
    assert answer.code is Code.INVALID_ARGUMENT
    assert answer.reason in {"FIELD_INVALID", "MALFORMED_MESSAGE"}
    assert b"canario" not in answer.text


# Who calls


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("role", PERSONS)
async def test_a_role_may_call_what_is_its_own_and_nothing_else(edge, method, role):
    request, roles = METHODS[method]
    channel = edge.caller(role)
    if role in roles:
        heard = await code(channel, method, request())
        assert heard in {Code.OK, Code.NOT_FOUND, Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION}
    else:
        assert tuple(await fails(channel, method, request())) == (Code.PERMISSION_DENIED, "ROLE_REQUIRED")


async def test_a_person_may_not_open_a_receive_stream(edge):
    for role in ("officer", "operator", "auditor"):
        stream = edge.caller(role).stream_stream("/broker.v1.ExchangeService/Receive")(timeout=5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await says(stream, [pb.ReceiveRequest(open=pb.ReceiveOpen(credit=1))])
        assert tuple(refused(caught.value)) == (Code.PERMISSION_DENIED, "ROLE_REQUIRED")


@pytest.mark.parametrize(
    ("role", "name", "party"),
    [
        ("agency", "us.nobody", "us"),
        ("officer", "us.somebody", "us"),
        ("gateway", "us.gateway", "us"),
        ("agency", "mx.inm", "mx"),
        ("operator", "us.officer", "us"),
    ],
)
async def test_a_certificate_that_names_nobody_we_serve_is_unmapped(edge, role, name, party):
    channel = edge.channel(edge.issue(role, name, party))
    answer = await fails(channel, "ExchangeService/GetCatalog")
    assert tuple(answer) == (Code.UNAUTHENTICATED, "CERTIFICATE_UNMAPPED")


async def test_without_a_certificate_or_with_one_of_another_authority_there_is_no_connection(edge):
    stranger = identity.issue(identity.make_ca("us"), "agency", "us.cbp", "us")
    for issued in (None, stranger):
        answer = await fails(edge.channel(issued), "ExchangeService/GetCatalog", seconds=2)
        assert answer.code is Code.UNAVAILABLE


async def test_an_expired_certificate_does_not_connect(edge):
    issued = edge.issue(days=1, now=dt.datetime.now(dt.UTC) - dt.timedelta(days=3))
    answer = await fails(edge.channel(issued), "ExchangeService/GetCatalog", seconds=2)
    assert answer.code in {Code.UNAVAILABLE, Code.UNAUTHENTICATED}


async def test_a_certificate_that_expires_while_connected_ends_at_its_next_call(edge):
    channel = edge.channel(edge.issue(days=1))
    assert await call(channel, "ExchangeService/GetCatalog", b"")
    edge.clock.now += 25 * 3_600_000
    assert tuple(await fails(channel, "ExchangeService/GetCatalog")) == (Code.UNAUTHENTICATED, "CERTIFICATE_EXPIRED")


@pytest.mark.parametrize("by", ["serial", "fingerprint"])
async def test_a_certificate_revoked_while_connected_ends_at_its_next_call(edge, by):
    issued = edge.issue()
    channel, other = edge.channel(issued), edge.caller()
    assert await call(channel, "ExchangeService/GetCatalog", b"")
    certificate = x509.load_pem_x509_certificate(issued.certificate)
    name = f"{certificate.serial_number:x}" if by == "serial" else certificate.fingerprint(hashes.SHA256()).hex()
    edge.deny.write_text(f"# stolen\n{name.upper()}  # laptop\n", encoding="ascii")
    assert tuple(await fails(channel, "ExchangeService/GetCatalog")) == (Code.UNAUTHENTICATED, "CERTIFICATE_REVOKED")
    assert await call(other, "ExchangeService/GetCatalog", b"")


async def test_a_deny_list_that_cannot_be_read_refuses_everybody(edge):
    channel = edge.caller()
    assert await call(channel, "ExchangeService/GetCatalog", b"")
    edge.deny.unlink()
    assert (await fails(channel, "ExchangeService/GetCatalog")).code is Code.UNAUTHENTICATED


async def open_stream(channel):
    stream = channel.stream_stream("/broker.v1.ExchangeService/Receive")(timeout=30)
    await stream.write(pb.ReceiveRequest(open=pb.ReceiveOpen(credit=5)).SerializeToString())
    return stream


async def test_a_revoked_certificate_loses_its_open_stream_within_five_seconds(edge, monkeypatch):
    assert receive.RECHECK_S <= 5
    monkeypatch.setattr(receive, "RECHECK_S", 0.2)
    issued = edge.issue()
    stream = await open_stream(edge.channel(issued))
    await asyncio.sleep(0.1)
    serial = x509.load_pem_x509_certificate(issued.certificate).serial_number
    edge.deny.write_text(f"{serial:x}\n", encoding="ascii")
    start = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async with asyncio.timeout(5):
            await stream.read()
    assert tuple(refused(caught.value)) == (Code.UNAUTHENTICATED, "CERTIFICATE_REVOKED")
    assert time.monotonic() - start < 3


async def test_a_certificate_that_expires_loses_its_open_stream(edge, monkeypatch):
    monkeypatch.setattr(receive, "RECHECK_S", 0.2)
    stream = await open_stream(edge.channel(edge.issue(days=1)))
    await asyncio.sleep(0.1)
    edge.clock.now += 25 * 3_600_000
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async with asyncio.timeout(5):
            await stream.read()
    assert tuple(refused(caught.value)) == (Code.UNAUTHENTICATED, "CERTIFICATE_EXPIRED")


@pytest.mark.parametrize(
    "acts",
    [
        [pb.ReceiveRequest(credit=pb.ReceiveCredit(messages=1))],
        [pb.ReceiveRequest()],
        [b"\xff\xff"],
        [pb.ReceiveRequest(open=pb.ReceiveOpen(credit=1)), pb.ReceiveRequest(open=pb.ReceiveOpen(credit=1))],
        [pb.ReceiveRequest(open=pb.ReceiveOpen(credit=1)), b"\xff\xff"],
        [
            pb.ReceiveRequest(open=pb.ReceiveOpen(credit=1)),
            pb.ReceiveRequest(answers=pb.ReceiveAnswers(answers=[pb.ReceiveAnswer(release=bytes(32), state=77)])),
        ],
        [
            pb.ReceiveRequest(open=pb.ReceiveOpen(credit=1)),
            pb.ReceiveRequest(answers=pb.ReceiveAnswers(answers=[pb.ReceiveAnswer(release=bytes(32))])),
        ],
    ],
    ids=["credit first", "empty", "garbage", "opened twice", "garbage later", "unknown state", "no state"],
)
async def test_a_stream_that_breaks_its_rules_is_malformed(edge, acts):
    stream = edge.caller().stream_stream("/broker.v1.ExchangeService/Receive")(timeout=5)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await says(stream, acts)
    assert tuple(refused(caught.value)) == (Code.INVALID_ARGUMENT, "MALFORMED_MESSAGE")


async def test_an_answer_to_what_was_never_given_is_told_as_not_found(edge):
    stream = await open_stream(edge.caller())
    said = pb.ReceiveAnswer(release=bytes(32), state=codes_pb2.STATE_ACKNOWLEDGED)
    await stream.write(pb.ReceiveRequest(answers=pb.ReceiveAnswers(answers=[said])).SerializeToString())
    answer = pb.ReceiveResponse.FromString(await stream.read())
    assert [(a.release, a.reason) for a in answer.answered] == [(bytes(32), "NOT_FOUND")]


# What one may see


async def test_anothers_message_and_none_at_all_look_the_same(edge):
    request = a_request(edge)
    answer = pb.SubmitResponse.FromString(await call(edge.caller(), "ExchangeService/Submit", request))
    theirs = answer.items[0].message_id
    assert await call(edge.caller(), "ExchangeService/GetMessage", pb.GetMessageRequest(id=theirs))
    other = edge.caller(name="us.ice")
    for method, make in (
        ("ExchangeService/GetMessage", lambda name: pb.GetMessageRequest(id=name)),
        ("ExchangeService/Recall", lambda name: pb.RecallRequest(message_id=name)),
    ):
        hidden, absent = await fails(other, method, make(theirs)), await fails(other, method, make(os.urandom(16)))
        assert tuple(hidden) == tuple(absent) == (Code.NOT_FOUND, "NOT_FOUND")
        assert hidden.text.replace(hidden.request_id.encode(), b"") == absent.text.replace(
            absent.request_id.encode(), b""
        )
    listed = pb.ListMessagesResponse.FromString(await call(other, "ExchangeService/ListMessages", b""))
    assert not listed.messages


async def test_an_absent_decision_is_not_found(edge):
    answer = await fails(
        edge.caller("officer"),
        "OversightService/ExplainDecision",
        oversight.ExplainDecisionRequest(decision_id=bytes(32)),
    )
    assert tuple(answer) == (Code.NOT_FOUND, "NOT_FOUND")


# Rows about one submission


async def submitted(edge, request):
    return pb.SubmitResponse.FromString(await call(edge.caller(), "ExchangeService/Submit", request)).items


async def test_each_row_about_one_submission_is_its_items_status_in_a_call_that_succeeds(edge):
    good = a_request(edge)
    [first] = await submitted(edge, good)
    [again] = await submitted(edge, good)
    assert (first.result, first.reason, first.status.code) == (pb.SUBMIT_RESULT_ACCEPTED, "", 0)
    assert (again.result, again.reason, again.decision_id) == (first.result, "DUPLICATE", first.decision_id)

    pending = facts_pb2.Facts(protection_claim=facts_pb2.CLAIM_STATUS_PENDING)
    [denied] = await submitted(edge, a_request(edge, facts=pending))
    assert (denied.status.code, denied.reason) == (Code.PERMISSION_DENIED.value[0], "POLICY_DENIED")
    assert len(denied.decision_id) == 32

    bad = person(1)
    bad.identity.nationality = "canario"
    [invalid] = await submitted(edge, a_request(edge, [bad]))
    assert (invalid.status.code, invalid.reason) == (Code.INVALID_ARGUMENT.value[0], "FIELD_INVALID")
    assert b"identity.nationality" in invalid.SerializeToString()
    assert b"canario" not in invalid.SerializeToString()

    [other] = await submitted(edge, a_request(edge, link_id=bytes(16)))
    assert (other.status.code, other.reason) == (Code.INVALID_ARGUMENT.value[0], "ORIGIN_INVALID")

    large = a_request(edge)
    large.submissions[0].record = bytes(300_000)
    [too_large] = await submitted(edge, large)
    assert (too_large.status.code, too_large.reason) == (Code.RESOURCE_EXHAUSTED.value[0], "MESSAGE_TOO_LARGE")


async def test_a_signature_that_does_not_verify_fails_the_call(edge):
    request = a_request(edge)
    request.batch_signature = request.batch_signature[:-1] + bytes([request.batch_signature[-1] ^ 1])
    assert tuple(await fails(edge.caller(), "ExchangeService/Submit", request)) == (
        Code.INVALID_ARGUMENT,
        "ORIGIN_INVALID",
    )


async def test_no_submission_at_all_and_too_many_are_invalid(edge):
    request = a_request(edge)
    many = pb.SubmitRequest.FromString(request.SerializeToString())
    many.submissions.extend([request.submissions[0]] * 256)
    del request.submissions[:]
    for one in (request, many):
        assert (await fails(edge.caller(), "ExchangeService/Submit", one)).code is Code.INVALID_ARGUMENT


# Conditions


async def test_a_suspended_link_and_an_expired_agreement_are_failed_preconditions(edge):
    request = a_request(edge)
    await edge.gateway.ledger.commit(lambda tx: standing.evidence(tx, "EVIDENCE_TWO_HEADERS", b"h", edge.clock()))
    assert tuple(await fails(edge.caller(), "ExchangeService/Submit", request)) == (
        Code.FAILED_PRECONDITION,
        "LINK_SUSPENDED",
    )
    await edge.gateway.ledger.commit(lambda tx: tx.standing.resume(edge.clock()))
    edge.gateway.outbound.clock = lambda: edge.gateway.link.agreement.expires_ms
    assert tuple(await fails(edge.caller(), "ExchangeService/Submit", request)) == (
        Code.FAILED_PRECONDITION,
        "AGREEMENT_EXPIRED",
    )


async def test_two_certificates_of_one_operator_are_one_person(edge):
    request = operations.ResumeLinkRequest(why="looked at")
    method, answer = "OperationsService/ResumeLink", operations.ResumeLinkResponse
    await call(edge.caller("operator"), "OperationsService/SuspendLink", operations.SuspendLinkRequest(why="a drill"))
    for _ in range(2):
        again = edge.channel(edge.issue("operator", "us.operator"))
        assert not answer.FromString(await call(again, method, request)).resumed
    second = edge.caller("operator", "us.operator2")
    assert answer.FromString(await call(second, method, request)).resumed


@pytest.mark.parametrize(
    ("error", "wanted", "reason"),
    [
        (StoreError("down"), Code.UNAVAILABLE, "STORE_UNAVAILABLE"),
        (BusyError("busy"), Code.RESOURCE_EXHAUSTED, "RATE_LIMITED"),
        (StoreFull("full"), Code.RESOURCE_EXHAUSTED, "STORE_FULL"),
    ],
)
async def test_what_passes_says_when_to_try_again(edge, monkeypatch, error, wanted, reason):
    async def commit(_):
        raise error

    monkeypatch.setattr(type(edge.gateway.ledger), "commit", lambda self, change: commit(change))
    answer = await fails(edge.caller(), "ExchangeService/Submit", a_request(edge))
    monkeypatch.undo()
    assert tuple(answer) == (wanted, reason)
    assert answer.retry_s > 0


async def test_our_own_bug_tells_its_request_id_and_nothing_else(edge, monkeypatch):
    def broken(*_):
        raise ValueError(CANARY.decode())

    lines = logged(monkeypatch)
    monkeypatch.setattr(type(edge.gateway.ledger), "read", broken)
    answer = await fails(edge.caller(), "ExchangeService/ListMessages")
    monkeypatch.undo()
    assert tuple(answer) == (Code.INTERNAL, "INTERNAL")
    assert CANARY not in answer.text
    assert answer.request_id in lines.getvalue()
    assert CANARY.decode() not in lines.getvalue()


async def test_a_log_that_cannot_be_written_changes_no_answer(edge, monkeypatch):
    logged(monkeypatch).close()
    answer = await fails(edge.caller("officer"), "ExchangeService/ListMessages")
    assert tuple(answer) == (Code.PERMISSION_DENIED, "ROLE_REQUIRED")


# Nothing is echoed


def _with_canary(edge):
    """Requests with a canary in each field in turn."""
    for field in ("batch_statement", "batch_signature"):
        request = a_request(edge)
        setattr(request, field, (CANARY + getattr(request, field))[: max(74, len(CANARY))])
        yield field, request
    for field in ("statement", "record", "record_seed", "facts", "facts_salt"):
        for value in (CANARY, CANARY + bytes(32 - len(CANARY)), b"\x0a" + bytes([len(CANARY)]) + CANARY):
            request = a_request(edge)
            setattr(request.submissions[0], field, value)
            yield field, request
    for field in ("family", "origin_agency", "recipient"):
        yield field, a_request(edge, **{field: CANARY.decode().lower()})
    for name in ("surname", "given", "second"):
        record = person(1)
        setattr(record.identity.name, name, CANARY.decode() * 20)
        yield name, a_request(edge, [record])
    for path in ("birth_date", "nationality"):
        record = person(1)
        setattr(record.identity, path, CANARY.decode())
        yield path, a_request(edge, [record])
    record = person(1)
    record.documents[0].number = CANARY.decode() * 9
    yield "number", a_request(edge, [record])
    record = person(1)
    record.travel.legs[0].departure_port = CANARY.decode()
    yield "port", a_request(edge, [record])
    yield "basis", a_request(edge, basis=[CANARY.decode().lower()])


async def test_nothing_that_came_in_comes_back_out_in_an_error_or_a_log_line(edge, monkeypatch):
    lines = logged(monkeypatch)
    channel, seen = edge.caller(), 0
    for field, request in _with_canary(edge):
        try:
            data = await call(channel, "ExchangeService/Submit", request)
        except grpc.aio.AioRpcError as error:
            data = refused(error).text
        assert CANARY.lower() not in data.lower(), field
        seen += 1
    assert seen > 25
    out = lines.getvalue().lower()
    assert "call.refused" in out  # the log is looked at
    assert CANARY.decode().lower() not in out


async def test_no_person_of_a_good_record_is_in_a_log_line(edge, monkeypatch):
    lines = logged(monkeypatch)
    record = person(1)
    record.identity.name.surname = CANARY.decode()
    [item] = await submitted(edge, a_request(edge, [record]))
    assert item.result == pb.SUBMIT_RESULT_ACCEPTED
    assert CANARY.decode() not in lines.getvalue()


async def test_health_answers_without_telling_more(edge):
    data = await edge.caller().unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=5)
    assert health_pb2.HealthCheckResponse.FromString(data).status == health_pb2.HealthCheckResponse.SERVING


async def test_an_unknown_method_is_unimplemented(edge):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(edge.caller(), "ExchangeService/Everything", b"")
    assert caught.value.code() is Code.UNIMPLEMENTED


async def test_validate_only_leaves_no_entry(edge):
    request = a_request(edge)
    request.validate_only = True
    [item] = await submitted(edge, request)
    assert item.result == pb.SUBMIT_RESULT_ACCEPTED
    status = operations.GetStatusResponse.FromString(
        await call(edge.caller("operator"), "OperationsService/GetStatus", b"")
    )
    assert [log.size for log in status.logs] == [0, 0]
    assert status.counts.submitted == 0
