"""What a gateway says may be sent, with the agreement verified by the client itself."""

from dataclasses import dataclass

from broker import agreement
from broker.agreement import Agreement, KeyInfo
from broker.client.errors import VerificationError
from broker.errors import AgreementError, InvalidError
from broker.keyitem import added_key, check_roots, parse_item
from broker.link import Link
from broker.v1 import exchange_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class Catalog:
    """`agency`: the caller, as its gateway knows it. `answer`: families, recipients, purposes and limits."""

    agency: str
    party: str
    agreement: Agreement
    attest_kid: bytes
    answer: pb.GetCatalogResponse
    link: Link

    def signer(self, kid: bytes, created_ms: int) -> KeyInfo:
        """The key that may have signed at `created_ms`: of this agreement, of the one in force then, or added to it.

        Raises: AgreementError.
        """
        return self.link.signer(kid, created_ms, self.agreement)


def verified(answer: pb.GetCatalogResponse) -> Catalog:
    """The catalog, once its agreement verifies and is the one that it names.

    Raises:
        VerificationError: the agreement does not verify, or the catalog does not fit it.
    """
    try:
        loaded = agreement.load(answer.agreement)
        others = [agreement.load(data) for data in answer.other_agreements]
        link = Link(agreement.chain([loaded, *others]), answer.party, {}, {})
        link.ring.added = {key.kid: key for key in (_added(link, item) for item in answer.added_keys)}
        own = loaded.agency(answer.agency)
    except (AgreementError, InvalidError) as error:
        raise VerificationError(str(error), error.reason) from None
    if loaded.digest != answer.agreement_digest or loaded.link_id != answer.link_id or own.party != answer.party:
        raise VerificationError("the catalog does not fit its agreement", "AGREEMENT_INVALID")
    return Catalog(own.id, own.party, loaded, answer.attest_kid, answer, link)


def _added(link: Link, body: bytes) -> KeyInfo:
    """A key that its own party's roots added. Raises InvalidError."""
    item = parse_item(body)
    under = link.at(item.not_before_ms)
    party = next((one for one in under.parties if item.owner == one or item.owner.startswith(f"{one}.")), link.peer)
    check_roots(item, under.link_id, under.parties[party])
    return added_key(item, under, party)
