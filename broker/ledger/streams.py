"""Streams: the chain of envelopes that we send, and how far we took the other party's."""

from collections.abc import Sequence
from dataclasses import dataclass

import apsw

from broker.errors import StreamLost
from broker.message import Reason, Stream


@dataclass(frozen=True, slots=True)
class Outflow:
    """A stream that we send; `chain` is the seq that the next envelope comes after.

    What is stored behind `durable` has still to be put into the transport, or once more.
    """

    fence: int
    last_seq: int
    chain: int
    durable: int
    taken: int
    repairs: int
    repaired_at: int


@dataclass(frozen=True, slots=True)
class Inflow:
    """A stream that we receive; `position` is where the transport is read next."""

    stream: Stream
    taken: int
    why: Reason
    position: int


class StreamStore:
    """Rows of `streams_out`, `envelopes`, `sent`, `streams_in` and `headers`."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection

    def claim(self, stream: Stream) -> int:
        """Become the stream's owner; every earlier owner's fence is lost. Returns the fence."""
        self._db.execute(
            "INSERT INTO streams_out (topic, partition, fence) VALUES (?, ?, 1)"
            " ON CONFLICT DO UPDATE SET fence = fence + 1",
            (stream.topic, stream.partition),
        )
        return self.outflow(stream).fence

    def outflow(self, stream: Stream) -> Outflow:
        """Where a stream that we send stands."""
        row = self._db.execute(
            "SELECT fence, last_seq, chain, durable, taken, repairs, repaired_at FROM streams_out"
            " WHERE topic = ? AND partition = ?",
            (stream.topic, stream.partition),
        ).fetchone()
        return Outflow(*row) if row else Outflow(0, 0, 0, 0, 0, 0, -1)

    def outflows(self) -> list[tuple[Stream, Outflow]]:
        """Every stream that we send."""
        rows = self._db.execute("SELECT topic, partition FROM streams_out ORDER BY topic, partition").fetchall()
        streams = [Stream(topic, partition) for topic, partition in rows]
        return [(stream, self.outflow(stream)) for stream in streams]

    def append(
        self, stream: Stream, fence: int, seq: int, after: int, envelope: bytes, count: int, now_ms: int
    ) -> None:
        """Store the next envelope by compare-and-swap.

        Raises: StreamLost when another owner came, or the chain moved; then the transport must not see it.
        """
        self._db.execute(
            "UPDATE streams_out SET last_seq = ?, chain = ? WHERE topic = ? AND partition = ? AND fence = ?"
            " AND last_seq < ? AND chain = ?",
            (seq, seq, stream.topic, stream.partition, fence, seq, after),
        )
        if not self._db.changes():
            raise StreamLost("another owner holds the stream")
        self._db.execute(
            "INSERT INTO envelopes (topic, partition, seq, after, count, envelope, time_ms) VALUES (?,?,?,?,?,?,?)",
            (stream.topic, stream.partition, seq, after, count, envelope, now_ms),
        )

    def not_durable(self) -> list[Stream]:
        """Streams with envelopes that the transport does not have durably."""
        rows = self._db.execute(
            "SELECT topic, partition FROM streams_out s WHERE EXISTS (SELECT 1 FROM envelopes e"
            " WHERE e.topic = s.topic AND e.partition = s.partition AND e.seq > s.durable)"
        )
        return [Stream(topic, partition) for topic, partition in rows]

    def pending(self, stream: Stream, limit: int) -> list[tuple[int, bytes]]:
        """(seq, envelope) stored and not yet durable in the transport, in order."""
        return list(self._db.execute(
            "SELECT e.seq, e.envelope FROM streams_out s JOIN envelopes e USING (topic, partition)"
            " WHERE s.topic = ? AND s.partition = ? AND e.seq > s.durable ORDER BY e.seq LIMIT ?",
            (stream.topic, stream.partition, limit),
        ))  # fmt: skip

    def set_durable(self, stream: Stream, seqs: Sequence[int], now_ms: int) -> None:
        """The transport has these envelopes, the oldest first: since now, unless it had them before."""
        key = (stream.topic, stream.partition)
        self._db.executemany("INSERT OR IGNORE INTO sent VALUES (?, ?, ?, ?)", ((*key, seq, now_ms) for seq in seqs))
        self._db.execute(
            "UPDATE streams_out SET durable = max(durable, ?) WHERE topic = ? AND partition = ?", (seqs[-1], *key)
        )

    def kept(self, stream: Stream) -> int:
        """How many envelopes of the stream are kept: stored and not known to be taken."""
        query = "SELECT count(*) FROM envelopes WHERE topic = ? AND partition = ?"
        return int(self._db.execute(query, (stream.topic, stream.partition)).fetchone()[0])

    def set_taken(self, stream: Stream, taken: int) -> None:
        """The other party took everything up to `taken`: those envelopes are no longer needed."""
        key = (stream.topic, stream.partition)
        self._db.execute(
            "UPDATE streams_out SET taken = ?, repairs = 0"
            " WHERE topic = ? AND partition = ? AND taken < ? AND last_seq >= ?",
            (taken, *key, taken, taken),
        )
        self._db.execute("DELETE FROM envelopes WHERE topic = ? AND partition = ? AND seq <= ?", (*key, taken))

    def resend(self, stream: Stream, taken: int) -> None:
        """Put the stored envelopes after `taken` into the transport again."""
        self._db.execute(
            "UPDATE streams_out SET durable = min(durable, ?) WHERE topic = ? AND partition = ?",
            (taken, stream.topic, stream.partition),
        )

    def first_after(self, stream: Stream, taken: int) -> bytes | None:
        """The oldest stored envelope after `taken`; None: there is none."""
        row = self._db.execute(
            "SELECT envelope FROM envelopes WHERE topic = ? AND partition = ? AND seq > ? ORDER BY seq LIMIT 1",
            (stream.topic, stream.partition, taken),
        ).fetchone()
        return None if row is None else bytes(row[0])

    def restart(self, stream: Stream, taken: int) -> None:
        """Seal again what was not taken: the chain continues after `taken`, seqs go on."""
        key = (stream.topic, stream.partition)
        self._db.execute("DELETE FROM envelopes WHERE topic = ? AND partition = ? AND seq > ?", (*key, taken))
        self._db.execute(
            "UPDATE streams_out SET chain = ?, repairs = CASE WHEN repaired_at = ? THEN repairs + 1 ELSE 1 END,"
            " repaired_at = ? WHERE topic = ? AND partition = ?",
            (taken, taken, taken, *key),
        )

    def repairs_again(self, stream: Stream, repairs: int) -> None:
        """What could not be taken is gone: count anew, from `repairs`, for what comes after it."""
        self._db.execute(
            "UPDATE streams_out SET repairs = ? WHERE topic = ? AND partition = ?",
            (repairs, stream.topic, stream.partition),
        )

    def inflow(self, stream: Stream) -> Inflow:
        """Where a stream that we receive stands."""
        row = self._db.execute(
            "SELECT taken, why, position FROM streams_in WHERE topic = ? AND partition = ?",
            (stream.topic, stream.partition),
        ).fetchone()
        return Inflow(stream, row[0], Reason(row[1]), row[2]) if row else Inflow(stream, 0, Reason.NONE, 0)

    def inflows(self) -> list[Inflow]:
        """Every stream that we receive."""
        rows = self._db.execute("SELECT topic, partition, taken, why, position FROM streams_in ORDER BY 1, 2")
        return [Inflow(Stream(t, p), taken, Reason(why), position) for t, p, taken, why, position in rows]

    def advance(self, stream: Stream, position: int, taken: int, why: Reason) -> None:
        """Record where the transport was read to, with what was taken, in the same transaction."""
        self._db.execute(
            "INSERT INTO streams_in (topic, partition, taken, why, position) VALUES (?,?,?,?,?)"
            " ON CONFLICT DO UPDATE SET taken = excluded.taken, why = excluded.why, position = excluded.position",
            (stream.topic, stream.partition, taken, int(why), position),
        )

    def header_hash(self, stream: Stream, seq: int) -> bytes | None:
        """H(header) of a seq that passed step 6; two different ones are evidence."""
        row = self._db.execute(
            "SELECT hash FROM headers WHERE topic = ? AND partition = ? AND seq = ?",
            (stream.topic, stream.partition, seq),
        ).fetchone()
        return None if row is None else row[0]

    def keep_header(
        self, stream: Stream, seq: int, digest: bytes, header: bytes, signature: bytes, enc_ct_hash: bytes
    ) -> None:
        """Keep what proves an envelope without its ciphertext."""
        self._db.execute(
            "INSERT OR IGNORE INTO headers VALUES (?,?,?,?,?,?,?)",
            (stream.topic, stream.partition, seq, digest, header, signature, enc_ct_hash),
        )

    def quarantine(self, digest: bytes, stream: Stream, position: int, why: str, now_ms: int, cap: int) -> None:
        """One bounded, aggregated record of what was skipped: whoever can write a topic cannot grow this table."""
        self._db.execute("UPDATE quarantine SET times = times + 1 WHERE hash = ?", (digest,))
        if self._db.changes():
            return
        count = self._db.execute("SELECT count(*) FROM quarantine").fetchone()[0]
        if count >= cap:
            self._db.execute("UPDATE quarantine SET times = times + 1 WHERE hash = x''")
            if not self._db.changes():
                digest = b""
            else:
                return
        self._db.execute(
            "INSERT INTO quarantine (hash, topic, partition, position, why, time_ms) VALUES (?,?,?,?,?,?)",
            (digest, stream.topic, stream.partition, position, why, now_ms),
        )
