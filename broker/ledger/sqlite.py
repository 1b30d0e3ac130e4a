"""The embedded ledger: one SQLite file, one writer, one transaction for everything that waits.

A change is a function of a `Transaction`. Changes that wait together share one fsync; a change that raises is rolled
back alone. A crash before COMMIT means that none of the group happened and no caller heard of it; after COMMIT, all
of it happened, and whoever did not hear asks again with the same id.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import apsw

from broker.errors import BusyError, StoreError
from broker.ledger.control import ControlStore
from broker.ledger.decisions import DecisionStore
from broker.ledger.journal import Journal
from broker.ledger.keystore import KeyChanges, KeyStore
from broker.ledger.mailbox import Mailbox
from broker.ledger.outbox import Outbox
from broker.ledger.schema import MIGRATIONS
from broker.ledger.streams import StreamStore

T = TypeVar("T")
MAX_WAITING = 4096
BUSY_MS = 10_000


class Transaction:
    """The stores of one ledger, inside one transaction."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.journal = Journal(connection)
        self.decisions = DecisionStore(connection)
        self.outbox = Outbox(connection)
        self.mailbox = Mailbox(connection)
        self.streams = StreamStore(connection)
        self.control = ControlStore(connection)
        self.keys = KeyChanges()


class SqliteLedger:
    """Opens, or creates and migrates, the ledger at `path`; `close` when done."""

    name = "sqlite"

    def __init__(self, path: Path, keys: KeyStore) -> None:
        self.keys = keys
        self._writer = connect(path)
        migrate(self._writer)
        self._reader = connect(path)
        self._transaction = Transaction(self._writer)
        self._reading = Transaction(self._reader)
        self._read_lock = threading.Lock()
        self._waiting: queue.Queue[_Waiting | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._thread.start()

    def read(self, question: Callable[[Transaction], T]) -> T:
        """Answer a question from what is committed."""
        with self._read_lock, translated(), _snapshot(self._reader):
            return question(self._reading)

    async def commit(self, change: Callable[[Transaction], T]) -> T:
        """Run a change in the next transaction; returns when it is durable.

        Raises: BusyError when too much waits; StoreError when the store failed; whatever the change raised.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        try:
            self._waiting.put_nowait(_Waiting(change, lambda outcome, error: _settle(loop, future, outcome, error)))
        except queue.Full:
            raise BusyError("the ledger is busy; nothing was accepted") from None
        return await asyncio.shield(future)

    def commit_now(self, change: Callable[[Transaction], T]) -> T:
        """The same, for callers without a loop."""
        done = threading.Event()
        result: list[Any] = [None, None]

        def settle(outcome: Any, error: BaseException | None) -> None:
            result[:] = [outcome, error]
            done.set()

        self._waiting.put(_Waiting(change, settle))
        done.wait()
        if result[1] is not None:
            raise result[1]
        return result[0]  # type: ignore[no-any-return]

    def close(self) -> None:
        """Finish what waits, then close the file."""
        self._waiting.put(None)
        self._thread.join()
        self.keys.close()
        self._reader.close()
        self._writer.close()

    def _write(self) -> None:
        """The writer thread: take all that waits, commit it together, tell everyone."""
        while (first := self._waiting.get()) is not None:
            group = [first]
            last = False
            while not self._waiting.empty():
                more = self._waiting.get()
                if more is None:
                    last = True
                    break
                group.append(more)
            self._commit_group(group)
            if last:
                return

    def _commit_group(self, group: "list[_Waiting]") -> None:
        outcomes: list[tuple[Any, BaseException | None]] = []
        self._transaction.keys.clear()
        try:
            with translated():
                self._writer.execute("BEGIN IMMEDIATE")
                try:
                    outcomes = [self._apply(waiting.change) for waiting in group]
                    changes = self._transaction.keys
                    self.keys.flush(changes.added, changes.shredded)
                    self._writer.execute("COMMIT")
                except BaseException:
                    if not self._writer.get_autocommit():
                        self._writer.execute("ROLLBACK")
                    raise
        except BaseException as error:  # noqa: BLE001  every caller must hear, whatever it was
            outcomes = [(None, error)] * len(group)
        for waiting, (outcome, failure) in zip(group, outcomes, strict=True):
            waiting.settle(outcome, failure)

    def _apply(self, change: Callable[[Transaction], Any]) -> tuple[Any, BaseException | None]:
        self._writer.execute("SAVEPOINT change")
        keys = self._transaction.keys.mark()
        try:
            outcome = change(self._transaction)
        except (apsw.FullError, apsw.IOError):
            raise  # the file, not this change: the whole group fails
        except Exception as error:  # noqa: BLE001  handed to the caller
            self._writer.execute("ROLLBACK TO change")
            self._writer.execute("RELEASE change")
            self._transaction.keys.back_to(keys)
            return None, error
        self._writer.execute("RELEASE change")
        return outcome, None


class _Waiting:
    __slots__ = ("change", "settle")

    def __init__(
        self, change: Callable[[Transaction], Any], settle: Callable[[Any, BaseException | None], None]
    ) -> None:
        self.change = change
        self.settle = settle


def _settle(
    loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Any]", outcome: Any, error: BaseException | None
) -> None:
    def done() -> None:
        if not future.done():
            if error is None:
                future.set_result(outcome)
            else:
                future.set_exception(error)

    if not loop.is_closed():
        loop.call_soon_threadsafe(done)


def connect(path: Path) -> apsw.Connection:
    """A connection whose commits are durable when they return (WAL, FULL)."""
    with translated():
        connection = apsw.Connection(str(path))
        connection.set_busy_timeout(BUSY_MS)
        connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;")
        connection.execute("PRAGMA foreign_keys = ON; PRAGMA cache_size = -32768;")
        connection.execute("PRAGMA recursive_triggers = ON;")  # or REPLACE would delete entries of the log silently
    return connection


def migrate(connection: apsw.Connection) -> None:
    """Bring a file of any earlier schema to this one, a step a transaction."""
    with translated():
        have = connection.execute("PRAGMA user_version").fetchone()[0]
        if have > len(MIGRATIONS):
            raise StoreError("the ledger was written by a newer version")
        for version, script in enumerate(MIGRATIONS[have:], start=have + 1):
            connection.execute(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {version}; COMMIT;")


@contextmanager
def _snapshot(connection: apsw.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


@contextmanager
def translated() -> Iterator[None]:
    """SQLite's failures become ours; the text of none is passed on."""
    try:
        yield
    except apsw.FullError as error:
        raise StoreError("the disk is full") from error
    except apsw.Error as error:
        raise StoreError(f"the ledger failed: {type(error).__name__}") from error
