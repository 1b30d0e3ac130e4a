"""OperationsService: how traffic flows, for operators. Never a payload, a subject or a fact."""

import os
from hashlib import sha256
from importlib import metadata

from broker import standing
from broker.agreement import KeyInfo
from broker.app import Gateway
from broker.canonical import leaf_hash
from broker.config import Config
from broker.identity import Principal
from broker.ledger.sqlite import Transaction
from broker.ledger.streams import Inflow, Outflow
from broker.log import merkle
from broker.message import Log, State, Stream
from broker.v1 import operations_service_pb2 as pb
from broker.v1.codes_pb2 import REASON_NONE
from broker.v1.envelope_pb2 import KEY_ACT_SUSPEND

HELD_AFTER_MS = 600_000
LEAVES_AT_ONCE = 4096
VERSION = metadata.version("puente-broker")


class OperationsService:
    """Reads the ledger's streams, counts and logs."""

    def __init__(self, gateway: Gateway, config: Config) -> None:
        self._gateway = gateway
        self._config = config

    async def get_status(self, caller: Principal, request: pb.GetStatusRequest) -> pb.GetStatusResponse:
        """This process, its counts, and both logs checked leaf by leaf."""
        del caller, request
        gateway = self._gateway

        def question(tx: Transaction) -> tuple[pb.Counts, pb.Counts, int, list[str], list[pb.LogView]]:
            verified = tx.control.counted("receipts_acknowledged")
            logs = [_log_view(tx, log) for log in Log]
            return _counts(tx.outbox.counts()), _counts(tx.mailbox.counts()), verified, tx.control.alarms(), logs

        counts, arrived, verified, alarms, logs = gateway.ledger.read(question)
        cache = gateway.engine.cache_info()
        asked = cache.hits + cache.misses
        return pb.GetStatusResponse(
            party=gateway.link.party,
            version=VERSION,
            started_ms=gateway.started_ms,
            transport=gateway.transport.name,
            ledger=gateway.ledger.name,
            pid=os.getpid(),
            uid=os.getuid(),
            data_dir=str(self._config.data_dir),
            pack_digest=gateway.engine.pack_digest,
            logs=logs,
            counts=counts,
            messages_in=arrived.submitted,
            arrived=arrived,
            receipts_verified=verified,
            policy_cache_hit_rate=cache.hits / asked if asked else 0.0,
            alarms=alarms,
        )

    async def list_flows(self, caller: Principal, request: pb.ListFlowsRequest) -> pb.ListFlowsResponse:
        """Each stream, both ways, with its lag in messages and in seconds."""
        del caller, request
        now = self._gateway.clock()
        rates = self._gateway.relay.rates.now()

        def question(tx: Transaction) -> list[pb.FlowView]:
            sent = [_outflow(tx, stream, flow, now, rates) for stream, flow in tx.streams.outflows()]
            return sent + [_inflow(tx, flow, rates) for flow in tx.streams.inflows()]

        return pb.ListFlowsResponse(flows=self._gateway.ledger.read(question))

    async def list_links(self, caller: Principal, request: pb.ListLinksRequest) -> pb.ListLinksResponse:
        """The link to the other party, and whether it is open."""
        del caller, request
        gateway = self._gateway
        return pb.ListLinksResponse(links=[gateway.ledger.read(lambda tx: link_view(tx, gateway))])

    async def list_keys(self, caller: Principal, request: pb.ListKeysRequest) -> pb.ListKeysResponse:
        """The keys of both parties, under the agreement in force, and what key items made of them."""
        del caller, request
        gateway, now = self._gateway, self._gateway.clock()
        agreement = gateway.link.at(now)
        added = [key for kid, key in gateway.link.ring.added.items() if gateway.link.key(agreement, kid)]
        kids = sorted(agreement.keys.values(), key=lambda key: (key.party, key.owner, key.use, key.not_before_ms))
        return pb.ListKeysResponse(
            keys=gateway.ledger.read(lambda tx: [key_view(tx, gateway, key, now) for key in (*kids, *added)])
        )


def link_view(tx: Transaction, gateway: Gateway) -> pb.LinkView:
    """The link as it stands now."""
    now = gateway.clock()
    agreement = gateway.link.at(now)
    following = gateway.link.next_after(agreement)
    asked = standing.standing_request(tx, now)
    heard = tx.control.counted("heads_at_ms")
    state, why = _state(tx, gateway, heard, now)
    return pb.LinkView(
        peer=gateway.link.peer,
        link_id=agreement.link_id,
        agreement_digest=agreement.digest,
        agreement_version=agreement.version,
        agreement_expires_ms=agreement.expires_ms,
        state=state,
        why=why,
        last_heads_ms=heard,
        development=agreement.development,
        next_agreement_version=following.version if following else 0,
        next_agreement_from_ms=following.not_before_ms if following else 0,
        resume_asked_by=asked.person if asked else "",
        resume_until_ms=asked.time_ms + standing.ASKED_MS if asked else 0,
    )


def _state(tx: Transaction, gateway: Gateway, heard: int, now: int) -> tuple[str, str]:
    """(open, held or suspended; why)."""
    stands = tx.standing.suspensions()
    if stands:
        return "suspended", ", ".join(sorted({one.what for one in stands}))
    if not gateway.link.in_force(now):
        return "held", "the agreement is not in force"
    if not all(gateway.link.can_seal(family, now) for family in gateway.link.at(now).families):
        return "held", "a key that data is sealed with has ended or is suspended"
    if heard and now - heard > HELD_AFTER_MS:
        return "held", "the other party is silent"
    return "open", ""


def key_view(tx: Transaction, gateway: Gateway, key: KeyInfo, now: int) -> pb.KeyView:
    """A key and how it stands now."""
    state = "early" if now < key.not_before_ms else "ended" if now > key.not_after_ms else "valid"
    version, act = tx.standing.key_version(key.kid)
    return pb.KeyView(
        kid=key.kid,
        use=key.use,  # type: ignore[arg-type]
        owner=key.owner,
        party=key.party,
        not_before_ms=key.not_before_ms,
        not_after_ms=key.not_after_ms,
        state="suspended" if act == KEY_ACT_SUSPEND else state,
        version=version,
        added=key.kid in gateway.link.ring.added,
    )


def _counts(found: dict[State, int]) -> pb.Counts:
    ended = {
        "acknowledged": found.get(State.ACKNOWLEDGED, 0),
        "refused": found.get(State.REFUSED, 0),
        "rejected": found.get(State.REJECTED, 0),
        "expired": found.get(State.EXPIRED, 0),
        "recalled": found.get(State.RECALLED, 0),
    }
    in_flight = sum(found.get(state, 0) for state in (State.ACCEPTED, State.SENT, State.RECEIVED, State.DELIVERED))
    return pb.Counts(submitted=sum(found.values()), in_flight=in_flight, **ended)


def _log_view(tx: Transaction, log: Log) -> pb.LogView:
    """Recompute the log from its entries: every index in order, every leaf the hash of its entry."""
    tree, good, leaves = merkle.CompactRange(), True, []
    for expected, (index, leaf, entry) in enumerate(tx.journal.entries(log)):
        good = good and index == expected and leaf_hash(entry) == leaf
        leaves.append(leaf)
        if len(leaves) == LEAVES_AT_ONCE:
            tree, leaves = tree.append(leaves), []
    tree = tree.append(leaves)
    return pb.LogView(
        log=log.name.lower(), size=tree.size, root=tree.root() if tree.size else sha256().digest(), verified=good
    )


def _outflow(tx: Transaction, stream: Stream, flow: Outflow, now: int, rates: dict[Stream, float]) -> pb.FlowView:
    waiting, oldest = tx.outbox.oldest(stream)
    return pb.FlowView(
        topic=stream.topic,
        partition=stream.partition,
        way="out",
        last_seq=flow.last_seq,
        taken=flow.taken,
        lag_messages=waiting,
        lag_seconds=(now - oldest) / 1000 if oldest else 0.0,
        rate=rates.get(stream, 0.0),
        oldest_ms=oldest,
        why=REASON_NONE,
    )


def _inflow(tx: Transaction, flow: Inflow, rates: dict[Stream, float]) -> pb.FlowView:
    claimed = tx.control.counted(f"claimed {flow.stream.topic} {flow.stream.partition}")
    return pb.FlowView(
        topic=flow.stream.topic,
        partition=flow.stream.partition,
        way="in",
        last_seq=max(claimed, flow.taken),
        taken=flow.taken,
        rate=rates.get(flow.stream, 0.0),
        why=int(flow.why),  # type: ignore[arg-type]
    )
