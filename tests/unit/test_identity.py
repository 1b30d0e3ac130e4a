"""A certificate names one caller, while it lives and nobody denied it."""

import datetime as dt
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from broker import identity
from broker.errors import CertificateError, CertificateExpired, CertificateRevoked

NOW = dt.datetime(2027, 1, 15, tzinfo=dt.UTC)
NOW_MS = int(NOW.timestamp() * 1000)
DAY_MS = 86_400_000
CA = identity.make_ca("mx", now=NOW)
AGENCY = identity.issue(CA, "agency", "mx.inm", "mx", now=NOW)


def test_a_certificate_names_its_caller():
    caller = identity.identify(AGENCY.certificate, NOW_MS)
    assert (caller.party, caller.role, caller.id) == ("mx", "agency", "mx.inm")
    assert int(caller.serial, 16) == x509.load_pem_x509_certificate(AGENCY.certificate).serial_number


@pytest.mark.parametrize("role", ["officer", "operator", "auditor", "gateway"])
def test_every_role_has_its_certificates(role):
    made = identity.issue(CA, role, "somebody", "mx", now=NOW)
    assert identity.identify(made.certificate, NOW_MS).role == role


def test_outside_its_life_it_names_nobody():
    for moment in (NOW_MS - DAY_MS, NOW_MS + 91 * DAY_MS):
        with pytest.raises(CertificateExpired) as error:
            identity.identify(AGENCY.certificate, moment)
        assert error.value.reason == "CERTIFICATE_EXPIRED"


def test_denied_by_serial_or_fingerprint_it_ends_at_once():
    caller = identity.identify(AGENCY.certificate, NOW_MS)
    fingerprint = x509.load_pem_x509_certificate(AGENCY.certificate).fingerprint(hashes.SHA256()).hex()
    for denied in (caller.serial, fingerprint):
        with pytest.raises(CertificateRevoked) as error:
            identity.identify(AGENCY.certificate, NOW_MS, {denied})
        assert error.value.reason == "CERTIFICATE_REVOKED"
    assert identity.identify(AGENCY.certificate, NOW_MS, {"another"}) == caller


def with_names(*names):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(NOW)
        .not_valid_after(NOW + dt.timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def uri(text):
    return x509.UniformResourceIdentifier(text)


@pytest.mark.parametrize(
    "names",
    [
        (),
        (x509.DNSName("mx.inm"),),
        (uri("spiffe://mx/agency/mx.inm"), uri("spiffe://mx/officer/ana")),
        (uri("spiffe://mx/owner/mx.inm"),),
        (uri("spiffe://mx/agency/mx.inm/more"),),
        (uri("spiffe://mx/agency/"),),
        (uri("https://mx/agency/mx.inm"),),
        (uri("spiffe://MX/agency/mx.inm"),),
        (uri("spiffe://mx/agency/us.cbp"),),
        (uri("spiffe://mx/agency/mx.inm\n"),),
    ],
    ids=str,
)
def test_any_other_name_is_nobody(names):
    with pytest.raises(CertificateError) as error:
        identity.identify(with_names(*names), NOW_MS)
    assert error.value.reason == "CERTIFICATE_UNMAPPED"


def test_what_is_no_certificate_names_nobody():
    for data in (b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", CA.certificate):
        with pytest.raises(CertificateError):
            identity.identify(data, NOW_MS)


def test_nothing_is_issued_that_would_not_be_accepted():
    for role, name in [("owner", "x"), ("agency", ""), ("officer", "Ana"), ("officer", "a/b")]:
        with pytest.raises(CertificateError):
            identity.issue(CA, role, name, "mx", now=NOW)


def test_a_servers_certificate_is_accepted_by_tls_and_a_clients_is_chained_to_its_ca(tmp_path):
    ca = identity.make_ca("mx")
    server = identity.issue(ca, "gateway", "mx", "mx", dns=["localhost"], ips=["127.0.0.1"])
    client = identity.issue(ca, "agency", "mx.inm", "mx")
    handshake(tmp_path, ca, server, client)


def handshake(folder, ca, server, client):
    """A mutual TLS handshake in memory; raises ssl.SSLError when either side refuses the other."""
    contexts = []
    for protocol, issued in [(ssl.PROTOCOL_TLS_SERVER, server), (ssl.PROTOCOL_TLS_CLIENT, client)]:
        path = folder / f"{int(protocol)}.pem"
        path.write_bytes(issued.certificate + issued.key)
        context = ssl.SSLContext(protocol)
        context.load_verify_locations(cadata=ca.certificate.decode())
        context.load_cert_chain(path)
        context.verify_mode = ssl.CERT_REQUIRED
        contexts.append(context)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    serving = contexts[0].wrap_bio(up, down, server_side=True)
    calling = contexts[1].wrap_bio(down, up, server_hostname="localhost")
    done = set()
    for _ in range(10):
        for side in (calling, serving):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass
    assert done == {calling, serving}
    assert serving.getpeercert()["subjectAltName"] == (("URI", "spiffe://mx/agency/mx.inm"),)
