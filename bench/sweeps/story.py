"""A script of two agencies that survives the death of a gateway: seven records, each with another end.

One is shared, one refused, one rejected by its recipient, one minimised, and one recalled after it was acknowledged.
Two run out, by the real clock: one before it is sealed (see dying), one that its recipient never answers.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from bench import workload
from bench.sweeps.dying import HELD_LIFE_MS
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
"""How each record ends, in the order of submission; then those that run out."""
HELD_LIFE: Final = timedelta(milliseconds=HELD_LIFE_MS)
UNANSWERED_LIFE: Final = 2 * HELD_LIFE
UNANSWERED: Final = 6
"""The number of the record that the recipient never answers."""


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
            async with asyncio.timeout(STORY_S):
                await _play(story, sender, recipient)
        except (TimeoutError, ClientError) as error:
            story.stuck = type(error).__name__
    return story


async def _play(story: Story, sender: Client, recipient: Client) -> None:
    fact = workload.PROTECTED[0]
    border = workload.Group([workload.passenger(n) for n in range(3)], [None, fact, None], workload.BORDER)
    inquiry = workload.Group([workload.passenger(n) for n in (3, 4)], [None, None], workload.INVESTIGATION)
    results = [*await _submit(sender, border), *await _submit(sender, inquiry)]
    story.told = {result.message_id: end for result, end in zip(results, ENDS, strict=True)}
    late = [await _submit_in_time(sender, 5, HELD_LIFE), await _submit_in_time(sender, UNANSWERED, UNANSWERED_LIFE)]
    story.told |= dict.fromkeys(late, State.EXPIRED)
    rejected, recalled = results[2].message_id, results[4].message_id
    receiving = asyncio.create_task(_receive(recipient, rejected))
    try:
        for result, end in zip(results, ENDS, strict=True):
            await _until(sender, result.message_id, State.ACKNOWLEDGED if end is State.RECALLED else end)
        await _again(lambda: sender.recall(recalled, codes_pb2.REASON_AGENCY))
        await _until(sender, recalled, State.RECALLED)
        for message_id in late:
            await _until(sender, message_id, State.EXPIRED)
    finally:
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)


async def _submit_in_time(sender: Client, number: int, life: timedelta) -> bytes:
    """A record that runs out soon: one whose life passed while no gateway took it is made anew."""
    while True:
        group = workload.Group([workload.passenger(number)], [None], workload.BORDER)
        [result] = await _submit(sender, group, life)
        if result.accepted:
            return result.message_id


async def _submit(sender: Client, group: workload.Group, life: timedelta = timedelta(days=1)) -> list[Submitted]:
    """Submit once, whatever happens: an unknown outcome is asked for again with the same bytes."""
    while True:
        try:
            return await sender.submit(
                group.records,
                to=workload.RECIPIENT,
                purpose=group.purpose,
                basis=workload.BASIS,
                facts=group.facts,
                expires_in=life,
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
    elif item.record.references.record_locator == f"L{UNANSWERED:07d}":
        return
    elif item.message_id == rejected:
        await item.reject()
    else:
        await item.acknowledge()
