"""Today's code agrees with puente-v1.json, and so does a program that shares nothing with it (verify.mjs)."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from broker import agreement, keyitem, keys, origin, receipts, sealing, sections
from broker.canonical import H, encode, parse
from broker.errors import KeyItemError
from broker.log import merkle
from broker.proof import prove_message
from broker.v1.envelope_pb2 import ControlItem, Core, Message, Receipt

HERE = Path(__file__).resolve().parent
FROZEN = json.loads((HERE / "puente-v1.json").read_text())


def raw(text):
    return bytes.fromhex(text)


def test_kids():
    for case in FROZEN["kids"]:
        assert keys.kid(case["suite"], case["use"], raw(case["public"])).hex() == case["kid"]


def test_salts_blanks_leaves_and_root_of_a_record():
    case = FROZEN["section"]
    block = sections.salt_block(raw(case["record_seed"]), raw(case["message_id"]), case["slots"])
    assert block.hex() == "".join(case["salts"] + case["blanks"])
    parts = sections.split(raw(case["record"]), case["slots"])
    assert [part.hex() for part in parts] == case["sections"]
    leaves = sections.leaves(parts, block)
    assert [leaf.hex() for leaf in leaves] == case["leaves"]
    assert sections.record_root(leaves).hex() == case["record_root"]


def test_facts():
    case = FROZEN["facts"]
    assert origin.facts_commit(raw(case["salt"]), raw(case["facts"])).hex() == case["commit"]


def test_the_signed_tree():
    case = FROZEN["origin"]
    for leaf in case["leaves"]:
        origin.parse_statement(raw(leaf["statement"]))
        assert origin.origin_leaf(raw(leaf["statement"])).hex() == leaf["leaf"]
        siblings = [raw(sibling) for sibling in leaf["siblings"]]
        assert origin.origin_root(raw(leaf["leaf"]), leaf["place"], siblings).hex() == case["root"]
    statement = origin.parse_batch_statement(raw(case["batch_statement"]))
    assert statement.root.hex() == case["root"]
    assert H(raw(case["batch_statement"])).hex() == case["batch"]
    keys.verify(raw(case["public"]), raw(case["signature"]), raw(case["batch_statement"]), raw(case["ctx"]))


def test_a_message_follows_from_its_release():
    case = FROZEN["release"]
    assert sealing.release_of(raw(case["entry"])).hex() == case["release"]
    assert sealing.core_commit(raw(case["commit_salt"]), raw(case["core"])).hex() == case["core_commit"]
    assert parse(Core, raw(case["core"])).shown == case["shown"]
    proven = prove_message(parse(Message, raw(case["message"])), sections.family("passenger"))
    assert proven.batch_root.hex() == FROZEN["origin"]["root"]
    assert proven.batch.hex() == FROZEN["origin"]["batch"]


def test_the_envelope_opens():
    case = FROZEN["envelope"]
    parsed = sealing.parse_envelope(raw(case["envelope"]))
    sealing.verify_envelope(parsed, keys.VerifyKey(raw(case["sender_public"])))
    hpke = keys.HpkeKey.from_seed(raw(case["hpke_seed"]))
    assert hpke.public.hex() == case["hpke_public"]
    assert encode(sealing.open_content(parsed, hpke)).hex() == case["content"]
    assert (parsed.header_hash.hex(), parsed.header.root.hex()) == (case["header_hash"], case["root"])


def test_control_items_and_an_agencys_receipt():
    case = FROZEN["control"]
    items = [parse(ControlItem, raw(item)) for item in case["items"]]
    leaves = [sealing.control_leaf(item) for item in items]
    assert [leaf.hex() for leaf in leaves] == case["leaves"]
    assert merkle.root(leaves).hex() == case["root"]
    said = case["agency_receipt"]
    receipt = parse(Receipt, items[0].body)
    assert receipt.agency.signature.hex() == said["signature"]
    fields = (raw(said["release"]), said["state"], said["reason"], said["time_ms"])
    assert receipts.signing_input(*fields).hex() == said["signed"]
    receipts.verify_agency(raw(said["public"]), raw(said["signature"]), *fields)


def test_the_agreement_loads():
    case = FROZEN["agreement"]
    assert agreement.load(raw(case["file"])).digest.hex() == case["digest"]


def test_a_key_item_counts_by_its_partys_roots():
    case = FROZEN["key_item"]
    item = keyitem.parse_item(raw(case["item"]))
    agreed = agreement.load(raw(FROZEN["agreement"]["file"]))
    assert agreed.link_id.hex() == case["link_id"]
    assert keyitem.kid_of(item).hex() == case["kid"]
    assert keyitem.signed_digest(item, agreed.link_id).hex() == case["signed"]
    keyitem.check_roots(item, agreed.link_id, agreed.parties["us"])
    with pytest.raises(KeyItemError):
        keyitem.check_roots(item, agreed.link_id, agreed.parties["mx"])


def test_padding():
    for case in FROZEN["padding"]:
        assert sealing.padded_size(case["length"]) == case["padded"]


@pytest.fixture(scope="module")
def verifier():
    if shutil.which("node") is None:
        pytest.skip("node is absent")
    if not (HERE / "node_modules" / "@noble" / "post-quantum").exists():
        pytest.skip("run `npm ci --ignore-scripts` in tests/vectors first")

    def run(path):
        return subprocess.run(
            ["node", HERE / "verify.mjs", path], capture_output=True, text=True, timeout=60, check=False
        )

    return run


def test_another_programs_reading_of_the_protocol_agrees(verifier):
    done = verifier(HERE / "puente-v1.json")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "all hold"
    assert len(lines) >= 10


@pytest.mark.parametrize(
    "where",
    [
        ("section", "record_root"),
        ("origin", "signature"),
        ("origin", "root"),
        ("release", "message"),
        ("envelope", "envelope"),
        ("control", "agency_receipt", "signature"),
        ("agreement", "file"),
        ("key_item", "item"),
    ],
    ids="/".join,
)
def test_the_other_program_refuses_a_changed_vector(verifier, tmp_path, where):
    changed = json.loads(json.dumps(FROZEN))
    inner = changed
    for name in where[:-1]:
        inner = inner[name]
    text = inner[where[-1]]
    inner[where[-1]] = text[:-1] + ("0" if text[-1] != "0" else "1")
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(changed))
    assert verifier(path).returncode == 1
