"""Two real gateways go from one agreement to the next while they run."""

import asyncio
import time

import pytest

from broker import agreement, keys
from broker.client import Client
from broker.v1 import agreement_pb2, codes_pb2
from broker.v1 import operations_service_pb2 as operations
from tests.end_to_end.test_two_gateways import BORDER, person_calls, reaches
from tests.fixtures import two_gateways
from tests.simulator import person

pytestmark = pytest.mark.timeout(60)
SOON_MS = 12_000


def load_next(link):
    """Both configurations name the next agreement, in force in a few seconds; when that is."""
    old = agreement.load((link.folder / "us" / "agreement.bin").read_bytes())
    document = agreement_pb2.AgreementDocument.FromString(agreement_pb2.Agreement.FromString(old.data).document)
    begins = time.time_ns() // 1_000_000 + SOON_MS
    document.version, document.previous, document.not_before_ms = 2, old.digest, begins
    roots = [keys.read_key_file(link.folder / "roots" / f"{party}.json").seed for party in ("us", "mx")]
    data = agreement.build(document, [keys.SigningKey.from_seed(seed) for seed in roots])
    for party, path in link.configs.items():
        (link.folder / party / "agreement-2.bin").write_bytes(data)
        table = f'[[agreements]]\nfile = "agreement-2.bin"\ndigest = "{agreement.load(data).digest.hex()}"\n\n[tls]'
        path.write_text(path.read_text(encoding="utf-8").replace("[tls]", table), encoding="utf-8")
    return begins


async def version(link, party):
    answer = operations.ListLinksResponse
    found = await person_calls(
        link, f"{party}.operator", "OperationsService/ListLinks", operations.ListLinksRequest(), answer
    )
    return found.links[0].agreement_version, found.links[0].next_agreement_version


async def test_both_go_over_to_the_next_agreement_by_the_clock_and_exchange_goes_on():
    with two_gateways() as link:
        begins = load_next(link)
        for party in ("us", "mx"):
            link.stop(party)
            link.start(party)
        assert [await version(link, party) for party in ("us", "mx")] == [(1, 2), (1, 2)]
        async with Client.open(link.callers["us.cbp"]) as us:
            [before] = await us.submit([person(1)], **BORDER)
            await reaches(us, before.message_id, codes_pb2.STATE_RECEIVED)
            await asyncio.sleep(max(0.0, begins / 1000 - time.time()) + 0.05)
            [after] = await us.submit([person(2)], **BORDER)
            await reaches(us, after.message_id, codes_pb2.STATE_RECEIVED)
        assert [await version(link, party) for party in ("us", "mx")] == [(2, 0), (2, 0)]
        async with Client.open(link.callers["mx.inm"]) as mx, mx.receive(drain=True) as receiver:
            seen = []
            async for item in receiver:
                await item.acknowledge()
                seen.append(item.message_id)
        assert seen == [before.message_id, after.message_id]
