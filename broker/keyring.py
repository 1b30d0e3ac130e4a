"""Key items as they are issued and taken: on record first, then in the link's ring, from which every use reads.

Each key's items have versions that only rise, so an old one that comes again lifts nothing. A crash between the commit
and the ring loses nothing: the ring is read from the ledger at start.
"""

import os

from broker.agreement import KeyInfo
from broker.canonical import H, encode, leaf_hash
from broker.control import key_item
from broker.errors import ActError, KeyItemError
from broker.keyitem import (
    AGENCY_USES,
    GATEWAY_USES,
    VERSIONS_AT_ONCE,
    added_key,
    check_roots,
    kid_of,
    parse_item,
    suspension,
)
from broker.ledger.sqlite import Transaction
from broker.link import Link
from broker.message import Log
from broker.v1.codes_pb2 import KEY_USE_ENVELOPE
from broker.v1.envelope_pb2 import KEY_ACT_ADD, KEY_ACT_REINSTATE, KEY_ACT_SUSPEND, KeyItem
from broker.v1.log_pb2 import ENTRY_KIND_KEY, KeyEntry


def refresh(tx: Transaction, link: Link) -> None:
    """Read the link's ring from what is on record."""
    added: dict[bytes, KeyInfo] = {}
    last: dict[bytes, int] = {}
    for kid, _, act, body in tx.standing.key_items():
        last[kid] = act
        key = _added(link, body) if act == KEY_ACT_ADD else None
        if key is not None:
            added[kid] = key
    link.ring.added = added
    link.ring.suspended = frozenset(kid for kid, act in last.items() if act == KEY_ACT_SUSPEND)


def added_items(tx: Transaction, link: Link) -> list[bytes]:
    """The items that added keys, for clients to verify for themselves."""
    added = link.ring.added
    return [body for kid, _, act, body in tx.standing.key_items() if act == KEY_ACT_ADD and kid in added]


def take(tx: Transaction, link: Link, body: bytes, now: int) -> None:
    """An item of the other party: it concerns its own keys or does not count.

    The same again changes nothing and accuses nobody: a repair seals again what was taken when the head that said so
    was lost. Raises: CanonicalError, KeyItemError; then nothing has changed.
    """
    item = parse_item(body)
    if tx.standing.has_key_item(kid_of(item), item.version, body):
        return
    _check(tx, link, item, link.peer, now)
    _record(tx, item, body, now)


def issue(tx: Transaction, link: Link, body: bytes, now: int) -> bytes:
    """An item that our own roots signed: on record here, and on its way. Returns the kid.

    Raises: CanonicalError, KeyItemError: it does not count, or suspends, for which `suspend` looks at more.
    """
    item = parse_item(body)
    if item.act == KEY_ACT_SUSPEND:
        raise KeyItemError("a suspension is not issued as an item: suspend the key")
    return _issue(tx, link, item, body, now)


def _issue(tx: Transaction, link: Link, item: KeyItem, body: bytes, now: int) -> bytes:
    _check(tx, link, item, link.party, now)
    _record(tx, item, body, now)
    tx.control.enqueue([key_item(body)])
    return kid_of(item)


def suspend(tx: Transaction, link: Link, kid: bytes, now: int) -> None:
    """Suspend a key of ours, at once.

    Raises: ActError: it is not ours, is suspended already, or is what everything else, this item too, is signed with.
    """
    key = _known(tx, link, kid)
    if key is None or key.party != link.party or key.use not in AGENCY_USES | GATEWAY_USES:
        raise ActError("no origin, receipt, attest or envelope key of this party has that kid")
    version, act = tx.standing.key_version(kid)
    if act == KEY_ACT_SUSPEND:
        raise ActError("the key is suspended already")
    if key.use == KEY_USE_ENVELOPE and not _another_envelope_key(tx, link, kid, now):
        raise ActError("it is the only envelope key here that the other party knows: suspend the link, or add a spare")
    item = suspension(key, version + 1)
    _issue(tx, link, item, encode(item), now)


def _another_envelope_key(tx: Transaction, link: Link, kid: bytes, now: int) -> bool:
    """Whether we hold a spare one that the other party knows: of the agreement, or added by an item that it took."""
    agreement, taken = link.at(now), not tx.control.key_item_under_way()
    held = (link.key(agreement, one) for one in link.signing if one != kid and one not in link.ring.suspended)
    return any(
        key is not None and key.use == KEY_USE_ENVELOPE and key.valid_at(now) and (taken or key.kid in agreement.keys)
        for key in held
    )


def _check(tx: Transaction, link: Link, item: KeyItem, party: str, now: int) -> None:
    """Whether an item of `party` counts now. Raises KeyItemError.

    Roots are those of now, or of later: nobody brings a key in by roots that were replaced.
    """
    kid = kid_of(item)
    version, last = tx.standing.key_version(kid)
    if not version < item.version <= version + VERSIONS_AT_ONCE:
        raise KeyItemError("a version that is not the key's next")
    known = _known(tx, link, kid)
    if item.act == KEY_ACT_ADD:
        agreement = link.at(max(item.not_before_ms, now))
        added_key(item, agreement, party)
        if known is not None or last:
            raise KeyItemError("the key stands already, or was added before")
        check_roots(item, agreement.link_id, agreement.parties[party])
        return
    if known is None or (known.party, known.owner) != (party, item.owner):
        raise KeyItemError("a key of another party or owner, or of none")
    if item.act == KEY_ACT_SUSPEND and last == KEY_ACT_SUSPEND:
        raise KeyItemError("the key is suspended already")  # or its gateway could grow our log
    if item.act == KEY_ACT_REINSTATE:
        if item.use == KEY_USE_ENVELOPE or last != KEY_ACT_SUSPEND:
            raise KeyItemError("an envelope key is never reinstated, and no key that is not suspended")
        agreement = link.at(now)
        check_roots(item, agreement.link_id, agreement.parties[party])


def _known(tx: Transaction, link: Link, kid: bytes) -> KeyInfo | None:
    """The key of any agreement, or one that was added; from the record, for the ring may be behind it."""
    for agreement in reversed(link.agreements):
        if kid in agreement.keys:
            return agreement.keys[kid]
    body = tx.standing.added(kid)
    return _added(link, body) if body is not None else None


def _added(link: Link, body: bytes) -> KeyInfo | None:
    """The key of an item that is on record; None when its agreement is no longer loaded: it ended with it.

    Its signatures are checked again: whoever can write the record brings no key in.
    """
    item = KeyItem.FromString(body)
    ours = item.owner == link.party or item.owner.startswith(f"{link.party}.")
    party, agreement = link.party if ours else link.peer, link.at(item.not_before_ms)
    try:
        check_roots(item, agreement.link_id, agreement.parties[party])
        return added_key(item, agreement, party)
    except KeyItemError:
        return None


def _record(tx: Transaction, item: KeyItem, body: bytes, now: int) -> None:
    """The item and its entry: positions in the taking party's log say what was good when."""
    kid = kid_of(item)
    tx.standing.keep_key_item(kid, item.version, item.act, body, now)
    entry = KeyEntry(
        kind=ENTRY_KIND_KEY,
        time_ms=now,
        blind=os.urandom(32),
        item=H(body),
        kid=kid,
        act=item.act,
        version=item.version,
    ).SerializeToString(deterministic=True)
    tx.journal.append(Log.EXCHANGE, [(leaf_hash(entry), entry)])
