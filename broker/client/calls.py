"""The channel to the agency's own gateway, and calls on it: deadlines, retries, typed errors."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc

from broker.client import errors
from broker.client.errors import Busy, Unavailable

SERVICE: Final = "/broker.v1.ExchangeService/"
MESSAGE_MAX: Final = 128 * 1024 * 1024
"""256 deliveries of the largest record; what a gateway takes in one call is its own, smaller limit."""
OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_MAX),
    ("grpc.max_send_message_length", MESSAGE_MAX),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0

_M = TypeVar("_M")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A caller's TLS material, PEM; `ca`: whom the gateway's certificate is checked against."""

    certificate: bytes
    key: bytes
    ca: bytes

    @classmethod
    def read(cls, folder: Path) -> "Credentials":
        """From a caller's folder: certificate.pem, key.pem, ca.pem."""
        return cls(*((folder / f"{name}.pem").read_bytes() for name in ("certificate", "key", "ca")))


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one try of a call may take, and all its tries together, in seconds."""

    try_s: float = 10.0
    total_s: float = 60.0


class Calls:
    """A channel, and calls of bytes on it."""

    def __init__(self, endpoint: str, credentials: Credentials, patience: Patience) -> None:
        secure = grpc.ssl_channel_credentials(credentials.ca, credentials.key, credentials.certificate)
        self._channel = grpc.aio.secure_channel(endpoint, secure, options=OPTIONS)
        self._patience = patience

    async def close(self) -> None:
        """End the channel and whatever runs on it."""
        await self._channel.close(None)

    def receive(self) -> Any:
        """A Receive stream of bytes."""
        channel: Any = self._channel
        return channel.stream_stream(f"{SERVICE}Receive")()

    async def call(self, method: str, request: bytes, answer: Callable[[bytes], _M]) -> _M:
        """A call that may come twice; the same bytes again while the gateway is busy or away, until patience ends.

        Raises:
            ClientError: typed; its `unknown` says whether a try ended without the gateway's own word.
        """
        ends, pause, unknown = time.monotonic() + self._patience.total_s, _FIRST_PAUSE_S, False
        while True:
            try:
                found: _M = await self._channel.unary_unary(f"{SERVICE}{method}", None, answer)(
                    request, timeout=self._patience.try_s
                )
            except grpc.aio.AioRpcError as failed:
                error = errors.of(failed)
            else:
                return found
            unknown = error.unknown = unknown or error.unknown
            wait = max(error.retry_after, pause * random.uniform(0.5, 1.0))  # noqa: S311  spreads load, no secret
            if not isinstance(error, Unavailable | Busy) or time.monotonic() + wait > ends:
                raise error
            await asyncio.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
