"""When to tell the other party where all streams stand, and how long it has been silent (protocol section 6)."""

import time
from collections.abc import Container
from typing import Final

from broker import control
from broker.ledger.sqlite import SqliteLedger, Transaction
from broker.link import Link
from broker.message import Reason, Stream
from broker.transport import Transport

EVERY_MS: Final = 60_000
SOON_MS: Final = 10_000
EVERY_ENVELOPES: Final = 64
"""Heads are also sent after so many envelopes: or the other party would run into what it may have under way."""
HELD_AFTER_S: Final = 600.0


class Heads:
    """What was taken since the last heads, and when the other party's last came, by our own monotonic clock."""

    def __init__(self) -> None:
        self._taken = 0
        self._wanted = False
        self._sent_ms = 0
        self._heard_ms = 0
        self._heard = time.monotonic()

    def took(self, why: Reason) -> None:
        """An envelope was read; `why` it was not taken, if so."""
        self._taken += 1
        if why is not Reason.NONE or self._taken >= EVERY_ENVELOPES:
            self._wanted = True

    def due(self, now_ms: int) -> bool:
        """Whether heads go now: every 60 s; when something is wrong or much was taken, not oftener than in 10 s."""
        since = now_ms - self._sent_ms
        urgent = self._wanted and (since >= SOON_MS or self._taken >= EVERY_ENVELOPES)
        if self._sent_ms and since < EVERY_MS and not urgent:
            return False
        self._sent_ms, self._taken, self._wanted = now_ms, 0, False
        return True

    def listen(self, ledger: SqliteLedger) -> None:
        """Notice heads that came."""
        heard = ledger.read(lambda tx: tx.control.counted("heads_at_ms"))
        if heard != self._heard_ms:
            self._heard_ms, self._heard = heard, time.monotonic()

    def silent(self) -> bool:
        """Whether the other party has been silent for so long that data is held."""
        return time.monotonic() - self._heard > HELD_AFTER_S


def enqueue(tx: Transaction, link: Link, transport: Transport, ours: Container[Stream]) -> None:
    """Where all streams stand; a stream that the other party sent more on than came is missing something.

    `ours`: the streams that we own.
    """
    for stream in link.streams_in():
        flow = tx.streams.inflow(stream)
        claimed = tx.control.counted(f"claimed {stream.topic} {stream.partition}")
        if claimed > flow.taken and flow.why is Reason.NONE and not transport.get(stream, flow.position, 1):
            tx.streams.advance(stream, flow.position, flow.taken, Reason.MISSING)
    outflows = [(stream, flow) for stream, flow in tx.streams.outflows() if stream in ours]
    tx.control.enqueue([control.heads_item(outflows, tx.streams.inflows())])
