"""What is accepted and waits to be sealed: bounded, so that a silent party or a held link cannot fill the disk.

Counted in memory: no submission asks the ledger. The number is exact while messages only come and are sealed; when some
leave in another way, or come back to be sealed again, they are counted anew with the next sweep.
"""

from collections.abc import Sequence
from typing import Final

from broker.errors import StoreFull
from broker.ledger.sqlite import SqliteLedger
from broker.message import Outgoing

UNSEALED_MESSAGES: Final = 250_000
UNSEALED_BYTES: Final = 4 * 1024**3
"""Of contents; the last call that is accepted may go over either limit, by what it holds."""
ADDED_UP: Final = 4096
"""Messages whose bytes are added up between two sweeps: some milliseconds."""


class Backlog:
    """Messages and bytes that wait to be sealed; counts them when it is made."""

    def __init__(self, ledger: SqliteLedger) -> None:
        self._ledger = ledger
        self._messages, self._bytes = ledger.read(lambda tx: (tx.outbox.unsealed_count(), tx.outbox.unsealed_bytes()))
        self._pending = 0
        self._moved = False

    def check(self) -> None:
        """Raise StoreFull when nothing more may be accepted."""
        if self._messages >= UNSEALED_MESSAGES or self._bytes >= UNSEALED_BYTES:
            raise StoreFull("too much waits for the other party; nothing was accepted")

    def add(self, messages: Sequence[Outgoing]) -> None:
        """These are about to be committed."""
        self._pending += 1
        self._count(messages, 1)

    def committed(self, not_kept: Sequence[Outgoing]) -> None:
        """What was added is committed, but for these: they were there before, or could not be kept."""
        self._pending -= 1
        self._count(not_kept, -1)

    def failed(self, messages: Sequence[Outgoing]) -> None:
        """What was added is not committed, as far as anybody knows."""
        self.committed(messages)
        self._moved = True

    def sealed(self, messages: int) -> None:
        """So many are in an envelope; their bytes are taken to be as many as the others'."""
        left = max(0, self._messages - messages)
        self._bytes = self._bytes * left // self._messages if self._messages else 0
        self._messages = left

    def moved(self) -> None:
        """Messages ended before they were sealed, or wait to be sealed again."""
        self._moved = True

    def recount(self, *, moved: bool) -> None:
        """Count anew if something moved; the bytes of very many in proportion, for to add them up reads each."""
        if not (moved or self._moved):
            return
        messages = self._ledger.read(lambda tx: tx.outbox.unsealed_count())
        if messages <= ADDED_UP or not self._messages:
            self._bytes = self._ledger.read(lambda tx: tx.outbox.unsealed_bytes())
        else:
            self._bytes = self._bytes * messages // self._messages
        self._messages, self._moved = messages, self._pending > 0  # what is being committed may be counted twice

    def _count(self, messages: Sequence[Outgoing], sign: int) -> None:
        kept = [len(message.content) for message in messages if message.release]
        self._messages += sign * len(kept)
        self._bytes += sign * sum(kept)
