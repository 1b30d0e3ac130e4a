"""The trees of RFC 9162: published proofs with their outcomes, and our own proofs against them."""

import base64
import json
from pathlib import Path

import pytest

from broker.errors import ProofError
from broker.log.merkle import (
    CompactRange,
    consistency_proof,
    inclusion_path,
    leaf_hash,
    root,
    verify_consistency,
    verify_inclusion,
)

PROOFS = Path(__file__).resolve().parents[3] / "shared" / "samples" / "vectors" / "merkle_proofs.json"
LEAVES = [leaf_hash(bytes([n])) for n in range(70)]


def published(folder):
    if not PROOFS.exists():
        return []
    return [case for case in json.loads(PROOFS.read_text()) if f"/{folder}/" in case["path"]]


def unpack(case, *names):
    return [base64.b64decode(case[name]) for name in names], [base64.b64decode(node) for node in case["proof"] or []]


@pytest.mark.samples
@pytest.mark.skipif(not PROOFS.exists(), reason="shared samples are absent")
@pytest.mark.parametrize("case", published("inclusion"), ids=lambda case: case["path"])
def test_published_inclusion_proofs_have_their_published_outcome(case):
    (leaf, tree_root), proof = unpack(case, "leafHash", "root")
    if case["wantErr"]:
        with pytest.raises(ProofError):
            verify_inclusion(leaf, case["leafIdx"], case["treeSize"], proof, tree_root)
    else:
        verify_inclusion(leaf, case["leafIdx"], case["treeSize"], proof, tree_root)


@pytest.mark.samples
@pytest.mark.skipif(not PROOFS.exists(), reason="shared samples are absent")
@pytest.mark.parametrize("case", published("consistency"), ids=lambda case: case["path"])
def test_published_consistency_proofs_have_their_published_outcome(case):
    (old, new), proof = unpack(case, "root1", "root2")
    if case["wantErr"]:
        with pytest.raises(ProofError):
            verify_consistency(case["size1"], case["size2"], old, new, proof)
    else:
        verify_consistency(case["size1"], case["size2"], old, new, proof)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 33, 64, 70])
def test_every_leaf_proves_that_it_is_in_and_at_no_other_place(size):
    leaves = LEAVES[:size]
    tree_root = root(leaves)
    for index, leaf in enumerate(leaves):
        path = inclusion_path(leaves, index)
        verify_inclusion(leaf, index, size, path, tree_root)
        for wrong in {(index + 1) % size, size} - {index}:
            with pytest.raises(ProofError):
                verify_inclusion(leaf, wrong, size, path, tree_root)
        with pytest.raises(ProofError):
            verify_inclusion(leaf, index, size, [*path, leaf], tree_root)


def test_every_older_tree_proves_that_it_is_the_beginning_of_a_newer_one():
    for new in (1, 2, 5, 8, 21, 64):
        for old in range(1, new + 1):
            proof = consistency_proof(LEAVES[:new], old)
            verify_consistency(old, new, root(LEAVES[:old]), root(LEAVES[:new]), proof)
            with pytest.raises(ProofError):
                verify_consistency(old, new, root(LEAVES[1 : old + 1]), root(LEAVES[:new]), proof)


def test_a_compact_range_has_the_root_of_the_whole_tree_however_it_grew():
    grown = CompactRange()
    for size, leaf in enumerate(LEAVES, 1):
        grown = grown.append([leaf])
        assert grown.root() == root(LEAVES[:size])
    assert CompactRange().append(LEAVES[:13]).append(LEAVES[13:]) == grown


def test_a_tree_of_no_leaf_has_no_root():
    with pytest.raises(ValueError, match="no leaf"):
        root([])
    with pytest.raises(ValueError, match="no leaf"):
        CompactRange().root()
    with pytest.raises(ValueError, match="one node"):
        CompactRange(3, (LEAVES[0],))


def test_indices_outside_a_tree_are_refused():
    with pytest.raises(ValueError, match="outside"):
        inclusion_path(LEAVES[:3], 3)
    with pytest.raises(ValueError, match="outside"):
        consistency_proof(LEAVES[:3], 4)
