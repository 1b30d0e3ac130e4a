"""The entries of both logs, in order; append-only, by trigger as well."""

from collections.abc import Iterator, Sequence

import apsw

from broker.message import Log


class Journal:
    """Leaves and entries of the exchange log and of the decisions log."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection

    def append(self, log: Log, entries: Sequence[tuple[bytes, bytes]]) -> int:
        """Append (leaf hash, entry) pairs; returns the index of the first."""
        first = self.size(log)
        rows = ((int(log), first + n, leaf, entry) for n, (leaf, entry) in enumerate(entries))
        self._db.executemany("INSERT INTO log VALUES (?, ?, ?, ?)", rows)
        return first

    def size(self, log: Log) -> int:
        """How many entries the log has."""
        top: int | None = self._db.execute("SELECT max(idx) FROM log WHERE log = ?", (int(log),)).fetchone()[0]
        return 0 if top is None else top + 1

    def entries(self, log: Log, start: int = 0) -> Iterator[tuple[int, bytes, bytes]]:
        """(index, leaf hash, entry) from `start` on."""
        yield from self._db.execute(
            "SELECT idx, leaf, entry FROM log WHERE log = ? AND idx >= ? ORDER BY idx", (int(log), start)
        )
