"""The trees of RFC 9162, section 2.1: roots, inclusion, consistency. Hashes in, hashes out; nothing is stored.

The verifiers raise: a proof that is too short, too long or of another tree is a ProofError.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from broker.canonical import leaf_hash, node_hash
from broker.errors import ProofError

__all__ = [
    "CompactRange",
    "consistency_proof",
    "inclusion_path",
    "leaf_hash",
    "node_hash",
    "root",
    "root_from_path",
    "verify_consistency",
    "verify_inclusion",
]


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """The root over 1 or more leaf hashes; a tree of none is refused."""
    if not leaf_hashes:
        raise ValueError("a tree of no leaf")
    level = list(leaf_hashes)
    while len(level) > 1:
        above = [node_hash(level[n], level[n + 1]) for n in range(0, len(level) - 1, 2)]
        if len(level) & 1:
            above.append(level[-1])  # the right edge rises unpaired
        level = above
    return level[0]


def _split(size: int) -> int:
    """The largest power of two below `size` (2 or more)."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_path(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """The siblings of leaf `index`, leaf upwards."""
    if not 0 <= index < len(leaf_hashes):
        raise ValueError("an index outside the tree")
    path = []
    level = list(leaf_hashes)
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        above = [node_hash(level[n], level[n + 1]) for n in range(0, len(level) - 1, 2)]
        if len(level) & 1:
            above.append(level[-1])
        level, index = above, index >> 1
    return path


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that `path` leads to from leaf `index` of `size` (RFC 9162, 2.1.3.2).

    Raises:
        ProofError: an index outside the tree, a hash that is not 32 bytes, a path of another length than that leaf's.
    """
    if not 0 <= index < size:
        raise ProofError("an index outside the tree")
    if len(leaf) != 32 or not all(len(sibling) == 32 for sibling in path):
        raise ProofError("a hash is 32 bytes")
    node, last, place = leaf, size - 1, index
    for sibling in path:
        if not last:
            raise ProofError("a path that is too long")
        if place & 1 or place == last:
            node = node_hash(sibling, node)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        place, last = place >> 1, last >> 1
    if last:
        raise ProofError("a path that is too short")
    return node


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], tree_root: bytes) -> None:
    """Raise ProofError unless `leaf` is leaf `index` of the tree of `size` leaves under `tree_root`."""
    if root_from_path(leaf, index, size, path) != tree_root:
        raise ProofError("a path that leads to another root")


def consistency_proof(leaf_hashes: Sequence[bytes], old_size: int) -> list[bytes]:
    """What shows that the first `old_size` leaves are still there, in their order (RFC 9162, 2.1.4.1)."""
    if not 0 < old_size <= len(leaf_hashes):
        raise ValueError("an old size outside the tree")
    return [] if old_size == len(leaf_hashes) else _subproof(old_size, leaf_hashes, whole=True)


def _subproof(old_size: int, leaf_hashes: Sequence[bytes], *, whole: bool) -> list[bytes]:
    size = len(leaf_hashes)
    if old_size == size:
        return [] if whole else [root(leaf_hashes)]
    k = _split(size)
    if old_size <= k:
        return [*_subproof(old_size, leaf_hashes[:k], whole=whole), root(leaf_hashes[k:])]
    return [*_subproof(old_size - k, leaf_hashes[k:], whole=False), root(leaf_hashes[:k])]


def verify_consistency(old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Raise ProofError unless the tree of `old_size` is the beginning of the tree of `new_size` (RFC 9162, 2.1.4.2)."""
    if not 0 < old_size <= new_size:
        raise ProofError("an old tree that is empty, or larger than the new one")
    if old_size == new_size:
        if proof or old_root != new_root:
            raise ProofError("trees of one size with different roots, or a proof where none is due")
        return
    path = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    if not path or _both_roots(old_size, new_size, path) != (old_root, new_root):
        raise ProofError("a proof that does not lead to both roots")


def _both_roots(old_size: int, new_size: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """(old root, new root) that a consistency path leads to; its first node is the old tree's last whole subtree."""
    place, last = old_size - 1, new_size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = path[0]
    for node in path[1:]:
        if not last:
            raise ProofError("a proof that is too long")
        if place & 1 or place == last:
            old, new = node_hash(node, old), node_hash(node, new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            new = node_hash(new, node)
        place, last = place >> 1, last >> 1
    if last:
        raise ProofError("a proof that is too short")
    return old, new


@dataclass(frozen=True, slots=True)
class CompactRange:
    """A tree by its right edge: roots of its whole subtrees, largest first. All that appending needs.

    `size` leaves; `nodes`: one 32-byte hash for each 1 bit of `size`.
    """

    size: int = 0
    nodes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.nodes) != self.size.bit_count():
            raise ValueError("a compact range has one node for each 1 bit of its size")

    def append(self, leaf_hashes: Sequence[bytes]) -> "CompactRange":
        """This range with `leaf_hashes` behind it."""
        nodes, size = list(self.nodes), self.size
        for leaf in leaf_hashes:
            node, rest = leaf, size
            while rest & 1:
                node, rest = node_hash(nodes.pop(), node), rest >> 1
            nodes.append(node)
            size += 1
        return CompactRange(size, tuple(nodes))

    def root(self) -> bytes:
        """The tree's root; a tree of none is refused."""
        if not self.nodes:
            raise ValueError("a tree of no leaf")
        node = self.nodes[-1]
        for left in reversed(self.nodes[:-1]):
            node = node_hash(left, node)
        return node
