"""An agreement of two parties with fixed keys."""

import hashlib

from broker import agreement, keys
from broker.v1 import codes_pb2
from broker.v1.agreement_pb2 import AgreementDocument, Key

START, END = 1_800_000_000_000, 1_830_000_000_000


def fixed(label, size):
    return hashlib.shake_256(label.encode()).digest(size)


def signing(label):
    return keys.SigningKey.from_seed(fixed(label, 64))


def hpke(label):
    return keys.HpkeKey.from_seed(fixed(label, 32))


ROOTS = {party: [signing(f"{party} root {n}") for n in range(3)] for party in ("mx", "us")}
AGENCIES = {"mx": "mx.inm", "us": "us.cbp"}


def key(public, use, start=START, end=END):
    return Key(
        public_key=public,
        suite=1,
        use=codes_pb2.KeyUse.Value(f"KEY_USE_{use}"),
        not_before_ms=start,
        not_after_ms=end,
    )


def document():
    made = AgreementDocument(
        version=1,
        link_id=fixed("link", 16),
        not_before_ms=START,
        expires_ms=END,
        protocol_versions=[1],
        development=True,
    )
    made.families.add(id="passenger", revision=1, slots=16, partitions=4)
    for party, roots in ROOTS.items():
        entry = made.parties.add(id=party, root_keys=[root.public for root in roots], threshold=2)
        entry.keys.append(key(signing(f"{party} envelope").public, "ENVELOPE"))
        entry.keys.append(key(signing(f"{party} attest").public, "ATTEST"))
        entry.keys.append(key(hpke(f"{party} control").public, "HPKE_CONTROL"))
        entry.keys.append(key(hpke(f"{party} data 1").public, "HPKE_DATA"))
        entry.keys.append(key(hpke(f"{party} data 2").public, "HPKE_DATA", start=START + 1000, end=END - 1000))
        agency = entry.agencies.add(id=AGENCIES[party], roles=["border"])
        agency.keys.append(key(signing(f"{party} origin").public, "ORIGIN"))
        agency.keys.append(key(signing(f"{party} receipt").public, "RECEIPT"))
    return made


def enough(count=2):
    return [root for roots in ROOTS.values() for root in roots[:count]]


def signed(made=None, roots=None):
    return agreement.build(document() if made is None else made, enough() if roots is None else roots)
