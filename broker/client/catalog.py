"""What a gateway says may be sent, with the agreement verified by the client itself."""

from dataclasses import dataclass

from broker import agreement
from broker.agreement import Agreement
from broker.client.errors import VerificationError
from broker.errors import AgreementError
from broker.v1 import exchange_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class Catalog:
    """`agency`: the caller, as its gateway knows it. `answer`: families, recipients, purposes and limits."""

    agency: str
    party: str
    agreement: Agreement
    attest_kid: bytes
    answer: pb.GetCatalogResponse


def verified(answer: pb.GetCatalogResponse) -> Catalog:
    """The catalog, once its agreement verifies and is the one that it names.

    Raises:
        VerificationError: the agreement does not verify, or the catalog does not fit it.
    """
    try:
        loaded = agreement.load(answer.agreement)
        own = loaded.agency(answer.agency)
    except AgreementError as error:
        raise VerificationError(str(error), error.reason) from None
    if loaded.digest != answer.agreement_digest or loaded.link_id != answer.link_id or own.party != answer.party:
        raise VerificationError("the catalog does not fit its agreement", "AGREEMENT_INVALID")
    return Catalog(own.id, own.party, loaded, answer.attest_kid, answer)
