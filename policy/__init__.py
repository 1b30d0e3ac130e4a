"""Policy: who may give what to whom, by which rule of which law, on which day. A leaf: it imports nothing of ours."""

from collections.abc import Mapping
from pathlib import Path

from policy.decide import PolicyEngine
from policy.pack import PACKS, PackError, load_packs, packs_of
from policy.request import Agency, Decision, Engine, Obligation, Request, Section, Withheld

__all__ = [
    "Agency",
    "Decision",
    "Engine",
    "Obligation",
    "PackError",
    "PolicyEngine",
    "Request",
    "Section",
    "Withheld",
    "load",
    "restore",
    "sources",
]


def load(party: str, packs_dir: Path | None = None) -> PolicyEngine:
    """The engine of a party: the bilateral pack and its own. Raises PackError when either is bad."""
    return PolicyEngine(party, load_packs(party, packs_dir or PACKS))


def sources(engine: PolicyEngine) -> dict[str, Mapping[str, bytes]]:
    """The files of an engine's packs, pack by pack: what `restore` takes."""
    return {pack.id: pack.files for pack in engine.packs}


def restore(party: str, kept: Mapping[str, Mapping[str, bytes]]) -> PolicyEngine:
    """An engine of packs that were kept; compare its `pack_digest` with the one that it must have.

    Raises PackError: packs of another party, or that this release cannot use.
    """
    return PolicyEngine(party, packs_of(kept, party))
