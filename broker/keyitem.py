"""Key items (protocol section 10): a party adds, suspends and reinstates keys of its own under an agreement. Pure.

To suspend takes its gateway alone, so that it takes effect at once; to add and to reinstate takes k of its roots.
"""

from collections.abc import Sequence
from typing import Final

from broker import keys
from broker.agreement import Agreement, KeyInfo, PartyInfo, check_signatures
from broker.canonical import H, encode, parse
from broker.errors import AgreementError, CanonicalError, KeyItemError, SignatureError
from broker.keys import SigningKey
from broker.origin import TIME_END
from broker.v1.codes_pb2 import (
    KEY_USE_ATTEST,
    KEY_USE_ENVELOPE,
    KEY_USE_HPKE_CONTROL,
    KEY_USE_HPKE_DATA,
    KEY_USE_ORIGIN,
    KEY_USE_RECEIPT,
    KEY_USE_ROOT,
)
from broker.v1.envelope_pb2 import KEY_ACT_ADD, KEY_ACT_REINSTATE, KEY_ACT_SUSPEND, KeyItem

AGENCY_USES: Final = frozenset({KEY_USE_ORIGIN, KEY_USE_RECEIPT})
GATEWAY_USES: Final = frozenset({KEY_USE_ATTEST, KEY_USE_ENVELOPE})
VERSIONS_AT_ONCE: Final = 100
"""How far a version may jump: whoever holds a gateway's key for a while cannot use the numbers up."""
SIGNATURES_MAX: Final = 16
_KEY_ITEM = b"puente/v1/key\x00"


def signed_digest(item: KeyItem, link_id: bytes) -> bytes:
    """What roots sign: the item without its signatures, on this link and no other."""
    bare = KeyItem()
    bare.CopyFrom(item)
    bare.ClearField("signatures")
    return H(_KEY_ITEM, link_id, encode(bare))


def sign(item: KeyItem, link_id: bytes, roots: Sequence[SigningKey]) -> bytes:
    """The item's bytes, signed by each of `roots`; none for a suspension."""
    digest = signed_digest(item, link_id)
    signed = KeyItem()
    signed.CopyFrom(item)
    for root in roots:
        name = keys.kid(keys.SUITE, KEY_USE_ROOT, root.public)
        signed.signatures.add(kid=name, signature=root.sign(digest, keys.CTX_KEY))
    return encode(signed)


def suspension(key: KeyInfo, version: int) -> KeyItem:
    """The item that suspends a key of ours."""
    return KeyItem(
        public_key=key.public,
        suite=key.suite,
        use=key.use,  # type: ignore[arg-type]
        owner=key.owner,
        act=KEY_ACT_SUSPEND,
        version=version,
    )


def parse_item(body: bytes) -> KeyItem:
    """A canonical item of the right shape; whether it counts is judged where it is taken.

    Raises:
        CanonicalError: not canonical, or a field out of range.
        KeyItemError: a key that no item may concern: another suite or size, or a use that the agreement alone sets.
    """
    item = parse(KeyItem, body)
    if not item.act or not item.version or max(item.not_before_ms, item.not_after_ms) >= TIME_END:
        raise CanonicalError("a key item has an act and a version, and times in range")
    if len(item.signatures) > SIGNATURES_MAX or any(len(one.signature) > keys.SIGNATURE for one in item.signatures):
        raise CanonicalError("at most 16 signatures, each of its size")
    if item.use in {KEY_USE_HPKE_DATA, KEY_USE_HPKE_CONTROL}:
        raise KeyItemError("an encryption key goes with its agreement: the next agreement changes it")
    if item.use not in AGENCY_USES | GATEWAY_USES or item.suite != keys.SUITE or len(item.public_key) != keys.PUBLIC:
        raise KeyItemError("a key of another suite, use or size than an item may concern")
    life = bool(item.not_before_ms or item.not_after_ms)
    if life != (item.act == KEY_ACT_ADD) or (item.act == KEY_ACT_SUSPEND and item.signatures):
        raise CanonicalError("to add tells the key's life, to suspend has no signatures, and nothing else has either")
    return item


def kid_of(item: KeyItem) -> bytes:
    """The name of the key that an item concerns, 32 bytes."""
    return keys.kid(item.suite, item.use, item.public_key)


def added_key(item: KeyItem, agreement: Agreement, party: str) -> KeyInfo:
    """The key that `party` adds under `agreement`, which is in force when the key begins.

    Raises:
        KeyItemError: an owner that is not the party's, an impossible life, or a public key that is none, or that
            stands in the agreement already: a key has one owner and one use.
    """
    agency = agreement.agencies.get(item.owner)
    fits = item.owner == party if item.use in GATEWAY_USES else agency is not None and agency.party == party
    if not fits:
        raise KeyItemError("a key of another party, or of an owner that may not have that use")
    if not agreement.not_before_ms <= item.not_before_ms < item.not_after_ms:
        raise KeyItemError("a key ends after it begins, and begins under its agreement")
    roots = [public for one in agreement.parties.values() for public in one.roots.values()]
    if item.public_key in {*roots, *(key.public for key in agreement.keys.values())}:
        raise KeyItemError("the key stands in the agreement already")
    try:
        keys.verify_key(item.public_key)
    except SignatureError:
        raise KeyItemError("not a public key") from None
    return KeyInfo(
        kid_of(item), item.public_key, item.suite, item.use, item.owner, party, item.not_before_ms, item.not_after_ms
    )


def check_roots(item: KeyItem, link_id: bytes, party: PartyInfo) -> None:
    """Raise KeyItemError unless k of the party's roots signed an item that adds or reinstates."""
    if item.act not in {KEY_ACT_ADD, KEY_ACT_REINSTATE}:
        return
    try:
        check_signatures(party, item.signatures, signed_digest(item, link_id), keys.CTX_KEY)
    except AgreementError as error:
        raise KeyItemError(str(error)) from None
