"""What an operator does: suspend and resume the link, suspend a key, issue what the roots signed.

Each act is an entry of the decisions log, in the transaction that carries it out. To stop takes one person, to go on
takes two.
"""

from collections.abc import Callable

from broker import keyring, standing
from broker.app import Gateway
from broker.errors import ActError
from broker.gateway.operations import key_view, link_view
from broker.identity import Principal
from broker.ledger.sqlite import Transaction
from broker.standing import Act
from broker.v1 import operations_service_pb2 as pb


class Acts:
    """The calls of OperationsService that change something."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def suspend_link(self, caller: Principal, request: pb.SuspendLinkRequest) -> pb.SuspendLinkResponse:
        """At once: data is neither sealed, read nor accepted; control goes on."""
        now, act = self._gateway.clock(), Act(caller.id, request.why)

        def change(tx: Transaction) -> pb.LinkView:
            standing.suspend(tx, act, now)
            return link_view(tx, self._gateway)

        return pb.SuspendLinkResponse(link=await self._gateway.ledger.commit(change))

    async def resume_link(self, caller: Principal, request: pb.ResumeLinkRequest) -> pb.ResumeLinkResponse:
        """The first person's call waits for a second, different one's."""
        now, act = self._gateway.clock(), Act(caller.id, request.why)

        def change(tx: Transaction) -> tuple[bool, pb.LinkView]:
            return standing.resume(tx, act, now), link_view(tx, self._gateway)

        resumed, link = await self._gateway.ledger.commit(change)
        self._gateway.relay.work.set()
        return pb.ResumeLinkResponse(link=link, resumed=resumed)

    async def suspend_key(self, caller: Principal, request: pb.SuspendKeyRequest) -> pb.SuspendKeyResponse:
        """A key of ours, at once here and as soon as its item is taken there."""
        act, link = Act(caller.id, request.why), self._gateway.link

        def change(tx: Transaction, now: int) -> bytes:
            keyring.suspend(tx, link, request.kid, now)
            standing.operator_act(tx, "key.suspend", act, request.kid, now)
            return request.kid

        return pb.SuspendKeyResponse(key=await self._key_changed(change))

    async def issue_key_item(self, caller: Principal, request: pb.IssueKeyItemRequest) -> pb.IssueKeyItemResponse:
        """An item that our party's roots signed, to add or reinstate a key; a suspension is `suspend_key`."""
        act, link = Act(caller.id, request.why), self._gateway.link

        def change(tx: Transaction, now: int) -> bytes:
            kid = keyring.issue(tx, link, request.item, now)
            standing.operator_act(tx, "key.issue", act, kid, now)
            return kid

        return pb.IssueKeyItemResponse(key=await self._key_changed(change))

    async def _key_changed(self, change: Callable[[Transaction, int], bytes]) -> pb.KeyView:
        """Commit, then let every use see it; the item is sealed at once."""
        gateway, now = self._gateway, self._gateway.clock()
        kid = await gateway.ledger.commit(lambda tx: change(tx, now))
        gateway.ledger.read(lambda tx: keyring.refresh(tx, gateway.link))
        gateway.relay.work.set()
        key = gateway.link.find(kid)
        if key is None:
            raise ActError("the key is not known")
        return gateway.ledger.read(lambda tx: key_view(tx, gateway, key, now))
