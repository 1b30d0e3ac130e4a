"""What the exchange is held against: its crypto alone, its RPCs alone, commits of one row alone."""

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import apsw
import grpc

from bench import workload
from bench.crypto import Crypto, Sealed
from bench.gateways import PARTIES, Link
from broker.client.calls import OPTIONS, Credentials
from broker.ledger.sqlite import connect

BATCH: Final = 256
METHOD: Final = "/bench.Baseline/Call"


def crypto(batches: int) -> float:
    """Records a second of one thread that does what both clients and both gateways sign, hash, seal and open."""
    each = Crypto()
    groups = [group for group in workload.groups(batches * BATCH, BATCH) if len(group.records) == BATCH]
    started = time.perf_counter()
    for group in groups:
        each.once(group.records)
    return len(groups) * BATCH / (time.perf_counter() - started)


def sqlite(commits: int) -> float:
    """Commits a second of one row of 256 bytes, as durable as the ledger's."""
    with tempfile.TemporaryDirectory(prefix="puente-bench-") as folder:
        connection: apsw.Connection = connect(Path(folder) / "raw.db")
        connection.execute("CREATE TABLE t (row INTEGER PRIMARY KEY, data BLOB NOT NULL)")
        data = os.urandom(256)
        started = time.perf_counter()
        for _ in range(commits):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO t (data) VALUES (?)", (data,))
            connection.execute("COMMIT")
        rate = commits / (time.perf_counter() - started)
        connection.close()
    return rate


def rpc(link: Link, batches: int, in_flight: int) -> float:
    """Records a second of calls as large as the exchange's, to servers that only answer (`bench.echo`)."""
    return asyncio.run(_rpc(link, Crypto().once(next(workload.groups(2 * BATCH, BATCH)).records), batches, in_flight))


async def _rpc(link: Link, sizes: Sealed, batches: int, in_flight: int) -> float:
    us, mx = [await _caller(link, party) for party in PARTIES]
    turns = iter(range(batches))

    async def one() -> None:
        for _ in turns:
            await us(_asks(sizes.submit, sizes.submit_answer))  # Submit
            await mx(_asks(b"", sizes.delivery))  # Receive: the delivery
            await mx(_asks(sizes.answers, sizes.answered))  # and the answers to it

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(in_flight)))
    return batches * BATCH / (time.perf_counter() - started)


def _asks(request: bytes, answer: int) -> bytes:
    """A request that names the size of its answer in its first 4 bytes."""
    return answer.to_bytes(4) + request


async def _caller(link: Link, party: str) -> Any:
    folder = link.callers[workload.SENDER if party == "us" else workload.RECIPIENT]
    own = Credentials.read(folder)
    secure = grpc.ssl_channel_credentials(own.ca, own.key, own.certificate)
    endpoint = (folder / "endpoint").read_text(encoding="ascii").strip()
    channel: Any = grpc.aio.secure_channel(endpoint, secure, options=OPTIONS)
    return channel.unary_unary(METHOD)
