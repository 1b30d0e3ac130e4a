"""A client believes what its gateway says of agreements and keys only as far as the roots have signed it."""

from types import SimpleNamespace

import pytest

from broker import keyitem, keyring, keys
from broker.canonical import encode
from broker.client.catalog import verified
from broker.client.errors import VerificationError
from broker.errors import AgreementError
from broker.gateway.exchange import ExchangeService
from broker.v1 import codes_pb2
from broker.v1 import envelope_pb2 as pb
from broker.v1.exchange_service_pb2 import GetCatalogRequest

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
ORIGIN = codes_pb2.KEY_USE_ORIGIN


async def answered(sim, agency="mx.inm"):
    service = ExchangeService(sim.gateway(agency))
    return await service.get_catalog(SimpleNamespace(id=agency), GetCatalogRequest())


def item(sim, key):
    made = pb.KeyItem(
        public_key=key.public, suite=1, use=ORIGIN, owner="us.cbp", act=pb.KEY_ACT_ADD, version=1,
        not_before_ms=sim.clock(), not_after_ms=sim.clock() + DAY_MS,
    )  # fmt: skip
    return keyitem.sign(made, sim.agreement.link_id, sim.roots("us"))


async def added(sim):
    """An origin key that us adds and mx has taken: (kid, item)."""
    key = keys.SigningKey.generate()
    body = item(sim, key)
    await sim.settle()
    await sim.us.ledger.commit(lambda tx: keyring.issue(tx, sim.us.link, body, sim.clock()))
    await sim.settle()
    return keys.kid(1, ORIGIN, key.public), body


async def test_it_names_the_agreement_in_force_and_knows_who_could_sign_before_it(sim):
    def change(document):
        [us] = [p for p in document.parties if p.id == "us"]
        [cbp] = [a for a in us.agencies if a.id == "us.cbp"]
        [origin] = [k for k in cbp.keys if k.use == ORIGIN]
        origin.public_key = keys.SigningKey.generate().public

    made = sim.successor(change, after=HOUR_MS)
    sim.load(made)
    old = next(k.kid for k in sim.agreement.keys.values() if (k.owner, k.use) == ("us.cbp", ORIGIN))
    assert verified(await answered(sim)).agreement.digest == sim.agreement.digest
    await sim.pass_time(HOUR_MS)
    catalog = verified(await answered(sim))
    assert catalog.agreement.digest == made.digest
    assert catalog.signer(old, sim.clock() - 1).owner == "us.cbp"
    with pytest.raises(AgreementError):
        catalog.signer(old, sim.clock())


async def test_it_has_the_keys_that_the_other_partys_roots_added(sim):
    kid, _ = await added(sim)
    catalog = verified(await answered(sim))
    assert catalog.signer(kid, sim.clock()).owner == "us.cbp"


@pytest.mark.parametrize("forged", ["signature", "owner", "other agreement"])
async def test_a_gateway_cannot_add_a_key_or_an_agreement_by_itself(sim, forged):
    _, body = await added(sim)
    answer = await answered(sim)
    changed = pb.KeyItem.FromString(body)
    if forged == "signature":
        del changed.signatures[:]
    elif forged == "owner":
        changed.owner = "mx.inm"
    else:
        other = sim.successor(lambda document: setattr(document, "link_id", b"l" * 16), after=HOUR_MS)
        answer.other_agreements.append(other.data)
    answer.added_keys[0] = encode(changed)
    with pytest.raises(VerificationError):
        verified(answer)
