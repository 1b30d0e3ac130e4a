"""`Receive`: messages to their agency, a lease on each conversation, answers on the same stream.

Delivery is at least once: what is not answered before its lease lapses, or when the stream ends, is offered again.
"""

import asyncio
import contextlib
import time
import uuid
from collections import defaultdict
from typing import Any, Final, cast

import grpc

from broker import answers
from broker.app import Gateway
from broker.decision import Secrets
from broker.errors import InvalidError, StoreError, VaultError
from broker.gateway.guard import Context, Guard, parsed
from broker.identity import Principal
from broker.ledger.mailbox import Offer
from broker.ledger.sqlite import Transaction
from broker.message import Reason, State
from broker.v1 import exchange_service_pb2 as pb
from broker.v1.envelope_pb2 import AgencyReceipt
from broker.wire import message_bytes

LEASE_MS: Final = 60_000
EXTEND_MAX_S: Final = 600
CREDIT_MAX: Final = 4096
BATCH: Final = 256
POLL_S: Final = 1.0
EOF: Final[Any] = cast("Any", grpc.aio).EOF
RECHECK_S: Final = 5.0
"""A revoked certificate loses an open stream within this time."""
ROLES: Final = frozenset({"agency"})


class StreamInvalid(InvalidError):
    """A stream that does not begin with `open`, or opens twice."""

    reason = "MALFORMED_MESSAGE"


class Receiver:
    """Serves the Receive streams of one gateway."""

    def __init__(self, gateway: Gateway, guard: Guard) -> None:
        self._gateway = gateway
        self._guard = guard
        self._bells: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        gateway.relay.delivered = self._ring

    def _ring(self, agencies: frozenset[str]) -> None:
        for agency in agencies:
            self._bells[agency].set()

    def handler(self) -> "grpc.RpcMethodHandler[Any, Any]":
        """The bidirectional handler of raw bytes."""

        async def handle(_: Any, context: Context) -> None:
            request_id = uuid.uuid4().hex
            stream: _Stream | None = None
            try:
                caller = self._guard.admitted(context, ROLES)
                stream = _Stream(self._gateway, self._guard, context, caller, self._bells[caller.id])
                await stream.run()
            except Exception as error:  # noqa: BLE001  nothing of ours may leak
                await self._guard.refuse(context, error, request_id, "receive")
            finally:
                if stream is not None:
                    await stream.let_go()

        return grpc.stream_stream_rpc_method_handler(handle)


class _Stream:
    """One open stream: its credit, its leases, and what it still owes an answer for."""

    def __init__(
        self, gateway: Gateway, guard: Guard, context: Context, caller: Principal, bell: asyncio.Event
    ) -> None:
        self._gateway = gateway
        self._guard = guard
        self._context = context
        self._agency = caller.id
        self._holder = f"{gateway.incarnation}.{uuid.uuid4().hex}"
        self._bell = bell
        self._credit = 0
        self._drain = False
        self._owed: set[bytes] = set()
        self._asked: set[bytes] = set()
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        self._ended = False
        self._checked = time.monotonic()

    async def run(self) -> None:
        """Deliver while there is credit; read acts beside it. Ends when drained, or when the client ends."""
        first = await self._read()
        if first is None or not first.HasField("open"):
            raise StreamInvalid("the first act on a stream is open")
        self._credit, self._drain = min(first.open.credit, CREDIT_MAX), first.open.drain
        reader = asyncio.create_task(self._read_acts())
        ringer = asyncio.create_task(self._ringing())
        try:
            while not self._ended:
                if reader.done():
                    reader.result()
                if not await self._deliver():
                    if self._drain and not self._owed:
                        return
                    await self._wait()
                self._recheck()
            reader.result()
        finally:
            reader.cancel()
            ringer.cancel()

    async def let_go(self) -> None:
        """Offer again what this stream did not answer."""
        with contextlib.suppress(StoreError):  # as after a kill: a start, or time, frees what is not let go
            await self._gateway.ledger.commit(lambda tx: tx.mailbox.let_go(self._holder))
        self._bell.set()

    async def _read(self) -> pb.ReceiveRequest | None:
        data = await self._context.read()
        return None if data is EOF else parsed(pb.ReceiveRequest, data)

    async def _read_acts(self) -> None:
        try:
            while (act := await self._read()) is not None:
                await self._act(act)
                self._wake.set()
        finally:
            self._ended = True
            self._wake.set()

    async def _act(self, act: pb.ReceiveRequest) -> None:
        self._recheck()
        if act.HasField("credit"):
            self._credit = min(self._credit + act.credit.messages, CREDIT_MAX)
        elif act.HasField("answers"):
            await self._answers(act.answers)
        elif act.HasField("extend"):
            until = self._gateway.clock() + min(act.extend.seconds, EXTEND_MAX_S) * 1000
            conversation = act.extend.conversation
            await self._gateway.ledger.commit(
                lambda tx: tx.mailbox.extend(self._agency, self._holder, conversation, until)
            )
        else:
            raise StreamInvalid("a stream is opened once")

    async def _answers(self, said: pb.ReceiveAnswers) -> None:
        if len(said.answers) > CREDIT_MAX:
            raise StreamInvalid("too many answers in one act")
        given = [_answer(item) for item in said.answers]
        now, link = self._gateway.clock(), self._gateway.link
        outcomes = await self._gateway.ledger.commit(
            lambda tx: answers.answer(tx, link, self._agency, self._holder, given, now)
        )
        self._gateway.relay.work.set()
        answered = [
            pb.AnswerOutcome(release=item.release, reason=outcome)
            for item, outcome in zip(given, outcomes, strict=True)
        ]
        await self._write(pb.ReceiveResponse(answered=answered))
        self._owed.difference_update(
            item.release for item in given
        )  # only then: a drained stream ends when none is owed

    async def _deliver(self) -> bool:
        """Lease and write what there is credit for; False when there is nothing."""
        now, limit = self._gateway.clock(), min(self._credit, BATCH)
        if limit <= 0 or not self._gateway.ledger.read(lambda tx: tx.mailbox.waiting(self._agency, self._holder, now)):
            return False
        until = now + LEASE_MS

        def change(tx: Transaction) -> list[Offer]:
            waiting = tx.mailbox.recalls_to_answer(self._agency, limit + len(self._asked))
            recalls = [offer for offer in waiting if offer.release not in self._asked][:limit]
            return recalls + tx.mailbox.lease(self._agency, self._holder, now, until, limit - len(recalls))

        offers = await self._gateway.ledger.commit(change)
        if not offers:
            return False
        self._asked.update(offer.release for offer in offers if offer.recall)
        signed: set[bytes] = set()
        deliveries = [self._delivery(offer, until, signed) for offer in offers]
        self._credit -= len(deliveries)
        self._owed.update(d.release for d in deliveries)
        await self._write(pb.ReceiveResponse(deliveries=deliveries))
        return True

    def _delivery(self, offer: Offer, until: int, signed: set[bytes]) -> pb.Delivery:
        """A delivery; a batch's signature goes with the first of its messages in a response."""
        again = offer.batch.statement in signed
        signed.add(offer.batch.statement)
        return pb.Delivery(
            message=b"" if offer.recall else self._opened(offer),
            batch_statement=offer.batch.statement,
            batch_signature=b"" if again else offer.batch.signature,
            lease_until_ms=until,
            attempt=offer.attempt,
            withheld=[pb.OwnNotice(slot=slot, code=code) for slot, code in offer.withheld],  # type: ignore[arg-type]
            caveats=offer.caveats,  # type: ignore[arg-type]
            recall=offer.recall,
            release=offer.release,
        )

    def _opened(self, offer: Offer) -> bytes:
        """The whole Message, as the agency verifies it; b'' when its content was destroyed meanwhile."""
        vault, keys = self._gateway.vault, self._gateway.ledger.keys
        try:
            content, opening = keys.both(offer.key_id)
            secrets = Secrets.opened(vault, offer.key_id, opening)
            slots = vault.open(vault.unwrap(content, offer.key_id), offer.content, offer.key_id)
        except VaultError:
            return b""
        return message_bytes(offer.entry, offer.core, secrets.commit_salt, slots)

    async def _write(self, response: pb.ReceiveResponse) -> None:
        async with self._writing:
            await self._context.write(response.SerializeToString())

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(POLL_S):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._wake.clear()

    async def _ringing(self) -> None:
        """The relay rings for the agency; every stream of it looks."""
        while True:
            await self._bell.wait()
            self._wake.set()
            await asyncio.sleep(0)
            self._bell.clear()

    def _recheck(self) -> None:
        """A certificate that expired or was revoked meanwhile ends the stream."""
        if time.monotonic() - self._checked >= RECHECK_S:
            self._guard.principal(self._context)
            self._checked = time.monotonic()


def _answer(item: pb.ReceiveAnswer) -> answers.AgencyAnswer:
    known_state = item.state in {int(s) for s in State}
    known_reason = item.reason in {int(r) for r in Reason} or not item.reason
    if not known_state or not known_reason:
        raise StreamInvalid("an answer has a state and a reason of the closed lists")
    agency = None
    if item.HasField("agency"):
        agency = AgencyReceipt()
        agency.CopyFrom(item.agency)
    reason = Reason(item.reason) if item.reason else Reason.NONE
    return answers.AgencyAnswer(item.release, State(item.state), reason, agency)
