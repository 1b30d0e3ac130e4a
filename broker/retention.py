"""What time does: expiry, recalls that nobody answers, content that must go, the next agreement. Run every second."""

import os

from broker import answers, control, pruning, standing
from broker.agreement import Agreement
from broker.answers import AgencyAnswer
from broker.canonical import leaf_hash
from broker.ledger.mailbox import Mailbox
from broker.ledger.outbox import Outbox
from broker.ledger.sqlite import Transaction
from broker.message import Log, Reason, State, Step
from broker.v1.log_pb2 import ENTRY_KIND_WITHDRAWAL, StateEntry

BATCH = 256
"""Messages a transaction: the log's lock is never held for long."""


def sweep(tx: Transaction, agreement: Agreement, now: int) -> int:
    """Carry out what is due at `now`, at most BATCH of each kind; returns how much was done."""
    standing.in_force(tx, agreement, now)
    done = 0
    for release in tx.outbox.expired(now, BATCH):
        withdraw(tx, release, State.EXPIRED, Reason.EXPIRED, now)
        done += 1
    ended = [AgencyAnswer(r, State.EXPIRED, Reason.EXPIRED) for r in tx.mailbox.expired(now, BATCH)]
    ended += [AgencyAnswer(r, State.RECALLED, Reason.KEPT) for r in tx.control.silent_recalls(now, BATCH)]
    answers.close(tx, ended, now)
    done += len(ended)
    done += _purge(tx, now)
    done += pruning.prune(tx, now, BATCH)
    tx.control.forget_recalls(now)
    return done


def withdraw(tx: Transaction, release: bytes, state: State, reason: Reason, now: int) -> None:
    """End one of our own messages before it was sealed: an entry, no receipt, nothing leaves."""
    entry = StateEntry(
        kind=ENTRY_KIND_WITHDRAWAL,
        time_ms=now,
        blind=os.urandom(32),
        release=release,
        state=int(state),  # type: ignore[arg-type]
        reason=int(reason),  # type: ignore[arg-type]
    ).SerializeToString(deterministic=True)
    tx.journal.append(Log.DECISIONS, [(leaf_hash(entry), entry)])
    tx.outbox.end(release, Step(state, reason, now), now)


def recall(
    tx: Transaction, release: bytes, origin: str, reason: Reason, *, sealed: bool, expires_ms: int, now: int
) -> None:
    """An agency takes its message back: here when nothing can have left, else by an item to the other party.

    `sealed`: an envelope holds it, or held it once, though it waits to be sealed again.
    """
    if sealed:
        tx.control.enqueue([control.recall_item(release, origin, reason, expires_ms)])
    else:
        withdraw(tx, release, State.RECALLED, reason, now)


def _purge(tx: Transaction, now: int) -> int:
    """Destroy content whose time has come: keys first, then the record of it (see ledger.keystore)."""
    done = 0
    stores: tuple[Outbox | Mailbox, ...] = (tx.outbox, tx.mailbox)
    for store in stores:
        for row, release, key_id in store.to_purge(now, BATCH):
            tx.keys.shred(key_id)
            store.destroyed(row)
            answers.purge_entry(tx, release, now)
            done += 1
    return done
