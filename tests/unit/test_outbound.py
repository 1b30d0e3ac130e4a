"""What a sending gateway accepts, refuses and lets out."""

import os
from dataclasses import replace

import pytest

from broker import keys
from broker.canonical import H, encode
from broker.errors import LinkError, OriginError, SignatureError
from broker.message import Log, Reason, SignedBatch, State
from broker.origin import OriginTree, batch_statement, facts_commit, origin_leaf, parse_statement
from broker.sealing import open_content, parse_envelope
from broker.v1 import codes_pb2, envelope_pb2, facts_pb2, log_pb2, passenger_pb2
from tests.simulator import person

INVESTIGATION = codes_pb2.PURPOSE_CRIMINAL_INVESTIGATION
PENDING = facts_pb2.Facts(protection_claim=facts_pb2.CLAIM_STATUS_PENDING)
DAY_MS = 86_400_000


async def hand_in(sim, batch, items, agency="us.cbp", **how):
    return await sim.us.outbound.submit(agency, batch, items, **how)


def only(results):
    assert len(results) == 1
    return results[0]


def traces(sim, party="us"):
    """Everything that a submission can leave behind in its party's files."""
    counts = [
        sim.rows(party, f"SELECT count(*) FROM {table}")[0][0]
        for table in ("log", "decisions", "outbound", "batches", "accounting", "envelopes")
    ]
    return [*counts, len(sim.key_rows(party))]


def cores(sim, party="us"):
    query = "SELECT core FROM outbound JOIN outbound_bodies USING (row) WHERE seq IS NULL AND state = 2 ORDER BY row"
    return [envelope_pb2.Core.FromString(core) for (core,) in sim.rows(party, query)]


def resigned(sim, items, signer="us.cbp", file="origin.json"):
    """The same submissions under a new signature, after something in them was changed."""
    key = sim.key(signer, file)
    statement = parse_statement(items[0].statement)
    root, places = OriginTree.build([origin_leaf(item.statement) for item in items])
    data = batch_statement(statement.origin_kid, statement.created_ms, root)
    batch = SignedBatch(data, key.sign(data, keys.CTX_ORIGIN))
    return batch, [replace(i, place=p, siblings=s) for i, (p, s) in zip(items, places, strict=True)]


# What is accepted


async def test_an_accepted_record_is_on_record_with_its_decision_its_release_and_its_keys(sim):
    result = only(await sim.submit([person()]))
    assert result.outcome == "accepted"
    assert sim.sent(result.message_id).state is State.ACCEPTED
    decision = sim.us.ledger.read(lambda tx: tx.decisions.get(result.decision_id))
    assert decision.record.permit
    entry = log_pb2.ReleaseEntry.FromString(sim.entries("us", Log.EXCHANGE)[0])
    assert (entry.message_id, entry.decision) == (result.message_id, result.decision_id)


async def test_a_call_may_hold_256_records_and_not_257(sim):
    batch, items = sim.batch([person(n) for n in range(256)])
    results = await hand_in(sim, batch, items)
    assert {r.outcome for r in results} == {"accepted"}
    assert len({r.message_id for r in results}) == 256
    with pytest.raises(OriginError):
        await hand_in(sim, batch, [*items, items[0]])
    with pytest.raises(OriginError):
        await hand_in(sim, batch, [])


async def test_one_bad_record_does_not_hold_up_its_neighbours(sim):
    bad = person(2)
    bad.identity.nationality = "mexico"
    good, wrong, refused = await sim.submit([person(1), bad, person(3)])
    assert [good.outcome, wrong.outcome, refused.outcome] == ["accepted", "invalid", "accepted"]
    assert wrong.reason == "FIELD_INVALID"
    assert wrong.violations
    assert all("mexico" not in text for pair in wrong.violations for text in pair)


async def test_a_gateway_attests_for_an_agency_that_has_no_key_and_policy_sees_it(sim):
    _, items = sim.batch([person()])
    attest = sim.us.link.own_key(codes_pb2.KEY_USE_ATTEST, sim.clock())
    changed = []
    for item in items:
        statement = parse_statement(item.statement)
        statement.origin_kid = attest.kid
        changed.append(replace(item, statement=encode(statement)))
    root, places = OriginTree.build([origin_leaf(i.statement) for i in changed])
    unsigned = SignedBatch(batch_statement(attest.kid, sim.clock(), root), b"")
    result = only(await hand_in(sim, unsigned, [replace(changed[0], place=places[0][0], siblings=places[0][1])]))
    assert result.outcome == "accepted"
    await sim.settle()
    release = sim.sent(result.message_id).release
    assert sim.came(release).state is State.RECEIVED
    again = only(await hand_in(sim, unsigned, [replace(changed[0], place=places[0][0], siblings=places[0][1])]))
    assert (again.outcome, again.reason) == ("accepted", "DUPLICATE")


async def test_a_caller_cannot_bring_a_signature_of_the_attest_key(sim):
    batch, items = sim.batch([person()])
    forged = SignedBatch(
        batch_statement(sim.us.link.own_key(codes_pb2.KEY_USE_ATTEST, sim.clock()).kid, sim.clock(), bytes(32)),
        batch.signature,
    )
    with pytest.raises(SignatureError):
        await hand_in(sim, forged, items)


# Signatures


async def test_a_signature_that_does_not_verify_fails_the_call_and_leaves_nothing(sim):
    batch, items = sim.batch([person()])
    for at in (0, 3308, 3309, 3372):  # both halves, both ends
        forged = bytearray(batch.signature)
        forged[at] ^= 1
        with pytest.raises(SignatureError):
            await hand_in(sim, SignedBatch(batch.statement, bytes(forged)), items)
    assert not any(traces(sim))


async def test_an_unsigned_call_of_an_agency_with_a_key_fails(sim):
    batch, items = sim.batch([person()])
    with pytest.raises(SignatureError):
        await hand_in(sim, SignedBatch(batch.statement, b""), items)


async def test_one_agency_cannot_use_anothers_key(sim):
    batch, items = sim.batch([person()])
    with pytest.raises(SignatureError):
        await hand_in(sim, batch, items, agency="us.ice")


async def test_a_statement_in_anothers_name_is_invalid_whatever_key_signed_it(sim):
    batch, items = sim.batch([person()], origin_agency="us.ice")
    assert only(await hand_in(sim, batch, items)).reason == "ORIGIN_INVALID"


async def test_a_key_that_the_agreement_does_not_know_signs_nothing(sim):
    _, items = sim.batch([person()])
    stranger = keys.SigningKey.generate()
    kid = keys.kid(keys.SUITE, codes_pb2.KEY_USE_ORIGIN, stranger.public)
    data = batch_statement(kid, sim.clock(), bytes(32))
    with pytest.raises(SignatureError):
        await hand_in(sim, SignedBatch(data, stranger.sign(data, keys.CTX_ORIGIN)), items)


async def test_a_receipt_key_is_no_origin_key(sim):
    key = sim.key("us.cbp", "receipt.json")
    kid = keys.kid(keys.SUITE, codes_pb2.KEY_USE_RECEIPT, key.public)
    data = batch_statement(kid, sim.clock(), bytes(32))
    _, items = sim.batch([person()])
    with pytest.raises(SignatureError):
        await hand_in(sim, SignedBatch(data, key.sign(data, keys.CTX_ORIGIN)), items)


@pytest.mark.parametrize("away", [-25 * 3_600_000, 6 * 60_000])
async def test_a_batch_signed_long_ago_or_in_the_future_is_refused(sim, away):
    batch, items = sim.batch([person()])
    sim.clock.now -= away
    with pytest.raises(OriginError):
        await hand_in(sim, batch, items)


async def test_nothing_is_accepted_while_no_agreement_is_in_force(sim):
    batch, items = sim.batch([person()])
    sim.clock.now += 400 * DAY_MS
    with pytest.raises(LinkError):
        await hand_in(sim, batch, items)


# What a statement may say


async def test_a_statement_about_another_record_is_invalid(sim):
    batch, items = sim.batch([person(1)])
    _, others = sim.batch([person(2)])
    swapped = replace(items[0], record=others[0].record)
    assert only(await hand_in(sim, batch, [swapped])).reason == "ORIGIN_INVALID"


async def test_a_statement_about_other_facts_is_invalid(sim):
    batch, items = sim.batch([person(1)], facts=PENDING)
    dropped = replace(items[0], facts=b"")
    assert only(await hand_in(sim, batch, [dropped])).reason == "ORIGIN_INVALID"
    other_salt = replace(items[0], facts_salt=bytes(32))
    assert only(await hand_in(sim, batch, [other_salt])).reason == "ORIGIN_INVALID"


@pytest.mark.parametrize("seed", [b"", b"short", bytes(31), bytes(33), bytes(32)])
async def test_another_seed_is_invalid(sim, seed):
    batch, items = sim.batch([person(1)])
    assert only(await hand_in(sim, batch, [replace(items[0], record_seed=seed)])).outcome == "invalid"


async def test_a_statement_that_the_signature_does_not_cover_is_invalid(sim):
    batch, items = sim.batch([person(1), person(2)])
    moved = replace(items[0], place=items[1].place, siblings=items[1].siblings)
    first, second = await hand_in(sim, batch, [moved, items[1]])
    assert (first.reason, second.outcome) == ("ORIGIN_INVALID", "accepted")


@pytest.mark.parametrize(
    "fields",
    [
        {"link_id": bytes(16)},
        {"recipient_agency": "us.ice"},
        {"recipient_agency": "mx.nobody"},
        {"family": "tunnel"},
        {"family_revision": 9},
        {"version": 2},
        {"purpose": 0},
        {"message_id": b"short"},
        {"conversation": b""},
        {"created_ms": 1},
        {"caveats": [1, 1]},
    ],
    ids=str,
)
async def test_a_statement_that_claims_what_it_may_not_is_invalid_and_leaves_nothing(sim, fields):
    batch, items = sim.batch([person()], **fields)
    result = only(await hand_in(sim, batch, items))
    assert (result.outcome, result.reason) == ("invalid", "ORIGIN_INVALID")
    assert not any(traces(sim))


async def test_what_was_accepted_is_told_as_accepted_although_its_life_is_over(sim):
    """The caller did not hear, and asks again with the same bytes, too late."""
    batch, items = sim.batch([person(1), person(2)], expires_ms=sim.clock() + 1000)
    [first] = await sim.us.outbound.submit("us.cbp", batch, items[:1])
    sim.clock.now += 1000
    again, never = await sim.us.outbound.submit("us.cbp", batch, items)
    assert (again.outcome, again.reason, again.decision_id) == ("accepted", "DUPLICATE", first.decision_id)
    assert (never.outcome, never.reason) == ("invalid", "ORIGIN_INVALID")
    assert sum(sim.states("us")[0].values()) == 1


async def test_an_expired_statement_under_the_id_of_another_is_a_conflict(sim):
    [first] = await sim.submit([person(1)])
    batch, items = sim.batch([person(2)], message_id=first.message_id, expires_ms=sim.clock() + 1000)
    sim.clock.now += 1000
    [result] = await sim.us.outbound.submit("us.cbp", batch, items)
    assert (result.outcome, result.reason) == ("invalid", "IDEMPOTENCY_CONFLICT")


async def test_a_statement_that_has_expired_is_invalid(sim):
    batch, items = sim.batch([person()], expires_ms=sim.clock() + 1000)
    sim.clock.now += 1000
    assert only(await hand_in(sim, batch, items)).reason == "ORIGIN_INVALID"


async def test_a_life_of_more_than_30_days_is_invalid(sim):
    batch, items = sim.batch([person()], expires_ms=sim.clock() + 30 * DAY_MS + 1)
    assert only(await hand_in(sim, batch, items)).reason == "ORIGIN_INVALID"


@pytest.mark.parametrize("field", ["statement", "record", "facts"])
async def test_bytes_that_are_not_canonical_are_invalid_and_never_a_bug(sim, field):
    batch, items = sim.batch([person()], facts=PENDING)
    for data in (b"\xff", b"\x00", os.urandom(64), getattr(items[0], field) + b"\xf8\x01\x01"):
        assert only(await hand_in(sim, batch, [replace(items[0], **{field: data})])).outcome == "invalid"


@pytest.mark.parametrize(("field", "size"), [("record", 256 * 1024 + 1), ("facts", 8 * 1024 + 1), ("statement", 2049)])
async def test_what_is_larger_than_its_cap_says_so(sim, field, size):
    batch, items = sim.batch([person()])
    assert only(await hand_in(sim, batch, [replace(items[0], **{field: bytes(size)})])).reason == "MESSAGE_TOO_LARGE"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"crossing": passenger_pb2.Crossing(port="2304", direction=1, time_ms=1)}, "crossing"),
        ({"answer": passenger_pb2.Answer(result=1)}, "answer"),
        ({"payment": passenger_pb2.Payment(method="CC")}, "payment"),
        ({"travel": None}, "travel"),
        ({"identity": None}, "identity"),
    ],
    ids=["crossing", "answer", "payment", "no travel", "no identity"],
)
async def test_a_section_stands_only_in_records_of_its_kinds_and_a_required_one_in_all(sim, changes, field):
    result = only(await sim.submit([person(1, **changes)]))
    assert (result.outcome, result.reason) == ("invalid", "FIELD_INVALID")
    assert result.violations


# The same id again


async def test_the_same_call_again_gives_the_first_results_and_adds_nothing(sim):
    batch, items = sim.batch([person(1), person(2)])
    first = await hand_in(sim, batch, items)
    before = traces(sim)
    again = await hand_in(sim, batch, items)
    assert [(r.outcome, r.decision_id) for r in again] == [(r.outcome, r.decision_id) for r in first]
    assert {r.reason for r in again} == {"DUPLICATE"}
    assert traces(sim) == before


async def test_the_same_id_twice_in_one_call_is_one_message(sim):
    batch, items = sim.batch([person()])
    first, second = await hand_in(sim, batch, [items[0], items[0]])
    assert (first.reason, second.reason) == ("", "DUPLICATE")
    assert sim.states("us")[0] == {State.ACCEPTED: 1}


async def test_another_submission_under_the_same_id_conflicts_and_the_first_stands(sim):
    batch, items = sim.batch([person(1)])
    name = parse_statement(items[0].statement).message_id
    assert only(await hand_in(sim, batch, items)).outcome == "accepted"
    statement = parse_statement(items[0].statement)
    statement.caveats.append(codes_pb2.CAVEAT_RESERVADA)
    batch, changed = resigned(sim, [replace(items[0], statement=encode(statement))])
    result = only(await hand_in(sim, batch, changed))
    assert (result.outcome, result.reason) == ("invalid", "IDEMPOTENCY_CONFLICT")
    assert sim.states("us")[0] == {State.ACCEPTED: 1}
    assert sim.sent(name) is not None


async def test_a_refused_submission_again_is_refused_again(sim):
    batch, items = sim.batch([person()], facts=PENDING)
    first = only(await hand_in(sim, batch, items))
    again = only(await hand_in(sim, batch, items))
    assert (first.outcome, again.outcome, again.reason) == ("refused", "refused", "DUPLICATE")
    assert again.decision_id == first.decision_id


async def test_the_first_result_stays_accepted_whatever_the_other_party_says_later(sim):
    batch, items = sim.batch([person()])
    await hand_in(sim, batch, items)
    decide = sim.mx.engine.decide

    class Refusing:
        def decide(self, *asked):
            return replace(decide(*asked), permit=False, withheld=(), obligations=())

    sim.mx.inbound._judge.engine = Refusing()
    await sim.settle()
    name = parse_statement(items[0].statement).message_id
    assert (sim.sent(name).state, sim.sent(name).reason) == (State.REFUSED, Reason.POLICY)
    again = only(await hand_in(sim, batch, items))
    assert (again.outcome, again.reason) == ("accepted", "DUPLICATE")


# References


@pytest.mark.parametrize(
    "fields", [{"supersedes": b"x" * 16}, {"in_reply_to": b"x" * 16}, {"derived_from": [b"x" * 32]}], ids=str
)
async def test_a_reference_that_names_nothing_is_invalid_and_leaves_nothing(sim, fields):
    result = only(await sim.submit([person()], **fields))
    assert (result.outcome, result.reason) == ("invalid", "ORIGIN_INVALID")
    assert not any(traces(sim))


async def test_a_reference_to_a_message_with_another_agency_names_nothing(sim):
    first = only(await sim.submit([person()]))
    result = only(await sim.submit([person()], recipient="mx.anam", in_reply_to=first.message_id))
    assert result.outcome in {"invalid", "refused"}
    assert sim.sent(result.message_id) is None or sim.sent(result.message_id).state is State.REFUSED


async def test_an_answer_names_the_message_that_came(sim):
    first = only(await sim.submit([person()]))
    await sim.settle()
    answer = passenger_pb2.Passenger(kind=4, answer=passenger_pb2.Answer(result=1))
    reply = only(await sim.submit([answer], agency="mx.inm", recipient="us.cbp", in_reply_to=first.message_id))
    assert reply.outcome == "accepted"


async def test_what_was_made_from_anothers_record_goes_on_only_with_consent(sim):
    first = only(await sim.submit([person()]))
    await sim.settle()
    release = sim.sent(first.message_id).release
    onward = only(await sim.submit([person()], agency="mx.inm", recipient="us.cbp", derived_from=[release]))
    assert onward.outcome == "refused"
    decision = sim.mx.ledger.read(lambda tx: tx.decisions.get(onward.decision_id))
    assert "R13" in decision.record.rules.split()


# Asking without doing


async def test_validate_only_tells_the_outcome_and_leaves_no_trace(sim):
    bad = person(3)
    bad.identity.nationality = "mexico"
    batch, items = sim.batch([person(1)])
    refused_batch, refused = sim.batch([person(2)], facts=PENDING)
    wrong_batch, wrong = sim.batch([bad])
    outcomes = [
        only(await hand_in(sim, *given, validate_only=True)).outcome
        for given in ((batch, items), (refused_batch, refused), (wrong_batch, wrong))
    ]
    assert outcomes == ["accepted", "refused", "invalid"]
    assert not any(traces(sim))
    assert not sim.us.outbound.fresh
    assert only(await hand_in(sim, batch, items)).reason == ""


async def test_a_decision_id_is_told_only_of_a_decision_that_stands(sim):
    batch, items = sim.batch([person(2)], facts=PENDING)
    assert only(await hand_in(sim, batch, items, validate_only=True)).decision_id == b""


# What leaves


async def test_a_refused_record_leaves_nothing_that_the_other_party_could_see(sim):
    result = only(await sim.submit([person()], facts=PENDING))
    assert (result.outcome, result.reason) == ("refused", "POLICY_DENIED")
    await sim.settle()
    assert sim.entries("us", Log.EXCHANGE) == [] or all(
        log_pb2.ReleaseEntry.FromString(e).kind != log_pb2.ENTRY_KIND_RELEASE for e in sim.entries("us", Log.EXCHANGE)
    )
    assert sim.states("mx")[1] == {}
    assert all(not sim.transport.all(s) for s in sim.mx.link.streams_in() if not s.topic.endswith("control"))
    assert len(sim.entries("us", Log.DECISIONS)) == 1
    assert sim.rows("us", "SELECT release FROM outbound") == [(None,)]
    assert sim.sent(result.message_id).state is State.REFUSED


async def test_an_investigation_gets_no_residence_and_a_notice_that_says_so(sim):
    accepted = only(await sim.submit([person()], purpose=INVESTIGATION))
    assert accepted.outcome == "accepted"
    core = cores(sim)[0]
    assert core.shown == 0b1111  # kind, identity, travel, documents; not residence, slot 5
    assert (5, codes_pb2.NOTICE_CODE_NOT_FOR_THIS_PURPOSE) in [(n.slot, n.code) for n in core.notices]
    decision = sim.us.ledger.read(lambda tx: tx.decisions.get(accepted.decision_id))
    assert decision.record.withheld.split() == ["residence"]


async def test_border_security_gets_residence(sim):
    await sim.submit([person()])
    assert cores(sim)[0].shown == 0b11111


async def test_a_withheld_section_is_in_no_byte_that_leaves(sim):
    canary = passenger_pb2.Residence(destination=passenger_pb2.PostalAddress(city="CANARIO"))
    await sim.submit([person(1, residence=canary)], purpose=INVESTIGATION)
    await sim.settle()
    assert len(await sim.offers("mx.inm")) == 1
    hpke = sim.mx.link.hpke
    for stream in sim.mx.link.streams_in():
        for data in sim.transport.all(stream):
            parsed = parse_envelope(data)
            content = open_content(parsed, hpke[parsed.header.recipient_kid])
            assert b"CANARIO" not in content.SerializeToString()


async def test_withheld_and_absent_look_the_same(sim):
    await sim.submit([person(1), person(1, residence=None)], purpose=INVESTIGATION)
    with_it, without = cores(sim)
    assert with_it.shown == without.shown
    assert list(with_it.notices) == list(without.notices)
    assert with_it.gateway_caveats == without.gateway_caveats


async def test_the_rules_duties_travel_with_the_record(sim):
    await sim.submit([person()])
    core = cores(sim)[0]
    months_ms = core.destroy_by_ms - sim.clock()
    assert 364 * DAY_MS <= months_ms <= 366 * DAY_MS  # R39: P12M
    assert {codes_pb2.CAVEAT_NO_ONWARD_TRANSFER, codes_pb2.CAVEAT_CUI_REL_MEX, codes_pb2.CAVEAT_SEGREGATE} <= set(
        core.gateway_caveats
    )


async def test_a_caveat_that_the_agency_stated_is_not_added_again(sim):
    await sim.submit([person()], caveats=[codes_pb2.CAVEAT_NO_ONWARD_TRANSFER])
    core = cores(sim)[0]
    assert codes_pb2.CAVEAT_NO_ONWARD_TRANSFER not in core.gateway_caveats
    assert codes_pb2.CAVEAT_NO_ONWARD_TRANSFER in parse_statement(core.statement).caveats


async def test_the_core_holds_the_exact_statement_and_names_its_batch(sim):
    batch, items = sim.batch([person()])
    await hand_in(sim, batch, items)
    core = cores(sim)[0]
    assert core.statement == items[0].statement
    assert core.batch == H(batch.statement)
    assert (core.place, tuple(core.siblings)) == (items[0].place, items[0].siblings)


async def test_no_fact_is_in_anything_that_leaves(sim):
    facts = facts_pb2.Facts(source_system="canary.system", special_relief=facts_pb2.CLAIM_STATUS_NONE)
    await sim.submit([person()], facts=facts)
    await sim.settle()
    hpke = sim.mx.link.hpke
    for stream in sim.mx.link.streams_in():
        for data in sim.transport.all(stream):
            parsed = parse_envelope(data)
            assert b"canary" not in open_content(parsed, hpke[parsed.header.recipient_kid]).SerializeToString()
    for table in ("log", "decisions", "outbound"):
        for row in sim.rows("us", f"SELECT * FROM {table}"):
            assert all(b"canary" not in v for v in row if isinstance(v, bytes))
            assert all("canary" not in v for v in row if isinstance(v, str))


async def test_an_engine_that_fails_is_a_refusal(sim):
    class Failing:
        def decide(self, *asked):
            return replace(sim.us.engine.decide(*asked), permit=False, failed=True)

    sim.us.outbound.engine = Failing()
    assert only(await sim.submit([person()])).outcome == "refused"


async def test_every_disclosure_is_accounted_for_without_naming_its_subject(sim):
    await sim.submit([person(1)])
    await sim.submit([person(1)])
    await sim.submit([person(2)])
    await sim.submit([person(3)], facts=PENDING)
    rows = sim.rows("us", "SELECT subject, recipient, purpose, keep_until_ms FROM accounting ORDER BY row")
    assert len(rows) == 3  # a refusal discloses nothing
    assert rows[0][0] == rows[1][0] != rows[2][0]
    assert all(b"PRUEBA" not in row[0] and len(row[0]) == 32 for row in rows)
    assert {row[1] for row in rows} == {"mx.inm"}
    assert all(row[3] >= sim.clock() + 5 * 365 * DAY_MS for row in rows)


async def test_facts_are_bound_to_the_statement_even_when_there_are_none():
    assert facts_commit(bytes(32), b"") != facts_commit(b"\1" * 32, b"")
