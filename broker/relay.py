"""Owns streams: seals what is committed into envelopes, drains them into the transport, feeds arrivals to inbound.

An envelope is stored with the next seq before the transport may see it: a crash before that means its messages are
sealed again, after it that the same bytes are put again until the transport has them. Nothing waits for company: the
cost of a signature, an encapsulation and an fsync is shared by whatever is there.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from broker import answers, control, heads, keyring, retention
from broker.decision import Secrets
from broker.errors import BusyError, LinkError, StoreError, StreamLost, VaultError
from broker.events import log
from broker.heads import Heads
from broker.inbound import Inbound, Outcome, Taken, Waiting
from broker.ledger.outbox import Unsealed
from broker.ledger.sqlite import SqliteLedger, Transaction
from broker.ledger.streams import Inflow, Outflow
from broker.link import CONTROL, Link
from broker.message import Clock, Reason, Stream
from broker.outbound import Outbound
from broker.rates import Rates
from broker.sealing import LIMITS, seal
from broker.transport import Arrival, Transport
from broker.v1 import envelope_pb2 as pb
from broker.v1.codes_pb2 import KEY_USE_ENVELOPE
from broker.vault import Vault
from broker.wire import message_bytes

KEPT_ENVELOPES: Final = 256
"""A stream has at most so many envelopes that are not known to be taken."""
IDLE_S: Final = 0.004
"""How often an idle gateway asks the transport whether anything came."""
READ_AT_ONCE: Final = 8
FEW: Final = 64
"""After envelopes that held fewer messages, sealing rests for as long as they took: then the next ones hold more."""
CONTENT_TARGET: Final = 880_000
"""Bytes of messages an envelope is filled to: padding adds up to an eighth."""
CONTROL_PATIENCE_S: Final = 10.0
BACK_OFF_S: Final = 0.5
PRUNED: Final = 64  # envelopes removed from the transport, between puts


@dataclass(frozen=True, slots=True)
class _Sealed:
    """An envelope on its way into the ledger."""

    stream: Stream
    messages: int
    stored: "asyncio.Future[None]"


class Relay:
    """The moving part of a gateway: `run` until cancelled."""

    def __init__(
        self,
        link: Link,
        ledger: SqliteLedger,
        vault: Vault,
        transport: Transport,
        clock: Clock,
        outbound: Outbound,
        inbound: Inbound,
    ) -> None:
        self.link = link
        self.ledger = ledger
        self.vault = vault
        self.transport = transport
        self.clock = clock
        self.outbound = outbound
        self.inbound = inbound
        self.delivered: Callable[[frozenset[str]], None] = lambda _: None
        self.work = outbound.committed
        self._fences: dict[Stream, int] = {}
        self._noting: dict[Stream, asyncio.Future[None]] = {}
        self.heads = Heads()
        self.rates = Rates()
        self._unread = True
        self._putter = ThreadPoolExecutor(1, "transport")

    async def run(self) -> None:
        """Claim the streams, then send, read and sweep beside one another until cancelled."""
        await self.claim()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._forever(self.send, lambda: _wait(self.work)))
            tasks.create_task(self._forever(self.read_waiting, lambda: asyncio.sleep(IDLE_S)))
            tasks.create_task(self._forever(self.sweep, lambda: asyncio.sleep(1.0)))

    async def claim(self) -> None:
        """Become the owner of every stream that we send; an earlier owner loses at its next envelope."""
        streams = [Stream(self.link.topic_out(CONTROL), 0)]
        for family in sorted(self.link.families):
            streams += [Stream(self.link.topic_out(family), n) for n in range(self.link.partitions(family))]
        fences = await self.ledger.commit(lambda tx: [tx.streams.claim(stream) for stream in streams])
        self._fences = dict(zip(streams, fences, strict=True))

    async def _forever(self, step: Callable[[], Awaitable[bool]], wait: Callable[[], Awaitable[object]]) -> None:
        """Run a step again while it finds work; back off while a store is down, for nothing is lost by waiting."""
        lost = False
        while True:
            try:
                if lost:
                    await self.claim()
                    lost = False
                busy = await step()
            except (StoreError, LinkError, BusyError) as error:
                log("relay.waits", error=type(error).__name__)
                await asyncio.sleep(BACK_OFF_S)
                lost |= isinstance(error, StreamLost)
                continue
            if not busy:
                await wait()

    # Sealing

    async def send(self) -> bool:
        """Seal, then drain: while one envelope is on its way, messages gather for the next, and share its cost."""
        started = time.monotonic()
        sealed = await self.seal()
        busy = await self.drain() or sealed > 0
        if 0 < sealed < FEW:
            await asyncio.sleep(time.monotonic() - started)
        return busy

    async def seal(self) -> int:
        """An envelope of every stream that has something, stored together; control that data waits for before it."""
        self.heads.listen(self.ledger)
        if self.heads.due(self.clock()):
            await self.ledger.commit(lambda tx: heads.enqueue(tx, self.link, self.transport, self._fences))
        sealed, awaited = self._seal_control(Stream(self.link.topic_out(CONTROL), 0))
        storing = [sealed] if sealed else []
        if awaited:
            await self._stored(storing)
        try:
            for stream in self.ledger.read(lambda tx: tx.outbox.streams_waiting()):
                sealed = self._seal_data(stream)
                storing += [sealed] if sealed else []
        finally:  # whatever came over one stream, the others' envelopes are on their way
            await self._stored(storing)
        return sum(one.messages for one in storing)

    async def drain(self) -> bool:
        """Put what is stored into the transport, stream by stream."""
        busy = False
        for stream in {*self.ledger.read(lambda tx: tx.streams.not_durable()), *self._noting}:
            busy |= await self._drain(stream)
        return busy

    async def _stored(self, sealed: "list[_Sealed]") -> None:
        """Wait until the ledger has each of them or not, then raise what the first that it has not raised."""
        outcomes = await asyncio.gather(*(one.stored for one in sealed), return_exceptions=True)
        for one, failure in zip(sealed, outcomes, strict=True):
            if failure is None and one.stream.topic != self.link.topic_out(CONTROL):
                self.outbound.backlog.sealed(one.messages)
                self.rates.count(one.stream, one.messages)
        for failure in outcomes:
            if failure is not None:
                raise failure

    def _seal_control(self, stream: Stream) -> "tuple[_Sealed | None, bool]":
        """An envelope of control items; and whether data waits for one of them."""
        flow, items = self.ledger.read(lambda tx: (tx.streams.outflow(stream), tx.control.unsealed(LIMITS.messages)))
        if not items:
            return None, False
        content = pb.Content(items=[pb.ControlItem(salt=i.salt, kind=i.kind, body=i.body) for i in items])
        envelope, seq, now = self._sealed(stream, CONTROL, flow, content)
        awaited = any(item.kind in control.AWAITED for item in items)

        def change(tx: Transaction) -> None:
            tx.streams.append(stream, self._fences[stream], seq, flow.chain, envelope, len(items), now)
            tx.control.set_sealed(items[-1].row, seq)
            if awaited:
                tx.control.put("control_seq", seq)

        return _Sealed(stream, len(items), self.ledger.enqueue(change)), awaited

    def _seal_data(self, stream: Stream) -> "_Sealed | None":
        """One envelope of a data stream, unless the link is held or too much is not known to be taken."""
        family = next(f for f in self.link.families if self.link.topic_out(f) == stream.topic)
        if not self._may_send(family):
            return None
        kept, flow, (control_seq, key_waits) = self.ledger.read(
            lambda tx: (tx.streams.kept(stream), tx.streams.outflow(stream), tx.control.ahead())
        )
        if kept >= KEPT_ENVELOPES or key_waits:
            return None
        limit = 1 if flow.repairs >= answers.REPAIRS_BEFORE_SINGLES else LIMITS.messages
        messages = self.ledger.read(lambda tx: tx.outbox.unsealed(stream, limit))
        content, taken = self._content(messages)
        if not taken:
            return None
        envelope, seq, now = self._sealed(stream, family, flow, content, control_seq)

        def change(tx: Transaction) -> None:
            tx.streams.append(stream, self._fences[stream], seq, flow.chain, envelope, len(taken), now)
            tx.outbox.set_sealed([message.row for message in taken], seq)

        return _Sealed(stream, len(taken), self.ledger.enqueue(change))

    def _content(self, messages: list[Unsealed]) -> tuple[pb.Content, list[Unsealed]]:
        """As many messages as fit, in order, and each batch once."""
        content, size = pb.Content(), 0
        taken: list[Unsealed] = []
        batches: set[bytes] = set()
        now = self.clock()
        for message in messages:
            if message.expires_ms <= now and not message.left_once:
                continue  # the sweep withdraws it
            try:
                data = self._opened(message)
            except VaultError:
                continue  # its content had to go: the ledger says so next, or after a crash with the first sweep
            size += len(data) + 8
            if message.batch.statement not in batches:
                size += len(message.batch.statement) + len(message.batch.signature) + 16
            if taken and size > CONTENT_TARGET:
                break
            if message.batch.statement not in batches:
                batches.add(message.batch.statement)
                content.batches.add(statement=message.batch.statement, signature=message.batch.signature)
            content.messages.add().ParseFromString(data)
            taken.append(message)
        return content, taken

    def _opened(self, message: Unsealed) -> bytes:
        """The message as it travels: from memory when it was just committed, else from the ledger and its keys."""
        fresh = self.outbound.fresh.pop(message.release, None)
        if fresh is not None:
            return fresh
        keys = self.ledger.keys
        body = self.ledger.read(lambda tx: tx.outbox.body(message.row))
        content, opening = keys.both(message.key_id)
        secrets = Secrets.opened(self.vault, message.key_id, opening)
        content_key = self.vault.unwrap(content, message.key_id)
        slots = self.vault.open(content_key, body.content, message.key_id)
        return message_bytes(body.entry, body.core, secrets.commit_salt, slots)

    def _sealed(
        self, stream: Stream, family: str, flow: Outflow, content: pb.Content, control_seq: int = 0
    ) -> tuple[bytes, int, int]:
        """(envelope, seq, now): sealed to the recipient's newest valid key, signed by us."""
        now = self.clock()
        recipient, own = self.link.recipient_key(family, now), self.link.own_key(KEY_USE_ENVELOPE, now, family=family)
        header = pb.Header(
            sender_party=self.link.party,
            recipient_party=self.link.peer,
            topic=stream.topic,
            partition=stream.partition,
            epoch=control.EPOCH,
            seq=flow.last_seq + 1,
            after=flow.chain,
            control_seq=control_seq,
            created_ms=now,
            sender_kid=own.kid,
            recipient_kid=recipient.kid,
            agreement_digest=self.link.at(now).digest,
        )
        envelope, _ = seal(header, content, recipient.public, own.key)
        return envelope, header.seq, now

    def _may_send(self, family: str) -> bool:
        """Data is held while no agreement is in force, a key is lacking, the peer is silent, or the link suspended."""
        can = self.link.can_seal(family, self.clock()) and not self.heads.silent()
        return can and not self.ledger.read(suspended)

    async def _drain(self, stream: Stream) -> bool:
        """Put stored envelopes into the transport; `sent` once it has them durably.

        That is written down beside whatever is committed next: a crash before it means that they are put again.
        """
        if stream in self._noting:
            await self._noting.pop(stream)
        pending = self.ledger.read(lambda tx: tx.streams.pending(stream, READ_AT_ONCE))
        if not pending:
            return False
        envelopes = [envelope for _, envelope in pending]
        await asyncio.get_running_loop().run_in_executor(self._putter, self.transport.put, stream, envelopes)
        seqs, now = [seq for seq, _ in pending], self.clock()
        self._noting[stream] = self.ledger.enqueue(lambda tx: tx.streams.set_durable(stream, seqs, now), soon=False)
        return True

    def close(self) -> None:
        """Let what is being put into the transport arrive; `run` has ended."""
        self._putter.shutdown()

    # Reading

    async def read_waiting(self) -> bool:
        """Feed what the transport has to inbound, stream by stream, control first."""
        self._unread |= self.transport.changed()
        if not self._unread:
            return False
        came = False
        flows = {flow.stream: flow for flow in self.ledger.read(lambda tx: tx.streams.inflows())}
        for n, stream in enumerate(self.link.streams_in()):
            if n == 1 and self.ledger.read(suspended):  # behind control, which may have brought evidence
                return False  # data waits in the transport; receipts, recalls and heads are still owed
            came |= await self._read(flows.get(stream, Inflow(stream, 0, Reason.NONE, 0)))
        self._unread = False  # only now: a store that failed on the way leaves something to read
        return came  # or a transport that says yes too often would leave nobody else a turn

    async def _read(self, flow: Inflow) -> bool:
        """Read a stream to its end; False when nothing came. While one goes to the disk, the next is judged."""
        start = flow
        committing: asyncio.Task[Taken] | None = None
        while arrivals := self.transport.get(flow.stream, flow.position, READ_AT_ONCE):
            for arrival in arrivals:
                outcome = await self._take(arrival, flow)
                before, committing = committing, self._commit(arrival, outcome)
                if before is not None:
                    self._after(flow.stream, await before)
                if outcome.alone:
                    self._after(flow.stream, await committing)
                    committing = None
                flow = outcome.after
        if committing is not None:
            self._after(flow.stream, await committing)
        return flow is not start

    def _commit(self, arrival: Arrival, outcome: Outcome) -> "asyncio.Task[Taken]":
        """Enqueue now, in order; what the change raises that nothing foresaw puts its arrival aside."""
        enqueued = self.ledger.enqueue(outcome.change)

        async def committed() -> Taken:
            try:
                return await enqueued
            except StoreError:
                raise
            except Exception as error:
                await self.ledger.commit(self.inbound.unexpected(arrival, outcome.before, error).change)
                raise StreamLost("an arrival was put aside") from error

        return asyncio.create_task(committed())

    async def _take(self, arrival: Arrival, flow: Inflow) -> Outcome:
        """One arrival; control that it depends on is read while it waits, for ten seconds at most."""
        deadline = time.monotonic() + CONTROL_PATIENCE_S
        ahead = Stream(self.link.topic_in(CONTROL), 0)
        while True:
            try:
                return self.inbound.take(arrival, flow, patient=time.monotonic() < deadline)
            except StoreError:
                raise
            except Waiting:
                await self._read(self.ledger.read(lambda tx: tx.streams.inflow(ahead)))
                await asyncio.sleep(IDLE_S)
            except Exception as error:  # noqa: BLE001  a peer's bytes must not stop the gateway
                return self.inbound.unexpected(arrival, flow, error)

    def _after(self, stream: Stream, taken: Taken) -> None:
        self.heads.took(taken.why)
        self.rates.count(stream, taken.messages)
        if stream.topic == self.link.topic_in(CONTROL):
            self.outbound.backlog.moved()  # heads may have asked for messages to be sealed again
        if taken.keys:
            self.ledger.read(lambda tx: keyring.refresh(tx, self.link))
        if taken.agencies:
            self.delivered(taken.agencies)
        self.work.set()

    # Time

    async def sweep(self) -> bool:
        """What is due: expiry, retention, unanswered recalls, the next agreement, topics that kept enough."""
        now = self.clock()
        done = await self.ledger.commit(lambda tx: retention.sweep(tx, self.link.at(now), now))
        if done:
            self.work.set()
            self.outbound.fresh.clear()  # or what was withdrawn would stay in memory, open
        self.outbound.backlog.recount(moved=done > 0)
        removed = await asyncio.get_running_loop().run_in_executor(self._putter, self.transport.prune, now, PRUNED)
        return done >= retention.BATCH or removed >= PRUNED


async def _wait(event: asyncio.Event) -> None:
    """Until the event, or a quarter of a second: what another process did rings no bell here."""
    try:
        async with asyncio.timeout(0.25):  # `wait_for` of Python 3.11 can lose a cancellation, and so a stop
            await event.wait()
    except TimeoutError:
        return
    finally:
        event.clear()


def suspended(tx: Transaction) -> bool:
    """Whether the link is suspended, by evidence or by a person; two persons resume."""
    return tx.standing.suspended()
