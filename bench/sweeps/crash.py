"""Kill each gateway at each of its syncs, start it again, let the story go on, and look whether anything is broken."""

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from bench import gateways
from bench.gateways import PARTIES, Link
from bench.sweeps import invariants, story
from bench.sweeps.invariants import Broken

TRIES: Final = 6
"""Runs for a point that is not reached: how much one commit takes together differs from run to run."""
SETTLE_S: Final = 0.5
WORKERS: Final = 2


@dataclass(frozen=True)
class Point:
    """The n-th sync of a party's gateway; `bug`: what is planted in it."""

    party: str
    at: int
    bug: str = ""

    def module(self) -> tuple[str, ...]:
        """What runs instead of `puente serve`."""
        return ("bench.sweeps.dying", "--at", str(self.at), *(("--bug", self.bug) if self.bug else ()))


@dataclass(frozen=True)
class Swept:
    """A point's run. `killed`: the process really died there, by SIGKILL."""

    point: Point
    killed: bool
    broken: Broken
    stuck: str

    @property
    def red(self) -> bool:
        """Something is broken, or the story did not end."""
        return not self.broken.ok or bool(self.stuck)


def count() -> dict[str, int]:
    """Syncs of each gateway in one undisturbed story, from start to stop."""
    module = dict.fromkeys(PARTIES, ("bench.sweeps.dying",))
    with gateways.running(module=module) as link:
        told = asyncio.run(story.play(dict(link.callers)))
        link.stop()
        broken = invariants.check(link.ledger("us"), link.ledger("mx"), told.told)
        expired = invariants.expiries(link.ledger("us"), link.ledger("mx"))
        if told.stuck or not broken.ok or expired != (1, 1):
            raise gateways.StartError(f"the story does not end well by itself: {told.stuck} {broken} {expired}")
        return {p: int(link.made.configs[p].with_name("syncs").read_text(encoding="ascii")) for p in PARTIES}


def at(point: Point) -> Swept:
    """One point, until a run reaches it."""
    for _ in range(TRIES):
        swept = _once(point)
        if swept.killed:
            return swept
    return swept


def _once(point: Point) -> Swept:
    with tempfile.TemporaryDirectory(prefix="puente-crash-") as scratch:
        link = gateways.create(Path(scratch) / "link")
        try:
            for party in PARTIES:
                _start(link, party, point)
            told, killed = asyncio.run(_play(link, point.party))
            killed |= _stop(link, point.party)
            return Swept(point, killed, invariants.check(link.ledger("us"), link.ledger("mx"), told.told), told.stuck)
        finally:
            link.stop()


def _start(link: Link, party: str, point: Point) -> None:
    """Start a gateway; the dying one may die before it is ready, and then the story finds it dead."""
    if party != point.party:
        link.start(party, module=("bench.sweeps.dying",))
        return
    try:
        link.start(party, module=point.module())
    except gateways.StartError:
        _revive(link, party)
        link.died = True


def _revive(link: Link, party: str) -> None:
    link.start(party, module=("bench.sweeps.dying",))


async def _play(link: Link, party: str) -> tuple[story.Story, bool]:
    watching = asyncio.create_task(_watch(link, party))
    told = await story.play(dict(link.callers))
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    return told, link.died


async def _watch(link: Link, party: str) -> None:
    """Start the gateway again as soon as it has died."""
    while link.running[party].process.poll() is None:  # noqa: ASYNC110  a process, no event
        await asyncio.sleep(0.01)
    link.died |= link.running[party].process.returncode == -signal.SIGKILL
    await asyncio.to_thread(_revive, link, party)


def _stop(link: Link, party: str) -> bool:
    """Stop both; one that dies while it stops starts once more, and has its rest."""
    for name in PARTIES:
        link.running.pop(name).stop() if name != party else None
    code = link.running.pop(party).stop()
    if code != -signal.SIGKILL:
        return False
    for name in PARTIES:
        _revive(link, name)
    asyncio.run(asyncio.sleep(SETTLE_S))
    link.stop()
    return True


def sweep(points: Sequence[Point], told: Callable[[Swept], None] = lambda _: None) -> list[Swept]:
    """Every point, two at a time."""
    found = []
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        for swept in pool.map(at, points):
            told(swept)
            found.append(swept)
    return found


def points(found: Mapping[str, int], every: int = 1) -> list[Point]:
    """All points of both parties, or every so many."""
    return [Point(party, n) for party in PARTIES for n in range(1, found[party] + 1, every)]


def summary(found: Mapping[str, int], swept: Iterable[Swept]) -> dict[str, Any]:
    """The JSON of outputs, for a sweep of all points."""
    done = list(swept)
    return {
        "found": dict(found),
        "swept": {party: sum(s.point.party == party and s.killed for s in done) for party in PARTIES},
        "killed": sum(s.killed for s in done),
        "lost": sum(s.broken.lost for s in done),
        "duplicated": sum(s.broken.duplicated for s in done),
        "undecided": sum(s.broken.undecided for s in done),
        "damaged": sum(s.broken.damaged for s in done),
        "stuck": sum(bool(s.stuck) for s in done),
    }
