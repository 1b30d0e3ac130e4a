"""Bugs to plant in a gateway, each of which a checker of these sweeps must find."""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from broker import decision, outbound
from broker.outbound import Outbound, Result
from policy import Obligation

EARLY_S: Final = 0.1
_kept: "set[asyncio.Task[None]]" = set()


def early_word() -> None:
    """The caller hears *accepted* before anything is durable."""
    submit = Outbound.submit

    async def late(self: Outbound, agency: str, batch: Any, items: Sequence[Any]) -> None:
        await asyncio.sleep(EARLY_S)
        await submit(self, agency, batch, items)

    async def early(
        self: Outbound, agency: str, batch: Any, items: Sequence[Any], *, validate_only: bool = False
    ) -> list[Result]:
        told = await submit(self, agency, batch, items, validate_only=True)
        if not validate_only:
            _kept.add(asyncio.create_task(late(self, agency, batch, items)))
        return told

    Outbound.submit = early  # type: ignore[method-assign]


def open_slots() -> None:
    """A withheld section travels all the same."""
    slots_bytes = outbound.slots_bytes  # type: ignore[attr-defined]  # where the gateway looks it up

    def opened(sections: Sequence[bytes], leaves: Sequence[bytes], block: bytes, shown: int) -> bytes:
        every = sum(1 << n for n, section in enumerate(sections) if section)
        return bytes(slots_bytes(sections, leaves, block, shown | every))

    outbound.slots_bytes = opened  # type: ignore[attr-defined]


def chatty() -> None:
    """Facts are printed to the process's log."""
    facts_of = decision.facts_of

    def printed(data: bytes) -> Any:
        found = facts_of(data)
        sys.stderr.write(f"{found}\n")
        return found

    decision.facts_of = printed  # type: ignore[assignment]


def telling_caveat() -> None:
    """A caveat is added whenever facts are stated, so that the other party can tell."""
    minimise = Outbound._minimise

    def telling(self: Outbound, checked: Any, batch: Any, asked: Any, ruled: Any, now: int) -> Any:
        if asked.request.facts and ruled.permit:
            told = Obligation("caveat", "PURPOSE_ONLY")
            ruled = replace(ruled, obligations=(*ruled.obligations, told))
        return minimise(self, checked, batch, asked, ruled, now)

    Outbound._minimise = telling  # type: ignore[method-assign, assignment]


BUGS: Final[Mapping[str, Callable[[], None]]] = {
    "early_word": early_word,
    "open_slots": open_slots,
    "chatty": chatty,
    "telling_caveat": telling_caveat,
}
