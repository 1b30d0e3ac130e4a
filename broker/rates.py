"""How fast streams move, for operators: messages a second over the last minute."""

import time
from collections import defaultdict, deque
from typing import Final

from broker.message import Stream

SPAN_S: Final = 60.0


class Rates:
    """Counts messages by stream, in memory."""

    def __init__(self) -> None:
        self._moved: dict[Stream, deque[tuple[float, int]]] = defaultdict(deque)

    def count(self, stream: Stream, messages: int) -> None:
        """So many messages moved just now."""
        moved = self._moved[stream]
        moved.append((time.monotonic(), messages))
        while moved and moved[0][0] < time.monotonic() - SPAN_S:
            moved.popleft()

    def now(self) -> dict[Stream, float]:
        """Messages a second of each stream."""
        since = time.monotonic() - SPAN_S
        return {stream: sum(n for at, n in moved if at >= since) / SPAN_S for stream, moved in self._moved.items()}
