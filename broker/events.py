"""Structured log events: named, with keys of a closed list, so that no payload, subject or fact can slip in."""

import contextlib
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

ALLOWED: Final = frozenset({
    "party", "agency", "role", "reason", "error", "stream", "topic", "partition", "seq", "count", "seconds",
    "request_id", "method", "status", "port", "pid", "version", "state", "digest", "path", "what",
})  # fmt: skip
"""Keys that an event may have; a test walks all calls."""


def configure(*, quiet: bool = False) -> None:
    """JSON lines on stderr."""
    structlog.configure(
        processors=[
            _allowed,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING if quiet else logging.INFO),
        cache_logger_on_first_use=True,
    )


def log(event: str, **values: str | float) -> None:
    """Record an event at level info; unknown keys are dropped and counted. A log that fails changes nothing."""
    with contextlib.suppress(OSError, ValueError):
        structlog.get_logger().info(event, **values)


def _allowed(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    dropped = [key for key in event if key not in ALLOWED and key not in {"event", "level"}]
    for key in dropped:
        del event[key]
    if dropped:
        event["dropped"] = len(dropped)
    return event
