"""The composition root: a configuration becomes a gateway whose parts know only what they were given."""

import fcntl
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import policy
from broker import agreement, keyring, keys, standing
from broker.agreement import Agreement
from broker.config import Config
from broker.errors import AgreementError, ConfigError, KeyFileError
from broker.inbound import Inbound
from broker.ledger.keystore import KeyStore
from broker.ledger.sqlite import SqliteLedger, Transaction
from broker.link import Link
from broker.message import Clock
from broker.outbound import Outbound
from broker.relay import Relay
from broker.sections import families, validate_record
from broker.transport import Transport
from broker.transport.sqlite import SqliteTransport
from broker.v1 import codes_pb2, passenger_pb2
from broker.vault import Vault

SECRETS = {"vault": "vault.kek", "subject": "subject.key"}
KEY_FILES = {
    codes_pb2.KEY_USE_ENVELOPE: "envelope.json",
    codes_pb2.KEY_USE_ATTEST: "attest.json",
    codes_pb2.KEY_USE_HPKE_DATA: "hpke-data.json",
    codes_pb2.KEY_USE_HPKE_CONTROL: "hpke-control.json",
}


def now_ms() -> int:
    """The system's clock."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of a running gateway."""

    link: Link
    engine: policy.PolicyEngine
    ledger: SqliteLedger
    vault: Vault
    transport: Transport
    outbound: Outbound
    inbound: Inbound
    relay: Relay
    clock: Clock
    started_ms: int
    incarnation: str
    """Names this start of this process; whoever holds something for a while holds it in this name."""
    lock: int | None = None
    """The data folder's, let go when the process ends, however it does."""

    async def start(self) -> None:
        """What stands on record, and what is put right, before the first call.

        This process alone owns the embedded ledger, so what an earlier one held nobody holds.
        """
        rules, now = policy.sources(self.engine), self.clock()
        agreed = self.link.at(now)

        def change(tx: Transaction) -> None:
            standing.record(tx, agreed, self.engine.pack_digest, rules, now)
            tx.mailbox.free_leases((self.incarnation,))

        await self.ledger.commit(change)

    def close(self) -> None:
        """Finish what is being put and committed, and let go of files."""
        self.relay.close()
        self.ledger.close()
        self.transport.close()
        if self.lock is not None:
            os.close(self.lock)


def load_code(party: str) -> policy.PolicyEngine:
    """The party's packs, and every module that a gateway will need: afterwards the code may be out of reach."""
    families()
    keys.HpkeKey.from_seed(bytes(32))
    validate_record(passenger_pb2.Passenger(), whole=False)
    return policy.load(party)


def gateway(config: Config, engine: policy.PolicyEngine, clock: Clock = now_ms) -> Gateway:
    """Open everything that `config` names. Raises ConfigError, AgreementError, KeyFileError, StoreError."""
    lock = _owned(config.data_dir)
    try:
        return replace(_opened(config, engine, clock), lock=lock)
    except BaseException:
        os.close(lock)
        raise


def _opened(config: Config, engine: policy.PolicyEngine, clock: Clock) -> Gateway:
    data = config.data_dir
    agreed = load_agreements(config)
    link = load_link(agreed, config.party, config.keys_dir, development=config.development)
    transport = SqliteTransport(config.transport_path, config.party, link.peer)
    ledger = SqliteLedger(data / "ledger.db", KeyStore(data / "keys.db"))
    secrets = {name: _secret(config.keys_dir / file) for name, file in SECRETS.items()}
    return assemble(link, engine, ledger, transport, secrets, clock)


def _owned(folder: Path) -> int:
    """The folder, made when it is not there, and locked for as long as this process lives. Raises ConfigError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"data_dir cannot be used: {error.strerror}", "name a folder that this user may write"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ConfigError("another gateway runs on this data_dir", "stop it first, or name another data_dir") from None
    return lock


def assemble(
    link: Link,
    engine: policy.PolicyEngine,
    ledger: SqliteLedger,
    transport: Transport,
    secrets: dict[str, bytes],
    clock: Clock,
) -> Gateway:
    """Put a gateway together from its stores; the simulator does the same with its own."""
    ledger.read(lambda tx: keyring.refresh(tx, link))
    vault = Vault(secrets["vault"])
    outbound = Outbound(link, engine, ledger, vault, clock, secrets["subject"])
    inbound = Inbound(link, engine, ledger, vault, clock)
    relay = Relay(link, ledger, vault, transport, clock, outbound, inbound)
    return Gateway(
        link,
        engine,
        ledger,
        vault,
        transport,
        outbound,
        inbound,
        relay,
        clock,
        started_ms=clock(),
        incarnation=os.urandom(8).hex(),
    )


def load_agreements(config: Config) -> tuple[Agreement, ...]:
    """Every agreement that the configuration names, oldest first. Raises ConfigError, AgreementError."""
    found = []
    for path, digest in config.agreements:
        agreed = agreement.load(_read(path, "agreement"))
        if agreed.digest.hex() != digest:
            raise ConfigError(
                "the agreement is not the one that the configuration names",
                "load the agreement whose digest the officers of both parties compared, or correct its digest",
            )
        if agreed.development and not config.development:
            raise ConfigError("a development agreement", "set development = true, or load the real agreement")
        found.append(agreed)
    return agreement.chain(found)


def load_link(agreements: Iterable[Agreement], party: str, folder: Path, *, development: bool) -> Link:
    """The agreements (oldest first) with our own private keys, of which each must name one for each use.

    Raises: AgreementError: we hold no key for a use, or a family of this release is not as an agreement says;
    KeyFileError.
    """
    agreements = tuple(agreements)
    for terms in (terms for one in agreements for terms in one.families.values()):
        known = families().get(terms.id)
        if known is None or (known.revision, known.slots) != (terms.revision, terms.slots):
            raise AgreementError("the agreement has a family that this release does not know")
    signing: dict[bytes, keys.SigningKey] = {}
    hpke: dict[bytes, keys.HpkeKey] = {}
    for use, file in KEY_FILES.items():
        names = set()
        for path in _key_files(folder, file):
            seed = _key(path, use, development=development)
            key = keys.HpkeKey.from_seed(seed) if use in _HPKE else keys.SigningKey.from_seed(seed)
            name = keys.kid(keys.SUITE, use, key.public)
            names.add(name)
            if isinstance(key, keys.HpkeKey):
                hpke[name] = key
            else:
                signing[name] = key
        for one in agreements:
            named = {key.kid for key in one.parties[party].keys} if party in one.parties else set()
            if not names & named:
                raise AgreementError(f"the agreement does not name our key in {file}")
    return Link(agreements, party, signing, hpke)


def _key_files(folder: Path, name: str) -> list[Path]:
    """`envelope.json`, and every `envelope-*.json` beside it: a spare one, or those of the next agreement."""
    return [folder / name, *sorted(folder.glob(name.replace(".json", "-*.json")))]


_HPKE = frozenset({codes_pb2.KEY_USE_HPKE_DATA, codes_pb2.KEY_USE_HPKE_CONTROL})


def _key(path: Path, use: int, *, development: bool) -> bytes:
    file = keys.read_key_file(path)
    if file.use != use:
        raise KeyFileError(f"{path.name} holds a key of another use")
    if file.development and not development:
        raise KeyFileError(f"{path.name} is a development key")
    return file.seed


def _secret(path: Path) -> bytes:
    """32 bytes of a file that nobody else can read."""
    value = _read(path, "secret")
    if path.stat().st_mode & 0o077:
        raise KeyFileError(f"{path.name} can be read by others: chmod 600")
    if len(value) != 32:
        raise KeyFileError(f"{path.name} is not 32 bytes")
    return value


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the {what} file cannot be read: {error.strerror}", f"check {path.name}") from None
