"""What we send: submissions with their results, and messages until their final receipt."""

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Any

import apsw

from broker.errors import OriginError, StreamLost
from broker.ledger.history import counted_over
from broker.ledger.schema import marks
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

_SENT = "outbound o LEFT JOIN sent s ON s.topic = o.topic AND s.partition = o.partition AND s.seq = o.seq"
"""A message whose envelope the transport has is sent; its row says so only when something more becomes of it."""
_STATE = "(CASE WHEN o.state = 2 AND s.at_ms IS NOT NULL THEN 3 ELSE o.state END)"
_VIEW = (
    f"SELECT o.row, message_id, release, origin, recipient, family, kind, purpose, conversation, {_STATE}, reason,"
    f" steps, decision, expires_ms, destroy_by_ms, destroyed, (o.seq IS NOT NULL OR left_once), s.at_ms FROM {_SENT}"
)
_UNSEALED = "o.topic = s.topic AND o.partition = s.partition AND o.seq IS NULL AND o.state = 2"
"""What waits for an envelope of stream `s`."""


@dataclass(frozen=True, slots=True)
class Unsealed:
    """A message that waits for an envelope."""

    row: int
    release: bytes
    key_id: bytes
    expires_ms: int
    batch: SignedBatch
    left_once: bool
    """An earlier envelope held it, and may have left: whatever becomes of it, the other party says so."""


@dataclass(frozen=True, slots=True)
class Body:
    """What travels of a message; content is still sealed under its own key."""

    entry: bytes
    core: bytes
    content: bytes


@dataclass(frozen=True, slots=True)
class Held:
    """The first result of a message id: what our own gateway decided, whatever came of it later."""

    statement_hash: bytes
    refused: bool
    decision: bytes


@dataclass(frozen=True, slots=True)
class Sent:
    """Where a release stands, and the envelope that carries it (0: none).

    `steps`: what its row says of its way; `sent_ms`: when the transport had that envelope (0: it has not said so).
    """

    row: int
    state: State
    recipient: str
    stream: Stream
    seq: int
    steps: bytes
    sent_ms: int
    left_once: bool

    @property
    def was_sent(self) -> bool:
        """Whether the other party may have it, though it may wait to be sealed again."""
        return bool(self.seq) or self.left_once

    def after(self, step: Step, now_ms: int) -> "Sent":
        """Where it stands after `step`; that it was sent goes before, even when the receipt was the faster word."""
        steps = self.steps
        if self.state in {State.ACCEPTED, State.SENT} and step.state is not State.SENT:
            steps += pack_step(Step(State.SENT, Reason.NONE, self.sent_ms or now_ms))
        return replace(self, state=step.state, steps=steps + pack_step(step))


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

    def first_results(self, origin: str, message_ids: Sequence[bytes]) -> dict[bytes, Held]:
        """By message id, the results that this agency's submissions of these ids already have."""
        found = self._db.execute(
            "SELECT message_id, statement_hash, release IS NULL, decision FROM outbound"
            f" WHERE origin = ? AND message_id IN ({marks(message_ids)})",
            (origin, *message_ids),
        )
        return {row[0]: Held(row[1], bool(row[2]), row[3]) for row in found}

    def check_named(self, message: Outgoing, beside: Container[tuple[str, bytes]]) -> None:
        """Refuse a reference that names nothing released or received between these two agencies.

        `beside`: (recipient, message id) of what is released in the same call.
        """
        pair = (message.origin, message.recipient)
        for name in message.named:
            ours = (
                "SELECT 1 FROM outbound WHERE origin = ? AND recipient = ? AND release IS NOT NULL"
                " AND (message_id = ? OR release = ?)"
            )
            theirs = "SELECT 1 FROM inbound WHERE recipient = ? AND origin = ? AND (message_id = ? OR release = ?)"
            if (message.recipient, name) in beside:
                continue
            if not any(self._db.execute(query, (*pair, name, name)).fetchone() for query in (ours, theirs)):
                raise OriginError("a reference names no message between these two agencies")

    def insert(self, messages: Sequence[Outgoing], batch: int) -> None:
        """Keep decided submissions of one batch."""
        first = self._db.execute("SELECT coalesce(max(row), 0) + 1 FROM outbound").fetchone()[0]
        rows = list(enumerate(messages, first))
        self._db.executemany(
            "INSERT INTO outbound (row, message_id, origin, statement_hash, release, recipient, family, kind, purpose,"
            " conversation, topic, partition, state, reason, steps, decision, batch, key_id, expires_ms, destroy_by_ms)"
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (_row(row, message, batch) for row, message in rows),
        )
        self._db.executemany(
            "INSERT INTO outbound_bodies VALUES (?, ?, ?, ?)",
            ((row, m.entry, m.core, m.content) for row, m in rows if m.release),
        )
        self._db.executemany(
            "INSERT INTO accounting (release, subject, recipient, purpose, time_ms, keep_until_ms)"
            " VALUES (?,?,?,?,?,?)",
            (
                (m.release, a.subject, a.recipient, a.purpose, a.time_ms, a.keep_until_ms)
                for _, m in rows
                if (a := m.accounting) is not None
            ),
        )

    def streams_waiting(self) -> list[Stream]:
        """Streams that have messages to seal."""
        waiting = f"SELECT 1 FROM outbound o WHERE {_UNSEALED} AND o.destroyed = 0"
        rows = self._db.execute(f"SELECT topic, partition FROM streams_out s WHERE EXISTS ({waiting})")
        return [Stream(topic, partition) for topic, partition in rows]

    def unsealed(self, stream: Stream, limit: int) -> list[Unsealed]:
        """The oldest committed messages of a stream that no envelope holds."""
        rows = self._db.execute(
            "SELECT o.row, o.release, o.key_id, o.expires_ms, b.statement, b.signature, o.left_once"
            " FROM outbound o JOIN batches b ON b.row = o.batch"
            " WHERE o.topic = ? AND o.partition = ? AND o.seq IS NULL AND o.state = 2 AND o.destroyed = 0"
            " ORDER BY o.row LIMIT ?",
            (stream.topic, stream.partition, limit),
        )
        return [Unsealed(r[0], r[1], r[2], r[3], SignedBatch(r[4], r[5]), bool(r[6])) for r in rows]

    def body(self, row: int) -> Body:
        """What travels of a message."""
        query = "SELECT entry, core, content FROM outbound_bodies WHERE row = ?"
        return Body(*self._db.execute(query, (row,)).fetchone())

    def unsealed_count(self) -> int:
        """How many messages wait to be sealed; by their index alone."""
        return int(self._db.execute("SELECT count(*) FROM outbound WHERE seq IS NULL AND state = 2").fetchone()[0])

    def unsealed_bytes(self) -> int:
        """Bytes of their contents: reads a page of each."""
        query = (
            "SELECT sum(length(m.content)) FROM outbound o JOIN outbound_bodies m ON m.row = o.row"
            " WHERE o.seq IS NULL AND o.state = 2"
        )
        return int(self._db.execute(query).fetchone()[0] or 0)

    def set_sealed(self, rows: Sequence[int], seq: int) -> None:
        """These rows travel in envelope `seq`. Raises StreamLost when one ended meanwhile (recalled, expired)."""
        self._db.execute(
            f"UPDATE outbound SET seq = ? WHERE row IN ({marks(rows)}) AND seq IS NULL AND state = 2",
            (seq, *rows),
        )
        if self._db.changes() != len(rows):
            raise StreamLost("a message ended while it was being sealed")

    def unseal(self, stream: Stream, after_seq: int) -> None:
        """What was sealed after `after_seq` and has no receipt is sealed again, in its old order.

        Its earlier envelope may have left: from now on it ends by the other party's word.
        """
        found = self._db.execute(
            f"SELECT o.row, o.steps, s.at_ms FROM {_SENT}"
            " WHERE o.topic = ? AND o.partition = ? AND o.seq > ? AND o.state = 2",
            (stream.topic, stream.partition, after_seq),
        ).fetchall()
        self._db.executemany(
            "UPDATE outbound SET seq = NULL, left_once = 1, steps = ? WHERE row = ?",
            ((_with_sent(steps, sent_ms), row) for row, steps, sent_ms in found),
        )

    def sent(self, releases: Sequence[bytes]) -> dict[bytes, Sent]:
        """Where those of these releases stand that are ours."""
        found = self._db.execute(
            f"SELECT release, o.row, {_STATE}, recipient, o.topic, o.partition, o.seq, o.steps, s.at_ms, left_once"
            f" FROM {_SENT} WHERE release IN ({marks(releases)})",
            releases,
        )
        return {
            r[0]: Sent(r[1], State(r[2]), r[3], Stream(r[4], r[5]), r[6] or 0, r[7], r[8] or 0, bool(r[9]))
            for r in found
        }

    def set_states(self, changed: Sequence[tuple[Sent, Reason]], now_ms: int) -> None:
        """Record where these stand now. What ended has an end to its content, where no rule set one: by our clock."""
        self._db.executemany(
            "UPDATE outbound SET state = ?, reason = ?, steps = ?,"
            " destroy_by_ms = CASE destroy_by_ms WHEN 0 THEN ? ELSE destroy_by_ms END WHERE row = ?",
            (
                (int(sent.state), int(reason), sent.steps, now_ms + KEPT_MS if sent.state in FINAL else 0, sent.row)
                for sent, reason in changed
            ),
        )

    def end(self, release: bytes, step: Step, now_ms: int) -> None:
        """End a message that no envelope holds."""
        found = self.sent([release])[release]
        ended = replace(found, state=step.state, steps=found.steps + pack_step(step))
        self.set_states([(ended, step.reason)], now_ms)

    def refuse_first(self, stream: Stream, now_ms: int) -> bytes | None:
        """Refuse (ENVELOPE) the message that cannot be taken although it is alone in its envelope."""
        row = self._db.execute(
            "SELECT release FROM outbound WHERE topic = ? AND partition = ? AND seq IS NULL AND state = 2"
            " AND left_once = 1 AND destroyed = 0 ORDER BY row LIMIT 1",  # the others were in no envelope
            (stream.topic, stream.partition),
        ).fetchone()
        if row is None:
            return None
        self.end(row[0], Step(State.REFUSED, Reason.ENVELOPE, now_ms), now_ms)
        return bytes(row[0])

    def expired(self, now_ms: int, limit: int) -> list[bytes]:
        """Releases that ran out before they were first sealed.

        One that waits to be sealed again goes all the same, and its recipient says that it expired; unless its
        content is gone, so that nothing can go.
        """
        rows = self._db.execute(
            f"SELECT o.release FROM streams_out s JOIN outbound o ON {_UNSEALED} WHERE o.expires_ms <= ?"
            " AND (o.left_once = 0 OR o.destroyed = 1) LIMIT ?",
            (now_ms, limit),
        )
        return [row[0] for row in rows]

    def get(self, origin: str, name: bytes) -> StoredMessage | None:
        """A message of this agency, by message id or release."""
        return self._one("origin = ? AND (message_id = ? OR release = ?)", (origin, name, name))

    def page(self, origin: str, states: Sequence[State], before: int, limit: int) -> list[StoredMessage]:
        """This agency's messages, newest first, below row `before` (0: from the top)."""
        wanted = states or tuple(State)
        query = (
            f"{_VIEW} WHERE origin = ? AND {_STATE} IN ({marks(wanted)}) AND (? = 0 OR o.row < ?)"
            " ORDER BY o.row DESC LIMIT ?"
        )
        values = (origin, *map(int, wanted), before, before, limit)
        return [_stored(row) for row in self._db.execute(query, values)]

    def counts(self) -> dict[State, int]:
        """How many submissions are in each state."""
        over = counted_over(self._db, "outbound")
        kept = dict(self._db.execute(f"SELECT {_STATE}, count(*) FROM {_SENT} GROUP BY 1"))
        return {state: kept.get(state, 0) + over.get(state, 0) for state in State if state in kept or state in over}

    def oldest(self, stream: Stream) -> tuple[int, int]:
        """How many messages of a stream have no receipt, and when the oldest was accepted (ms; 0: none)."""
        row = self._db.execute(
            "SELECT count(*), min(row) FROM outbound WHERE topic = ? AND partition = ? AND state = 2",
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
        row = self._db.execute(f"{_VIEW} WHERE {clause}", values).fetchone()
        return None if row is None else _stored(row)


def _row(row: int, message: Outgoing, batch: int) -> tuple[object, ...]:
    """The columns of a decided submission: accepted when it has a release, else refused by policy."""
    state, reason = (State.ACCEPTED, Reason.NONE) if message.release else (State.REFUSED, Reason.POLICY)
    stream = message.stream
    return (
        row, message.message_id, message.origin, message.statement_hash, message.release or None, message.recipient,
        message.family, message.kind, message.purpose, message.conversation,
        stream.topic if stream else None, stream.partition if stream else None, int(state), int(reason),
        pack_step(Step(state, reason, message.time_ms)), message.decision.leaf, batch,
        message.keys.key_id, message.expires_ms, message.destroy_by_ms,
    )  # fmt: skip


def _with_sent(steps: bytes, sent_ms: int | None) -> bytes:
    """The steps, and that the transport had the message."""
    return steps if sent_ms is None else steps + pack_step(Step(State.SENT, Reason.NONE, sent_ms))


def _stored(row: Any) -> StoredMessage:
    (number, message_id, release, origin, recipient, family, kind, purpose, conversation, state, reason, steps,
     decision, expires, destroy_by, destroyed, sealed, sent_ms) = row  # fmt: skip
    if state == State.SENT:
        steps = _with_sent(steps, sent_ms)
    return StoredMessage(
        number, message_id, release or b"", "out", origin, recipient, family, kind, purpose, conversation,
        State(state), Reason(reason), tuple(unpack_steps(steps)), decision, expires, destroy_by, bool(destroyed),
        bool(sealed),
    )  # fmt: skip
