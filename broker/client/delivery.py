"""What a receiver hands out: a record that proved itself, or a recall to answer."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from google.protobuf.message import Message

from broker.client.verification import Batch
from broker.proof import Proven
from broker.sections import FamilyInfo
from broker.v1 import exchange_service_pb2 as pb
from broker.v1.codes_pb2 import (
    REASON_AGENCY,
    REASON_DESTROYED,
    REASON_KEPT,
    REASON_NONE,
    STATE_ACKNOWLEDGED,
    STATE_RECALLED,
    STATE_REJECTED,
    Caveat,
    NoticeCode,
    Purpose,
    Reason,
    State,
)


class Origin(NamedTuple):
    """Whose word a record is: `agency_signed`, or only its gateway's, `gateway_attested`. Verified by this client."""

    agency: str
    assurance: str
    verified: Literal[True] = True


class Withheld(NamedTuple):
    """A section that is not given in such an exchange, whether or not the record has it; `by`: a party."""

    section: str
    code: NoticeCode.ValueType
    by: str


class Answer(NamedTuple):
    """What an agency says of one release."""

    release: bytes
    state: State.ValueType
    reason: Reason.ValueType


class Answering(Protocol):
    """Where deliveries send their answers: the receiver that they came from."""

    def answer(self, answers: list[Answer]) -> Awaitable[None]:
        """Durable when it returns."""

    def extend(self, conversation: bytes, seconds: int) -> Awaitable[None]:
        """Keep the lease on a conversation."""


@dataclass(frozen=True, slots=True)
class RecallAsked:
    """The origin agency takes back a message that was acknowledged: destroy the record and say so, or that it is kept.

    Seven days of silence mean that it is kept.
    """

    release: bytes
    receiver: Answering

    @property
    def recall(self) -> Literal[True]:
        """Tells it from a delivery."""
        return True

    async def destroyed(self) -> None:
        """The agency's copies are gone."""
        await self.receiver.answer([Answer(self.release, STATE_RECALLED, REASON_DESTROYED)])

    async def kept(self) -> None:
        """The agency keeps its copy; its law must allow that."""
        await self.receiver.answer([Answer(self.release, STATE_RECALLED, REASON_KEPT)])


@dataclass(frozen=True, slots=True)
class Delivery:
    """A record for this agency, proved by this client. Until it is answered, its conversation is leased to us."""

    proven: Proven
    info: FamilyInfo
    batch: Batch
    delivered: pb.Delivery
    receiver: Answering
    party: str
    """Our own party."""

    @property
    def recall(self) -> Literal[False]:
        """Tells it from a recall to answer."""
        return False

    @property
    def message_id(self) -> bytes:
        """16 bytes, the sender's."""
        return self.proven.statement.message_id

    @property
    def release(self) -> bytes:
        """32 bytes: the message's name in receipts, recalls and onward requests."""
        return self.proven.release

    @property
    def conversation(self) -> bytes:
        """16 bytes; a conversation's messages come in order."""
        return self.proven.statement.conversation

    @property
    def in_reply_to(self) -> bytes:
        """The message id that this answers; b'' for none."""
        return self.proven.statement.in_reply_to

    @property
    def supersedes(self) -> bytes:
        """The message id that this corrects; b'' for none."""
        return self.proven.statement.supersedes

    @property
    def family(self) -> str:
        """The record's family, as in `passenger`."""
        return self.info.id

    @property
    def kind(self) -> str:
        """The record's kind, lower case without prefix; '' in a family without kinds."""
        enum = self.info.message_class.DESCRIPTOR.fields_by_name["kind"].enum_type
        if enum is None:
            return ""
        name: str = enum.values_by_number[self.proven.record.kind].name  # type: ignore[attr-defined]
        return name.removeprefix(f"{self.family}_KIND_".upper()).lower()

    @property
    def record(self) -> Message:
        """The shown sections, as the family's protobuf message."""
        return self.proven.record

    @property
    def shown(self) -> tuple[str, ...]:
        """The sections that are shown. Withheld and absent look the same."""
        return tuple(section.name for section in self.info.sections if self.proven.shown >> (section.slot - 1) & 1)

    @property
    def caveats(self) -> tuple[Caveat.ValueType, ...]:
        """What binds the use of the record: the agency's, its gateway's and our own gateway's, ascending."""
        proven = self.proven
        return tuple(sorted({*proven.statement.caveats, *proven.core.gateway_caveats, *self.delivered.caveats}))

    @property
    def withheld(self) -> tuple[Withheld, ...]:
        """What either gateway gives notice of; never a rule."""
        names = {section.slot: section.name for section in self.info.sections}
        theirs = self.proven.statement.origin_agency.partition(".")[0]
        return tuple(
            Withheld(names.get(notice.slot, ""), notice.code, by)
            for by, notices in ((theirs, self.proven.core.notices), (self.party, self.delivered.withheld))
            for notice in notices
        )

    @property
    def destroy_by_ms(self) -> int:
        """When the record must be gone; 0: no such obligation."""
        return self.proven.core.destroy_by_ms

    @property
    def origin(self) -> Origin:
        """Whose word it is."""
        return Origin(self.proven.statement.origin_agency, self.batch.assurance)

    @property
    def purpose(self) -> Purpose.ValueType:
        """What it may be used for."""
        return self.proven.statement.purpose

    @property
    def attempt(self) -> int:
        """1 at the first delivery."""
        return self.delivered.attempt

    @property
    def lease_until_ms(self) -> int:
        """When it is offered again, unless answered or extended."""
        return self.delivered.lease_until_ms

    async def acknowledge(self) -> None:
        """The agency has it. Raises AnswerRefused when the lease was lost: it comes again."""
        await self.receiver.answer([Answer(self.release, STATE_ACKNOWLEDGED, REASON_NONE)])

    async def reject(self, reason: Reason.ValueType = REASON_AGENCY) -> None:
        """The agency will not have it; final, and the sender hears why. Raises AnswerRefused."""
        await self.receiver.answer([Answer(self.release, STATE_REJECTED, reason)])

    async def extend(self, seconds: int) -> None:
        """Keep the lease on its conversation for so long from now, at most 10 minutes."""
        await self.receiver.extend(self.conversation, seconds)
