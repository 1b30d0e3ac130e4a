"""The composition root: a configuration becomes a gateway whose parts know only what they were given."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import policy
from broker import agreement, keys, standing
from broker.agreement import Agreement
from broker.config import Config
from broker.errors import AgreementError, ConfigError, KeyFileError
from broker.inbound import Inbound
from broker.ledger.keystore import KeyStore
from broker.ledger.sqlite import SqliteLedger, Transaction
from broker.link import Held, Link
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
    agreement_bytes: bytes
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

    async def start(self) -> None:
        """What stands on record, and what is put right, before the first call.

        This process alone owns the embedded ledger, so what an earlier one held nobody holds.
        """
        digest, rules, now = self.link.agreement.digest, policy.sources(self.engine), self.clock()

        def change(tx: Transaction) -> None:
            standing.record(tx, digest, self.engine.pack_digest, rules, now)
            tx.mailbox.free_leases((self.incarnation,))

        await self.ledger.commit(change)

    def close(self) -> None:
        """Finish what is being committed, and let go of files."""
        self.ledger.close()
        self.transport.close()


def load_code(party: str) -> policy.PolicyEngine:
    """The party's packs, and every module that a gateway will need: afterwards the code may be out of reach."""
    families()
    keys.HpkeKey.from_seed(bytes(32))
    validate_record(passenger_pb2.Passenger(), whole=False)
    return policy.load(party)


def gateway(config: Config, engine: policy.PolicyEngine, clock: Clock = now_ms) -> Gateway:
    """Open everything that `config` names. Raises ConfigError, AgreementError, KeyFileError, StoreError."""
    agreement_bytes = _read(config.agreement, "agreement")
    agreed = agreement.load(agreement_bytes)
    if agreed.digest.hex() != config.agreement_digest:
        raise ConfigError(
            "the agreement is not the one that the configuration names",
            "load the agreement whose digest the officers of both parties compared, or correct agreement_digest",
        )
    if agreed.development and not config.development:
        raise ConfigError("a development agreement", "set development = true, or load the real agreement")
    data = config.data_dir
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    link = load_link(agreed, config.party, config.keys_dir, development=config.development)
    transport = SqliteTransport(config.transport_path, config.party, link.peer)
    ledger = SqliteLedger(data / "ledger.db", KeyStore(data / "keys.db"))
    secrets = {name: _secret(config.keys_dir / file) for name, file in SECRETS.items()}
    return assemble(link, agreement_bytes, engine, ledger, transport, secrets, clock)


def assemble(
    link: Link,
    agreement_bytes: bytes,
    engine: policy.PolicyEngine,
    ledger: SqliteLedger,
    transport: Transport,
    secrets: dict[str, bytes],
    clock: Clock,
) -> Gateway:
    """Put a gateway together from its stores; the simulator does the same with its own."""
    vault = Vault(secrets["vault"])
    outbound = Outbound(link, engine, ledger, vault, clock, secrets["subject"])
    inbound = Inbound(link, engine, ledger, vault, clock)
    relay = Relay(link, ledger, vault, transport, clock, outbound, inbound)
    return Gateway(
        link,
        agreement_bytes,
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


def load_link(agreed: Agreement, party: str, folder: Path, *, development: bool) -> Link:
    """The agreement with our own private keys, each of which it must name.

    Raises: AgreementError: a key of ours, or a family of this release, is not as the agreement says; KeyFileError.
    """
    for terms in agreed.families.values():
        known = families().get(terms.id)
        if known is None or (known.revision, known.slots) != (terms.revision, terms.slots):
            raise AgreementError("the agreement has a family that this release does not know")
    held = {use: _key(folder / file, use, development=development) for use, file in KEY_FILES.items()}
    signing = {use: keys.SigningKey.from_seed(seed) for use, seed in held.items() if use not in _HPKE}
    hpke = {use: keys.HpkeKey.from_seed(seed) for use, seed in held.items() if use in _HPKE}
    public = {use: key.public for use, key in signing.items()} | {use: key.public for use, key in hpke.items()}
    names = {use: keys.kid(keys.SUITE, use, key) for use, key in public.items()}
    for use, name in names.items():
        info = agreed.keys.get(name)
        if info is None or info.owner != party:
            raise AgreementError(f"the agreement does not name our key in {KEY_FILES[use]}")
    return Link(
        agreement=agreed,
        party=party,
        envelope=Held(names[codes_pb2.KEY_USE_ENVELOPE], signing[codes_pb2.KEY_USE_ENVELOPE]),
        attest=Held(names[codes_pb2.KEY_USE_ATTEST], signing[codes_pb2.KEY_USE_ATTEST]),
        hpke={names[use]: key for use, key in hpke.items()},
    )


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
