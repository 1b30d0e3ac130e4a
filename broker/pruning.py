"""What goes when the accounting of disclosures has ended: subjects first, then messages, then what stood beside them.

Nothing here touches the logs. A crash between two batches means that the rest goes with the next sweep.
"""

from collections.abc import Callable, Iterable

from broker.answers import purge_entry
from broker.ledger.history import WAYS
from broker.ledger.sqlite import Transaction
from broker.obligations import ACCOUNTING_MS, DAY_MS
from broker.origin import parse_batch_statement
from broker.v1.envelope_pb2 import Header

MARGIN_MS = 366 * DAY_MS
"""How much older than every kept message an envelope or a batch is before it goes: control lags by a year at most."""
_STRIPPED = "headers stripped to"


def prune(tx: Transaction, now: int, limit: int) -> int:
    """Remove what is due at `now`, at most `limit` of each kind; returns how much was done.

    A message goes when five years have passed since its life ended and its content is gone; by then the accounting of
    its disclosure has ended, which is as long or, where content lives longer, ends with the content.
    """
    done = _subjects(tx, now, limit)
    if done >= limit:
        return done  # messages go after their subjects
    for way in WAYS:
        over = tx.history.messages_over(way, now - ACCOUNTING_MS, limit)
        tx.history.drop_messages(way, over)
        for message in over:
            if message.key_id is not None:
                tx.keys.forget(message.key_id)
                purge_entry(tx, message.name, now, "opening")
        done += len(over)
    oldest = tx.history.oldest_ms()
    horizon = min(now - ACCOUNTING_MS, now if oldest is None else oldest) - MARGIN_MS
    return done + _beside(tx, horizon, limit)


def _subjects(tx: Transaction, now: int, limit: int) -> int:
    """Accounting ends: nobody finds this disclosure by its subject any more; an entry says so."""
    over = tx.history.subjects_over(now, limit)
    tx.history.forget_subjects([row for row, _ in over])
    for _, release in over:
        purge_entry(tx, release, now, "accounting")
    return len(over)


def _beside(tx: Transaction, horizon: int, limit: int) -> int:
    """Batches, control envelopes and headers that are older than every message that is kept."""
    batches = _older(tx.history.batches(limit), horizon, lambda data: parse_batch_statement(data).created_ms)
    tx.history.drop_batches(batches)
    proofs = _older(tx.history.proofs(limit), horizon, _created)
    tx.history.drop_proofs(proofs)
    sent = [envelope for envelope, at_ms in tx.history.sent(limit) if at_ms < horizon]
    tx.history.drop_sent(sent)
    headers = _older(tx.history.headers(tx.control.counted(_STRIPPED), limit), horizon, _created)
    if headers:
        tx.history.strip_headers(headers)
        tx.control.put(_STRIPPED, headers[-1])
    return len(batches) + len(proofs) + len(sent) + len(headers)


def _older(rows: Iterable[tuple[int, bytes]], horizon: int, created: Callable[[bytes], int]) -> list[int]:
    """The first rows, up to one that is not older."""
    found = []
    for row, data in rows:
        if created(data) >= horizon:
            break
        found.append(row)
    return found


def _created(header: bytes) -> int:
    return int(Header.FromString(header).created_ms)
