"""What we receive: messages until their agency answers, leases on conversations, and every receipt given."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import apsw

from broker.ledger.history import counted_over
from broker.ledger.schema import marks
from broker.message import (
    FINAL,
    KEPT_MS,
    Incoming,
    Reason,
    SignedBatch,
    State,
    Step,
    StoredMessage,
    pack_step,
    unpack_steps,
)

SLOW_AFTER = 5
"""Attempts after which a message is offered more slowly, and is on the operators' list."""
SLOW_MS = 60_000

_VIEW = (
    "row, message_id, release, origin, recipient, family, kind, purpose, conversation, state, reason, steps, decision,"
    " expires_ms, destroy_by_ms, destroyed"
)


_OFFER = (
    "SELECT i.release, i.conversation, i.family, m.entry, m.core, m.content, i.key_id, b.statement, b.signature,"
    " i.caveats, i.withheld, i.attempts, i.recall FROM inbound i JOIN batches b ON b.row = i.batch"
    " JOIN inbound_bodies m ON m.row = i.row"
)


@dataclass(frozen=True, slots=True)
class Offer:
    """A message as it is handed to its agency; content is still sealed under its own key."""

    release: bytes
    conversation: bytes
    family: str
    entry: bytes
    core: bytes
    content: bytes
    key_id: bytes
    batch: SignedBatch
    caveats: tuple[int, ...]
    withheld: tuple[tuple[int, int], ...]
    attempt: int
    recall: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a message that came stands; `recall`: its agency is asked to destroy it."""

    state: State
    conversation: bytes
    recall: bool


class Mailbox:
    """Rows of `inbound` and `leases`."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection

    def receipt(self, release: bytes) -> bytes | None:
        """The last receipt given for a release that was already answered; None when it is new."""
        row = self._db.execute("SELECT receipt FROM inbound WHERE release = ?", (release,)).fetchone()
        return None if row is None else row[0]

    def receipts(self, releases: Sequence[bytes]) -> dict[bytes, bytes]:
        """The last receipt given for each of these releases that was already answered."""
        query = f"SELECT release, receipt FROM inbound WHERE release IN ({marks(releases)})"
        return dict(self._db.execute(query, releases))

    def seen(self, message_ids: Sequence[bytes]) -> set[tuple[str, bytes]]:
        """(origin, message id) of those that came before, under whatever release."""
        query = f"SELECT origin, message_id FROM inbound WHERE message_id IN ({marks(message_ids)})"
        return set(self._db.execute(query, message_ids))

    def correctable(self, message_id: bytes, origin: str, recipient: str, family: str, conversation: bytes) -> bool:
        """Whether a message of that id was received with the same origin, recipient, family and conversation."""
        query = (
            "SELECT 1 FROM inbound WHERE message_id = ? AND origin = ? AND recipient = ? AND family = ?"
            " AND conversation = ? AND state != 1"
        )
        return self._db.execute(query, (message_id, origin, recipient, family, conversation)).fetchone() is not None

    def insert(self, kept: Sequence[tuple[Incoming, int | None, bytes]]) -> None:
        """Keep messages that were taken, each with its batch (None: nothing is kept of it) and its receipt."""
        first = self._db.execute("SELECT coalesce(max(row), 0) + 1 FROM inbound").fetchone()[0]
        self._db.executemany(
            "INSERT INTO inbound (row, release, message_id, origin, recipient, family, kind, purpose, conversation,"
            " state, reason, steps, decision, batch, key_id, caveats, withheld, receipt, expires_ms, destroy_by_ms)"
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (_row(row, *one) for row, one in enumerate(kept, first)),
        )
        self._db.executemany(
            "INSERT INTO inbound_bodies VALUES (?, ?, ?, ?)",
            (
                (row, message.entry, message.core, message.content or None)
                for row, (message, batch, _) in enumerate(kept, first)
                if batch is not None
            ),
        )

    def waiting(self, agency: str, holder: str, now_ms: int) -> bool:
        """Whether `lease` would find something, or a recall waits for an answer."""
        query = (
            "SELECT 1 FROM inbound i"
            " LEFT JOIN leases l ON l.recipient = i.recipient AND l.conversation = i.conversation"
            " WHERE i.recipient = ? AND (i.state = 4 OR i.state = 5) AND i.destroyed = 0"
            " AND (l.holder IS NULL OR l.until_ms <= ? OR (l.holder = ? AND i.state = 4)) LIMIT 1"
        )
        if self._db.execute(query, (agency, now_ms, holder)).fetchone():
            return True
        return (
            self._db.execute("SELECT 1 FROM inbound WHERE recipient = ? AND recall = 1", (agency,)).fetchone()
            is not None
        )

    def lease(self, agency: str, holder: str, now_ms: int, until_ms: int, limit: int) -> list[Offer]:
        """Lease the next messages of conversations that nobody else holds, in order, and record them as delivered."""
        rows, again = self._next(agency, holder, now_ms, limit)
        last = {conversation: row for row, conversation in rows}
        self._db.executemany(  # what this lease has no room for is offered next, before anything newer
            "UPDATE inbound SET state = 4 WHERE recipient = ? AND conversation = ? AND state = 5 AND row > ?",
            ((agency, conversation, last[conversation]) for conversation in again),
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?)",
            ((agency, conversation, holder, until_ms) for conversation in last),
        )
        step = pack_step(Step(State.DELIVERED, Reason.NONE, now_ms))
        self._db.executemany(
            "UPDATE inbound SET state = 5, attempts = attempts + 1,"
            " steps = CAST(CASE state WHEN 4 THEN steps || ? ELSE steps END AS BLOB)"
            " WHERE row = ?",
            ((step, row) for row, _ in rows),
        )
        offered = f"{_OFFER} WHERE i.row IN ({marks(rows)}) ORDER BY i.row"
        return [_offer(found) for found in self._db.execute(offered, [row for row, _ in rows])]

    def _next(self, agency: str, holder: str, now_ms: int, limit: int) -> tuple[list[tuple[int, bytes]], set[bytes]]:
        """(row, conversation) of what may be offered, and conversations that are offered again.

        Behind a message that is offered slowly, all of its conversation wait.
        """
        rows: list[tuple[int, bytes]] = []
        slowly: set[bytes] = set()
        again: set[bytes] = set()
        for row, state, attempts, steps, conversation in self._db.execute(
            "SELECT i.row, i.state, i.attempts, i.steps, i.conversation FROM inbound i"
            " LEFT JOIN leases l ON l.recipient = i.recipient AND l.conversation = i.conversation"
            " WHERE i.recipient = ? AND (i.state = 4 OR i.state = 5) AND i.destroyed = 0"
            " AND (l.holder IS NULL OR l.until_ms <= ? OR (l.holder = ? AND i.state = 4)) ORDER BY i.row",
            (agency, now_ms, holder),
        ):
            if len(rows) >= limit:
                break
            if conversation in slowly or _slow(attempts, steps, now_ms):
                slowly.add(conversation)
            else:
                rows.append((row, conversation))
                if state == State.DELIVERED:
                    again.add(conversation)
        return rows, again

    def recalls_to_answer(self, agency: str, limit: int) -> list[Offer]:
        """Recalled after they were acknowledged: the agency is asked to destroy."""
        rows = self._db.execute(
            _OFFER + " WHERE i.recipient = ? AND i.recall = 1 ORDER BY i.row LIMIT ?", (agency, limit)
        )
        return [_offer(row) for row in rows]

    def extend(self, agency: str, holder: str, conversation: bytes, until_ms: int) -> bool:
        """Hold a conversation longer; False when the lease was lost."""
        self._db.execute(
            "UPDATE leases SET until_ms = ? WHERE recipient = ? AND conversation = ? AND holder = ?",
            (until_ms, agency, conversation, holder),
        )
        return bool(self._db.changes())

    def held(self, agency: str, holder: str, conversations: Sequence[bytes]) -> set[bytes]:
        """Those of these conversations whose lease this stream still holds."""
        query = (
            "SELECT conversation FROM leases WHERE recipient = ? AND holder = ?"
            f" AND conversation IN ({marks(conversations)})"
        )
        return {row[0] for row in self._db.execute(query, (agency, holder, *conversations))}

    def let_go(self, holder: str) -> None:
        """A stream ended: its conversations are offered again."""
        self._db.execute("DELETE FROM leases WHERE holder = ?", (holder,))

    def free_leases(self, alive: Sequence[str]) -> int:
        """End the leases of every stream whose process is none of these incarnations; returns how many.

        A holder is `<incarnation>.<stream>`. Its messages are offered again, in order, as if the lease had lapsed.
        """
        self._db.execute(
            f"DELETE FROM leases WHERE substr(holder, 1, instr(holder, '.') - 1) NOT IN ({marks(alive)})",
            alive,
        )
        return int(self._db.changes())

    def for_answers(self, agency: str, releases: Sequence[bytes]) -> dict[bytes, Standing]:
        """Where those of these releases stand that came for this agency."""
        query = (
            "SELECT release, state, conversation, recall FROM inbound"
            f" WHERE recipient = ? AND release IN ({marks(releases)})"
        )
        found = self._db.execute(query, (agency, *releases))
        return {
            release: Standing(State(state), conversation, bool(recall))
            for release, state, conversation, recall in found
        }

    def for_recall(self, release: bytes) -> tuple[State, str, str] | None:
        """State, origin and recipient of a release that came; None when it did not."""
        row = self._db.execute("SELECT state, origin, recipient FROM inbound WHERE release = ?", (release,)).fetchone()
        return None if row is None else (State(row[0]), row[1], row[2])

    def set_states(self, changed: Sequence[tuple[bytes, Step, bytes]]) -> None:
        """Record the next state of each release, with the receipt given for it.

        A state that ends a message sets an end to its content, where no rule does.
        """
        self._db.executemany(
            "UPDATE inbound SET state = ?, reason = ?, steps = CAST(steps || ? AS BLOB), receipt = ?, recall = 0,"
            " destroy_by_ms = CASE destroy_by_ms WHEN 0 THEN ? ELSE destroy_by_ms END WHERE release = ?",
            (
                (
                    int(step.state), int(step.reason), pack_step(step), receipt,
                    step.at_ms + KEPT_MS if step.state in FINAL else 0, release,
                )
                for release, step, receipt in changed
            ),
        )  # fmt: skip

    def ask_to_destroy(self, release: bytes) -> None:
        """A recall of an acknowledged message waits for its agency's answer."""
        self._db.execute("UPDATE inbound SET recall = 1 WHERE release = ?", (release,))

    def expired(self, now_ms: int, limit: int) -> list[bytes]:
        """Releases that no agency answered in time."""
        query = "SELECT release FROM inbound WHERE state IN (4, 5) AND expires_ms <= ? LIMIT ?"
        return [row[0] for row in self._db.execute(query, (now_ms, limit))]

    def to_purge(self, now_ms: int, limit: int) -> list[tuple[int, bytes, bytes]]:
        """(row, release, key id) whose content must go."""
        return list(self._db.execute(
            "SELECT row, release, key_id FROM inbound WHERE destroyed = 0 AND destroy_by_ms > 0 AND destroy_by_ms <= ?"
            " AND key_id IS NOT NULL LIMIT ?",
            (now_ms, limit),
        ))  # fmt: skip

    def key_of(self, release: bytes) -> tuple[int, bytes] | None:
        """(row, key id) of a message whose content is still there."""
        query = "SELECT row, key_id FROM inbound WHERE release = ? AND destroyed = 0 AND key_id IS NOT NULL"
        found: tuple[int, bytes] | None = self._db.execute(query, (release,)).fetchone()
        return found

    def destroyed(self, row: int) -> None:
        """The content is gone."""
        self._db.execute("UPDATE inbound SET destroyed = 1 WHERE row = ?", (row,))
        self._db.execute("UPDATE inbound_bodies SET content = NULL WHERE row = ?", (row,))

    def get(self, recipient: str, name: bytes) -> StoredMessage | None:
        """A message that came for this agency, by release or message id; of several origins' the newest."""
        query = f"SELECT {_VIEW} FROM inbound WHERE recipient = ? AND (release = ? OR message_id = ?) ORDER BY row DESC"
        row = self._db.execute(query, (recipient, name, name)).fetchone()
        return None if row is None else _stored(row)

    def page(self, recipient: str, states: Sequence[State], before: int, limit: int) -> list[StoredMessage]:
        """This agency's messages, newest first, below row `before` (0: from the top)."""
        wanted = ",".join(str(int(s)) for s in states) or "1,4,5,6,7,8,9"
        query = (
            f"SELECT {_VIEW} FROM inbound WHERE recipient = ? AND state IN ({wanted}) AND (? = 0 OR row < ?)"
            " ORDER BY row DESC LIMIT ?"
        )
        return [_stored(row) for row in self._db.execute(query, (recipient, before, before, limit))]

    def counts(self) -> dict[State, int]:
        """How many messages that came are in each state."""
        over = counted_over(self._db, "inbound")
        kept = dict(self._db.execute("SELECT state, count(*) FROM inbound GROUP BY state"))
        return {state: kept.get(state, 0) + over.get(state, 0) for state in State if state in kept or state in over}


def _row(row: int, message: Incoming, batch: int | None, receipt: bytes) -> tuple[object, ...]:
    return (
        row, message.release, message.message_id, message.origin, message.recipient, message.family, message.kind,
        message.purpose, message.conversation, int(message.state), int(message.reason),
        pack_step(Step(message.state, message.reason, message.time_ms)),
        message.decision.leaf if message.decision else b"", batch, message.keys.key_id if message.keys else None,
        json.dumps(message.caveats), json.dumps(message.withheld), receipt, message.expires_ms,
        message.destroy_by_ms if batch is not None else 0,  # nothing is kept of it: nothing to destroy
    )  # fmt: skip


def _slow(attempts: int, steps: bytes, now_ms: int) -> bool:
    last = list(unpack_steps(steps))[-1].at_ms if attempts >= SLOW_AFTER else 0
    return attempts >= SLOW_AFTER and now_ms - last < SLOW_MS * (attempts - SLOW_AFTER + 1)


def _offer(row: Any) -> Offer:
    (release, conversation, family, entry, core, content, key_id, statement, signature, caveats, withheld, attempts,
     recall) = row  # fmt: skip
    return Offer(
        release, conversation, family, entry, core, content or b"", key_id, SignedBatch(statement, signature),
        tuple(json.loads(caveats)), tuple((slot, code) for slot, code in json.loads(withheld)), attempts, bool(recall),
    )  # fmt: skip


def _stored(row: Any) -> StoredMessage:
    (number, message_id, release, origin, recipient, family, kind, purpose, conversation, state, reason, steps,
     decision, expires, destroy_by, destroyed) = row  # fmt: skip
    return StoredMessage(
        number, message_id, release, "in", origin, recipient, family, kind, purpose, conversation, State(state),
        Reason(reason), tuple(unpack_steps(steps)), decision, expires, destroy_by, bool(destroyed), sealed=True,
    )  # fmt: skip
