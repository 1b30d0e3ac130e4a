"""The embedded transport: one SQLite file a direction, shared by both gateways, and nothing else is.

Trust: as a Kafka operator: who can write these files can delay and drop, and is noticed; cannot read, forge, replay.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import apsw

from broker.errors import StoreError
from broker.message import Stream
from broker.transport import RETENTION_MS, Arrival

BUSY_MS = 10_000
MARK_MS: Final = 60_000
"""How often it is noted how far the file goes: an envelope is kept by so much longer at most."""
_MIGRATIONS = (
    """
    CREATE TABLE IF NOT EXISTS envelopes (
        position INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, partition INTEGER NOT NULL, data BLOB NOT NULL
    );
    CREATE INDEX IF NOT EXISTS envelopes_stream ON envelopes (topic, partition, position);
    """,
    # At time_ms everything up to position had been put. A time in each row would lie behind a megabyte of data.
    "CREATE TABLE marks (position INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL);",
)


class SqliteTransport:
    """A folder with `<from>-<to>.db` a direction; both gateways' users need its group's write access."""

    name = "sqlite"

    def __init__(self, folder: Path, party: str, peer: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._out = _open(folder / f"{party}-{peer}.db")
        self._in = _open(folder / f"{peer}-{party}.db")
        self._version = -1
        self._marked_ms = 0

    def put(self, stream: Stream, envelopes: Sequence[bytes]) -> None:
        """See Transport."""
        try:
            with self._out:
                self._out.executemany(
                    "INSERT INTO envelopes (topic, partition, data) VALUES (?, ?, ?)",
                    ((stream.topic, stream.partition, data) for data in envelopes),
                )
        except apsw.Error as error:
            raise StoreError(f"the transport failed: {type(error).__name__}") from error

    def get(self, stream: Stream, position: int, limit: int) -> list[Arrival]:
        """See Transport."""
        try:
            rows = self._in.execute(
                "SELECT position, data FROM envelopes WHERE topic = ? AND partition = ? AND position > ?"
                " ORDER BY position LIMIT ?",
                (stream.topic, stream.partition, position, limit),
            ).fetchall()
        except apsw.Error as error:
            raise StoreError(f"the transport failed: {type(error).__name__}") from error
        return [Arrival(at, at, data) for at, data in rows]

    def changed(self) -> bool:
        """See Transport: SQLite counts the commits of other connections."""
        try:
            version = self._in.execute("PRAGMA data_version").fetchone()[0]
        except apsw.Error as error:
            raise StoreError(f"the transport failed: {type(error).__name__}") from error
        changed = version != self._version
        self._version = version
        return bool(changed)

    def prune(self, now_ms: int, limit: int) -> int:
        """See Transport: only the sender removes, and never a position that a later envelope could get again."""
        try:
            with self._out:
                if abs(now_ms - self._marked_ms) >= MARK_MS:
                    self._mark(now_ms)
                return self._remove(now_ms - RETENTION_MS, limit)
        except apsw.Error as error:
            raise StoreError(f"the transport failed: {type(error).__name__}") from error

    def _mark(self, now_ms: int) -> None:
        self._out.execute(
            "INSERT OR IGNORE INTO marks SELECT position, ? FROM envelopes ORDER BY position DESC LIMIT 1", (now_ms,)
        )
        self._marked_ms = now_ms

    def _remove(self, before_ms: int, limit: int) -> int:
        """Envelopes up to the oldest mark, when its time has come; with the last of them the mark goes."""
        oldest = self._out.execute("SELECT position, time_ms FROM marks ORDER BY position LIMIT 1").fetchone()
        if oldest is None or oldest[1] > before_ms:
            return 0
        self._out.execute(
            "DELETE FROM envelopes WHERE position IN"
            " (SELECT position FROM envelopes WHERE position <= ? ORDER BY position LIMIT ?)",
            (oldest[0], limit),
        )
        removed = int(self._out.changes())
        if removed < limit:
            self._out.execute("DELETE FROM marks WHERE position = ?", (oldest[0],))
        return removed

    def close(self) -> None:
        """See Transport."""
        self._out.close()
        self._in.close()


def _open(path: Path) -> apsw.Connection:
    """A connection to one direction's file, which the group may write as well."""
    try:
        connection = apsw.Connection(str(path))
        connection.set_busy_timeout(BUSY_MS)
        for pragma in ("journal_mode = WAL", "synchronous = FULL"):
            connection.execute(f"PRAGMA {pragma}").fetchall()  # one by one: a result that is not fetched stops the rest
        _migrate(connection)
    except apsw.Error as error:
        raise StoreError(f"the transport cannot be opened: {type(error).__name__}") from error
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):  # the file's owner already did
            Path(f"{path}{suffix}").chmod(0o660)
    return connection


def _migrate(connection: apsw.Connection) -> None:
    """Bring a file of any earlier release to this one; whichever gateway comes first does it.

    A file of a later release is left as it is: the other party may be ahead of us, and what both use stays.
    """
    connection.execute("BEGIN IMMEDIATE")
    with contextlib.closing(connection.execute("PRAGMA user_version")) as rows:
        have = next(rows)[0]
    for version, script in enumerate(_MIGRATIONS[have:], start=have + 1):
        connection.execute(f"{script} PRAGMA user_version = {version};")
    connection.execute("COMMIT")
