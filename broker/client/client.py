"""What an agency system imports: submit records, receive them, see what became of each."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from weakref import WeakSet

from google.protobuf.message import Message

from broker import keys
from broker.canonical import encode
from broker.client import catalog as catalogs
from broker.client import submission
from broker.client.calls import Calls, Credentials, Patience
from broker.client.catalog import Catalog
from broker.client.errors import ClientError, Invalid, NotFound, OutcomeUnknown
from broker.client.receiver import Receiver
from broker.client.store import Journal, Memory, Store
from broker.client.submission import Call, Signer, Submitted, Terms
from broker.client.verification import Verifier
from broker.errors import AgreementError, KeyFileError, OriginError, SectionError
from broker.keys import SigningKey
from broker.origin import parse_statement
from broker.sections import FamilyInfo
from broker.v1 import exchange_service_pb2 as pb
from broker.v1.codes_pb2 import (
    KEY_USE_ORIGIN,
    KEY_USE_RECEIPT,
    REASON_AGENCY,
    STATE_REFUSED,
    Caveat,
    Purpose,
    Reason,
    State,
)
from broker.v1.facts_pb2 import Facts

_PAGE: Final = 500
_CATALOG_S: Final = 600.0
"""How long a catalog is used before it is asked for again."""


class Client:
    """One agency's connection to its own gateway; an asynchronous context.

    `origin_key`: signs what is submitted; without it the gateway attests. `receipt_key`: signs answers. `store`: keeps
    submissions until their answer is known; without one a crash may leave an outcome unknown for ever.
    """

    def __init__(
        self,
        endpoint: str,
        credentials: Credentials,
        origin_key: SigningKey | None = None,
        receipt_key: SigningKey | None = None,
        store: Store | None = None,
        patience: Patience = Patience(),  # noqa: B008  frozen
    ) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._origin_key = origin_key
        self._receipt_key = receipt_key
        self._store: Store = store if store is not None else Memory()
        self._patience = patience
        self._open_calls: Calls | None = None
        self._catalog: Catalog | None = None
        self._asked = 0.0
        self._seen: Verifier | None = None
        self._receivers: WeakSet[Receiver] = WeakSet()

    @classmethod
    def open(cls, folder: Path, *, durable: bool = True, patience: Patience = Patience()) -> Self:  # noqa: B008
        """A client from a caller's folder: endpoint, certificate.pem, key.pem, ca.pem, and its keys if it has any.

        `durable`: keep submissions in the folder's `journal` until their answer is known.

        Raises:
            OSError, KeyFileError: a file that is missing, damaged or readable by others.
        """
        return cls(
            (folder / "endpoint").read_text(encoding="ascii").strip(),
            Credentials.read(folder),
            _key(folder / "origin.json", KEY_USE_ORIGIN),
            _key(folder / "receipt.json", KEY_USE_RECEIPT),
            Journal(folder / "journal") if durable else None,
            patience,
        )

    async def __aenter__(self) -> Self:
        self._open_calls = Calls(self._endpoint, self._credentials, self._patience)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End streams and the connection."""
        for receiver in list(self._receivers):
            await receiver.close()
        if self._open_calls is not None:
            await self._open_calls.close()

    @property
    def _calls(self) -> Calls:
        if self._open_calls is None:
            raise ClientError("use the client as a context: `async with Client.open(...) as client`", "NOT_OPEN")
        return self._open_calls

    async def catalog(self, *, refresh: bool = False) -> Catalog:
        """What may be sent, to whom, under which agreement; asked again when it is old, its agreement verified here.

        Raises:
            VerificationError: the agreement does not verify.
        """
        if self._catalog is None or refresh or time.monotonic() - self._asked > _CATALOG_S:
            answer = await self._calls.call("GetCatalog", b"", pb.GetCatalogResponse.FromString)
            if self._catalog is None or answer != self._catalog.answer:
                self._catalog = catalogs.verified(answer)
            self._asked = time.monotonic()
        return self._catalog

    async def submit(
        self,
        records: Sequence[Message],
        *,
        to: str,
        purpose: Purpose.ValueType,
        basis: Sequence[str],
        facts: Sequence[Facts | None] | None = None,
        conversation: bytes | None = None,
        in_reply_to: bytes = b"",
        supersedes: bytes = b"",
        derived_from: Sequence[bytes] = (),
        caveats: Sequence[Caveat.ValueType] = (),
        expires_in: timedelta = timedelta(days=7),
        validate_only: bool = False,
    ) -> list[Submitted]:
        """Submit records to an agency of the other party, in order; what became of each, in the same order.

        `facts`: one a record; they never leave the party. `conversation`: 16 bytes; a new one for this call when None.
        More than 256 records are several calls, one after another. `validate_only`: decide and answer, keep nothing.

        Raises:
            OutcomeUnknown: `resume` asks again; never submit these records again before it has answered.
            ClientError: nothing of the call was accepted. `submitted` holds the answers of the calls before it.
        """
        given = [submission.encoded(record) for record in records]
        told = submission.encoded_facts(facts, len(given))
        terms = Terms(
            to, purpose, tuple(sorted({*basis})), conversation or os.urandom(16), 0, 0,
            in_reply_to, supersedes, tuple(derived_from), tuple(caveats),
        )  # fmt: skip
        return await self._submit(given, told, terms, expires_in // timedelta(milliseconds=1), validate_only)

    async def _submit(
        self,
        given: Sequence[tuple[FamilyInfo, bytes]],
        told: Sequence[bytes],
        terms: Terms,
        life_ms: int,
        validate_only: bool,
    ) -> list[Submitted]:
        """Call after call, each dated and signed when its turn comes."""
        catalog = await self.catalog()
        signer = Signer.of(self._origin_key, catalog)
        done: list[Submitted] = []
        for part in submission.groups([len(data) + len(told[n]) for n, (_, data) in enumerate(given)]):
            now = time.time_ns() // 1_000_000
            dated = replace(terms, created_ms=now, expires_ms=now + life_ms)
            try:
                call = submission.build(given[part], told[part], dated, catalog, signer, validate_only=validate_only)
                done += await self._hand_in(call) if not validate_only else await self._ask(call)
            except ClientError as error:
                error.submitted = done
                raise
            except (AgreementError, SectionError, OriginError) as error:
                raise Invalid(str(error), error.reason) from None
        return done

    async def resume(self) -> list[Submitted]:
        """Ask again, with the same bytes, for every submission whose answer is not known; what became of each.

        Raises:
            OutcomeUnknown: still not known.
        """
        done: list[Submitted] = []
        for name, request in await asyncio.to_thread(self._store.waiting):
            parsed = pb.SubmitRequest.FromString(request)
            call = Call(request, tuple(parse_statement(item.statement).message_id for item in parsed.submissions))
            try:
                done += await self._ask_again(call)
            except ClientError as error:
                raise _unknown(error, done) from error
            await asyncio.to_thread(self._store.remove, name)
        return done

    async def _hand_in(self, call: Call) -> list[Submitted]:
        """Keep the call, make it, forget it once its answer is known. A crash in between is what `resume` is for."""
        name = f"{time.time_ns():020d}-{call.message_ids[0].hex()}"
        await asyncio.to_thread(self._store.add, name, call.request)
        try:
            done = await self._ask(call)
        except ClientError as error:
            if error.unknown:
                raise _unknown(error, []) from error
            await asyncio.to_thread(self._store.remove, name)  # nothing was accepted
            raise
        await asyncio.to_thread(self._store.remove, name)
        return done

    async def _ask(self, call: Call) -> list[Submitted]:
        """One Submit call, tried until it is answered."""
        response = await self._calls.call("Submit", call.request, pb.SubmitResponse.FromString)
        return submission.results(response, call.message_ids)

    async def _ask_again(self, call: Call) -> list[Submitted]:
        """Ask for a kept call; refused as a whole, as when it is too old, each message is looked up by its id."""
        try:
            return await self._ask(call)
        except Invalid as error:
            reason = error.reason
        return [await self._looked_up(message_id, reason) for message_id in call.message_ids]

    async def _looked_up(self, message_id: bytes, reason: str) -> Submitted:
        try:
            found = await self.get(message_id)
        except NotFound:
            return Submitted(message_id, "invalid", reason)
        refused = found.state == STATE_REFUSED
        return Submitted(message_id, "refused" if refused else "accepted", "DUPLICATE", found.decision_id)

    def receive(self, *, credit: int = 256, drain: bool = False, sign: bool = True) -> Receiver:
        """Messages for this agency, each verified here; iterate the receiver, or its `batches()`.

        `credit`: how many may be handed out unanswered. `drain`: end when nothing is left. `sign`: sign answers with
        the receipt key, 1.3 ms each; without it *acknowledged* is the gateway's word alone.
        """
        key = self._receipt_key if sign else None
        receiver = Receiver(self._calls, self._verifier, key, credit=credit, drain=drain)
        self._receivers.add(receiver)
        return receiver

    async def _verifier(self, refresh: bool) -> Verifier:
        """The verifier of the newest agreement that is known; `refresh` asks for it."""
        catalog = await self.catalog(refresh=refresh)
        if self._seen is None or self._seen.catalog is not catalog:
            self._seen = Verifier(catalog)
        return self._seen

    async def get(self, name: bytes) -> pb.MessageView:
        """A message that this agency sent (by message_id or release) or received (by release). Raises NotFound."""
        request = pb.GetMessageRequest(id=name).SerializeToString()
        return (await self._calls.call("GetMessage", request, pb.GetMessageResponse.FromString)).message

    async def list(
        self, *, states: Sequence[State.ValueType] = (), way: "pb.Way.ValueType" = pb.WAY_UNSPECIFIED
    ) -> AsyncIterator[pb.MessageView]:
        """This agency's messages, newest first: those sent, then those received. `states`, `way`: only these."""
        request = pb.ListMessagesRequest(page_size=_PAGE, states=states, way=way)
        while True:
            answer = await self._calls.call("ListMessages", encode(request), pb.ListMessagesResponse.FromString)
            for message in answer.messages:
                yield message
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    async def recall(self, message_id: bytes, reason: Reason.ValueType = REASON_AGENCY) -> pb.MessageView:
        """Take back a message that this agency sent, wherever it is. Its state tells what came of it."""
        request = pb.RecallRequest(message_id=message_id, reason=reason)
        return (await self._calls.call("Recall", encode(request), pb.RecallResponse.FromString)).message


def _key(path: Path, use: int) -> SigningKey | None:
    """The signing key of a file, when there is one."""
    if not path.exists():
        return None
    found = keys.read_key_file(path)
    if found.use != use:
        raise KeyFileError("a key file of another use")
    return SigningKey.from_seed(found.seed)


def _unknown(error: ClientError, done: list[Submitted]) -> OutcomeUnknown:
    unknown = OutcomeUnknown("whether it was accepted is not known", error.reason)
    unknown.submitted = done
    return unknown
