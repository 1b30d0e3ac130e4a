"""The vocabulary of policy: what is asked, what is answered. Frozen, hashable, free of I/O."""

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

DEFAULT_DENY = "R01"
"""The rule under whose name whatever no permit allows is refused or withheld."""

FACT_DEFAULTS: dict[str, str | bool] = {
    "special_relief": "unspecified",
    "special_relief_exception": False,
    "asylum_information": False,
    "asylum_exception": False,
    "protection_claim": "unspecified",
    "trafficking_victim": False,
    "victim_consent": False,
    "classified": False,
    "source_system": "",
}
"""Facts as in broker/v1/facts.proto, with the value that means "not stated"; a test compares the two."""


@dataclass(frozen=True, slots=True)
class Agency:
    """An agency as the agreement describes it: id, party, roles."""

    id: str
    party: str
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class Section:
    """One top-level field of a record: slot 1 to 32, its category and presence in lower case."""

    slot: int
    name: str
    category: str
    presence: str


@dataclass(frozen=True, slots=True)
class Request:
    """What a gateway asks about one record; enums are lower case without prefix, tuples are sorted.

    `principal` is the origin agency on release and the recipient agency on accept, `counterpart` the other one.
    `facts` holds the stated facts only, and is empty on accept. `law_ms`: the instant of law, ms since the epoch;
    two requests are equal when they ask the same, whenever that is. The hash is computed once: questions repeat.
    """

    action: str
    principal: Agency
    counterpart: Agency
    family: str
    kind: str
    purpose: str
    legal_basis: tuple[str, ...]
    assurance: str
    sections: tuple[Section, ...]
    facts: tuple[tuple[str, str | bool], ...] = ()
    caveats: tuple[str, ...] = ()
    notices: tuple[tuple[int, str], ...] = ()
    supersedes: bool = False
    derived_from: bool = False
    onward_consent: bool = False
    law_ms: int = field(default=0, compare=False)
    _hash: int = field(init=False, default=0, repr=False, compare=False)

    def __hash__(self) -> int:
        if not self._hash:
            who = (self.action, self.principal, self.counterpart)
            why = (self.family, self.kind, self.purpose, self.legal_basis, self.assurance)
            what = (self.sections, self.facts, self.caveats, self.notices)
            flags = (self.supersedes, self.derived_from, self.onward_consent)
            object.__setattr__(self, "_hash", hash((who, why, what, flags)))
        return self._hash

    @property
    def sender(self) -> Agency:
        """The agency whose record it is."""
        return self.principal if self.action == "release" else self.counterpart

    @property
    def recipient(self) -> Agency:
        """The agency that would get it."""
        return self.counterpart if self.action == "release" else self.principal


class Withheld(NamedTuple):
    """A present section that is not given, the rule that says so, and the notice code that goes with its slot."""

    slot: int
    section: str
    category: str
    rule: str
    notice: str | None


class Obligation(NamedTuple):
    """A duty that a permit carries.

    kind and value: retain P12M · caveat NO_ONWARD_TRANSFER · notify mx.sre · account "" · notice "5:SENSITIVE".
    """

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Permit or forbid, and everything that made it so. `failed`: the engine erred, and that is the refusal."""

    permit: bool
    rules: tuple[str, ...]
    policies: tuple[str, ...]
    withheld: tuple[Withheld, ...]
    obligations: tuple[Obligation, ...]
    pack_digest: bytes
    law_ms: int
    failed: bool = False

    @property
    def caveats(self) -> tuple[str, ...]:
        """Caveat codes, sorted."""
        return tuple(duty.value for duty in self.obligations if duty.kind == "caveat")

    @property
    def notices(self) -> tuple[tuple[int, str], ...]:
        """(slot, code) in ascending slot, whether or not the record has the section."""
        found = (duty.value.split(":", 1) for duty in self.obligations if duty.kind == "notice")
        return tuple(sorted((int(slot), code) for slot, code in found))

    @property
    def retain(self) -> str | None:
        """The strictest ISO 8601 duration, or None when no rule sets one."""
        return next((duty.value for duty in self.obligations if duty.kind == "retain"), None)


class Engine(Protocol):
    """Who decides. Never raises: an error is a refusal."""

    def decide(self, request: Request, law_ms: int | None = None) -> Decision:
        """Decide one record, at its own instant of law or at `law_ms`."""
        ...
