"""What officers look decisions up by; the entry itself stands in the log."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apsw

from broker.message import DecisionRecord

_COLUMNS = (
    "leaf, time_ms, action, permit, family, kind, origin, recipient, purpose, rules, withheld, obligations,"
    " pack_digest, law_ms, context"
)


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """A decision with the row that pages are made of and the id of the key that opens its context."""

    row: int
    record: DecisionRecord
    key_id: bytes


class DecisionStore:
    """The index over the decisions log."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection

    def insert(self, decided: Iterable[tuple[DecisionRecord, bytes]]) -> None:
        """Index decisions, each with the id of its message's opening key."""
        self._db.executemany(
            f"INSERT INTO decisions ({_COLUMNS}, key_id) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                (
                    d.leaf, d.time_ms, d.action, d.permit, d.family, d.kind, d.origin, d.recipient, d.purpose, d.rules,
                    d.withheld, d.obligations, d.pack_digest, d.law_ms, d.context, key_id,
                )
                for d, key_id in decided
            ),
        )  # fmt: skip

    def get(self, leaf: bytes) -> StoredDecision | None:
        """One decision by its id."""
        return next(self._select("leaf = ?", (leaf,)), None)

    def page(self, where: str, values: tuple[object, ...], before: int, limit: int) -> list[StoredDecision]:
        """Newest first, from below row `before` (0: from the top). `where` is made by `broker.gateway.filters` only."""
        clause = f"({where}) AND (? = 0 OR row < ?) ORDER BY row DESC LIMIT ?"
        return list(self._select(clause, (*values, before, before, limit)))

    def count(self) -> int:
        """How many decisions there are."""
        return int(self._db.execute("SELECT count(*) FROM decisions").fetchone()[0])

    def _select(self, clause: str, values: tuple[object, ...]) -> Iterator[StoredDecision]:
        query = f"SELECT row, key_id, {_COLUMNS} FROM decisions WHERE {clause}"
        for row, key_id, leaf, time_ms, action, permit, *rest in self._db.execute(query, values):
            yield StoredDecision(row, DecisionRecord(leaf, b"", time_ms, action, bool(permit), *rest), key_id)
