"""One TOML file, one frozen Config. Paths in it are relative to the file; nothing secret stands in it."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from broker.errors import ConfigError

PORT_MAX: Final = 65_535
_KNOWN: Final = {
    "": {
        "party",
        "listen",
        "data_dir",
        "agreement",
        "agreement_digest",
        "agreements",
        "keys_dir",
        "development",
        "tls",
        "transport",
        "ledger",
        "persons",
    },
    "agreements": {"file", "digest"},
    "tls": {"certificate", "key", "ca", "deny_list"},
    "transport": {"kind", "path"},
    "ledger": {"kind"},
    "persons": {"officers", "operators", "auditors"},
}
_LISTS: Final = frozenset({"agreements"})


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files of the edge; `deny_list`: serials or SHA-256 fingerprints, one a line, read again when it changes."""

    certificate: Path
    key: Path
    ca: Path
    deny_list: Path


@dataclass(frozen=True, slots=True)
class Config:
    """A gateway's configuration; see docs/operating.md for each key."""

    path: Path
    party: str
    listen: str
    data_dir: Path
    agreements: tuple[tuple[Path, str], ...]
    """File and digest of each agreement that is to be known."""
    keys_dir: Path
    development: bool
    tls: Tls
    transport: str
    transport_path: Path
    ledger: str
    officers: frozenset[str]
    operators: frozenset[str]
    auditors: frozenset[str]


def load(path: Path) -> Config:
    """Read and check a configuration. Raises ConfigError: what is wrong, and how to mend it."""
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the configuration cannot be read: {error.strerror}", "check --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise ConfigError("the configuration is not TOML", "compare it with docs/operating.md") from None
    _check_keys(value)
    base = path.resolve().parent
    persons = value.get("persons", {})
    try:
        return Config(
            path=path.resolve(),
            party=value["party"],
            listen=_address(value["listen"]),
            data_dir=base / value["data_dir"],
            agreements=(
                (base / value["agreement"], value["agreement_digest"]),
                *((base / one["file"], one["digest"]) for one in value.get("agreements", ())),
            ),
            keys_dir=base / value["keys_dir"],
            development=value.get("development", False) is True,
            tls=Tls(*(base / value["tls"][name] for name in ("certificate", "key", "ca", "deny_list"))),
            transport=_one_of(value["transport"]["kind"], {"sqlite"}),
            transport_path=base / value["transport"]["path"],
            ledger=_one_of(value.get("ledger", {}).get("kind", "sqlite"), {"sqlite"}),
            officers=frozenset(persons.get("officers", ())),
            operators=frozenset(persons.get("operators", ())),
            auditors=frozenset(persons.get("auditors", ())),
        )
    except KeyError as error:
        raise ConfigError(f"the configuration lacks {error.args[0]}", "add it; see docs/operating.md") from None


def _address(value: object) -> str:
    """host:port; gRPC itself would listen on another port than one that is out of range."""
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not host or not port.isdecimal() or int(port) > PORT_MAX:
        raise ConfigError("listen is not host:port, the port up to 65535", 'write it as "127.0.0.1:7411"')
    return f"{host}:{port}"


def _check_keys(value: dict[str, Any]) -> None:
    for table, known in _KNOWN.items():
        found = value if not table else value.get(table, [] if table in _LISTS else {})
        tables = found if isinstance(found, list) else [found]
        if not all(isinstance(one, dict) for one in tables) or isinstance(found, list) != (table in _LISTS):
            raise ConfigError(f"{table} is not written as it must be", "compare it with docs/operating.md")
        unknown = sorted({key for one in tables for key in one} - known)
        if unknown:
            place = f"[{table}]" if table else "the top level"
            raise ConfigError(f"unknown key in {place}: {unknown[0]}", "remove it; see docs/operating.md")


def _one_of(value: str, known: set[str]) -> str:
    if value not in known:
        raise ConfigError("a kind that this release does not have", f"use one of: {', '.join(sorted(known))}")
    return value
