"""What we send: submissions with their results, and messages until their final receipt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import apsw

from broker.errors import ConflictError, OriginError, StreamLost
from broker.message import (
    FINAL,
    KEPT_MS,
    Outgoing,
    Reason,
    SignedBatch,
    State,
    Step,
    StoredMessage,
    Stream,
    pack_step,
    unpack_steps,
)

_VIEW = (
    "row, message_id, release, origin, recipient, family, kind, purpose, conversation, state, reason, steps, decision,"
    " expires_ms, destroy_by_ms, destroyed, seq"
)


@dataclass(frozen=True, slots=True)
class Unsealed:
    """A message as it goes into an envelope; content is still sealed under its own key."""

    row: int
    entry: bytes
    core: bytes
    content: bytes
    key_id: bytes
    release: bytes
    expires_ms: int
    batch: SignedBatch


@dataclass(frozen=True, slots=True)
class Held:
    """The first result of a message id: what our own gateway decided, whatever came of it later."""

    refused: bool
    decision: bytes


@dataclass(frozen=True, slots=True)
class Sent:
    """Where a release stands, and the envelope that carries it (0: none yet)."""

    state: State
    recipient: str
    stream: Stream
    seq: int


class Outbox:
    """Rows of `outbound`, and the batches that they were signed in."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection

    def batch(self, batch: SignedBatch) -> int:
        """The row of a signed batch, made when it is new."""
        found = self._db.execute("SELECT row FROM batches WHERE statement = ?", (batch.statement,)).fetchone()
        if found is None:
            self._db.execute(
                "INSERT INTO batches (statement, signature) VALUES (?, ?)", (batch.statement, batch.signature)
            )
            return int(self._db.last_insert_rowid())
        return int(found[0])

    def first_result(self, message: Outgoing) -> Held | None:
        """The result that this submission already has; ConflictError when the id stands for another."""
        found = self._db.execute(
            "SELECT statement_hash, release IS NULL, decision FROM outbound WHERE origin = ? AND message_id = ?",
            (message.origin, message.message_id),
        ).fetchone()
        if found is None:
            return None
        if found[0] != message.statement_hash:
            raise ConflictError("the message id stands for another submission")
        return Held(bool(found[1]), found[2])

    def check_named(self, message: Outgoing) -> None:
        """Refuse a reference that names nothing released or received between these two agencies."""
        pair = (message.origin, message.recipient)
        for name in message.named:
            ours = "SELECT 1 FROM outbound WHERE origin = ? AND recipient = ? AND (message_id = ? OR release = ?)"
            theirs = "SELECT 1 FROM inbound WHERE recipient = ? AND origin = ? AND (message_id = ? OR release = ?)"
            if not any(self._db.execute(query, (*pair, name, name)).fetchone() for query in (ours, theirs)):
                raise OriginError("a reference names no message between these two agencies")

    def insert(self, message: Outgoing, batch: int) -> None:
        """Keep one decided submission."""
        state = State.REFUSED if message.stream is None else State.ACCEPTED
        reason = Reason.POLICY if message.stream is None else Reason.NONE
        stream = message.stream
        self._db.execute(
            "INSERT INTO outbound (message_id, origin, statement_hash, release, recipient, family, kind, purpose,"
            " conversation, topic, partition, state, reason, steps, decision, batch, key_id, expires_ms, destroy_by_ms)"
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                message.message_id, message.origin, message.statement_hash, message.release or None, message.recipient,
                message.family, message.kind, message.purpose, message.conversation,
                stream.topic if stream else None, stream.partition if stream else None, int(state), int(reason),
                pack_step(Step(state, reason, message.time_ms)), message.decision.leaf, batch,
                message.keys.key_id, message.expires_ms, message.destroy_by_ms,
            ),
        )  # fmt: skip
        if message.release:
            self._db.execute(
                "INSERT INTO outbound_bodies VALUES (?, ?, ?, ?)",
                (self._db.last_insert_rowid(), message.entry, message.core, message.content),
            )
        if message.accounting is not None:
            account = message.accounting
            self._db.execute(
                "INSERT INTO accounting (release, subject, recipient, purpose, time_ms, keep_until_ms)"
                " VALUES (?,?,?,?,?,?)",
                (
                    message.release,
                    account.subject,
                    account.recipient,
                    account.purpose,
                    account.time_ms,
                    account.keep_until_ms,
                ),
            )

    def streams_waiting(self) -> list[Stream]:
        """Streams that have messages to seal."""
        rows = self._db.execute("SELECT DISTINCT topic, partition FROM outbound WHERE seq IS NULL AND state = 2")
        return [Stream(topic, partition) for topic, partition in rows]

    def unsealed(self, stream: Stream, limit: int) -> list[Unsealed]:
        """The oldest committed messages of a stream that no envelope holds."""
        rows = self._db.execute(
            "SELECT o.row, m.entry, m.core, m.content, o.key_id, o.release, o.expires_ms, b.statement, b.signature"
            " FROM outbound o JOIN batches b ON b.row = o.batch JOIN outbound_bodies m ON m.row = o.row"
            " WHERE o.topic = ? AND o.partition = ? AND o.seq IS NULL AND o.state = 2"
            " ORDER BY o.row LIMIT ?",
            (stream.topic, stream.partition, limit),
        )
        return [Unsealed(r[0], r[1], r[2], r[3], r[4], r[5], r[6], SignedBatch(r[7], r[8])) for r in rows]

    def set_sealed(self, rows: Sequence[int], seq: int) -> None:
        """These rows travel in envelope `seq`. Raises StreamLost when one ended meanwhile (recalled, expired)."""
        for row in rows:
            self._db.execute("UPDATE outbound SET seq = ? WHERE row = ? AND seq IS NULL AND state = 2", (seq, row))
            if not self._db.changes():
                raise StreamLost("a message ended while it was being sealed")

    def set_sent(self, stream: Stream, seq: int, now_ms: int) -> None:
        """The transport has envelope `seq` durably."""
        self._db.execute(
            "UPDATE outbound SET state = 3, steps = CAST(steps || ? AS BLOB)"
            " WHERE topic = ? AND partition = ? AND seq = ? AND state = 2",
            (pack_step(Step(State.SENT, Reason.NONE, now_ms)), stream.topic, stream.partition, seq),
        )

    def unseal(self, stream: Stream, after_seq: int) -> None:
        """What was sealed after `after_seq` and has no receipt is sealed again, in its old order."""
        self._db.execute(
            "UPDATE outbound SET seq = NULL, state = 2"
            " WHERE topic = ? AND partition = ? AND seq > ? AND state IN (2, 3)",
            (stream.topic, stream.partition, after_seq),
        )

    def step(self, release: bytes, step: Step, now_ms: int) -> bool:
        """Record the next state of a message; False when there is no such message.

        A state that ends it sets an end to its content, where no rule does; by our clock, not by the receipt's.
        """
        end = now_ms + KEPT_MS if step.state in FINAL else 0
        self._db.execute(
            "UPDATE outbound SET state = ?, reason = ?, steps = CAST(steps || ? AS BLOB),"
            " destroy_by_ms = CASE destroy_by_ms WHEN 0 THEN ? ELSE destroy_by_ms END WHERE release = ?",
            (int(step.state), int(step.reason), pack_step(step), end, release),
        )
        return bool(self._db.changes())

    def sent(self, release: bytes) -> Sent | None:
        """Where one of our releases stands; None when it is not ours."""
        row = self._db.execute(
            "SELECT state, recipient, topic, partition, seq FROM outbound WHERE release = ?", (release,)
        ).fetchone()
        return None if row is None else Sent(State(row[0]), row[1], Stream(row[2], row[3]), row[4] or 0)

    def was_sent(self, release: bytes) -> bool:
        """Whether the transport ever had it, though it may wait to be sealed again."""
        row = self._db.execute("SELECT steps FROM outbound WHERE release = ?", (release,)).fetchone()
        return row is not None and any(step.state is State.SENT for step in unpack_steps(row[0]))

    def refuse_first(self, stream: Stream, now_ms: int) -> bytes | None:
        """Refuse (ENVELOPE) the message that cannot be taken although it is alone in its envelope."""
        row = self._db.execute(
            "SELECT release FROM outbound WHERE topic = ? AND partition = ? AND seq IS NULL AND state = 2"
            " ORDER BY row LIMIT 1",
            (stream.topic, stream.partition),
        ).fetchone()
        if row is None:
            return None
        self.step(row[0], Step(State.REFUSED, Reason.ENVELOPE, now_ms), now_ms)
        return bytes(row[0])

    def expired(self, now_ms: int, limit: int) -> list[bytes]:
        """Releases that ran out before they were sealed."""
        rows = self._db.execute(
            "SELECT release FROM outbound WHERE seq IS NULL AND state = 2 AND expires_ms <= ? LIMIT ?", (now_ms, limit)
        )
        return [row[0] for row in rows]

    def get(self, origin: str, name: bytes) -> StoredMessage | None:
        """A message of this agency, by message id or release."""
        return self._one("origin = ? AND (message_id = ? OR release = ?)", (origin, name, name))

    def page(self, origin: str, states: Sequence[State], before: int, limit: int) -> list[StoredMessage]:
        """This agency's messages, newest first, below row `before` (0: from the top)."""
        wanted = ",".join(str(int(s)) for s in states) or "1,2,3,4,5,6,7,8,9"
        query = (
            f"SELECT {_VIEW} FROM outbound WHERE origin = ? AND state IN ({wanted}) AND (? = 0 OR row < ?)"  # noqa: S608
            " ORDER BY row DESC LIMIT ?"
        )
        return [_stored(row) for row in self._db.execute(query, (origin, before, before, limit))]

    def counts(self) -> dict[State, int]:
        """How many submissions are in each state."""
        rows = self._db.execute("SELECT state, count(*) FROM outbound GROUP BY state")
        return {State(state): count for state, count in rows}

    def oldest(self, stream: Stream) -> tuple[int, int]:
        """How many messages of a stream have no receipt, and when the oldest was accepted (ms; 0: none)."""
        row = self._db.execute(
            "SELECT count(*), min(row) FROM outbound WHERE topic = ? AND partition = ? AND state IN (2, 3)",
            (stream.topic, stream.partition),
        ).fetchone()
        if not row[0]:
            return 0, 0
        steps = self._db.execute("SELECT steps FROM outbound WHERE row = ?", (row[1],)).fetchone()[0]
        return row[0], next(unpack_steps(steps)).at_ms

    def to_purge(self, now_ms: int, limit: int) -> list[tuple[int, bytes, bytes]]:
        """(row, release, key id) whose content must go."""
        return list(self._db.execute(
            "SELECT row, release, key_id FROM outbound"
            " WHERE destroyed = 0 AND destroy_by_ms > 0 AND destroy_by_ms <= ? LIMIT ?",
            (now_ms, limit),
        ))  # fmt: skip

    def destroyed(self, row: int) -> None:
        """The content is gone."""
        self._db.execute("UPDATE outbound SET destroyed = 1 WHERE row = ?", (row,))
        self._db.execute("UPDATE outbound_bodies SET content = NULL WHERE row = ?", (row,))

    def _one(self, clause: str, values: tuple[object, ...]) -> StoredMessage | None:
        row = self._db.execute(f"SELECT {_VIEW} FROM outbound WHERE {clause}", values).fetchone()  # noqa: S608
        return None if row is None else _stored(row)


def _stored(row: Any) -> StoredMessage:
    (number, message_id, release, origin, recipient, family, kind, purpose, conversation, state, reason, steps,
     decision, expires, destroy_by, destroyed, seq) = row  # fmt: skip
    return StoredMessage(
        number, message_id, release or b"", "out", origin, recipient, family, kind, purpose, conversation,
        State(state), Reason(reason), tuple(unpack_steps(steps)), decision, expires, destroy_by, bool(destroyed),
        seq is not None,
    )  # fmt: skip
