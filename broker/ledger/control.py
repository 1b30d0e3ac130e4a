"""Control items waiting to be sealed, those that came, recalls, alarms and counters."""

from collections.abc import Sequence
from dataclasses import dataclass

import apsw

from broker.message import ControlItem, Reason

UNSEALED_BYTES = 940_000
"""Bodies of the items of an envelope; with their salts they stay below what it may hold."""


@dataclass(frozen=True, slots=True)
class KeptRecall:
    """A recall in force: it refuses its message on arrival until `until_ms`."""

    release: bytes
    origin: str
    reason: Reason
    until_ms: int
    answer_by_ms: int
    """When silence means KEPT; 0: nothing is asked."""


class ControlStore:
    """Rows of `control_out`, `control_sealed`, `control_in`, `recalls`, `alarms` and `counters`."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection

    def enqueue(self, items: Sequence[tuple[int, bytes, bytes]]) -> None:
        """(kind, salt, body) each, to be sealed in this order."""
        self._db.executemany("INSERT INTO control_out (kind, salt, body) VALUES (?, ?, ?)", items)

    def unsealed(self, limit: int) -> list[ControlItem]:
        """The oldest items that no envelope holds, as many as fit into one."""
        query = (
            "SELECT row, kind, salt, body FROM control_out"
            " WHERE row > (SELECT coalesce(max(last_row), 0) FROM control_sealed) ORDER BY row LIMIT ?"
        )
        found: list[ControlItem] = []
        size = 0
        for row in self._db.execute(query, (limit,)):
            size += len(row[3])
            if found and size > UNSEALED_BYTES:
                break
            found.append(ControlItem(*row))
        return found

    def ahead(self) -> tuple[int, bool]:
        """(seq that data waits for, whether a key item is not sealed yet: data made now is to be read after it)."""
        query = (
            "SELECT 1 FROM control_out WHERE kind = 3"
            " AND row > (SELECT coalesce(max(last_row), 0) FROM control_sealed) LIMIT 1"
        )
        return self.counted("control_seq"), self._db.execute(query).fetchone() is not None

    def key_item_under_way(self) -> bool:
        """Whether a key item is not known to be taken."""
        return self._db.execute("SELECT 1 FROM control_out WHERE kind = 3 LIMIT 1").fetchone() is not None

    def set_sealed(self, last_row: int, seq: int) -> None:
        """What was unsealed, up to this row, travels in control envelope `seq`."""
        self._db.execute("INSERT INTO control_sealed VALUES (?, ?)", (seq, last_row))

    def set_taken(self, seq: int) -> None:
        """The other party took control envelopes up to `seq`."""
        self._db.execute(
            "DELETE FROM control_out WHERE row <= (SELECT max(last_row) FROM control_sealed WHERE seq <= ?)", (seq,)
        )
        self._db.execute("DELETE FROM control_sealed WHERE seq <= ?", (seq,))

    def unseal(self, after_seq: int) -> None:
        """What was sealed after `after_seq` is sealed again."""
        self._db.execute("DELETE FROM control_sealed WHERE seq > ?", (after_seq,))

    def keep(self, header: bytes, signature: bytes, enc_ct_hash: bytes, leaves: bytes, items: bytes) -> int:
        """Keep a control envelope that came, as the proof of its receipts; returns its row."""
        self._db.execute(
            "INSERT INTO control_in (header, signature, enc_ct_hash, leaves, items) VALUES (?,?,?,?,?)",
            (header, signature, enc_ct_hash, leaves, items),
        )
        return int(self._db.last_insert_rowid())

    def recalls(self, releases: Sequence[bytes]) -> dict[bytes, KeptRecall]:
        """The recalls that came of these releases."""
        marks = ",".join("?" * len(releases))
        query = f"SELECT release, origin, reason, until_ms, answer_by_ms FROM recalls WHERE release IN ({marks})"
        return {
            row[0]: KeptRecall(row[0], row[1], Reason(row[2]), *row[3:]) for row in self._db.execute(query, releases)
        }

    def keep_recall(self, recall: KeptRecall) -> None:
        """Keep a recall until it can no longer matter."""
        self._db.execute(
            "INSERT OR REPLACE INTO recalls VALUES (?,?,?,?,?)",
            (recall.release, recall.origin, int(recall.reason), recall.until_ms, recall.answer_by_ms),
        )

    def silent_recalls(self, now_ms: int, limit: int) -> list[bytes]:
        """Releases whose agency did not answer a recall in time."""
        query = (
            "SELECT r.release FROM recalls r JOIN inbound i ON i.release = r.release"
            " WHERE i.recall = 1 AND r.answer_by_ms > 0 AND r.answer_by_ms <= ? LIMIT ?"
        )
        return [row[0] for row in self._db.execute(query, (now_ms, limit))]

    def forget_recalls(self, now_ms: int) -> None:
        """Drop recalls whose message can no longer arrive and that wait for no answer."""
        self._db.execute(
            "DELETE FROM recalls WHERE until_ms < ? AND NOT EXISTS"
            " (SELECT 1 FROM inbound i WHERE i.release = recalls.release AND i.recall = 1)",
            (now_ms,),
        )

    def alarm(self, what: str, now_ms: int, evidence: bytes = b"") -> bool:
        """Raise an alarm of a closed list of names, with what the accused signed; False when it stands already."""
        self._db.execute("INSERT OR IGNORE INTO alarms VALUES (?, ?, ?)", (what, now_ms, evidence))
        return bool(self._db.changes())

    def alarms(self) -> list[str]:
        """Names of the alarms that stand."""
        return [row[0] for row in self._db.execute("SELECT what FROM alarms ORDER BY what")]

    def count(self, name: str, more: int) -> None:
        """Add to a counter that outlives the process."""
        self._db.execute(
            "INSERT INTO counters VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value", (name, more)
        )

    def put(self, name: str, value: int) -> None:
        """Set a number that outlives the process."""
        self._db.execute("INSERT OR REPLACE INTO counters VALUES (?, ?)", (name, value))

    def counted(self, name: str) -> int:
        """A counter's value."""
        row = self._db.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
        return 0 if row is None else int(row[0])
