"""The agency's word on a record, and one signature over up to 256 of them (protocol section 3).

The signed tree always has depth 8. Leaves take random places, and whatever is empty is 32 random bytes, so a recipient
cannot tell how many submissions were signed together: a refused neighbour leaves no trace.
"""

import os
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from broker.canonical import H, leaf_hash, node_hash, parse
from broker.errors import CanonicalError, OriginError
from broker.v1.envelope_pb2 import OriginStatement

VERSION: Final = 1
DEPTH: Final = 8
PLACES: Final = 1 << DEPTH
BATCH_STATEMENT: Final = 74
# Bytes, caveats, and milliseconds from creation to expiry.
STATEMENT_MAX: Final = 2048
CAVEATS_MAX: Final = 32
LIFE_MAX_MS: Final = 30 * 24 * 3_600_000
# Times are below this, in milliseconds.
TIME_END: Final = 1 << 47

_ORIGIN = b"puente/v1/origin\x00"
_FACTS = b"puente/v1/facts\x00"
_BATCH = struct.Struct(">H32sQ32s")
_ID = re.compile(r"[a-z0-9._-]{1,64}")
_NAME_OR_NONE = (0, 16)

Path = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class BatchStatement:
    """What an origin (or attest) key signs: a tree of origin leaves, and when."""

    signer_kid: bytes
    created_ms: int
    root: bytes


def batch_statement(signer_kid: bytes, created_ms: int, root: bytes) -> bytes:
    """74 bytes: u16 version, signer_kid, u64 created_ms, root."""
    if len(signer_kid) != 32 or len(root) != 32:
        raise OriginError("a kid and a root are 32 bytes")
    return _BATCH.pack(VERSION, signer_kid, created_ms, root)


def parse_batch_statement(data: bytes) -> BatchStatement:
    """The statement of 74 bytes.

    Raises:
        OriginError: another size, another version, or a time out of range.
    """
    if len(data) != BATCH_STATEMENT:
        raise OriginError("a batch statement is 74 bytes")
    version, signer_kid, created_ms, root = _BATCH.unpack(data)
    if version != VERSION or not created_ms < TIME_END:
        raise OriginError("a batch statement of another version, or out of time")
    return BatchStatement(signer_kid, created_ms, root)


def origin_leaf(statement: bytes) -> bytes:
    """The leaf of a statement's exact bytes in the signed tree."""
    return leaf_hash(_ORIGIN + statement)


def facts_commit(salt: bytes, facts: bytes) -> bytes:
    """What the statement says of the facts: bound, and told to nobody without the 32-byte salt."""
    if len(salt) != 32:
        raise OriginError("a facts salt is 32 bytes")
    return H(_FACTS, salt, facts)


def origin_root(leaf: bytes, place: int, siblings: Sequence[bytes]) -> bytes:
    """The root that a leaf's place and its 8 siblings, leaf upwards, lead to.

    Raises:
        OriginError: a place outside 0..255, or not 8 siblings of 32 bytes.
    """
    if len(siblings) != DEPTH or not 0 <= place < PLACES:
        raise OriginError("a place is 0..255 and has 8 siblings")
    node = leaf
    for sibling in siblings:
        if len(sibling) != 32:
            raise OriginError("a sibling is 32 bytes")
        node = node_hash(sibling, node) if place & 1 else node_hash(node, sibling)
        place >>= 1
    return node


class OriginTree:
    """The tree that one signature covers."""

    @staticmethod
    def build(
        leaves: Sequence[bytes],
        random: Callable[[int], bytes] = os.urandom,
        places: Sequence[int] | None = None,
    ) -> tuple[bytes, list[tuple[int, Path]]]:
        """(root, place and siblings of each leaf in order) of 1 to 256 leaves.

        `places` may be given by a caller that needs the same tree again; else they are drawn without repetition.
        """
        if not 1 <= len(leaves) <= PLACES:
            raise OriginError("a call holds 1 to 256 submissions")
        if places is None:
            places = _draw(len(leaves), random)
        elif len(places) != len(leaves) or len({*places}) != len(leaves) or not all(0 <= p < PLACES for p in places):
            raise OriginError("places are distinct, 0..255, one a leaf")
        level: list[bytes | None] = [None] * PLACES
        for leaf, place in zip(leaves, places, strict=True):
            level[place] = leaf
        levels = []
        while len(level) > 1:
            level, above = _fill(level, random)
            levels.append(level)
            level = above
        paths = [tuple(levels[k][(place >> k) ^ 1] or b"" for k in range(DEPTH)) for place in places]
        return level[0] or b"", list(zip(places, paths, strict=True))


def _draw(count: int, random: Callable[[int], bytes]) -> list[int]:
    """`count` distinct places, uniform: the order of 256 random 64-bit keys."""
    keys = struct.unpack(f">{PLACES}Q", random(8 * PLACES))
    return sorted(range(PLACES), key=keys.__getitem__)[:count]


def _fill(level: list[bytes | None], random: Callable[[int], bytes]) -> tuple[list[bytes | None], list[bytes | None]]:
    """(this level with random bytes beside what is there, the level above); empty subtrees stay empty for now."""
    above: list[bytes | None] = []
    for n in range(0, len(level), 2):
        left, right = level[n], level[n + 1]
        if left is None and right is None:
            above.append(None)
            continue
        if left is None:
            left = level[n] = random(32)
        elif right is None:
            right = level[n + 1] = random(32)
        above.append(node_hash(left, right or b""))
    return level, above


def parse_statement(data: bytes) -> OriginStatement:
    """A canonical statement of the right shape; what it claims is judged elsewhere (section 5, step 10).

    Raises:
        OriginError: too large, not canonical, another version, or a field of the wrong size or range.
    """
    if len(data) > STATEMENT_MAX:
        raise OriginError("a statement is at most 2 KiB")
    try:
        statement = parse(OriginStatement, data)
    except CanonicalError as error:
        raise OriginError(f"statement: {error}") from None
    if statement.version != VERSION:
        raise OriginError("a statement of another version")
    _check_sizes(statement)
    _check_ids(statement)
    created, expires = statement.created_ms, statement.expires_ms
    if not 0 < created < expires <= created + LIFE_MAX_MS or expires >= TIME_END:
        raise OriginError("a statement expires after it was made, and within 30 days")
    return statement


def _check_sizes(statement: OriginStatement) -> None:
    names_ok = len(statement.link_id) == len(statement.message_id) == len(statement.conversation) == 16
    hashes_ok = len(statement.record_root) == len(statement.facts_commit) == len(statement.origin_kid) == 32
    for name in (statement.in_reply_to, statement.supersedes):
        names_ok = names_ok and len(name) in _NAME_OR_NONE
    for release in statement.derived_from:
        hashes_ok = hashes_ok and len(release) == 32
    if not names_ok or not hashes_ok:
        raise OriginError("an id of a statement is not 16 bytes, or a hash not 32")


@lru_cache(maxsize=4096)
def _is_id(name: str) -> bool:
    return _ID.fullmatch(name) is not None


def _check_ids(statement: OriginStatement) -> None:
    for name in (statement.family, statement.origin_agency, statement.recipient_agency, *statement.legal_basis):
        if not _is_id(name):
            raise OriginError("an id of a statement is not [a-z0-9._-]{1,64}")
    if not statement.purpose or not statement.family_revision:
        raise OriginError("a statement has a purpose and a revision of its family")
    caveats = statement.caveats
    if caveats and (0 in caveats or len(caveats) > CAVEATS_MAX or len({*caveats}) != len(caveats)):
        raise OriginError("a statement has at most 32 different caveats")
