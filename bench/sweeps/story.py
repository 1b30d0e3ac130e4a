"""A serial script of two agencies that survives the death of a gateway: five records, each with another end.

One is shared, one refused, one rejected by its recipient, one minimised, and one recalled after it was acknowledged.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench import workload
from broker.client import Client, Delivery, Submitted
from broker.client.calls import Patience
from broker.client.errors import ClientError, OutcomeUnknown
from broker.client.receiver import Item
from broker.message import State
from broker.v1 import codes_pb2

PATIENCE: Final = Patience(try_s=3.0, total_s=30.0)
STORY_S: Final = 45.0
PAUSE_S: Final = 0.05
ENDS: Final = (State.ACKNOWLEDGED, State.REFUSED, State.REJECTED, State.ACKNOWLEDGED, State.RECALLED)
"""How each record ends, in the order of submission."""


@dataclass
class Story:
    """What the agencies know. `told`: message id to how it must end; `stuck`: a step that did not come to its end."""

    told: dict[bytes, State] = field(default_factory=dict)
    stuck: str = ""


async def play(callers: dict[str, Path]) -> Story:
    """The whole script, however often a gateway has to be started again meanwhile."""
    story = Story()
    async with (
        Client.open(callers[workload.SENDER], patience=PATIENCE) as sender,
        Client.open(callers[workload.RECIPIENT], patience=PATIENCE) as recipient,
    ):
        try:
            await asyncio.wait_for(_play(story, sender, recipient), STORY_S)
        except (TimeoutError, ClientError) as error:
            story.stuck = type(error).__name__
    return story


async def _play(story: Story, sender: Client, recipient: Client) -> None:
    fact = workload.PROTECTED[0]
    border = workload.Group([workload.passenger(n) for n in range(3)], [None, fact, None], workload.BORDER)
    inquiry = workload.Group([workload.passenger(n) for n in (3, 4)], [None, None], workload.INVESTIGATION)
    results = [*await _submit(sender, border), *await _submit(sender, inquiry)]
    story.told = {result.message_id: end for result, end in zip(results, ENDS, strict=True)}
    rejected, recalled = results[2].message_id, results[4].message_id
    receiving = asyncio.create_task(_receive(recipient, rejected))
    try:
        for result, end in zip(results, ENDS, strict=True):
            await _until(sender, result.message_id, State.ACKNOWLEDGED if end is State.RECALLED else end)
        await _again(lambda: sender.recall(recalled, codes_pb2.REASON_AGENCY))
        await _until(sender, recalled, State.RECALLED)
    finally:
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)


async def _submit(sender: Client, group: workload.Group) -> list[Submitted]:
    """Submit once, whatever happens: an unknown outcome is asked for again with the same bytes."""
    while True:
        try:
            return await sender.submit(
                group.records, to=workload.RECIPIENT, purpose=group.purpose, basis=workload.BASIS, facts=group.facts
            )
        except OutcomeUnknown:
            found: list[Submitted] = await _again(sender.resume)
            return found
        except ClientError:  # nothing was accepted
            await asyncio.sleep(PAUSE_S)


async def _again(call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    while True:
        try:
            return await call()
        except ClientError:
            await asyncio.sleep(PAUSE_S)


async def _until(client: Client, message_id: bytes, state: State) -> None:
    while (await _again(lambda: client.get(message_id))).state != state:  # noqa: ASYNC110  another process's state
        await asyncio.sleep(PAUSE_S)


async def _receive(recipient: Client, rejected: bytes) -> None:
    """Answer all that comes, one after another; a stream that broke is opened again."""
    while True:
        try:
            async for item in recipient.receive():
                await _answer(item, rejected)
        except ClientError:
            await asyncio.sleep(PAUSE_S)


async def _answer(item: Item, rejected: bytes) -> None:
    if not isinstance(item, Delivery):
        await item.destroyed()
    elif item.message_id == rejected:
        await item.reject()
    else:
        await item.acknowledge()
