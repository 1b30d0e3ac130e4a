"""Who calls: X.509 with ECDSA P-256, exactly one URI `spiffe://<party>/<role>/<id>` (protocol section 9).

TLS has checked the chain to the party's own CA before anything here is asked; `identify` runs on every call, so that an
expired or denied certificate ends at once, whenever its connection was made.
"""

import datetime as dt
import ipaddress
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker.errors import CertificateError, CertificateExpired, CertificateRevoked

ROLES: Final = frozenset({"agency", "officer", "operator", "auditor", "gateway"})
# Clocks differ: a certificate begins this long before it is made.
_EARLY: Final = dt.timedelta(minutes=5)
_URI = re.compile(r"spiffe://([a-z0-9._-]{1,64})/([a-z]+)/([a-z0-9._-]{1,64})")
# What cryptography raises on bytes that are no certificate, or one with names that it does not know.
_DAMAGED: Final = (
    ValueError,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller: party, role (one of ROLES), id, and the certificate's serial in lower-case hex."""

    party: str
    role: str
    id: str
    serial: str


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key, both PEM; the key is unencrypted PKCS#8."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class _Known:
    principal: Principal
    fingerprint: str
    not_before_ms: int
    not_after_ms: int


def identify(pem: bytes, now_ms: int, deny: Container[str] = ()) -> Principal:
    """The caller that a certificate names.

    `deny`: serials and SHA-256 fingerprints in lower-case hex.

    Raises:
        CertificateError: CERTIFICATE_UNMAPPED, names nobody we serve.
        CertificateExpired: CERTIFICATE_EXPIRED, outside its life.
        CertificateRevoked: CERTIFICATE_REVOKED, on the deny list.
    """
    known = _read(pem)
    if known.principal.serial in deny or known.fingerprint in deny:
        raise CertificateRevoked("the certificate is on the deny list")
    if not known.not_before_ms <= now_ms <= known.not_after_ms:
        raise CertificateExpired("the certificate is outside its life")
    return known.principal


@lru_cache(maxsize=1024)
def _read(pem: bytes) -> _Known:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except _DAMAGED:
        raise CertificateError("not a certificate with a name that we know") from None
    found = _URI.fullmatch(uris[0]) if len(uris) == 1 else None
    if found is None or found[2] not in ROLES:
        raise CertificateError("a certificate must have exactly one name, spiffe://party/role/id")
    party, role, name = found.groups()
    if role == "agency" and not name.startswith(party + "."):
        raise CertificateError("an agency's id begins with its party's")
    return _Known(
        Principal(party, role, name, f"{certificate.serial_number:x}"),
        certificate.fingerprint(hashes.SHA256()).hex(),
        _ms(certificate.not_valid_before_utc),
        _ms(certificate.not_valid_after_utc),
    )


def _ms(time: dt.datetime) -> int:
    return int(time.timestamp() * 1000)


def make_ca(party: str, days: int = 3650, *, now: dt.datetime | None = None) -> Issued:
    """A party's own CA, which signs leaf certificates only."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"{party} CA")
    builder = (
        _builder(name, name, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _issued(builder, key, key)


def issue(
    ca: Issued,
    role: str,
    name: str,
    party: str,
    days: int = 90,
    *,
    dns: Sequence[str] = (),
    ips: Sequence[str] = (),
    now: dt.datetime | None = None,
) -> Issued:
    """A certificate for `spiffe://party/role/name`; `dns` and `ips` make it a server's too.

    Raises:
        CertificateError: a role or id that `identify` would refuse.
    """
    uri = f"spiffe://{party}/{role}/{name}"
    if role not in ROLES or not _URI.fullmatch(uri):
        raise CertificateError("a role or id that no caller has")
    ca_certificate = x509.load_pem_x509_certificate(ca.certificate)
    ca_key = serialization.load_pem_private_key(ca.key, None)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise CertificateError("a CA key is ECDSA P-256")
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)]
    names += [x509.DNSName(host) for host in dns]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ips]
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if dns or ips else [])
    builder = (
        _builder(_name(name), ca_certificate.subject, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    return _issued(builder, key, ca_key)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: dt.datetime | None, days: int
) -> x509.CertificateBuilder:
    now = now or dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLY)
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _issued(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey
) -> Issued:
    certificate = builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Issued(certificate, private)
