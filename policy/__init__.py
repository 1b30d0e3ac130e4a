"""Policy: who may give what to whom, by which rule of which law, on which day. A leaf: it imports nothing of ours."""

from pathlib import Path

from policy.decide import PolicyEngine
from policy.pack import PACKS, PackError, load_packs
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
]


def load(party: str, packs_dir: Path | None = None) -> PolicyEngine:
    """The engine of a party: the bilateral pack and its own. Raises PackError when either is bad."""
    return PolicyEngine(party, load_packs(party, packs_dir or PACKS))
