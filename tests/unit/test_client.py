"""The client against a gateway whose answers get lost, come late, or refuse."""

import asyncio
import os
import stat
import subprocess
import sys
from datetime import timedelta

import pytest
import pytest_asyncio

from broker import keys
from broker.client import BlockingClient, Client
from broker.client import submission as building
from broker.client.errors import Busy, ClientError, Denied, Invalid, OutcomeUnknown, Suspended, Unavailable
from broker.origin import origin_leaf, origin_root, parse_batch_statement, parse_statement
from broker.v1 import codes_pb2
from broker.v1 import exchange_service_pb2 as pb
from tests.unit.client_story import AWAY, BORDER, LOST, QUICK, Code, Fails, fake_gateway, person


@pytest_asyncio.fixture
async def fake(tmp_path):
    async with fake_gateway(tmp_path / "link") as gateway:
        yield gateway


def journal(fake, agency="us.cbp"):
    return sorted((fake.made.callers[agency] / "journal").iterdir())


async def test_a_lost_answer_is_asked_for_again_with_the_same_bytes(fake):
    fake.script = [LOST]
    async with fake.client() as client:
        [result] = await client.submit([person()], **BORDER)
    assert result.accepted
    assert result.reason == "DUPLICATE"
    assert len(fake.calls) == 2
    assert fake.calls[0] == fake.calls[1]
    assert len(fake.kept) == 1
    assert not journal(fake)


async def test_a_gateway_that_is_away_for_a_moment_is_waited_for(fake):
    fake.script = [AWAY, AWAY]
    async with fake.client() as client:
        [result] = await client.submit([person()], **BORDER)
    assert result.accepted
    assert result.reason == ""
    assert len({*fake.calls}) == 1


async def test_an_outcome_that_stays_unknown_is_kept_and_resumed_by_the_next_client_with_the_same_id(fake):
    fake.script = [LOST] + [AWAY] * 100
    async with fake.client() as client:
        with pytest.raises(OutcomeUnknown):
            await client.submit([person(1), person(2)], **BORDER)
    [kept] = journal(fake)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    fake.script = []
    async with fake.client() as client:
        results = await client.resume()
        assert await client.resume() == []
    assert {result.message_id for result in results} == {*fake.kept}
    assert all(result.accepted for result in results)
    assert len({*fake.calls}) == 1
    assert not journal(fake)


async def test_what_the_client_was_killed_over_is_on_disk_before_it_is_sent(fake):
    async with fake.client() as client:
        await client.catalog()

        async def killed(*_):
            raise KeyboardInterrupt

        client._calls.call = killed
        with pytest.raises(KeyboardInterrupt):
            await client.submit([person()], **BORDER)
    [kept] = journal(fake)
    assert pb.SubmitRequest.FromString(kept.read_bytes()).submissions[0].record_seed
    assert fake.calls == []
    async with fake.client() as client:
        [result] = await client.resume()
    assert result.message_id in fake.kept


async def test_half_a_file_was_never_sent_and_goes_away(fake):
    folder = fake.made.callers["us.cbp"] / "journal"
    folder.mkdir()
    (folder / "0-0.part").write_bytes(b"half")
    os.utime(folder / "0-0.part", (0, 0))
    (folder / "1-1.part").write_bytes(b"another process is writing")
    async with fake.client() as client:
        assert await client.resume() == []
    assert [path.name for path in journal(fake)] == ["1-1.part"]


async def test_a_call_that_is_too_old_to_ask_again_is_looked_up_by_id(fake):
    fake.script = [LOST] + [AWAY] * 100
    async with fake.client() as client:
        with pytest.raises(OutcomeUnknown):
            await client.submit([person(1)], **BORDER)
    fake.script = [AWAY] * 100
    async with fake.client() as client:
        with pytest.raises(OutcomeUnknown):
            await client.submit([person(2)], **BORDER)
    fake.script = [Fails(Code.INVALID_ARGUMENT, "ORIGIN_INVALID")] * 2
    async with fake.client() as client:
        first, second = await client.resume()
    assert first.accepted
    assert (second.result, second.reason) == ("invalid", "ORIGIN_INVALID")
    assert not journal(fake)


async def test_a_refusal_after_a_lost_answer_says_nothing_of_the_first_try(fake):
    fake.script = [LOST, Fails(Code.FAILED_PRECONDITION, "LINK_SUSPENDED")]
    async with fake.client() as client:
        with pytest.raises(OutcomeUnknown) as raised:
            await client.submit([person()], **BORDER)
    assert raised.value.reason == "LINK_SUSPENDED"
    assert len(journal(fake)) == 1


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (Code.FAILED_PRECONDITION, "LINK_SUSPENDED", Suspended),
        (Code.INVALID_ARGUMENT, "ORIGIN_INVALID", Invalid),
        (Code.PERMISSION_DENIED, "ROLE_REQUIRED", Denied),
        (Code.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE", Invalid),
    ],
)
async def test_a_definite_refusal_is_typed_and_leaves_nothing_to_resume(fake, code, reason, kind):
    fake.script = [Fails(code, reason)]
    async with fake.client() as client:
        with pytest.raises(kind) as raised:
            await client.submit([person()], **BORDER)
    assert raised.value.reason == reason
    assert raised.value.request_id == "request"
    assert "PRUEBA" not in str(raised.value)
    assert not journal(fake)


async def test_a_busy_gateway_is_asked_again_after_the_time_that_it_names(fake):
    fake.script = [Fails(Code.RESOURCE_EXHAUSTED, "RATE_LIMITED")] * 100
    async with fake.client() as client:
        with pytest.raises(Busy) as raised:
            await client.submit([person()], **BORDER)
    assert raised.value.retry_after == 1.0
    assert not journal(fake)


async def test_an_internal_error_leaves_the_outcome_open_and_is_not_repeated(fake):
    fake.script = [Fails(Code.INTERNAL, "INTERNAL")]
    async with fake.client() as client:
        with pytest.raises(OutcomeUnknown):
            await client.submit([person()], **BORDER)
    assert len(fake.calls) == 1
    assert len(journal(fake)) == 1


async def test_nobody_there_is_unavailable_before_anything_is_kept(fake, tmp_path):
    (fake.made.callers["us.cbp"] / "endpoint").write_text("127.0.0.1:1\n")
    async with fake.client() as client:
        with pytest.raises(Unavailable):
            await client.submit([person()], **BORDER)
    assert not journal(fake)


async def test_answers_of_earlier_calls_survive_the_failure_of_a_later_one(fake):
    fake.script = [None, Fails(Code.FAILED_PRECONDITION, "LINK_SUSPENDED")]
    async with fake.client() as client:
        with pytest.raises(Suspended) as raised:
            await client.submit([person(n) for n in range(400)], **BORDER)
    assert 128 <= len(raised.value.submitted) <= 256
    assert {result.message_id for result in raised.value.submitted} == {*fake.kept}


async def test_nothing_is_kept_for_a_validation(fake):
    fake.script = [Fails(Code.INTERNAL, "INTERNAL")]
    async with fake.client() as client:
        with pytest.raises(ClientError) as raised:
            await client.submit([person()], validate_only=True, **BORDER)
    assert not isinstance(raised.value, OutcomeUnknown)
    assert pb.SubmitRequest.FromString(fake.calls[0]).validate_only
    assert not journal(fake)


async def test_statements_say_what_was_asked_and_lead_to_the_signed_root(fake):
    async with fake.client() as client:
        await client.submit(
            [person(1), person(2)], conversation=b"c" * 16, in_reply_to=b"r" * 16, derived_from=[b"d" * 32],
            caveats=[codes_pb2.CAVEAT_RESERVADA], expires_in=timedelta(hours=1), **BORDER,
        )  # fmt: skip
    request = pb.SubmitRequest.FromString(fake.calls[0])
    signed = parse_batch_statement(request.batch_statement)
    key = fake.agreement.key(signed.signer_kid)
    assert key.owner == "us.cbp"
    keys.verify(key.public, request.batch_signature, request.batch_statement, keys.CTX_ORIGIN)
    for item in request.submissions:
        assert origin_root(origin_leaf(item.statement), item.place, item.siblings) == signed.root
        said = parse_statement(item.statement)
        assert (said.origin_agency, said.recipient_agency) == ("us.cbp", "mx.inm")
        assert (said.conversation, said.in_reply_to, said.derived_from) == (b"c" * 16, b"r" * 16, [b"d" * 32])
        assert said.caveats == [codes_pb2.CAVEAT_RESERVADA]
        assert said.expires_ms - said.created_ms == 3_600_000


async def test_without_an_origin_key_the_gateway_is_asked_to_attest(fake):
    (fake.caller("us.cbp") / "origin.json").unlink()
    async with fake.client() as client:
        await client.submit([person()], **BORDER)
        attest = (await client.catalog()).attest_kid
    request = pb.SubmitRequest.FromString(fake.calls[0])
    assert request.batch_signature == b""
    assert parse_batch_statement(request.batch_statement).signer_kid == attest


async def test_wrong_facts_and_foreign_records_are_refused_here(fake):
    async with fake.client() as client:
        with pytest.raises(Invalid):
            await client.submit([person()], facts=[None, None], **BORDER)
        with pytest.raises(Invalid):
            await client.submit([pb.CatalogLimits()], **BORDER)
    assert fake.calls == []


def test_calls_among_several_are_closed_at_a_drawn_size_and_below_the_gateways_limit():
    for count in (1, 255, 256, 257, 2000):
        parts = list(building.groups([1000] * count))
        sizes = [part.stop - part.start for part in parts]
        assert sum(sizes) == count
        assert max(sizes) <= 256
        assert all(size >= 128 for size in sizes[:-1])
    assert len({tuple(part.stop for part in building.groups([1] * 1000)) for _ in range(5)}) > 1
    large = [part.stop - part.start for part in building.groups([256 * 1024] * 200)]
    assert sum(large) == 200
    assert max(large) * 256 * 1024 <= 12 * 1024 * 1024


async def test_the_blocking_client_does_the_same_without_a_loop(fake):
    def blocking():
        with BlockingClient.open(fake.caller("us.cbp"), patience=QUICK) as client:
            assert client.catalog().agency == "us.cbp"
            return client.submit([person()], **BORDER)

    [result] = await asyncio.to_thread(blocking)
    assert result.message_id in fake.kept


def test_a_closed_client_says_how_it_is_opened(tmp_path):
    client = Client("127.0.0.1:1", None)
    with pytest.raises(ClientError, match="async with"):
        asyncio.run(client.catalog())


def test_the_client_needs_none_of_the_gateways_dependencies():
    blocked = ("protovalidate", "apsw", "cedarpy", "structlog", "typer", "rich", "celpy", "policy", "grpc_status")
    code = (
        f"import sys\nfor name in {blocked}: sys.modules[name] = None\n"
        "import broker.client\n"
        "loaded = {name.split('.')[1] for name in sys.modules if name.startswith('broker.')}\n"
        "print(*sorted(loaded & {'ledger', 'transport', 'gateway', 'inbound', 'outbound', 'relay', 'decision'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", "")
