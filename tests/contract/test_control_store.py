"""The ledger's control rows: items in order until they are taken, recalls while they matter, alarms, numbers."""

import pytest

from broker.ledger.control import KeptRecall
from broker.ledger.keystore import KeyStore
from broker.ledger.sqlite import SqliteLedger
from broker.message import Reason

NOW = 1_800_000_000_000
RELEASE, ANOTHER = b"r" * 32, b"s" * 32


@pytest.fixture
def ledger(tmp_path):
    made = SqliteLedger(tmp_path / "ledger.db", KeyStore(tmp_path / "keys.db"))
    yield made
    made.close()


def unsealed(ledger, limit=9):
    return [item.body for item in ledger.read(lambda tx: tx.control.unsealed(limit))]


async def enqueue(ledger, *bodies):
    await ledger.commit(lambda tx: tx.control.enqueue([(1, b"salt", body) for body in bodies]))


async def seal(ledger, count, seq):
    rows = [item.row for item in ledger.read(lambda tx: tx.control.unsealed(count))]
    await ledger.commit(lambda tx: tx.control.set_sealed(rows[-1], seq))


async def test_items_wait_in_the_order_in_which_they_came(ledger):
    await enqueue(ledger, b"1", b"2")
    await enqueue(ledger, b"3")
    assert unsealed(ledger) == [b"1", b"2", b"3"]
    assert unsealed(ledger, 2) == [b"1", b"2"]


async def test_what_is_sealed_waits_no_more(ledger):
    await enqueue(ledger, b"1", b"2", b"3")
    await seal(ledger, 2, seq=1)
    assert unsealed(ledger) == [b"3"]


async def test_what_was_not_taken_is_sealed_again_before_what_is_newer(ledger):
    await enqueue(ledger, b"1", b"2", b"3", b"4")
    for seq in (1, 2, 3):
        await seal(ledger, 1, seq)
    await ledger.commit(lambda tx: tx.control.unseal(1))
    assert unsealed(ledger) == [b"2", b"3", b"4"]


async def test_what_was_taken_is_gone_and_is_never_sealed_again(ledger):
    await enqueue(ledger, b"1", b"2")
    await seal(ledger, 1, seq=1)
    await seal(ledger, 1, seq=2)
    await ledger.commit(lambda tx: tx.control.set_taken(1))
    await ledger.commit(lambda tx: tx.control.unseal(0))
    assert unsealed(ledger) == [b"2"]


async def test_a_control_envelope_that_is_kept_has_a_row_that_steps_can_name(ledger):
    rows = [await ledger.commit(lambda tx, n=n: tx.control.keep(b"h", b"s", b"e", b"l", bytes([n]))) for n in (1, 2)]
    assert rows == [1, 2]


def kept(release=RELEASE, until=NOW, reason=Reason.AGENCY):
    return KeptRecall(release, "us.cbp", reason, until, NOW + 5)


async def test_a_recall_is_found_by_its_release_and_the_last_one_counts(ledger):
    for reason in (Reason.AGENCY, Reason.CORRECTION):
        await ledger.commit(lambda tx, reason=reason: tx.control.keep_recall(kept(reason=reason)))
    found = ledger.read(lambda tx: tx.control.recalls([ANOTHER, RELEASE]))
    assert found == {RELEASE: kept(reason=Reason.CORRECTION)}


async def test_a_recall_is_forgotten_when_its_message_can_come_no_more(ledger):
    await ledger.commit(lambda tx: tx.control.keep_recall(kept()))
    await ledger.commit(lambda tx: tx.control.forget_recalls(NOW))
    assert ledger.read(lambda tx: tx.control.recalls([RELEASE]))
    await ledger.commit(lambda tx: tx.control.forget_recalls(NOW + 1))
    assert not ledger.read(lambda tx: tx.control.recalls([RELEASE]))


async def test_an_alarm_is_raised_once_and_keeps_what_the_accused_signed_first(ledger):
    raised = [
        await ledger.commit(lambda tx, signed=signed: tx.control.alarm("EVIDENCE_TWO_HEADERS", NOW, signed))
        for signed in (b"first", b"second")
    ]
    assert raised == [True, False]
    evidence = ledger.read(lambda tx: tx.control._db.execute("SELECT evidence FROM alarms").fetchall())
    assert evidence == [(b"first",)]


async def test_alarms_are_told_in_order_of_name(ledger):
    for name in ("RECALL_BY_STRANGER", "CONTROL_MALFORMED"):
        await ledger.commit(lambda tx, name=name: tx.control.alarm(name, NOW))
    assert ledger.read(lambda tx: tx.control.alarms()) == ["CONTROL_MALFORMED", "RECALL_BY_STRANGER"]


async def test_numbers_add_up_are_set_and_are_zero_before(ledger, tmp_path):
    await ledger.commit(lambda tx: tx.control.count("seen", 2))
    await ledger.commit(lambda tx: tx.control.count("seen", 3))
    await ledger.commit(lambda tx: tx.control.put("head", 9))
    await ledger.commit(lambda tx: tx.control.put("head", 7))
    read = ledger.read(lambda tx: [tx.control.counted(name) for name in ("seen", "head", "never")])
    assert read == [5, 7, 0]
