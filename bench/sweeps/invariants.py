"""What must hold in both ledgers when a story has ended, read from their files with both gateways down."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from broker.canonical import leaf_hash
from broker.message import Log, State
from broker.v1.log_pb2 import (
    ENTRY_KIND_ANSWER,
    ENTRY_KIND_RELEASE,
    ENTRY_KIND_WITHDRAWAL,
    ReleaseEntry,
    StateEntry,
)


@dataclass(frozen=True)
class Broken:
    """How many messages break each invariant. `damaged`: entries of a log that do not follow, and alarms."""

    lost: int
    duplicated: int
    undecided: int
    damaged: int

    @property
    def ok(self) -> bool:
        """Nothing is broken."""
        return not (self.lost or self.duplicated or self.undecided or self.damaged)


def check(us: Path, mx: Path, told: Mapping[bytes, State]) -> Broken:
    """`us`, `mx`: the ledgers' files; `told`: how each message must have ended for both."""
    sent, came = _messages(us, "outbound"), _messages(mx, "inbound")
    withdrawn = _withdrawn(us)
    return Broken(
        sum(_lost(message_id, end, sent, came, withdrawn) for message_id, end in told.items()),
        _duplicated(us, mx, sent, came, told),
        _undecided(us, sent) + _undecided(mx, came),
        _damaged(us) + _damaged(mx),
    )


def expiries(us: Path, mx: Path) -> tuple[int, int]:
    """How many messages of `us` ran out before they were sealed, and how many at `mx`."""
    came = [state for _, state, _ in _messages(mx, "inbound")]
    return len(_withdrawn(us)), came.count(int(State.EXPIRED))


def _lost(message_id: bytes, end: State, sent: list[Any], came: list[Any], withdrawn: set[bytes]) -> bool:
    """Whether a message did not end for both as it must; one that ended before it was sealed never came."""
    here = {State(state) for name, state, _ in sent if name == message_id}
    there = {State(state) for name, state, _ in came if name == message_id}
    nowhere = end is State.REFUSED or message_id in withdrawn
    return here != {end} or there != (set() if nowhere else {end})


def _withdrawn(ledger: Path) -> set[bytes]:
    """Message ids of our own messages of which the log says that they ended before they were sealed."""
    entries = (StateEntry.FromString(entry) for entry in _entries(ledger, Log.DECISIONS))
    ended = {entry.release for entry in entries if entry.kind == ENTRY_KIND_WITHDRAWAL}
    return {name for name, release in _rows(ledger, "SELECT message_id, release FROM outbound") if release in ended}


def _duplicated(us: Path, mx: Path, sent: list[Any], came: list[Any], told: Mapping[bytes, State]) -> int:
    """Messages with two rows, two releases, one answer given twice, or that nobody was told of."""
    twice = sum(n > 1 for rows in (sent, came) for n in Counter(name for name, _, _ in rows).values())
    releases = Counter(
        entry.message_id
        for entry in map(ReleaseEntry.FromString, _entries(us, Log.EXCHANGE))
        if entry.kind == ENTRY_KIND_RELEASE
    )
    answers = Counter(
        (entry.release, entry.state)
        for entry in map(StateEntry.FromString, _entries(mx, Log.EXCHANGE))
        if entry.kind == ENTRY_KIND_ANSWER
    )
    effects = sum(n > 1 for counted in (releases, answers) for n in counted.values())
    return twice + effects + len({name for name, _, _ in sent} - told.keys())


def _undecided(ledger: Path, rows: list[Any]) -> int:
    """Messages whose decision is not in the log of decisions."""
    decided = {leaf_hash(entry) for entry in _entries(ledger, Log.DECISIONS)}
    return sum(decision not in decided for _, _, decision in rows)


def _damaged(ledger: Path) -> int:
    wrong = len(_rows(ledger, "SELECT what FROM alarms"))
    for log in Log:
        found = _rows(ledger, "SELECT idx, leaf, entry FROM log WHERE log = ? ORDER BY idx", int(log))
        wrong += sum(n != idx or leaf_hash(entry) != leaf for n, (idx, leaf, entry) in enumerate(found))
    return wrong


def _messages(ledger: Path, table: str) -> list[Any]:
    return _rows(ledger, f"SELECT message_id, state, decision FROM {table}")  # noqa: S608  a name of ours


def _entries(ledger: Path, log: Log) -> list[bytes]:
    return [row[0] for row in _rows(ledger, "SELECT entry FROM log WHERE log = ? ORDER BY idx", int(log))]


def _rows(ledger: Path, query: str, *values: int) -> list[Any]:
    connection = apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return list(connection.execute(query, values))
    finally:
        connection.close()
