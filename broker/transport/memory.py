"""A transport inside one process: the simulator's."""

import threading
from collections import defaultdict
from collections.abc import Sequence

from broker.message import Stream
from broker.transport import Arrival


class MemoryTransport:
    """Both directions in one object; two gateways of one process share it."""

    name = "memory"

    def __init__(self) -> None:
        self._streams: dict[Stream, list[bytes]] = defaultdict(list)
        self._lock = threading.Lock()

    def put(self, stream: Stream, envelopes: Sequence[bytes]) -> None:
        """See Transport."""
        with self._lock:
            self._streams[stream].extend(envelopes)

    def get(self, stream: Stream, position: int, limit: int) -> list[Arrival]:
        """See Transport."""
        with self._lock:
            found = self._streams[stream][position : position + limit]
        return [Arrival(position + n, position + n + 1, data) for n, data in enumerate(found)]

    def changed(self) -> bool:
        """See Transport."""
        return True

    def prune(self, now_ms: int, limit: int) -> int:
        """See Transport: what is in memory ends with its process."""
        del now_ms, limit
        return 0

    def close(self) -> None:
        """See Transport."""
