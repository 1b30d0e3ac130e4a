"""What the client takes from its gateway, and what it answers: nothing that does not prove itself is handed out."""

import asyncio
import dataclasses

import pytest
import pytest_asyncio

from broker import agreement, receipts
from broker.client import BlockingClient
from broker.client.catalog import verified
from broker.client.errors import AnswerRefused, ClientError, Unavailable, VerificationError
from broker.client.verification import Verifier
from broker.sections import families, family
from broker.v1 import codes_pb2
from broker.v1 import exchange_service_pb2 as pb
from broker.v1.envelope_pb2 import Message
from tests.unit.client_story import BORDER, Code, Fails, delivery_of, fake_gateway, person


@pytest_asyncio.fixture
async def fake(tmp_path):
    """A fake gateway with three deliveries from us.cbp for mx.inm."""
    async with fake_gateway(tmp_path / "link") as gateway:
        async with gateway.client("us.cbp") as client:
            await client.submit([person(n) for n in range(3)], caveats=[codes_pb2.CAVEAT_RESERVADA], **BORDER)
        request = pb.SubmitRequest.FromString(gateway.calls[0])
        gateway.deliveries = [delivery_of(request, n) for n in range(3)]
        yield gateway


async def test_a_record_comes_with_whose_word_it_is_and_what_binds_it(fake):
    fake.deliveries = fake.deliveries[:1]
    fake.deliveries[0].withheld.add(slot=2, code=codes_pb2.NOTICE_CODE_SENSITIVE)
    fake.deliveries[0].caveats.append(codes_pb2.CAVEAT_SEGREGATE)
    async with fake.client("mx.inm") as client:
        [item] = [item async for item in _acknowledged(client.receive(drain=True))]
    assert not item.recall
    assert (item.family, item.kind, item.shown) == ("passenger", "api", ("kind", "identity", "documents"))
    assert item.record == person(0)
    assert item.message_id in fake.kept
    assert item.origin == ("us.cbp", "agency_signed", True)
    assert item.purpose == codes_pb2.PURPOSE_BORDER_SECURITY
    assert item.caveats == tuple(sorted((
        codes_pb2.CAVEAT_RESERVADA, codes_pb2.CAVEAT_PURPOSE_ONLY, codes_pb2.CAVEAT_SEGREGATE,
    )))  # fmt: skip
    assert item.withheld == (("identity", codes_pb2.NOTICE_CODE_SENSITIVE, "mx"),)


async def _acknowledged(receiver):
    async for item in receiver:
        await item.acknowledge()
        yield item


async def test_answers_are_signed_by_the_agency_and_follow_their_credit(fake):
    async with fake.client("mx.inm") as client, client.receive(drain=True) as receiver:
        async for batch in receiver.batches():
            await receiver.acknowledge(batch)
    assert fake.order == ["credit", "answers"]
    for answer in fake.answers:
        key = fake.agreement.key(answer.agency.kid)
        assert key.owner == "mx.inm"
        receipts.verify_agency(
            key.public, answer.agency.signature, answer.release, answer.state, answer.reason, answer.agency.time_ms
        )


async def test_signing_can_be_left_out(fake):
    async with fake.client("mx.inm") as client:
        async for item in client.receive(drain=True, sign=False):
            await item.reject(codes_pb2.REASON_RECORD_INVALID)
    assert [a.state for a in fake.answers] == [codes_pb2.STATE_REJECTED] * 3
    assert {a.reason for a in fake.answers} == {codes_pb2.REASON_RECORD_INVALID}
    assert not any(a.HasField("agency") for a in fake.answers)


async def test_an_answer_that_does_not_count_raises_and_says_why(fake):
    fake.outcome = "LEASE_LOST"
    async with fake.client("mx.inm") as client, client.receive() as receiver:
        async for item in receiver:
            with pytest.raises(AnswerRefused) as raised:
                await item.acknowledge()
            break
    assert raised.value.refused == ((item.release, "LEASE_LOST"),)


async def test_a_recall_is_answered_with_what_became_of_the_record(fake):
    fake.deliveries = [pb.Delivery(recall=True, release=b"r" * 32), pb.Delivery(recall=True, release=b"s" * 32)]
    async with fake.client("mx.inm") as client, client.receive(drain=True) as receiver:
        items = aiter(receiver)
        first = await anext(items)
        assert first.recall
        await first.destroyed()
        await (await anext(items)).kept()
    assert [(a.state, a.reason) for a in fake.answers] == [
        (codes_pb2.STATE_RECALLED, codes_pb2.REASON_DESTROYED),
        (codes_pb2.STATE_RECALLED, codes_pb2.REASON_KEPT),
    ]


async def test_what_does_not_prove_itself_is_rejected_and_the_rest_goes_on(fake, caplog):
    fake.deliveries[1].batch_signature = bytes(3373)
    async with fake.client("mx.inm") as client:
        items = [item async for item in _acknowledged(client.receive(drain=True))]
    assert [item.record for item in items] == [person(0), person(2)]
    said = {a.release: (a.state, a.reason) for a in fake.answers}
    assert said[fake.deliveries[1].release] == (codes_pb2.STATE_REJECTED, codes_pb2.REASON_PROOF)
    assert "PRUEBA" not in caplog.text
    assert "does not prove itself" in caplog.text


async def test_content_that_is_gone_is_answered_and_not_handed_out(fake):
    fake.deliveries[0].message = b""
    async with fake.client("mx.inm") as client:
        items = [item async for item in _acknowledged(client.receive(drain=True))]
    assert len(items) == 2
    assert len(fake.answers) == 3


async def test_an_answer_that_the_stream_took_with_it_raises_and_so_does_the_loop(fake):
    fake.ends = Fails(Code.UNAVAILABLE, "DRAINING")
    items, heard = [], []

    async def loop(receiver):
        async for item in receiver:
            items.append(item)
            heard.append(await _raised(item.acknowledge()))

    async with fake.client("mx.inm") as client:
        with pytest.raises(Unavailable) as lost:
            await loop(client.receive(credit=8))
    assert lost.value.reason == "DRAINING"
    assert [type(error) for error in heard] == [Unavailable] * 3
    assert len(items) == 3


async def _raised(answer):
    with pytest.raises(ClientError) as raised:
        await answer
    return raised.value


async def test_a_loop_that_is_left_gives_its_leases_back_unless_the_receiver_is_held(fake):
    async with fake.client("mx.inm") as client:
        first = await _first(client.receive())
        await asyncio.sleep(0.05)
        await _raised(first.acknowledge())
        async with client.receive() as receiver:
            await (await _first(receiver)).acknowledge()
            assert [rest.record async for rest in _acknowledged(receiver)] == [person(1), person(2)]


async def _first(receiver):
    async for item in receiver:
        first = item
        break
    return first


async def test_a_family_that_this_release_does_not_know_is_left_at_the_gateway(fake, monkeypatch):
    monkeypatch.setitem(families(), "passenger", dataclasses.replace(family("passenger"), revision=0))
    async with fake.client("mx.inm") as client:
        with pytest.raises(VerificationError) as raised:
            [item async for item in client.receive(drain=True)]
    assert raised.value.reason == "FAMILY_UNKNOWN"
    assert fake.answers == []


async def test_a_lease_is_extended_on_the_stream(fake):
    async with fake.client("mx.inm") as client:
        async for item in client.receive(drain=True):
            await item.extend(300)
            await item.acknowledge()
    assert fake.order[:3] == ["extend", "credit", "answers"]


async def test_the_blocking_client_receives_and_answers_too(fake):
    def blocking():
        with BlockingClient.open(fake.caller("mx.inm")) as client:
            for item in client.receive(drain=True):
                yield item.record
                item.acknowledge()

    assert await asyncio.to_thread(lambda: [*blocking()]) == [person(0), person(1), person(2)]
    assert len(fake.answers) == 3


def tampered(delivery, change):
    other = pb.Delivery()
    other.CopyFrom(delivery)
    message = Message.FromString(other.message)
    change(other, message)
    other.message = message.SerializeToString(deterministic=True)
    return other


def _section(_, message):
    message.slots[1].section = message.slots[1].section.replace(b"PRUEBA", b"OTRA__")


def _salt(_, message):
    message.slots[1].salt = bytes(32)


def _swap(_, message):
    message.slots[0].CopyFrom(message.slots[1])


def _name(delivery, _):
    delivery.release = bytes(32)


def _batch(delivery, _):
    delivery.batch_statement = delivery.batch_statement[:-1] + bytes([delivery.batch_statement[-1] ^ 1])


def _core(_, message):
    message.core += b"\x38\x01"


@pytest.mark.parametrize("change", [_section, _salt, _swap, _name, _batch, _core])
async def test_each_change_of_a_delivery_is_found(fake, change):
    verifier = await _verifier(fake)
    verifier.verify(fake.deliveries[0])
    with pytest.raises(VerificationError) as raised:
        verifier.verify(tampered(fake.deliveries[0], change))
    assert raised.value.reason == "PROOF"


async def test_slots_that_our_own_gateway_closed_still_prove(fake):
    verifier = await _verifier(fake)
    delivery = fake.deliveries[0]
    leaf = verifier.verify(delivery)[0].leaves[1]

    def close(_, message):
        message.slots[1].Clear()
        message.slots[1].leaf = leaf

    proven, _, _ = verifier.verify(tampered(delivery, close))
    assert not proven.record.HasField("identity")


async def test_a_message_for_another_agency_is_not_taken(fake):
    verifier = await _verifier(fake, "mx.anam")
    with pytest.raises(VerificationError):
        verifier.verify(fake.deliveries[0])


async def test_a_catalog_with_another_agreement_is_not_believed(fake):
    fake.caller("mx.inm")
    answer = pb.GetCatalogResponse.FromString(await fake.get_catalog(None, None))
    agreement.load(answer.agreement)
    answer.agreement_digest = bytes(32)
    with pytest.raises(VerificationError):
        verified(answer)
    answer.agreement = answer.agreement[:-1]
    with pytest.raises(VerificationError):
        verified(answer)


async def _verifier(fake, agency="mx.inm"):
    async with fake.client(agency) as client:
        return Verifier(await client.catalog())
