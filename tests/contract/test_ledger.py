"""The ledger: one transaction for everything that waits, an append-only log, fences, keys that can be destroyed."""

import asyncio
import os
from dataclasses import replace

import apsw
import pytest

from broker.errors import OriginError, StoreError, StreamLost, VaultError
from broker.ledger import schema, sqlite
from broker.ledger.keystore import KeyStore
from broker.ledger.sqlite import SqliteLedger
from broker.message import KEPT_MS, DecisionRecord, Log, Outgoing, Reason, SealedKeys, SignedBatch, State, Step, Stream
from broker.vault import Vault

NOW = 1_800_000_000_000
STREAM = Stream("puente.us.mx.passenger", 3)
BATCH = SignedBatch(b"b" * 74, b"signature")


def opened(folder):
    return SqliteLedger(folder / "ledger.db", KeyStore(folder / "keys.db"))


@pytest.fixture
def ledger(tmp_path):
    made = opened(tmp_path)
    yield made
    made.close()


def outgoing(n=1, **changes):
    name = bytes([n])
    decision = DecisionRecord(
        name * 32, b"entry" + name, NOW, "release", True, "passenger", "api", "us.cbp", "mx.inm", 1, " R38 ", "", "",
        b"d" * 32, NOW, b"context",
    )  # fmt: skip
    message = Outgoing(
        message_id=name * 16, origin="us.cbp", recipient="mx.inm", family="passenger", kind="api", purpose=1,
        conversation=b"c" * 16, statement_hash=name * 32, decision=decision,
        keys=SealedKeys(name * 16, b"content key", b"opening"), expires_ms=NOW + 1000, time_ms=NOW, stream=STREAM,
        release=b"r" + name * 31, entry=b"release" + name, core=b"core", content=b"content",
    )  # fmt: skip
    return replace(message, **changes)


def insert(message):
    def change(tx):
        tx.keys.add([message.keys])
        tx.decisions.insert([(message.decision, message.keys.key_id)])
        tx.outbox.insert([message], tx.outbox.batch(BATCH))
        tx.journal.append(Log.EXCHANGE, [(message.release, message.entry)])

    return change


def size(ledger, log=Log.EXCHANGE):
    return ledger.read(lambda tx: tx.journal.size(log))


async def test_a_change_that_raises_leaves_nothing_and_its_error_reaches_its_caller(ledger):
    def change(tx):
        tx.journal.append(Log.EXCHANGE, [(b"l" * 32, b"entry")])
        tx.control.put("counter", 7)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await ledger.commit(change)
    assert size(ledger) == 0
    assert ledger.read(lambda tx: tx.control.counted("counter")) == 0


async def test_changes_that_wait_together_are_one_transaction_and_one_that_fails_is_rolled_back_alone(ledger):
    begun = []
    ledger._writer.set_exec_trace(lambda _, sql, __: begun.append(sql) or True)

    def good(n):
        return lambda tx: tx.journal.append(Log.EXCHANGE, [(bytes([n]) * 32, b"e")])

    def bad(tx):
        tx.journal.append(Log.EXCHANGE, [(b"x" * 32, b"never")])
        raise StreamLost("mine alone")

    changes = (good(1), bad, good(2))
    gathered = await asyncio.gather(*map(ledger.commit, changes), return_exceptions=True)
    assert [type(outcome) for outcome in gathered] == [int, StreamLost, int]
    assert [leaf[:1] for _, leaf, _ in ledger.read(lambda tx: list(tx.journal.entries(Log.EXCHANGE)))] == [b"\1", b"\2"]
    assert sum(sql.startswith("BEGIN") for sql in begun) == 1


async def test_when_the_file_fails_every_caller_of_the_group_hears_a_store_error_and_nothing_stands(ledger):
    def full(tx):
        raise apsw.FullError("canary")

    first = asyncio.create_task(ledger.commit(lambda tx: tx.journal.append(Log.EXCHANGE, [(b"l" * 32, b"e")])))
    await first
    with pytest.raises(StoreError) as caught:
        await ledger.commit(full)
    assert "canary" not in str(caught.value)
    assert size(ledger) == 1
    await ledger.commit(lambda tx: tx.control.put("still", 1))  # and the next goes on


async def test_what_was_committed_is_there_when_the_file_is_opened_again(tmp_path):
    ledger = opened(tmp_path)
    await ledger.commit(insert(outgoing()))
    ledger.close()
    again = opened(tmp_path)
    assert again.read(lambda tx: tx.outbox.get("us.cbp", b"\1" * 16)).state is State.ACCEPTED
    assert size(again) == 1
    again.close()


@pytest.mark.parametrize(
    "sql", ["UPDATE log SET entry = x''", "DELETE FROM log", "INSERT OR REPLACE INTO log VALUES (1, 0, x'', x'')"]
)
async def test_an_entry_of_the_log_is_neither_changed_nor_removed_nor_replaced(ledger, sql):
    await ledger.commit(lambda tx: tx.journal.append(Log.EXCHANGE, [(b"l" * 32, b"entry")]))
    with pytest.raises(StoreError):
        await _raw(ledger, sql)
    assert ledger.read(lambda tx: [e for _, _, e in tx.journal.entries(Log.EXCHANGE)]) == [b"entry"]


async def _raw(ledger, sql):
    with sqlite.translated():
        await ledger.commit(lambda tx: tx.journal._db.execute(sql).fetchall())


async def test_the_two_logs_are_numbered_apart(ledger):
    await ledger.commit(lambda tx: tx.journal.append(Log.EXCHANGE, [(b"a" * 32, b"a"), (b"b" * 32, b"b")]))
    first = await ledger.commit(lambda tx: tx.journal.append(Log.DECISIONS, [(b"c" * 32, b"c")]))
    assert first == 0
    assert (size(ledger), size(ledger, Log.DECISIONS)) == (2, 1)


def test_an_empty_file_is_brought_to_the_newest_schema(tmp_path):
    apsw.Connection(str(tmp_path / "ledger.db")).close()
    ledger = opened(tmp_path)
    assert ledger._writer.execute("PRAGMA user_version").fetchone()[0] == len(schema.MIGRATIONS)
    ledger.close()


def test_a_later_step_runs_on_an_older_file_and_keeps_what_is_there(tmp_path, monkeypatch):
    opened(tmp_path).close()
    monkeypatch.setattr(sqlite, "MIGRATIONS", (*schema.MIGRATIONS, "CREATE TABLE later (a INTEGER)"))
    ledger = opened(tmp_path)
    assert ledger._writer.execute("SELECT count(*) FROM later").fetchone() == (0,)
    assert ledger._writer.execute("PRAGMA user_version").fetchone()[0] == len(schema.MIGRATIONS) + 1
    ledger.close()


async def test_a_file_of_the_first_schema_gets_an_end_for_content_that_had_none(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "MIGRATIONS", schema.MIGRATIONS[:1])
    ledger = opened(tmp_path)
    for n, (state, destroy_by) in enumerate([(6, 0), (6, 7), (3, 0)], start=1):
        await ledger.commit(insert(outgoing(n, destroy_by_ms=destroy_by)))
        await _raw(ledger, f"UPDATE outbound SET state = {state} WHERE row = {n}")
    await ledger.commit(insert(outgoing(4, release=b"", stream=None)))
    ledger.close()
    monkeypatch.undo()
    ledger = opened(tmp_path)
    ends = [row[0] for row in ledger._reader.execute("SELECT destroy_by_ms FROM outbound ORDER BY row")]
    assert ends == [NOW + 1000 + KEPT_MS, 7, 0, 0]
    ledger.close()


async def test_a_file_of_the_first_schema_remembers_what_was_sent_and_waits_to_be_sealed_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "MIGRATIONS", schema.MIGRATIONS[:1])
    ledger = opened(tmp_path)
    for n in (1, 2):
        await ledger.commit(insert(outgoing(n)))
    await _raw(ledger, "UPDATE outbound SET steps = CAST(steps || steps AS BLOB) WHERE row = 1")
    ledger.close()
    monkeypatch.undo()
    ledger = opened(tmp_path)
    sent = ledger.read(lambda tx: tx.outbox.sent([outgoing(1).release, outgoing(2).release]))
    assert [sent[outgoing(n).release].was_sent for n in (1, 2)] == [True, False]
    ledger.close()


async def test_a_file_of_the_first_schema_keeps_what_it_has_and_a_link_that_was_suspended_stays_so(tmp_path):
    raw = apsw.Connection(str(tmp_path / "ledger.db"))
    raw.execute(f"BEGIN; {schema.MIGRATIONS[0]}; PRAGMA user_version = 1; COMMIT;")
    raw.execute("INSERT INTO log VALUES (1, 0, ?, ?)", (b"l" * 32, b"entry"))
    raw.execute("INSERT INTO control_out (kind, salt, body) VALUES (3, x'00', x'01')")
    raw.execute("INSERT INTO alarms VALUES ('EVIDENCE_TWO_HEADERS', 7, x'aa'), ('CONTROL_MALFORMED', 8, x'')")
    raw.close()
    ledger = opened(tmp_path)
    assert size(ledger) == 1
    assert ledger.read(lambda tx: tx.standing.suspended())
    assert [(s.what, s.proof) for s in ledger.read(lambda tx: tx.standing.suspensions())] == [
        ("EVIDENCE_TWO_HEADERS", b"\xaa")
    ]
    assert ledger.read(lambda tx: tx.control.ahead()) == (0, True)
    await ledger.commit(lambda tx: tx.standing.resume(9))
    assert ledger.read(lambda tx: tx.control.alarms()) == ["CONTROL_MALFORMED"]
    ledger.close()
    again = opened(tmp_path)
    assert not again.read(lambda tx: tx.standing.suspended())
    again.close()


def test_a_file_of_a_newer_release_is_refused_and_left_alone(tmp_path):
    opened(tmp_path).close()
    raw = apsw.Connection(str(tmp_path / "ledger.db"))
    raw.execute("PRAGMA user_version = 999")
    with pytest.raises(StoreError, match="newer"):
        opened(tmp_path)
    assert raw.execute("PRAGMA user_version").fetchone()[0] == 999
    raw.close()


def test_commits_are_durable_when_they_return(ledger):
    names = ("journal_mode", "synchronous", "secure_delete", "recursive_triggers")
    assert [ledger._writer.execute(f"PRAGMA {name}").fetchone()[0] for name in names] == ["wal", 2, 2, 1]


# Streams


async def test_a_later_owner_takes_a_stream_and_the_earlier_one_stores_nothing(ledger):
    old = await ledger.commit(lambda tx: tx.streams.claim(STREAM))
    new = await ledger.commit(lambda tx: tx.streams.claim(STREAM))
    with pytest.raises(StreamLost):
        await ledger.commit(lambda tx: tx.streams.append(STREAM, old, 1, 0, b"envelope", 1, NOW))
    await ledger.commit(lambda tx: tx.streams.append(STREAM, new, 1, 0, b"envelope", 1, NOW))
    assert ledger.read(lambda tx: tx.streams.pending(STREAM, 9)) == [(1, b"envelope")]


@pytest.mark.parametrize(("seq", "after"), [(1, 1), (2, 0), (1, 0)])
async def test_an_envelope_that_does_not_continue_the_chain_is_not_stored(ledger, seq, after):
    fence = await ledger.commit(lambda tx: tx.streams.claim(STREAM))
    await ledger.commit(lambda tx: tx.streams.append(STREAM, fence, 1, 0, b"first", 1, NOW))
    with pytest.raises(StreamLost):
        await ledger.commit(lambda tx: tx.streams.append(STREAM, fence, seq, after, b"second", 1, NOW))
    assert ledger.read(lambda tx: tx.streams.pending(STREAM, 9)) == [(1, b"first")]


async def test_a_message_recalled_while_it_was_being_sealed_is_not_sealed(ledger):
    await ledger.commit(insert(outgoing()))
    await ledger.commit(lambda tx: tx.outbox.end(outgoing().release, Step(State.RECALLED, Reason.AGENCY, NOW), NOW))
    with pytest.raises(StreamLost):
        await ledger.commit(lambda tx: tx.outbox.set_sealed([1], 1))
    assert not ledger.read(lambda tx: tx.outbox.get("us.cbp", b"\1" * 16)).sealed


async def test_a_message_is_sealed_once(ledger):
    await ledger.commit(insert(outgoing()))
    await ledger.commit(lambda tx: tx.outbox.set_sealed([1], 1))
    with pytest.raises(StreamLost):
        await ledger.commit(lambda tx: tx.outbox.set_sealed([1], 2))


async def test_what_is_taken_is_forgotten_and_what_is_not_stays(ledger):
    fence = await ledger.commit(lambda tx: tx.streams.claim(STREAM))
    for seq in (1, 2, 3):
        await ledger.commit(lambda tx, n=seq: tx.streams.append(STREAM, fence, n, n - 1, bytes([n]), 1, NOW))
    await ledger.commit(lambda tx: tx.streams.set_taken(STREAM, 2))
    assert ledger.read(lambda tx: tx.streams.pending(STREAM, 9)) == [(3, b"\3")]
    assert ledger.read(lambda tx: tx.streams.kept(STREAM)) == 1


# Message ids


async def test_the_same_submission_again_is_known_by_its_first_result(ledger):
    await ledger.commit(insert(outgoing()))
    held = ledger.read(lambda tx: tx.outbox.first_results("us.cbp", [b"\1" * 16]))[outgoing().message_id]
    assert (held.refused, held.decision) == (False, b"\1" * 32)


async def test_two_agencies_may_use_the_same_id(ledger):
    await ledger.commit(insert(outgoing()))
    assert ledger.read(lambda tx: tx.outbox.first_results("us.ice", [b"\1" * 16])) == {}


async def test_a_reference_to_what_another_pair_exchanged_names_nothing(ledger):
    await ledger.commit(insert(outgoing()))
    ledger.read(lambda tx: tx.outbox.check_named(outgoing(2, named=(b"\1" * 16,)), ()))
    with pytest.raises(OriginError):
        ledger.read(lambda tx: tx.outbox.check_named(outgoing(2, recipient="mx.anam", named=(b"\1" * 16,)), ()))


# Keys


def sealed_key(vault, content_key, name=b"k" * 16):
    return SealedKeys(name, vault.wrap(content_key, name), vault.wrap(b"o" * 32, name))


async def test_a_shredded_key_opens_nothing_any_more_and_the_opening_key_stays(ledger):
    vault, key = Vault(os.urandom(32)), os.urandom(32)
    await ledger.commit(lambda tx: tx.keys.add([sealed_key(vault, key)]))
    content, _ = ledger.keys.both(b"k" * 16)
    assert vault.unwrap(content, b"k" * 16) == key
    await ledger.commit(lambda tx: tx.keys.shred(b"k" * 16))
    with pytest.raises(VaultError):
        ledger.keys.both(b"k" * 16)
    assert ledger.keys.opening(b"k" * 16)


async def test_no_copy_of_a_shredded_key_is_left_in_any_file_of_the_key_store(tmp_path, ledger):
    vault = Vault(os.urandom(32))
    sealed = sealed_key(vault, os.urandom(32))
    await ledger.commit(lambda tx: tx.keys.add([sealed]))
    assert any(sealed.content in file.read_bytes() for file in tmp_path.iterdir())
    await ledger.commit(lambda tx: tx.keys.shred(sealed.key_id))
    assert not any(sealed.content in file.read_bytes() for file in tmp_path.iterdir())


async def test_keys_are_durable_before_the_transaction_that_needs_them(ledger, monkeypatch):
    order = []
    flush = ledger.keys.flush
    monkeypatch.setattr(ledger.keys, "flush", lambda *a: (order.append("keys"), flush(*a))[1])
    ledger._writer.set_exec_trace(lambda _, sql, __: order.append(sql) or True)
    await ledger.commit(insert(outgoing()))
    assert order.index("keys") < order.index("COMMIT")


async def test_when_the_keys_cannot_be_kept_nothing_is_committed(ledger, monkeypatch):
    def down(*_):
        raise apsw.IOError("canary")

    monkeypatch.setattr(ledger.keys, "flush", down)
    with pytest.raises(StoreError):
        await ledger.commit(insert(outgoing()))
    assert ledger.read(lambda tx: tx.outbox.get("us.cbp", b"\1" * 16)) is None


async def test_keys_of_a_change_that_was_rolled_back_are_not_shredded(ledger):
    vault = Vault(os.urandom(32))
    await ledger.commit(lambda tx: tx.keys.add([sealed_key(vault, os.urandom(32))]))

    def change(tx):
        tx.keys.shred(b"k" * 16)
        raise ValueError

    with pytest.raises(ValueError):
        await ledger.commit(change)
    assert ledger.keys.both(b"k" * 16)


# Bounded tables


async def test_the_quarantine_is_bounded_and_counts_what_it_does_not_keep(ledger):
    for n in range(12):
        await ledger.commit(lambda tx, n=n: tx.streams.quarantine(bytes([n]) * 32, STREAM, n, "EnvelopeError", NOW, 5))
    await ledger.commit(lambda tx: tx.streams.quarantine(bytes([0]) * 32, STREAM, 0, "EnvelopeError", NOW, 5))
    rows = ledger._reader.execute("SELECT hash, times FROM quarantine").fetchall()
    assert len(rows) == 6
    assert dict(rows)[b""] == 7
    assert dict(rows)[bytes(32)] == 2


async def test_a_closed_ledger_takes_nothing_and_what_nobody_waited_for_did_not_happen(tmp_path):
    ledger = opened(tmp_path)
    noted = ledger.enqueue(insert(outgoing()), soon=False)
    ledger.close()
    assert noted.cancelled()
    with pytest.raises(StoreError):
        ledger.enqueue(insert(outgoing()))
    await asyncio.sleep(0.1)
    again = opened(tmp_path)
    assert again.read(lambda tx: tx.outbox.get("us.cbp", b"\1" * 16)) is None
    again.close()


async def test_what_nobody_waits_for_goes_along_with_the_next_change_or_alone_after_a_while(ledger):
    noted = ledger.enqueue(insert(outgoing(1)), soon=False)
    await asyncio.sleep(0.01)
    assert not noted.done()
    await ledger.commit(insert(outgoing(2)))
    assert noted.done()
    async with asyncio.timeout(1):
        await ledger.enqueue(insert(outgoing(3)), soon=False)
