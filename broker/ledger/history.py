"""What is kept of messages that have ended, until the accounting of their disclosure ends; and its removal."""

from collections.abc import Sequence
from dataclasses import dataclass

import apsw

from broker.message import State, unpack_steps

WAYS = ("outbound", "inbound")
_OVER = {
    "outbound": "SELECT row, coalesce(release, message_id), key_id, state FROM outbound"
    " WHERE (destroyed = 1 OR release IS NULL) AND expires_ms <= ? AND state IN (1, 6, 7, 8, 9)"
    " ORDER BY expires_ms LIMIT ?",
    "inbound": "SELECT row, release, key_id, state FROM inbound"
    " WHERE (destroyed = 1 OR batch IS NULL) AND expires_ms <= ? AND state IN (1, 6, 7, 8, 9)"
    " ORDER BY expires_ms LIMIT ?",
}
"""Final states only; each by its index."""


@dataclass(frozen=True, slots=True)
class Over:
    """A message whose accounting has ended; `name`: its release, or the message id of a refused submission."""

    row: int
    name: bytes
    key_id: bytes | None
    state: State


class History:
    """Removes rows of `accounting`, both message tables and what stands beside them; never of the log."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection

    def subjects_over(self, now_ms: int, limit: int) -> list[tuple[int, bytes]]:
        """(row, release) of disclosures whose accounting has ended."""
        query = "SELECT row, release FROM accounting WHERE keep_until_ms <= ? ORDER BY keep_until_ms LIMIT ?"
        return list(self._db.execute(query, (now_ms, limit)))

    def forget_subjects(self, rows: Sequence[int]) -> None:
        """Nobody can be looked up by these any more."""
        self._db.executemany("DELETE FROM accounting WHERE row = ?", ((row,) for row in rows))

    def messages_over(self, way: str, before_ms: int, limit: int) -> list[Over]:
        """Ended messages without content whose life ended by `before_ms`; `way`: of WAYS."""
        return [
            Over(row, name, key, State(s)) for row, name, key, s in self._db.execute(_OVER[way], (before_ms, limit))
        ]

    def drop_messages(self, way: str, messages: Sequence[Over]) -> None:
        """Remove states, bodies and receipts; how many ended how goes on being counted."""
        rows = [(message.row,) for message in messages]
        self._db.executemany(f"DELETE FROM {way}_bodies WHERE row = ?", rows)
        self._db.executemany(f"DELETE FROM {way} WHERE row = ?", rows)
        self._db.executemany(
            "INSERT INTO counters VALUES (?, 1) ON CONFLICT DO UPDATE SET value = value + 1",
            ((f"over {way} {int(message.state)}",) for message in messages),
        )

    def oldest_ms(self) -> int | None:
        """When the oldest message that is still kept came or was accepted; None when there is none."""
        found = []
        for way in WAYS:
            row = self._db.execute(f"SELECT steps FROM {way} ORDER BY row LIMIT 1").fetchone()
            found += [next(unpack_steps(row[0])).at_ms] if row else []
        return min(found, default=None)

    def batches(self, limit: int) -> list[tuple[int, bytes]]:
        """(row, statement) of the oldest signed batches."""
        return list(self._db.execute("SELECT row, statement FROM batches ORDER BY row LIMIT ?", (limit,)))

    def proofs(self, limit: int) -> list[tuple[int, bytes]]:
        """(row, header) of the oldest control envelopes that are kept as the proof of their receipts."""
        return list(self._db.execute("SELECT row, header FROM control_in ORDER BY row LIMIT ?", (limit,)))

    def headers(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """(number, header) of the oldest headers whose bytes are kept, behind `after`."""
        query = "SELECT rowid, header FROM headers WHERE rowid > ? AND header IS NOT NULL ORDER BY rowid LIMIT ?"
        return list(self._db.execute(query, (after, limit)))

    def sent(self, limit: int) -> list[tuple[tuple[str, int, int], int]]:
        """((topic, partition, seq), when the transport had it) of the oldest envelopes of each stream that we send."""
        found = self._db.execute(
            "SELECT s.topic, s.partition, s.seq, s.at_ms FROM streams_out o JOIN sent s ON s.topic = o.topic"
            " AND s.partition = o.partition AND s.seq < (SELECT min(seq) FROM sent WHERE topic = o.topic"
            " AND partition = o.partition) + ?",
            (limit,),
        )
        return [((topic, partition, seq), at_ms) for topic, partition, seq, at_ms in found]

    def drop_sent(self, envelopes: Sequence[tuple[str, int, int]]) -> None:
        """Forget when the transport had these: no kept message travelled in them."""
        self._db.executemany("DELETE FROM sent WHERE topic = ? AND partition = ? AND seq = ?", envelopes)

    def drop_batches(self, rows: Sequence[int]) -> None:
        """Remove signed batches that no kept message names."""
        self._db.executemany("DELETE FROM batches WHERE row = ?", ((row,) for row in rows))

    def drop_proofs(self, rows: Sequence[int]) -> None:
        """Remove control envelopes whose receipts are of messages that are gone."""
        self._db.executemany("DELETE FROM control_in WHERE row = ?", ((row,) for row in rows))

    def strip_headers(self, numbers: Sequence[int]) -> None:
        """Remove the bytes of headers; H(header) of every seq stays, so that a second header is still noticed."""
        self._db.executemany(
            "UPDATE headers SET header = NULL, signature = NULL, enc_ct_hash = NULL WHERE rowid = ?",
            ((number,) for number in numbers),
        )


def counted_over(connection: apsw.Connection, way: str) -> dict[State, int]:
    """How many messages that are no longer kept ended in each state."""
    rows = connection.execute("SELECT name, value FROM counters WHERE name GLOB ?", (f"over {way} *",))
    return {State(int(name.rpartition(" ")[2])): value for name, value in rows}
