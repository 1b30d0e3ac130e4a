"""The embedded transport: one SQLite file a direction, shared by both gateways, and nothing else is.

Trust: as a Kafka operator: who can write these files can delay and drop, and is noticed; cannot read, forge, replay.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import apsw

from broker.errors import StoreError
from broker.message import Stream
from broker.transport import Arrival

BUSY_MS = 10_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS envelopes (
    position INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, partition INTEGER NOT NULL, data BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS envelopes_stream ON envelopes (topic, partition, position);
"""


class SqliteTransport:
    """A folder with `<from>-<to>.db` a direction; both gateways' users need its group's write access."""

    name = "sqlite"

    def __init__(self, folder: Path, party: str, peer: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._out = _open(folder / f"{party}-{peer}.db")
        self._in = _open(folder / f"{peer}-{party}.db")
        self._version = -1

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

    def close(self) -> None:
        """See Transport."""
        self._out.close()
        self._in.close()


def _open(path: Path) -> apsw.Connection:
    """A connection to one direction's file, which the group may write as well."""
    try:
        connection = apsw.Connection(str(path))
        connection.set_busy_timeout(BUSY_MS)
        connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
        connection.execute(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
    except apsw.Error as error:
        raise StoreError(f"the transport cannot be opened: {type(error).__name__}") from error
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):  # the file's owner already did
            Path(f"{path}{suffix}").chmod(0o660)
    return connection
