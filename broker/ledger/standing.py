"""What stands: suspensions of the link, acts of persons and what waits for a second one, key items."""

from collections.abc import Iterator
from dataclasses import dataclass

import apsw


@dataclass(frozen=True, slots=True)
class Suspension:
    """Why the link is suspended: evidence, or a person's act. `proof`: what the accused signed, or the act's entry."""

    row: int
    what: str
    time_ms: int
    proof: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """What one person asked for, and a second one has not confirmed yet. `about`: what stood when it was asked."""

    person: str
    time_ms: int
    about: int


class StandingStore:
    """Rows of `suspensions`, `asked`, `acts` and `key_items`."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection

    def suspended(self) -> bool:
        """Whether the link is suspended."""
        query = "SELECT 1 FROM suspensions WHERE ended_ms IS NULL LIMIT 1"
        return self._db.execute(query).fetchone() is not None

    def suspensions(self) -> list[Suspension]:
        """Those that stand, oldest first."""
        query = "SELECT row, what, time_ms, proof FROM suspensions WHERE ended_ms IS NULL ORDER BY row"
        return [Suspension(*row) for row in self._db.execute(query)]

    def suspend(self, what: str, proof: bytes, now_ms: int) -> bool:
        """Suspend the link; False when this very proof did so before, whether or not it was resumed since."""
        self._db.execute(
            "INSERT OR IGNORE INTO suspensions (what, proof, time_ms) VALUES (?, ?, ?)", (what, proof, now_ms)
        )
        return bool(self._db.changes())

    def resume(self, now_ms: int) -> None:
        """End every suspension, and the alarms that stood for them; their proofs are kept."""
        self._db.execute(
            "DELETE FROM alarms WHERE what IN (SELECT what FROM suspensions WHERE ended_ms IS NULL)",
        )
        self._db.execute("UPDATE suspensions SET ended_ms = ? WHERE ended_ms IS NULL", (now_ms,))

    def asked(self, what: str) -> Asked | None:
        """What waits for a second person."""
        row = self._db.execute("SELECT person, time_ms, about FROM asked WHERE what = ?", (what,)).fetchone()
        return None if row is None else Asked(*row)

    def ask(self, what: str, asked: Asked) -> None:
        """One person asks; what was asked before is forgotten."""
        self._db.execute(
            "INSERT OR REPLACE INTO asked VALUES (?, ?, ?, ?)", (what, asked.person, asked.time_ms, asked.about)
        )

    def answered(self, what: str) -> None:
        """It was confirmed, or no longer matters."""
        self._db.execute("DELETE FROM asked WHERE what = ?", (what,))

    def keep_act(self, leaf: bytes, act: str, person: str, why: str, salt: bytes, now_ms: int) -> None:
        """Who did it and why: the opening of an entry that says only what was done."""
        self._db.execute("INSERT INTO acts VALUES (?, ?, ?, ?, ?, ?)", (leaf, now_ms, act, person, why, salt))

    def key_version(self, kid: bytes) -> tuple[int, int]:
        """(version, act) of a key's last item; (0, 0): none."""
        query = "SELECT version, act FROM key_items WHERE kid = ? ORDER BY version DESC LIMIT 1"
        row = self._db.execute(query, (kid,)).fetchone()
        return (0, 0) if row is None else (int(row[0]), int(row[1]))

    def added(self, kid: bytes) -> bytes | None:
        """The item that added a key; None: none did."""
        row = self._db.execute("SELECT body FROM key_items WHERE kid = ? AND act = 1 LIMIT 1", (kid,)).fetchone()
        return None if row is None else bytes(row[0])

    def has_key_item(self, kid: bytes, version: int, body: bytes) -> bool:
        """Whether this very item is on record."""
        query = "SELECT 1 FROM key_items WHERE kid = ? AND version = ? AND body = ?"
        return self._db.execute(query, (kid, version, body)).fetchone() is not None

    def keep_key_item(self, kid: bytes, version: int, act: int, body: bytes, now_ms: int) -> None:
        """Keep an item that counts."""
        self._db.execute("INSERT INTO key_items VALUES (?, ?, ?, ?, ?)", (kid, version, act, body, now_ms))

    def key_items(self) -> Iterator[tuple[bytes, int, int, bytes]]:
        """(kid, version, act, body) of every item, each key's in order."""
        yield from self._db.execute("SELECT kid, version, act, body FROM key_items ORDER BY kid, version")
