"""The agency's own check of what its gateway hands over: it holds the origin agency's signature (protocol section 3).

1 the message is canonical and follows from the release that it is delivered as · 2 it is for this agency, on this link,
from an agency of the other party · 3 the batch is the one that it names, and was signed by that agency's origin key, or
attested by its gateway · 4 slots, record, place and siblings lead to the root that was signed.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from broker import keys, sections
from broker.canonical import H, parse
from broker.client.catalog import Catalog
from broker.client.errors import VerificationError
from broker.errors import AgreementError, InvalidError, ProofError, SectionError
from broker.origin import parse_batch_statement
from broker.proof import Proven, prove_message, unpack_message
from broker.sections import FamilyInfo
from broker.v1 import exchange_service_pb2 as pb
from broker.v1.codes_pb2 import KEY_USE_ATTEST, KEY_USE_ORIGIN
from broker.v1.envelope_pb2 import Message, OriginStatement

_KEPT: Final = 4096
"""Batches whose signature is remembered."""
OUTDATED: Final = "FAMILY_UNKNOWN"
PROOF: Final = "PROOF"


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch whose signature was verified. `assurance`: agency_signed or gateway_attested."""

    signer_kid: bytes
    created_ms: int
    root: bytes
    assurance: str
    owner: str


class Verifier:
    """Checks deliveries against one agreement; a batch's signature once."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._peer = catalog.agreement.peer(catalog.party)
        self._batches: OrderedDict[tuple[bytes, bytes], Batch] = OrderedDict()

    def verify(self, delivery: pb.Delivery) -> tuple[Proven, FamilyInfo, Batch]:
        """The message, proved, and whose word it is.

        Raises:
            VerificationError: reason PROOF, or FAMILY_UNKNOWN when this release of the client is older than the family.
        """
        try:
            return self._verify(delivery)
        except (ProofError, InvalidError, AgreementError) as error:
            raise VerificationError(str(error), PROOF) from None

    def _verify(self, delivery: pb.Delivery) -> tuple[Proven, FamilyInfo, Batch]:
        parts = unpack_message(parse(Message, delivery.message))  # 1
        if parts.release != delivery.release:
            raise ProofError("another message than the one delivered")
        statement = parts.statement
        family = self._addressed(statement)  # 2
        batch = self._batch(delivery, parts.core.batch)  # 3
        if statement.origin_kid != batch.signer_kid or statement.created_ms != batch.created_ms:
            raise ProofError("a statement that does not fit its batch")
        if batch.owner not in {statement.origin_agency, self._peer}:
            raise ProofError("signed by another agency")
        proven = prove_message(parts.message, family, unpacked=parts, narrowed=True)  # 4
        if proven.batch_root != batch.root:
            raise ProofError("the signature does not cover this message")
        return proven, family, batch

    def _addressed(self, statement: OriginStatement) -> FamilyInfo:
        """The family of a statement that is for us."""
        agreement = self.catalog.agreement
        if statement.link_id != agreement.link_id or statement.recipient_agency != self.catalog.agency:
            raise ProofError("a message for another link or agency")
        if agreement.agency(statement.origin_agency).party != self._peer:
            raise ProofError("a message from another party")
        try:
            family = sections.family(statement.family)
        except SectionError:
            family = None
        if family is None or statement.family_revision > family.revision:
            raise VerificationError("a family that this release of the client does not know", OUTDATED)
        return family

    def _batch(self, delivery: pb.Delivery, named: bytes) -> Batch:
        """The batch of a delivery, its signature verified once for each statement and signature."""
        place = (delivery.batch_statement, delivery.batch_signature)
        batch = self._batches.get(place)
        if batch is None:
            batch = self._signed(*place)
            self._batches[place] = batch
            if len(self._batches) > _KEPT:
                self._batches.popitem(last=False)
        if H(delivery.batch_statement) != named:
            raise ProofError("another batch than the message names")
        return batch

    def _signed(self, statement: bytes, signature: bytes) -> Batch:
        signed = parse_batch_statement(statement)
        key = self.catalog.signer(signed.signer_kid, signed.created_ms)
        if key.use == KEY_USE_ORIGIN:
            assurance = "agency_signed"
        elif key.use == KEY_USE_ATTEST and key.owner == self._peer:
            assurance = "gateway_attested"
        else:
            raise ProofError("a signing key of another use")
        keys.verify(key.public, signature, statement, keys.CTX_ORIGIN)
        return Batch(signed.signer_kid, signed.created_ms, signed.root, assurance, key.owner)
