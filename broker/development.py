"""A development link: an agreement, keys and certificates of two parties, made on one machine. Never for real use."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker import agreement, identity, keys
from broker.app import KEY_FILES, SECRETS, now_ms
from broker.sections import families
from broker.v1 import codes_pb2
from broker.v1.agreement_pb2 import Agency, AgreementDocument, Family, Key, Party

DAY_MS: Final = 86_400_000
YEAR_MS: Final = 365 * DAY_MS
PARTITIONS: Final = 2
"""Enough for one process a side: with more, an envelope and its signature are shared by fewer messages."""
ROLES: Final[Mapping[str, Mapping[str, Sequence[str]]]] = {
    "us": {
        "us.cbp": ("border", "customs", "migration"),
        "us.ice": ("criminal_investigation", "migration"),
        "us.uscis": ("migration_benefits",),
    },
    "mx": {
        "mx.inm": ("migration",),
        "mx.anam": ("customs",),
        "mx.fgr": ("criminal_investigation", "prosecution"),
        "mx.fevimtra": ("victim_protection",),
        "mx.sre": ("consular",),
    },
}
PERSONS: Final[Mapping[str, str]] = {
    "officer": "officer",
    "operator": "operator",
    "operator2": "operator",
    "auditor": "auditor",
}
"""Names and their roles; two operators, for what takes two persons."""


@dataclass(frozen=True, slots=True)
class Development:
    """What `init` made: where each party's configuration and each caller's folder is."""

    folder: Path
    configs: Mapping[str, Path]
    callers: Mapping[str, Path]


def create(folder: Path, *, ports: Mapping[str, int], transport: Path | None = None) -> Development:
    """Write a development link into an empty `folder`.

    `<party>/puente.toml` with keys and certificates; `callers/<id>/` for each agency, officer, operator and auditor;
    `roots/<party>.json`, which sign the next agreement and key items, and which no gateway needs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    now = now_ms()
    roots = {party: keys.SigningKey.generate() for party in ROLES}
    (folder / "roots").mkdir()
    for party, root in roots.items():
        keys.write_key_file(folder / "roots" / f"{party}.json", codes_pb2.KEY_USE_ROOT, root.seed, development=True)
    parties = [_party(folder, party, roots[party].public, now) for party in ROLES]
    document = AgreementDocument(
        version=1,
        link_id=os.urandom(16),
        not_before_ms=now - DAY_MS,
        expires_ms=now + YEAR_MS,
        parties=parties,
        families=[
            Family(id=f.id, revision=f.revision, slots=f.slots, partitions=PARTITIONS)
            for f in sorted(families().values(), key=lambda f: f.id)
        ],
        protocol_versions=[1],
        development=True,
    )
    signed = agreement.build(document, list(roots.values()))
    configs = {}
    for party in ROLES:
        (folder / party / "agreement.bin").write_bytes(signed)
        digest = agreement.load(signed).digest.hex()
        configs[party] = _config(folder, party, ports[party], transport or folder / "transport", digest)
    callers = {path.name: path for path in sorted((folder / "callers").iterdir())}
    return Development(folder, configs, callers)


def _party(folder: Path, party: str, root: bytes, now: int) -> Party:
    """A party's keys and certificates on disk, and its half of the agreement."""
    own = folder / party
    for name in ("keys", "tls"):
        (own / name).mkdir(parents=True)
    ca = identity.make_ca(party)
    server = identity.issue(ca, "gateway", f"{party}.gateway", party, dns=["localhost"], ips=["127.0.0.1"])
    (own / "tls" / "ca.pem").write_bytes(ca.certificate)
    (own / "tls" / "certificate.pem").write_bytes(server.certificate)
    _private(own / "tls" / "key.pem", server.key)
    (own / "tls" / "deny.txt").write_text("# serials or SHA-256 fingerprints, one a line\n", encoding="utf-8")
    for file in SECRETS.values():
        _private(own / "keys" / file, os.urandom(32))
    gateway_keys = [_new_key(own / "keys" / file, use, now) for use, file in KEY_FILES.items()]
    agencies = [_agency(folder, ca, party, name, now) for name in ROLES[party]]
    for person, role in PERSONS.items():
        _caller(folder, ca, party, role, f"{party}.{person}")
    return Party(id=party, root_keys=[root], threshold=1, keys=gateway_keys, agencies=agencies)


def _agency(folder: Path, ca: identity.Issued, party: str, name: str, now: int) -> Agency:
    own = _caller(folder, ca, party, "agency", name)
    uses = {codes_pb2.KEY_USE_ORIGIN: "origin.json", codes_pb2.KEY_USE_RECEIPT: "receipt.json"}
    made = [_new_key(own / file, use, now) for use, file in uses.items()]
    return Agency(id=name, roles=sorted(ROLES[party][name]), keys=made)


def _caller(folder: Path, ca: identity.Issued, party: str, role: str, name: str) -> Path:
    """A caller's folder: its certificate, its key, and the CA that it knows the gateway by."""
    own = folder / "callers" / name
    own.mkdir(parents=True)
    issued = identity.issue(ca, role, name, party)
    (own / "certificate.pem").write_bytes(issued.certificate)
    _private(own / "key.pem", issued.key)
    (own / "ca.pem").write_bytes(ca.certificate)
    return own


def _new_key(path: Path, use: "codes_pb2.KeyUse.ValueType", now: int) -> Key:
    hpke = use in {codes_pb2.KEY_USE_HPKE_DATA, codes_pb2.KEY_USE_HPKE_CONTROL}
    key = keys.HpkeKey.generate() if hpke else keys.SigningKey.generate()
    keys.write_key_file(path, use, key.seed, development=True)
    return Key(public_key=key.public, suite=keys.SUITE, use=use, not_before_ms=now - DAY_MS, not_after_ms=now + YEAR_MS)


def _config(folder: Path, party: str, port: int, transport: Path, digest: str) -> Path:
    path = folder / party / "puente.toml"
    path.write_text(
        f"""# A development gateway. Never for real use.
party = "{party}"
listen = "127.0.0.1:{port}"
data_dir = "data"
agreement = "agreement.bin"
agreement_digest = "{digest}"
keys_dir = "keys"
development = true

[tls]
certificate = "tls/certificate.pem"
key = "tls/key.pem"
ca = "tls/ca.pem"
deny_list = "tls/deny.txt"

[transport]
kind = "sqlite"
path = "{os.path.relpath(transport, folder / party)}"

[persons]
officers = ["{party}.officer"]
operators = ["{party}.operator", "{party}.operator2"]
auditors = ["{party}.auditor"]
""",
        encoding="utf-8",
    )
    for name in (*ROLES[party], *(f"{party}.{person}" for person in PERSONS)):
        (folder / "callers" / name / "endpoint").write_text(f"127.0.0.1:{port}\n", encoding="ascii")
    return path


def _private(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
