"""One open Receive stream: deliveries verified as they come, answers written in order, credit given back.

What is not answered when the stream ends is offered again: delivery is at least once, and `message_id` tells repeats.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

import grpc

from broker import keys, receipts
from broker.client import errors
from broker.client.calls import Calls
from broker.client.delivery import Answer, Delivery, RecallAsked
from broker.client.errors import AnswerRefused, ClientError, Unavailable, VerificationError
from broker.client.verification import OUTDATED, Verifier
from broker.keys import SigningKey
from broker.v1 import exchange_service_pb2 as pb
from broker.v1.codes_pb2 import (
    KEY_USE_RECEIPT,
    REASON_CONTENT,
    REASON_NONE,
    REASON_PROOF,
    STATE_ACKNOWLEDGED,
    STATE_REJECTED,
)
from broker.v1.envelope_pb2 import AgencyReceipt

_log = logging.getLogger("broker.client")
_OK: Final = "OK"

Item = Delivery | RecallAsked


class Receiver:
    """Iterate it for one item at a time, `batches()` for lists; it ends when drained.

    As a context it stays open until the context ends; otherwise leaving the loop closes it, unanswered items and all.

    What does not prove itself is rejected with reason PROOF and never handed out, as a gateway does at its own border:
    it would otherwise block its conversation for ever. A family that this release does not know ends the stream
    unanswered, with VerificationError: the gateway keeps the message for a newer client.
    """

    def __init__(
        self,
        calls: Calls,
        verifier: Callable[[bool], Awaitable[Verifier]],
        receipt_key: SigningKey | None,
        *,
        credit: int,
        drain: bool,
    ) -> None:
        self._calls = calls
        self._verifier = verifier
        self._key = receipt_key
        self._kid = keys.kid(keys.SUITE, KEY_USE_RECEIPT, receipt_key.public) if receipt_key is not None else b""
        self._open = pb.ReceiveRequest(open=pb.ReceiveOpen(credit=credit, drain=drain))
        self._stream: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._arrived: asyncio.Queue[Sequence[pb.Delivery] | None] = asyncio.Queue()
        self._ready: deque[Item] = deque()
        self._pending: deque[tuple[bytes, asyncio.Future[str]]] = deque()
        self._writing = asyncio.Lock()
        self._error: ClientError | None = None
        self._held = False

    async def __aenter__(self) -> Self:
        await self._start()
        self._held = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[Item]:
        async for batch in self.batches():
            self._ready.extend(batch)
            while self._ready:
                yield self._ready.popleft()

    async def batches(self) -> AsyncIterator[list[Item]]:
        """Lists as they come from the gateway, at most 256 items, for `acknowledge` of whole lists."""
        try:
            if self._ready:  # an earlier loop over this context was left before their turn
                yield [self._ready.popleft() for _ in range(len(self._ready))]
            while (batch := await self._next_batch()) is not None:
                if batch:
                    yield batch
        finally:
            if not self._held:
                await self.close()

    async def acknowledge(self, items: Sequence[Delivery]) -> None:
        """Acknowledge many at once: one write, one commit at the gateway. Raises AnswerRefused."""
        await self.answer([Answer(item.release, STATE_ACKNOWLEDGED, REASON_NONE) for item in items])

    async def answer(self, answers: list[Answer]) -> None:
        """Write answers; durable at the gateway when it returns.

        Raises:
            AnswerRefused: which did not count, and why; all others did.
            ClientError: the stream ended first; whatever did not count comes again.
        """
        if not answers:
            return
        data = await asyncio.to_thread(self._signed, answers) if self._key is not None else self._signed(answers)
        async with self._writing:
            self._check_open()
            loop = asyncio.get_running_loop()
            futures = [loop.create_future() for _ in answers]
            self._pending.extend(zip((a.release for a in answers), futures, strict=True))
            # Credit goes first, so that a draining stream never looks used up while more is waiting.
            await self._write(pb.ReceiveRequest(credit=pb.ReceiveCredit(messages=len(answers))).SerializeToString())
            await self._write(data)
        outcomes = await asyncio.gather(*futures)
        refused = [(a.release, outcome) for a, outcome in zip(answers, outcomes, strict=True) if outcome != _OK]
        if refused:
            raise AnswerRefused(refused)

    async def extend(self, conversation: bytes, seconds: int) -> None:
        """Keep the lease on a conversation for so long from now, at most 10 minutes."""
        request = pb.ReceiveRequest(extend=pb.ReceiveExtend(conversation=conversation, seconds=seconds))
        async with self._writing:
            self._check_open()
            await self._write(request.SerializeToString())

    async def close(self) -> None:
        """End the stream; what was not answered is offered again."""
        if self._stream is not None:
            self._stream.cancel()
        if self._reader is not None:
            await asyncio.gather(self._reader, return_exceptions=True)

    async def _start(self) -> None:
        if self._reader is None:
            await self._verifier(False)
            self._stream = self._calls.receive()
            await self._write(self._open.SerializeToString())
            self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        """Sort what comes into deliveries and outcomes, until the stream ends."""
        try:
            while (data := await self._stream.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
                response = pb.ReceiveResponse.FromString(data)
                for outcome in response.answered:
                    self._settle(outcome)
                if response.deliveries:
                    self._arrived.put_nowait(response.deliveries)
        except grpc.aio.AioRpcError as error:
            self._error = errors.of(error)
        except asyncio.CancelledError:
            self._error = Unavailable("the stream was closed", "CLOSED")
        finally:
            lost = self._error or Unavailable("the stream ended before the answer was confirmed", "ENDED")
            for _, future in self._pending:
                if not future.done():
                    future.set_exception(lost)
                    future.exception()  # whoever waits hears it; nobody need wait
            self._arrived.put_nowait(None)

    def _settle(self, outcome: pb.AnswerOutcome) -> None:
        release, future = self._pending.popleft()
        if not future.done():
            future.set_result(outcome.reason if outcome.release == release else "OUT_OF_ORDER")

    async def _next_batch(self) -> list[Item] | None:
        """What came, verified; None at the stream's end."""
        await self._start()
        arrived = await self._arrived.get()
        if arrived is None:
            self._arrived.put_nowait(None)  # for whoever asks again
            if self._error is not None:
                raise self._error
            return None
        return await self._verified(arrived)

    async def _verified(self, arrived: Sequence[pb.Delivery]) -> list[Item]:
        """What proves itself, in order. A failure is judged by the newest agreement before it counts."""
        verifier, fresh = await self._verifier(False), False
        items: list[Item] = []
        refused: list[Answer] = []
        signatures: dict[bytes, bytes] = {}
        for delivery in arrived:
            signature = signatures.setdefault(delivery.batch_statement, delivery.batch_signature)
            delivery.batch_signature = delivery.batch_signature or signature
            if delivery.recall:
                items.append(RecallAsked(delivery.release, self))
                continue
            if not delivery.message:  # destroyed meanwhile: recalled or expired
                refused.append(Answer(delivery.release, STATE_REJECTED, REASON_CONTENT))
                continue
            try:
                items.append(self._item(verifier, delivery))
            except VerificationError:
                if not fresh:
                    verifier, fresh = await self._verifier(True), True
                try:
                    items.append(self._item(verifier, delivery))
                except VerificationError as error:
                    refused.append(self._unverified(delivery, error))
        if refused:
            await self._reject(refused)
        return items

    def _item(self, verifier: Verifier, delivery: pb.Delivery) -> Delivery:
        proven, family, batch = verifier.verify(delivery)
        return Delivery(proven, family, batch, delivery, self, verifier.catalog.party)

    @staticmethod
    def _unverified(delivery: pb.Delivery, error: VerificationError) -> Answer:
        if error.reason == OUTDATED:
            raise error
        _log.error("a delivery does not prove itself and is rejected: release %s: %s", delivery.release.hex(), error)
        return Answer(delivery.release, STATE_REJECTED, REASON_PROOF)

    async def _reject(self, answers: list[Answer]) -> None:
        try:
            await self.answer(answers)
        except AnswerRefused:
            return  # it has ended already, or comes again

    def _signed(self, answers: list[Answer]) -> bytes:
        """The answers as bytes, each with the agency's own signature when it has a key: 1.3 ms each."""
        request = pb.ReceiveRequest()
        found = request.answers.answers
        for release, state, reason in answers:
            item = found.add(release=release, state=state, reason=reason)
            if self._key is not None:
                now = time.time_ns() // 1_000_000
                signature = receipts.sign_agency(self._key, release, state, reason, now)
                item.agency.CopyFrom(AgencyReceipt(kid=self._kid, time_ms=now, signature=signature))
        return request.SerializeToString()

    def _check_open(self) -> None:
        if self._stream is None or self._stream.done():
            raise self._error or Unavailable("the stream has ended", "ENDED")

    async def _write(self, data: bytes) -> None:
        try:
            await self._stream.write(data)
        except grpc.aio.AioRpcError as error:
            raise errors.of(error) from None
        except (asyncio.InvalidStateError, grpc.aio.UsageError):
            raise Unavailable("the stream has ended", "ENDED") from None
