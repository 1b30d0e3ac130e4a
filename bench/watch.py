"""When a receipt is verified at the sender: read, and only read, from what its gateway has committed.

Asking the gateway would cost the time that is measured. The poll's interval is part of the latencies found.
"""

from pathlib import Path
from types import TracebackType
from typing import Self

import apsw

from broker.message import FINAL, State, unpack_steps


class Watch:
    """The sender's ledger, read-only."""

    def __init__(self, ledger: Path) -> None:
        self._db = apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READONLY)
        self._db.set_busy_timeout(1000)
        self._low = 0
        self._seen: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def acknowledged(self) -> int:
        """Receipts of acknowledgement that were verified, counted in the transaction that records each."""
        row = self._db.execute("SELECT value FROM counters WHERE name = 'receipts_acknowledged'").fetchone()
        return int(row[0]) if row else 0

    def newly_acknowledged(self) -> list[bytes]:
        """Message ids acknowledged since the last question; reads only what is newer than the oldest open one."""
        found: list[bytes] = []
        whole = True
        for row, message_id, state in self._db.execute(
            "SELECT row, message_id, state FROM outbound WHERE row > ? ORDER BY row", (self._low,)
        ):
            if State(state) not in FINAL:
                whole = False
                continue
            if state == State.ACKNOWLEDGED and row not in self._seen:
                found.append(message_id)
                self._seen.add(row)
            if whole:
                self._low = row
                self._seen.discard(row)
        return found

    def steps(self) -> dict[bytes, dict[State, float]]:
        """When each acknowledged message reached each state, in seconds of the clock, as its gateways say."""
        query = "SELECT message_id, steps FROM outbound WHERE state = ?"
        return {
            message_id: {step.state: step.at_ms / 1000 for step in unpack_steps(steps)}
            for message_id, steps in self._db.execute(query, (int(State.ACKNOWLEDGED),))
        }
