"""The embedded ledger: one SQLite file, one writer, one transaction for everything that waits.

A change is a function of a `Transaction`. Changes that wait together share one fsync; a change that raises is rolled
back alone. A crash before COMMIT means that none of the group happened and no caller heard of it; after COMMIT, all
of it happened, and whoever did not hear asks again with the same id.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import apsw

from broker.errors import BusyError, StoreError, StoreFull
from broker.events import log
from broker.ledger.control import ControlStore
from broker.ledger.decisions import DecisionStore
from broker.ledger.history import History
from broker.ledger.journal import Journal
from broker.ledger.keystore import KeyChanges, KeyStore
from broker.ledger.mailbox import Mailbox
from broker.ledger.outbox import Outbox
from broker.ledger.packs import PackStore
from broker.ledger.schema import MIGRATIONS
from broker.ledger.standing import StandingStore
from broker.ledger.streams import StreamStore

T = TypeVar("T")
MAX_WAITING = 4096
BUSY_MS = 10_000
CHECKPOINT_PAGES = 8192
"""32 MiB of changes: pages that change often are copied back into the ledger's file once."""
AFTER_A_WHILE_S = 0.05
"""How long a change that nobody waits for waits for another."""
COPYING_BUSY_MS = 20
"""How long the copying's last step waits for others; a writer waits as long for it, and for what is left to copy."""
_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "cache_size = -32768",
    "secure_delete = FAST",  # what is deleted leaves its page, at no cost in writes
    "recursive_triggers = ON",  # or REPLACE would delete entries of the log silently
)


class Transaction:
    """The stores of one ledger, inside one transaction."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.journal = Journal(connection)
        self.decisions = DecisionStore(connection)
        self.packs = PackStore(connection)
        self.outbox = Outbox(connection)
        self.mailbox = Mailbox(connection)
        self.streams = StreamStore(connection)
        self.control = ControlStore(connection)
        self.history = History(connection)
        self.standing = StandingStore(connection)
        self.keys = KeyChanges()


class SqliteLedger:
    """Opens, or creates and migrates, the ledger at `path`; `close` when done.

    Changes run in the event loop's thread: SQLite lets go of the interpreter's lock at every statement, and a second
    thread would wait for it as often. Only what waits for the disk has a thread.
    """

    name = "sqlite"

    def __init__(self, path: Path, keys: KeyStore) -> None:
        self.keys = keys
        self._writer = connect(path)
        migrate(self._writer)
        self._reader = connect(path)
        self._transaction = Transaction(self._writer)
        self._reading = Transaction(self._reader)
        self._waiting: list[_Waiting] = []
        self._committing: asyncio.Task[None] | None = None
        self._disk = ThreadPoolExecutor(1, "ledger")
        self._closed = False
        self._copying = Copying(path)
        self._writer.set_wal_hook(self._copying.after_commit)

    def read(self, question: Callable[[Transaction], T]) -> T:
        """Answer a question from what is committed."""
        with translated(), _snapshot(self._reader):
            return question(self._reading)

    async def commit(self, change: Callable[[Transaction], T]) -> T:
        """Run a change in the next transaction; returns when it is durable.

        Raises: BusyError when too much waits; StoreError when the store failed; whatever the change raised.
        """
        return await asyncio.shield(self.enqueue(change))

    def enqueue(self, change: Callable[[Transaction], T], *, soon: bool = True) -> "asyncio.Future[T]":
        """The same without waiting: changes run in the order in which they were enqueued. Raises BusyError.

        `soon` False: nobody waits for it, so it goes along with the next change, or alone after a while.
        """
        if self._closed:
            raise StoreError("the ledger is closed")
        if len(self._waiting) >= MAX_WAITING:
            raise BusyError("the ledger is busy; nothing was accepted")
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        self._waiting.append(_Waiting(change, outcome))
        if soon:
            self._begin()
        else:
            loop.call_later(AFTER_A_WHILE_S, self._begin)
        return outcome

    def _begin(self) -> None:
        if self._committing is None and self._waiting and not self._closed:
            self._committing = asyncio.create_task(self._commit_waiting())

    def close(self) -> None:
        """Let what is on its way to the disk arrive, then close the files; what still waits did not happen."""
        self._closed = True
        for waiting in self._waiting:
            waiting.outcome.cancel()
        self._disk.shutdown()
        self._copying.close()
        self.keys.close()
        self._reader.close()
        self._writer.close()

    async def _commit_waiting(self) -> None:
        """Take all that waits, commit it together, tell everyone; again until nothing waits."""
        try:
            while self._waiting:
                await asyncio.sleep(0)  # whoever was told just now, and has more to change, goes along
                group, self._waiting = self._waiting, []
                await self._commit_group(group)
        finally:
            self._committing = None

    async def _commit_group(self, group: "list[_Waiting]") -> None:
        self._transaction.keys.clear()
        try:
            with translated():
                self._writer.execute("BEGIN IMMEDIATE")
                applied = [waiting.apply(self._writer, self._transaction) for waiting in group]
            await asyncio.get_running_loop().run_in_executor(self._disk, self._to_disk)
        except BaseException as error:  # noqa: BLE001  every caller must hear, whatever it was
            self._roll_back()
            for waiting in group:
                waiting.fail(error)
            return
        for settle in applied:
            settle()

    def _to_disk(self) -> None:
        """Keys first, then the ledger: what is committed can always be opened (see keystore)."""
        with translated():
            changes = self._transaction.keys
            self.keys.flush(changes.added, changes.shredded, changes.forgotten)
            self._writer.execute("COMMIT")

    def _roll_back(self) -> None:
        if not self._closed and not self._writer.get_autocommit():
            self._writer.execute("ROLLBACK")


class Copying:
    """Copies what is committed from the write-ahead log into the file, in its own thread: no commit waits for it."""

    def __init__(self, path: Path) -> None:
        self._connection = connect(path)
        self._connection.set_busy_timeout(COPYING_BUSY_MS)
        self._thread = ThreadPoolExecutor(1, "copying")
        self._running = False

    def after_commit(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        """SQLite's hook after each commit: `pages` stand in the write-ahead log."""
        if pages >= CHECKPOINT_PAGES and not self._running:
            self._running = True
            self._thread.submit(self._copy)
        return 0  # SQLITE_OK

    def _copy(self) -> None:
        """Most of it beside the writer; then, for a moment, the rest without one, so that the log begins anew."""
        try:
            for mode in (apsw.SQLITE_CHECKPOINT_PASSIVE, apsw.SQLITE_CHECKPOINT_RESTART):
                self._connection.wal_checkpoint(mode=mode)
        except apsw.BusyError:
            return  # somebody reads an old page; the next commit asks again
        except apsw.Error as error:  # so it does, and a disk that fails is told by a commit that fails
            log("ledger.not_copied", error=type(error).__name__)
        finally:
            self._running = False

    def close(self) -> None:
        """End the thread, then close the file."""
        self._thread.shutdown()
        self._connection.close()


class _Waiting:
    """A change, and the future of whoever waits for it."""

    __slots__ = ("change", "outcome")

    def __init__(self, change: Callable[[Transaction], Any], outcome: "asyncio.Future[Any]") -> None:
        self.change = change
        self.outcome = outcome

    def apply(self, writer: apsw.Connection, transaction: Transaction) -> Callable[[], None]:
        """Run the change, rolled back alone when it raises; returns what tells its caller, once it is durable."""
        writer.execute("SAVEPOINT change")
        keys = transaction.keys.mark()
        try:
            found = self.change(transaction)
        except (apsw.FullError, apsw.IOError):
            raise  # the file, not this change: the whole group fails
        except Exception as error:  # noqa: BLE001  handed to the caller
            writer.execute("ROLLBACK TO change; RELEASE change")
            transaction.keys.back_to(keys)
            failure = error
            return lambda: self.fail(failure)
        writer.execute("RELEASE change")
        return lambda: self._succeed(found)

    def _succeed(self, found: Any) -> None:
        if not self.outcome.done():
            self.outcome.set_result(found)

    def fail(self, error: BaseException) -> None:
        """Tell the caller that nothing of the change happened."""
        if not self.outcome.done():
            self.outcome.set_exception(error)


def connect(path: Path) -> apsw.Connection:
    """A connection whose commits are durable when they return (WAL, FULL)."""
    with translated():
        connection = apsw.Connection(str(path))
        connection.set_busy_timeout(BUSY_MS)
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").fetchall()  # one by one: a result that is not fetched stops the rest
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
        raise StoreFull("the disk is full") from error
    except apsw.Error as error:
        raise StoreError(f"the ledger failed: {type(error).__name__}") from error
