"""Transports carry envelopes, at least once and in order within a stream; they are trusted with nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from broker.message import Stream

RETENTION_MS: Final = 7 * 24 * 3_600_000
"""How long a topic keeps an envelope. One that was not read in time is put again: its sender keeps it until it is
known to be taken, and heads ask for it (protocol section 6)."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Bytes read from a stream; `next_position` is where reading goes on after them."""

    position: int
    next_position: int
    data: bytes


class Transport(Protocol):
    """One contract, one suite of tests. Positions are opaque, ascending, and start at 0.

    Trust: who controls a transport can delay and drop, and is noticed; it cannot read, forge or replay.
    """

    name: str

    def put(self, stream: Stream, envelopes: Sequence[bytes]) -> None:
        """Append in order; durable when it returns. Raises StoreError: unknown whether any of them is there."""

    def get(self, stream: Stream, position: int, limit: int) -> list[Arrival]:
        """At most `limit` arrivals from `position` on, in order; empty when there is nothing. Raises StoreError."""

    def changed(self) -> bool:
        """Whether anything may have been put since the last call; cheap, may say yes too often."""

    def prune(self, now_ms: int, limit: int) -> int:
        """Remove at most `limit` envelopes of ours that a topic has kept for RETENTION_MS; returns how many.

        Positions of the others stay. A transport that keeps its own retention removes none. Raises StoreError.
        """

    def close(self) -> None:
        """Let go of files and connections."""
