"""Runs of the whole exchange through the public client: as fast as it goes, and at a steady rate.

Sender and recipient are two clients in one process. The recipient acknowledges without its own signature, and the
sender keeps its calls in memory: both are options of the client that cost the gateways nothing.
"""

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Final

from bench import workload
from bench.gateways import PARTIES, Link
from bench.watch import Watch
from broker.client import Client, Delivery
from broker.client.receiver import Receiver
from broker.message import State
from broker.v1 import operations_service_pb2 as pb

POLL_S: Final = 0.005
CREDIT: Final = 2048
"""How many messages the recipient holds unanswered."""
SILENCE_S: Final = 60.0
"""So long without a new receipt, and a run has failed."""
CALLS_OF_BATCHES: Final = 4
"""Submit calls of a batch that are in flight together."""
CALLS_OF_ONE: Final = 64
RATE: Final = 100.0
"""Records a second of the latency run."""


class RunError(RuntimeError):
    """A run did not come to its end, or its numbers do not add up."""


@dataclass(frozen=True)
class Proof:
    """What both operators were told after a run. `decisions`: entries that it added to each party's log of them."""

    submitted: int
    acknowledged: int
    refused: int
    receipts_verified: int
    decisions: dict[str, int]
    cache_hit_rate: float


@dataclass
class Run:
    """One life of both gateways. `latencies` in seconds; `peaks`: (acknowledged, party) to MiB."""

    seconds: float = 0.0
    records: int = 0
    refused: int = 0
    stood: dict[str, int] = field(default_factory=dict)
    """Entries of each party's log of decisions before the run."""
    latencies: list[float] = field(default_factory=list)
    peaks: dict[tuple[int, str], float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    """Processor time of each gateway and of both clients, in milliseconds a record."""
    stages: dict[str, float] = field(default_factory=dict)
    """Where the median message's time went, in milliseconds."""

    @property
    def rate(self) -> float:
        """Records a second, refused ones included: from the first Submit to the last receipt verified."""
        return self.records / self.seconds


def at_full_speed(link: Link, count: int, size: int, calls: int, peaks_at: tuple[int, ...] = ()) -> Run:
    """`count` records in Submit calls of `size`, `calls` of them in flight."""
    run = Run(stood=_logged(_told(link)))
    asyncio.run(_at_full_speed(link, run, workload.groups(count, size), calls, peaks_at))
    return run


async def _at_full_speed(
    link: Link, run: Run, groups: Iterator[workload.Group], calls: int, peaks_at: tuple[int, ...]
) -> None:
    async with _clients(link) as sender:
        used = _used(link)
        started = time.perf_counter()
        submitting = [asyncio.create_task(_submit_all(sender, groups, run)) for _ in range(calls)]
        with Watch(link.ledger("us")) as watch:
            await _until_acknowledged(link, run, watch, submitting, peaks_at)
        run.seconds = time.perf_counter() - started
        run.cpu = {who: 1000 * (now - used[who]) / run.records for who, now in _used(link).items()}


def _used(link: Link) -> dict[str, float]:
    return {**{party: link.running[party].cpu_s() for party in PARTIES}, "clients": time.process_time()}


async def _submit_all(sender: Client, groups: Iterator[workload.Group], run: Run) -> None:
    for group in groups:  # one iterator for all tasks: each takes the next
        await _submit(sender, group, run)


async def _submit(sender: Client, group: workload.Group, run: Run) -> bytes:
    """Submit a group; the last message id. Raises RunError when policy did other than planned."""
    results = await sender.submit(
        group.records, to=workload.RECIPIENT, purpose=group.purpose, basis=workload.BASIS, facts=group.facts
    )
    refused = sum(result.result == "refused" for result in results)
    if refused != group.refused or any(result.result == "invalid" for result in results):
        raise RunError("another outcome than the policy's")
    run.records += len(results)
    run.refused += refused
    return results[-1].message_id


async def _until_acknowledged(
    link: Link, run: Run, watch: Watch, submitting: list[asyncio.Task[None]], peaks_at: tuple[int, ...]
) -> None:
    waiting, last, heard = list(peaks_at), 0, time.monotonic()
    while True:
        done = watch.acknowledged()
        while waiting and done + run.refused >= waiting[0]:
            _peaks(link, run, waiting.pop(0))
        if all(task.done() for task in submitting):
            await asyncio.gather(*submitting)
            if done >= run.records - run.refused:
                return
        if done != last:
            last, heard = done, time.monotonic()
        if time.monotonic() - heard > SILENCE_S:
            raise RunError(f"no receipt came for {SILENCE_S:.0f} s")
        await asyncio.sleep(4 * POLL_S)


def _peaks(link: Link, run: Run, at: int) -> None:
    for party in PARTIES:
        run.peaks[at, party] = link.running[party].peak_mib()


def at_a_rate(link: Link, seconds: float) -> Run:
    """One record a Submit, on time whether or not the gateways keep up; latency from when each was due."""
    run = Run(stood=_logged(_told(link)))
    asyncio.run(_at_a_rate(link, run, int(RATE * seconds)))
    return run


async def _at_a_rate(link: Link, run: Run, count: int) -> None:
    due: dict[bytes, float] = {}
    acknowledged: dict[bytes, float] = {}
    async with _clients(link) as sender:
        with Watch(link.ledger("us")) as watch:
            watching = asyncio.create_task(_watch(watch, acknowledged))
            started = time.perf_counter()
            tasks = []
            for n, group in enumerate(workload.groups(count, 1)):
                at = started + n / RATE
                await asyncio.sleep(max(0.0, at - time.perf_counter()))
                tasks.append(asyncio.create_task(_one(sender, group, run, due, at)))
            await asyncio.gather(*tasks)
            ends = time.monotonic() + SILENCE_S
            while len(acknowledged) < len(due):
                if time.monotonic() > ends:
                    raise RunError("a record was not acknowledged")
                await asyncio.sleep(POLL_S)
            watching.cancel()
            run.stages = _stages(watch.steps(), due, acknowledged)
        run.seconds = time.perf_counter() - started
    run.latencies = sorted(acknowledged[message_id] - at for message_id, at in due.items())


def _stages(
    steps: dict[bytes, dict[State, float]], due: dict[bytes, float], acknowledged: dict[bytes, float]
) -> dict[str, float]:
    """Medians between what the gateways wrote down: due, accepted, sent, received, acknowledged, seen here."""
    wall = time.time() - time.perf_counter()
    times = [[due[name] + wall, *(steps[name][state] for state in _STAGES), acknowledged[name] + wall] for name in due]
    names = ["due", *(state.name.lower() for state in _STAGES), "seen"]
    return {
        f"{names[n]} to {names[n + 1]}": 1000 * statistics.median(one[n + 1] - one[n] for one in times)
        for n in range(len(names) - 1)
    }


_STAGES: Final = (State.ACCEPTED, State.SENT, State.RECEIVED, State.ACKNOWLEDGED)


async def _one(sender: Client, group: workload.Group, run: Run, due: dict[bytes, float], at: float) -> None:
    message_id = await _submit(sender, group, run)
    if not group.refused:
        due[message_id] = at


async def _watch(watch: Watch, acknowledged: dict[bytes, float]) -> None:
    while True:
        for message_id in watch.newly_acknowledged():
            acknowledged[message_id] = time.perf_counter()
        await asyncio.sleep(POLL_S)


@contextlib.asynccontextmanager
async def _clients(link: Link) -> AsyncIterator[Client]:
    """The sender, ready; beside it the recipient takes what comes and acknowledges it."""
    sender = Client.open(link.callers[workload.SENDER], durable=False)
    recipient = Client.open(link.callers[workload.RECIPIENT], durable=False)
    async with sender, recipient, recipient.receive(credit=CREDIT, sign=False) as receiver:
        await sender.catalog()
        receiving = asyncio.create_task(_acknowledge_all(receiver))
        yield sender
        receiving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await receiving


async def _acknowledge_all(receiver: Receiver) -> None:
    """Acknowledge each list while the next one comes."""
    async with asyncio.TaskGroup() as answering:
        async for batch in receiver.batches():
            answering.create_task(receiver.acknowledge([item for item in batch if isinstance(item, Delivery)]))


def proof(link: Link, run: Run) -> Proof:
    """What both gateways say of a run. Raises RunError unless everything submitted has its end, and its receipt."""
    told = _told(link)
    us, mx = told["us"], told["mx"]
    decisions = {party: size - run.stood[party] for party, size in _logged(told).items()}
    counts, arrived = us.counts, mx.arrived
    whole = counts.submitted == run.records == counts.acknowledged + counts.refused
    proven = us.receipts_verified == counts.acknowledged == arrived.acknowledged == arrived.submitted
    logs = all(log.verified for status in (us, mx) for log in status.logs)
    if not (whole and proven and logs and counts.refused == run.refused):
        raise RunError(
            f"does not add up: submitted {counts.submitted}, acknowledged {counts.acknowledged},"
            f" refused {counts.refused}, receipts verified {us.receipts_verified}, arrived {arrived.submitted}"
        )
    return Proof(
        counts.submitted, counts.acknowledged, counts.refused, us.receipts_verified, decisions,
        us.policy_cache_hit_rate,
    )  # fmt: skip


def _told(link: Link) -> dict[str, pb.GetStatusResponse]:
    return {party: link.status(party) for party in PARTIES}


def _logged(told: dict[str, pb.GetStatusResponse]) -> dict[str, int]:
    """How many entries each party's log of decisions has."""
    return {party: next(log.size for log in status.logs if log.log == "decisions") for party, status in told.items()}
