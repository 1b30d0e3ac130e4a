"""What the policy tests share: the agencies, one request, and a folder of packs that a test may spoil."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime

from policy import Agency, Request
from policy.pack import PACKS, read_pack

CBP = Agency("us.cbp", "us", frozenset({"migration", "customs", "border"}))
INM = Agency("mx.inm", "mx", frozenset({"migration"}))
SECTIONS = read_pack(PACKS / "bilateral").families["passenger"].sections


def day(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def request(*names, **changes):
    """CBP gives INM an advance record for border security; sections by name."""
    asked = Request(
        action="release",
        principal=CBP,
        counterpart=INM,
        family="passenger",
        kind="api",
        purpose="border_security",
        legal_basis=("us.usc.49.44909",),
        assurance="agency_signed",
        sections=tuple(SECTIONS[name] for name in names or ("kind", "identity", "travel")),
        law_ms=day("2026-01-15"),
    )
    return replace(asked, **changes)


def accepted(*names, **changes):
    """The same record where INM's gateway accepts it."""
    return request(*names, action="accept", principal=INM, counterpart=CBP, **changes)


def copy_packs(folder):
    shutil.copytree(PACKS, folder / "packs")
    return folder / "packs"


def spoil(packs, name, old, new):
    """Replace a text that is there in one file of a pack."""
    path = packs / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
