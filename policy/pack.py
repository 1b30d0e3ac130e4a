"""Packs: read from a folder, checked as a whole, and named by a digest."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from policy.cedar import CedarError, invalid, parse
from policy.law import Instrument, Interval
from policy.request import Section
from policy.rule import Rule, RuleError, read_rule

PACKS = Path(__file__).parent / "packs"
SHARED = "bilateral"
_SCHEMA = "schema.cedarschema"
_INSTRUMENT_ID = re.compile(r"(us|mx|bil|int)\.[a-z0-9._-]+")


class PackError(Exception):
    """A pack that must not be used; `problems` has one line for each reason."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Family:
    """What a case may say of a family: its sections by name, and which kinds have them."""

    id: str
    sections: Mapping[str, Section]


@dataclass(frozen=True, slots=True)
class Pack:
    """One folder of rules. `digest`: 32 bytes over the names and contents of its files, cases apart."""

    id: str
    digest: bytes
    rules: tuple[Rule, ...]
    instruments: tuple[Instrument, ...]
    roles: Mapping[str, frozenset[str]]
    families: Mapping[str, Family]
    schema: str
    files: Mapping[str, bytes] = field(repr=False)
    """What the digest is over, and all that is needed to build the pack again: name to content."""


def load_packs(party: str, packs_dir: Path) -> tuple[Pack, ...]:
    """The shared pack and the party's own, valid together. Raises PackError."""
    if party == SHARED or not re.fullmatch(r"[a-z0-9._-]{1,64}", party):
        raise PackError(["not the id of a party"])
    return _valid_together(tuple(read_pack(packs_dir / name) for name in (SHARED, party)))


def packs_of(sources: Mapping[str, Mapping[str, bytes]], party: str) -> tuple[Pack, ...]:
    """The same packs, from the files of each as they were kept. Raises PackError."""
    shared = sources.get(SHARED, {})
    if set(sources) != {SHARED, party} or _SCHEMA not in shared:
        raise PackError(["not the packs of this party"])
    return _valid_together(tuple(_build(name, sources[name], shared[_SCHEMA]) for name in (SHARED, party)))


def _valid_together(packs: tuple[Pack, ...]) -> tuple[Pack, ...]:
    if problems := list(find_problems(packs)):
        raise PackError(problems)
    return packs


def read_pack(folder: Path) -> Pack:
    """Read one folder. Raises PackError for what cannot be read or is not allowed in any pack."""
    try:
        found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        files = {name: path.read_bytes() for name, path in found.items() if not name.startswith("cases/")}
        shared = b"" if _SCHEMA in files else (folder.parent / SHARED / _SCHEMA).read_bytes()
    except OSError as error:
        raise PackError([f"{folder.name}: cannot be read: {type(error).__name__}: {error}"]) from error
    return _build(folder.name, files, shared)


def _build(name: str, files: Mapping[str, bytes], shared_schema: bytes) -> Pack:
    """A pack of its files; `shared_schema`: the schema where it has none of its own."""
    try:
        schema = files.get(_SCHEMA, shared_schema).decode()
        rules, problems = _rules(name, files, schema)
        if problems:
            raise PackError(problems)
        return Pack(
            id=name,
            digest=_digest(files),
            rules=tuple(rules),
            instruments=tuple(_instrument(key, row) for key, row in _toml(files["instruments.toml"]).items()),
            roles={agency: frozenset(roles) for agency, roles in _toml(files["roles.toml"]).items()},
            families=_families(files.get("families.toml", b"")),
            schema=schema,
            files=files,
        )
    except (tomllib.TOMLDecodeError, CedarError, KeyError, TypeError, ValueError) as error:
        raise PackError([f"{name}: cannot be read: {type(error).__name__}: {error}"]) from error


def find_problems(packs: Sequence[Pack]) -> Iterator[str]:
    """What is wrong with packs that are used together: repeated ids, unknown instruments, dates that do not meet."""
    yield from _repeated("policy", [rule.id for pack in packs for rule in pack.rules])
    yield from _repeated("instrument", [one.id for pack in packs for one in pack.instruments])
    known = {one.id: one for pack in packs for one in pack.instruments}
    for rule in (rule for pack in packs for rule in pack.rules):
        for cited in rule.cites:
            if cited not in known:
                yield f"{rule.pack}: {rule.id}: cites {cited}, which no instruments.toml has"
            elif not known[cited].effective.covers(rule.effective):
                yield f"{rule.pack}: {rule.id}: is in effect when {cited} is not in force"
        for named in sorted(set(_instruments_named(rule.est.get("conditions", []))) - known.keys()):
            yield f"{rule.pack}: {rule.id}: its condition names {named}, which no instruments.toml has"


def _repeated(what: str, ids: Sequence[str]) -> Iterator[str]:
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            yield f"{what} {one} is there twice"
        seen.add(one)


def _instruments_named(node: Any) -> Iterator[str]:
    """Instrument ids among the string literals of a condition."""
    if isinstance(node, str) and _INSTRUMENT_ID.fullmatch(node):
        yield node
    elif isinstance(node, Mapping):
        # Entity ids (agencies) look like instruments and are not.
        for key, part in node.items():
            if key != "__entity":
                yield from _instruments_named(part)
    elif isinstance(node, list):
        for part in node:
            yield from _instruments_named(part)


def _rules(pack: str, files: Mapping[str, bytes], schema: str) -> tuple[list[Rule], list[str]]:
    rules: list[Rule] = []
    problems: list[str] = []
    for name in sorted(name for name in files if name.endswith(".cedar") and "/" not in name):
        text = files[name].decode()
        problems += [f"{pack}/{name}: {error}" for error in invalid(text, schema)]
        for est in parse(text):
            try:
                rules.append(read_rule(est, pack, name.removesuffix(".cedar")))
            except RuleError as error:
                problems.append(str(error))
    return rules, problems


def _toml(data: bytes) -> dict[str, Any]:
    return tomllib.loads(data.decode())


def _instrument(key: str, row: Mapping[str, Any]) -> Instrument:
    return Instrument(
        id=key,
        citation=row["citation"],
        effective=Interval.of(row.get("from"), row.get("to")),
        says_en=row["says_en"],
        says_es=row["says_es"],
        verified=row["verified"],
    )


def _families(data: bytes) -> dict[str, Family]:
    """Only the shared pack describes families."""
    return {
        family: Family(
            family, {name: Section(row["slot"], name, row["category"], row["presence"]) for name, row in rows.items()}
        )
        for family, rows in _toml(data).items()
    }


def _digest(files: Mapping[str, bytes]) -> bytes:
    """SHA-256 over each file's name and content, each with its length, in order of name."""
    whole = sha256(b"puente/v1/pack\0")
    for name in sorted(files):
        for part in (name.encode(), files[name]):
            whole.update(len(part).to_bytes(8, "big") + part)
    return whole.digest()
