"""Transports carry envelopes, at least once and in order within a stream; they are trusted with nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from broker.message import Stream


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

    def close(self) -> None:
        """Let go of files and connections."""
