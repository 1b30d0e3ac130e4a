"""The main job, as agencies do it: submit, receive, acknowledge, recall; then ask both ledgers what became of it."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from broker.canonical import encode
from broker.cli.callers import Caller
from broker.cli.decision import explained
from broker.cli.demo_plan import BASIS, RECIPIENT, SENDER, Planned
from broker.cli.demo_stage import Stage
from broker.cli.output import note
from broker.client import Client, Delivery, RecallAsked, Submitted
from broker.errors import ConfigError
from broker.v1 import codes_pb2
from broker.v1 import exchange_service_pb2 as pb
from broker.v1 import oversight_service_pb2 as oversight

FINAL_S: Final = 60.0
_OPEN: Final = frozenset({codes_pb2.STATE_ACCEPTED, codes_pb2.STATE_SENT, codes_pb2.STATE_RECEIVED})


@dataclass
class Story:
    """What happened to one record, as seen by both agencies and both officers."""

    planned: Planned
    submitted: Submitted
    sent: pb.MessageView | None = None
    received: pb.MessageView | None = None
    record: bytes = b""
    """What the recipient agency was given, canonical; b'' when nothing."""
    release_decision: oversight.ExplainDecisionResponse | None = None
    withheld: list[oversight.WithheldView] = field(default_factory=list)

    @property
    def observed(self) -> str:
        """shared, minimised, refused or recalled, from what really arrived."""
        state = self.sent.state if self.sent else codes_pb2.STATE_UNSPECIFIED
        if state == codes_pb2.STATE_RECALLED:
            return "recalled"
        if state != codes_pb2.STATE_ACKNOWLEDGED:
            return codes_pb2.State.Name(state).removeprefix("STATE_").lower()
        return "shared" if self.record == encode(self.planned.record.record) else "minimised"


async def run(stage: Stage, planned: Sequence[Planned]) -> list[Story]:
    """Send what is planned and see it through. Raises ClientError, ConfigError."""
    async with Client.open(stage.callers[SENDER]) as sender, Client.open(stage.callers[RECIPIENT]) as recipient:
        stories = await _submit(sender, planned)
        by_id = {story.submitted.message_id: story for story in stories}
        expected = sum(story.submitted.accepted for story in stories)
        recalled = {
            s.submitted.message_id for s in stories if s.planned.expected == "recalled" and s.submitted.accepted
        }
        async with asyncio.timeout(FINAL_S):
            await _deliver(sender, recipient, by_id, expected, recalled)
        await _final(sender, by_id)
        await _at_recipient(recipient, stories)
    _explain(stage, stories)
    return stories


async def _submit(sender: Client, planned: Sequence[Planned]) -> list[Story]:
    """One conversation a purpose, as the agency's own system would."""
    stories: dict[str, Story] = {}
    for purpose in dict.fromkeys(one.purpose for one in planned):
        group = [one for one in planned if one.purpose == purpose]
        results = await sender.submit(
            [one.record.record for one in group],
            to=RECIPIENT,
            purpose=purpose,
            basis=BASIS,
            facts=[one.facts for one in group],
        )
        note(f"submitted {len(group)} records for {codes_pb2.Purpose.Name(purpose).removeprefix('PURPOSE_').lower()}")
        stories |= {one.record.key: Story(one, result) for one, result in zip(group, results, strict=True)}
    return [stories[one.record.key] for one in planned]


async def _deliver(
    sender: Client, recipient: Client, by_id: dict[bytes, Story], expected: int, recalled: set[bytes]
) -> None:
    """Receive, acknowledge, then take some back: the recipient is asked to destroy them, and answers."""
    waiting, destroyed = expected, len(recalled)
    if not waiting:
        return
    async with recipient.receive() as receiver:
        async for batch in receiver.batches():
            deliveries = [item for item in batch if isinstance(item, Delivery)]
            for item in deliveries:
                by_id[item.message_id].record = encode(item.record)
            await receiver.acknowledge(deliveries)
            for asked in [item for item in batch if isinstance(item, RecallAsked)]:
                await asked.destroyed()
                destroyed -= 1
            waiting -= len(deliveries)
            if deliveries and not waiting:
                for message_id in recalled:
                    await _until(sender, message_id, codes_pb2.STATE_ACKNOWLEDGED)
                    await sender.recall(message_id, codes_pb2.REASON_AGENCY)
            if not waiting and not destroyed:
                return


async def _until(client: Client, message_id: bytes, state: "codes_pb2.State.ValueType") -> None:
    while (await client.get(message_id)).state != state:  # noqa: ASYNC110  another process
        await asyncio.sleep(0.05)


async def _final(sender: Client, by_id: dict[bytes, Story]) -> None:
    """Wait until the sender's ledger has the last receipt of everything."""
    ends = time.monotonic() + FINAL_S
    for message_id, story in by_id.items():
        wanted = (
            {codes_pb2.STATE_RECALLED} if story.planned.expected == "recalled" and story.submitted.accepted else None
        )
        while True:
            story.sent = await sender.get(message_id)
            if story.sent.state in wanted if wanted else story.sent.state not in _OPEN:
                break
            if time.monotonic() > ends:
                raise ConfigError("a message did not come to its end in time", "look at the gateways' logs")
            await asyncio.sleep(0.05)


async def _at_recipient(recipient: Client, stories: Sequence[Story]) -> None:
    """The same messages in the other ledger."""
    for story in stories:
        if story.sent and story.sent.release:
            story.received = await recipient.get(story.sent.release)


def _explain(stage: Stage, stories: Sequence[Story]) -> None:
    """The law behind each outcome, from both officers; decisions that came out alike are asked for once."""
    ours = _Officer(stage, "us")
    theirs = _Officer(stage, "mx")
    try:
        for story in stories:
            story.release_decision = ours.explained(story.submitted.decision_id)
            story.withheld = list(story.release_decision.withheld)
            if story.received and story.received.decision_id:
                story.withheld += theirs.explained(story.received.decision_id).withheld
    finally:
        ours.caller.close()
        theirs.caller.close()


class _Officer:
    """A compliance officer who reads the decisions of one party."""

    def __init__(self, stage: Stage, party: str) -> None:
        self.caller = Caller(stage.callers[f"{party}.officer"])
        self._alike: dict[bytes, bytes] = {}
        self._known: dict[bytes, oversight.ExplainDecisionResponse] = {}
        for decision in self._all():
            outcome = oversight.DecisionView(rules=decision.rules, withheld=decision.withheld, purpose=decision.purpose)
            self._alike[decision.decision_id] = outcome.SerializeToString()

    def _all(self) -> Iterator[oversight.DecisionView]:
        token = ""
        while True:
            request = oversight.ListDecisionsRequest(page_size=1000, page_token=token)
            page = self.caller.call("OversightService/ListDecisions", request, oversight.ListDecisionsResponse)
            yield from page.decisions
            token = page.next_page_token
            if not token:
                return

    def explained(self, decision_id: bytes) -> oversight.ExplainDecisionResponse:
        alike = self._alike[decision_id]
        if alike not in self._known:
            self._known[alike] = explained(self.caller, decision_id, "en")
        return self._known[alike]
