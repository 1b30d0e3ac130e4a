"""ExchangeService: what agencies call."""

import re

from broker import keyring, retention, wire
from broker.app import Gateway
from broker.errors import InvalidError, LinkError, NotFoundError
from broker.gateway import status
from broker.identity import Principal
from broker.ledger.sqlite import Transaction
from broker.link import Link
from broker.message import FINAL, Reason, SignedBatch, State, StoredMessage
from broker.origin import CAVEATS_MAX, LIFE_MAX_MS
from broker.outbound import Result
from broker.relay import suspended
from broker.sealing import LIMITS
from broker.sections import families
from broker.v1 import codes_pb2
from broker.v1 import exchange_service_pb2 as pb

PAGE_MAX = 1000
_ROW = re.compile(r"[0-9]{1,18}")
_OUTCOMES = {
    "accepted": pb.SUBMIT_RESULT_ACCEPTED,
    "refused": pb.SUBMIT_RESULT_REFUSED,
    "invalid": pb.SUBMIT_RESULT_INVALID,
}


class PageInvalid(InvalidError):
    """A page token or size that this service did not give."""

    reason = "FIELD_INVALID"


class ExchangeService:
    """Submit, look up, recall; `Receive` has a file of its own."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def submit(self, caller: Principal, request: pb.SubmitRequest) -> pb.SubmitResponse:
        """1 to 256 records under one signature."""
        if self._gateway.ledger.read(suspended):
            raise LinkError("the link is suspended; ask your operator")
        batch = SignedBatch(request.batch_statement, request.batch_signature)
        items = [wire.submission(item) for item in request.submissions]
        results = await self._gateway.outbound.submit(caller.id, batch, items, validate_only=request.validate_only)
        return pb.SubmitResponse(items=[_item(result) for result in results])

    async def get_message(self, caller: Principal, request: pb.GetMessageRequest) -> pb.GetMessageResponse:
        """A message that the caller sent or received; anything else is absent."""
        return pb.GetMessageResponse(message=wire.message_view(self._find(caller.id, request.id)))

    def _find(self, agency: str, name: bytes) -> StoredMessage:
        def question(tx: Transaction) -> StoredMessage | None:
            return tx.outbox.get(agency, name) or tx.mailbox.get(agency, name)

        found = self._gateway.ledger.read(question)
        if found is None:
            raise NotFoundError("no such message")
        return found

    async def list_messages(self, caller: Principal, request: pb.ListMessagesRequest) -> pb.ListMessagesResponse:
        """The caller's messages, newest first, one way after the other."""
        size = page_size(request.page_size)
        way, before = _page(request)
        states = [State(s) for s in request.states if s]

        def question(tx: Transaction) -> list[StoredMessage]:
            store = tx.outbox if way == pb.WAY_OUT else tx.mailbox
            return store.page(caller.id, states, before, size)

        found = self._gateway.ledger.read(question)
        token = f"{way}.{found[-1].row}" if len(found) == size else ""
        if not token and request.way == pb.WAY_UNSPECIFIED and way == pb.WAY_OUT:
            token = f"{pb.WAY_IN}.0"
        return pb.ListMessagesResponse(messages=[wire.message_view(m) for m in found], next_page_token=token)

    async def recall(self, caller: Principal, request: pb.RecallRequest) -> pb.RecallResponse:
        """Take a message back, wherever it is."""
        now = self._gateway.clock()
        reason = Reason(request.reason) if request.reason else Reason.AGENCY

        def change(tx: Transaction) -> None:
            found = tx.outbox.get(caller.id, request.message_id)
            if found is None:
                raise NotFoundError("no such message")
            if found.state in FINAL - {State.ACKNOWLEDGED}:
                return  # it has already ended; its state says how
            retention.recall(
                tx, found.release, caller.id, reason, sealed=found.sealed, expires_ms=found.expires_ms, now=now
            )

        await self._gateway.ledger.commit(change)
        self._gateway.outbound.backlog.moved()
        self._gateway.relay.work.set()
        message = self._find(caller.id, request.message_id)
        self._gateway.outbound.fresh.pop(message.release, None)
        return pb.RecallResponse(message=wire.message_view(message))

    async def get_catalog(self, caller: Principal, request: pb.GetCatalogRequest) -> pb.GetCatalogResponse:
        """What may be sent, to whom, under which limits: a preflight without a refusal."""
        del request
        gateway, now = self._gateway, self._gateway.clock()
        link, agreement = gateway.link, gateway.link.at(now)
        bases = sorted(gateway.engine.instruments_at(now))
        peers = [a for a in agreement.agencies.values() if a.party == link.peer]
        return pb.GetCatalogResponse(
            party=link.party,
            agency=caller.id,
            link_id=agreement.link_id,
            agreement_digest=agreement.digest,
            agreement=agreement.data,
            other_agreements=[one.data for one in link.agreements if one is not agreement],
            added_keys=gateway.ledger.read(lambda tx: keyring.added_items(tx, link)),
            attest_kid=_attest_kid(link, now),
            families=[
                pb.CatalogFamily(
                    id=f.id,
                    revision=f.revision,
                    slots=f.slots,
                    kinds=families()[f.id].sections[0].kinds,
                    legal_bases=bases,
                )
                for f in sorted(agreement.families.values(), key=lambda f: f.id)
            ],
            recipients=[
                pb.CatalogRecipient(agency=a.id, roles=sorted(a.roles)) for a in sorted(peers, key=lambda a: a.id)
            ],
            purposes=[number for number in codes_pb2.Purpose.values() if number],
            limits=pb.CatalogLimits(
                max_submissions=LIMITS.messages,
                max_record_bytes=LIMITS.record,
                max_statement_bytes=LIMITS.statement,
                max_caveats=CAVEATS_MAX,
                max_life_ms=LIFE_MAX_MS,
            ),
        )


def _attest_kid(link: Link, now: int) -> bytes:
    """The key that attests for agencies without one of their own; none while it is suspended."""
    try:
        return link.own_key(codes_pb2.KEY_USE_ATTEST, now).kid
    except LinkError:
        return b""


def page_size(asked: int) -> int:
    """A page's size: 100 unless told, at most PAGE_MAX."""
    if asked < 0:
        raise PageInvalid("a page size is not negative")
    return min(asked or 100, PAGE_MAX)


def page_row(token: str) -> int:
    """The row that a page token stands for."""
    if token and not _ROW.fullmatch(token):
        raise PageInvalid("a page token that this service did not give")
    return int(token or 0)


def _page(request: pb.ListMessagesRequest) -> "tuple[pb.Way.ValueType, int]":
    if not request.page_token:
        return request.way or pb.WAY_OUT, 0
    way, _, row = request.page_token.partition(".")
    if way not in {str(pb.WAY_OUT), str(pb.WAY_IN)}:
        raise PageInvalid("a page token that this service did not give")
    return (pb.WAY_OUT if way == str(pb.WAY_OUT) else pb.WAY_IN), page_row(row)


def _item(result: Result) -> pb.SubmitItem:
    item = pb.SubmitItem(
        message_id=result.message_id,
        result=_OUTCOMES[result.outcome],
        reason=result.reason,
        decision_id=result.decision_id,
    )
    if result.outcome != "accepted":
        item.status.CopyFrom(status.of_item(_denied(result), result.violations))
    return item


def _denied(result: Result) -> str:
    """A duplicate of a refusal has the refusal's status again."""
    return "POLICY_DENIED" if result.outcome == "refused" else result.reason
