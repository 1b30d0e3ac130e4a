"""The outermost layer of a call, without its network: who is let in, what is asked first, what is parsed."""

import os

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from broker import config, identity
from broker.errors import CanonicalError, CertificateError, CertificateExpired, CertificateRevoked, DeniedError
from broker.gateway import guard as guarding
from broker.gateway.guard import DenyList, Guard, RequestTooLarge, parsed
from broker.v1 import exchange_service_pb2 as pb
from tests.unit.test_identity import uri, with_names

AGENCY = frozenset({"agency"})
YEAR_MS = 366 * 86_400_000


class Aborted(Exception):
    pass


class Context:
    """As much of a call as the guard reads; `certificates`: what TLS says of the caller."""

    def __init__(self, *certificates, seconds=5.0):
        self.certificates, self.seconds, self.answer = certificates, seconds, None

    def auth_context(self):
        return {"x509_pem_cert": list(self.certificates)} if self.certificates else {}

    def time_remaining(self):
        return self.seconds

    async def abort(self, code, message, metadata):
        status, info = status_pb2.Status.FromString(dict(metadata)["grpc-status-details-bin"]), None
        for detail in status.details:
            candidate = error_details_pb2.ErrorInfo()
            info = candidate if detail.Unpack(candidate) else info
        assert status.message == message
        self.answer = (code, info.reason)
        raise Aborted


class Door:
    """A guard of us's gateway, and its certificate authority."""

    def __init__(self, sim):
        self.ca = identity.make_ca("us")
        self.config = config.load(sim.folder / "us" / "puente.toml")
        self.clock = sim.clock
        self.guard = Guard(self.config, sim.us.link, sim.clock)

    def certificate(self, role="agency", name="us.cbp", party="us", **how):
        return identity.issue(self.ca, role, name, party, **how).certificate


@pytest.fixture
def door(sim):
    return Door(sim)


@pytest.fixture
def deny(tmp_path):
    path = tmp_path / "deny.txt"
    path.write_text("", encoding="utf-8")
    return path


# Who


@pytest.mark.parametrize(
    ("role", "name"),
    [("agency", "us.cbp"), ("officer", "us.officer"), ("operator", "us.operator"), ("auditor", "us.auditor")],
)
def test_whom_agreement_or_configuration_name_is_let_in(door, role, name):
    caller = door.guard.principal(Context(door.certificate(role, name)))
    assert (caller.role, caller.id) == (role, name)


@pytest.mark.parametrize(
    ("role", "name", "party"),
    [
        ("agency", "us.nobody", "us"),
        ("agency", "mx.inm", "mx"),
        ("officer", "us.operator", "us"),
        ("auditor", "us.officer", "us"),
        ("gateway", "us.gateway", "us"),
    ],
)
def test_anybody_else_is_nobody_whatever_the_authority_signed(door, role, name, party):
    with pytest.raises(CertificateError) as refused:
        door.guard.principal(Context(door.certificate(role, name, party)))
    assert refused.value.reason == "CERTIFICATE_UNMAPPED"


def test_an_agency_of_the_other_party_is_nobody_although_the_agreement_names_it(door, sim):
    assert "mx.inm" in sim.agreement.agencies
    with pytest.raises(CertificateError):
        door.guard.principal(Context(door.certificate("agency", "mx.inm", "mx")))


@pytest.mark.parametrize("certificates", [0, 2])
def test_a_call_has_exactly_one_certificate(door, certificates):
    with pytest.raises(CertificateError):
        door.guard.principal(Context(*[door.certificate()] * certificates))


def test_a_certificate_with_two_names_is_nobody(door):
    two = with_names(uri("spiffe://us/agency/us.cbp"), uri("spiffe://us/officer/us.officer"))
    with pytest.raises(CertificateError) as refused:
        door.guard.principal(Context(two))
    assert refused.value.reason == "CERTIFICATE_UNMAPPED"


def test_a_certificate_is_asked_for_its_life_at_every_call(door):
    context = Context(door.certificate())
    assert door.guard.principal(context).id == "us.cbp"
    door.clock.now += YEAR_MS
    with pytest.raises(CertificateExpired):
        door.guard.principal(context)


def test_a_role_that_may_not_call_this_is_denied(door):
    with pytest.raises(DeniedError):
        door.guard.admitted(Context(door.certificate("officer", "us.officer")), AGENCY)


# Who no more


def test_a_line_of_the_deny_list_is_a_serial_or_a_fingerprint_in_either_case_with_comments(door):
    certificate = door.certificate()
    caller = door.guard.principal(Context(certificate))
    door.config.tls.deny_list.write_text(f"# lost laptop\n\n  {caller.serial.upper()}  # ana\n", encoding="utf-8")
    with pytest.raises(CertificateRevoked):
        door.guard.principal(Context(certificate))
    door.config.tls.deny_list.write_text("# nobody any more, and longer than before\n" * 3, encoding="utf-8")
    assert door.guard.principal(Context(certificate)) == caller


def test_a_comment_denies_nobody(deny):
    deny.write_text("# abc\nab # abc def\n", encoding="utf-8")
    assert set(DenyList(deny).current()) == {"ab"}


def test_the_deny_list_is_read_again_only_when_it_changes(deny, monkeypatch):
    deny.write_text("aa\n", encoding="utf-8")
    listed = DenyList(deny)
    assert "aa" in listed.current()
    stamp = deny.stat().st_mtime_ns
    deny.write_text("bb\n", encoding="utf-8")
    os.utime(deny, ns=(stamp, stamp))
    assert "aa" in listed.current()  # same size and time: not read
    os.utime(deny, ns=(stamp, stamp + 1))
    assert set(listed.current()) == {"bb"}


@pytest.mark.parametrize("how", ["absent", "not text", "a folder"])
def test_without_a_deny_list_that_can_be_read_nobody_is_known_to_be_good(deny, how):
    deny.unlink()
    if how == "not text":
        deny.write_bytes(b"\xff\xfe\x00")
    elif how == "a folder":
        deny.mkdir()
    with pytest.raises(CertificateError) as refused:
        DenyList(deny).current()
    assert refused.value.reason == "CERTIFICATE_UNMAPPED"


# What


def handler(door, calls):
    async def behaviour(caller, request):
        calls.append((caller.id, request))
        return pb.GetMessageResponse()

    return door.guard.unary(behaviour, pb.GetMessageRequest, AGENCY).unary_unary


async def test_a_good_call_reaches_its_behaviour_with_caller_and_request(door):
    calls = []
    request = pb.GetMessageRequest(id=b"x" * 16)
    answer = await handler(door, calls)(request.SerializeToString(), Context(door.certificate()))
    assert calls == [("us.cbp", request)]
    assert pb.GetMessageResponse.FromString(answer) == pb.GetMessageResponse()


@pytest.mark.parametrize(
    ("who", "data", "seconds", "wanted"),
    [
        (None, b"\xff", None, (grpc.StatusCode.UNAUTHENTICATED, "CERTIFICATE_UNMAPPED")),
        ("officer", b"\xff", None, (grpc.StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED")),
        ("agency", b"\xff", None, (grpc.StatusCode.INVALID_ARGUMENT, "DEADLINE_REQUIRED")),
        ("agency", b"\xff", 5.0, (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")),
    ],
)
async def test_who_comes_before_what(door, who, data, seconds, wanted):
    names = {"officer": "us.officer", "agency": "us.cbp"}
    context = Context(*([door.certificate(who, names[who])] if who else []), seconds=seconds)
    calls = []
    with pytest.raises(Aborted):
        await handler(door, calls)(data, context)
    assert context.answer == wanted
    assert calls == []


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff",
        b"\x0a\x05ab",
        b"\xaa\x7d\x04spam",
        pb.ListMessagesRequest(states=[99]).SerializeToString(),
        pb.ListMessagesRequest(way=99).SerializeToString(),
    ],
    ids=["garbage", "cut", "unknown field", "unknown value in a list", "unknown value"],
)
def test_what_is_not_of_this_method_is_not_parsed(data):
    with pytest.raises(CanonicalError):
        parsed(pb.ListMessagesRequest, data)


def test_what_is_too_large_is_not_even_looked_at(monkeypatch):
    monkeypatch.setattr(guarding, "REQUEST_MAX", 4)
    assert parsed(pb.ListMessagesRequest, bytes(0)) == pb.ListMessagesRequest()
    with pytest.raises(RequestTooLarge):
        parsed(pb.ListMessagesRequest, b"\xff" * 5)
