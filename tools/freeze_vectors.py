"""Make tests/vectors/puente-v1.json from fixed seeds, once: then it is frozen, and code must agree with it.

Usage: python tools/freeze_vectors.py --replace
Signatures and encapsulations are randomised, so a second run gives another file: for a new protocol version only.
Byte strings are lower-case hex. Who writes another implementation starts here.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "unit")]

import agreement_story  # noqa: E402
import message_story as story  # noqa: E402

from broker import agreement, keyitem, keys, origin, receipts, sealing, sections  # noqa: E402
from broker.canonical import H, encode  # noqa: E402
from broker.log import merkle  # noqa: E402
from broker.v1 import codes_pb2  # noqa: E402
from broker.v1.envelope_pb2 import (  # noqa: E402
    CONTROL_KIND_HEADS,
    CONTROL_KIND_RECEIPT,
    KEY_ACT_ADD,
    AgencyReceipt,
    Content,
    ControlItem,
    Core,
    Heads,
    KeyItem,
    Receipt,
)

OUT = ROOT / "tests" / "vectors" / "puente-v1.json"
WITHHELD = (4,)


def main() -> int:
    if OUT.exists() and sys.argv[1:] != ["--replace"]:
        print(f"{OUT.name} is frozen; --replace makes another one", file=sys.stderr)
        return 1
    one, other = story.submission(1), story.submission(2)
    batch = story.sign([one, other])
    message = story.message_of(one, batch, WITHHELD)
    made = {
        "protocol": "puente/v1",
        "kids": kids(),
        "section": section(one),
        "facts": facts(),
        "origin": signed_tree(one, other, batch),
        "release": release(message),
        "envelope": envelope(Content(batches=[batch], messages=[message, story.message_of(other, batch)])),
        "control": control(message),
        "agreement": agreed(),
        "key_item": key_item(),
        "padding": [{"length": n, "padded": sealing.padded_size(n)} for n in (0, 1020, 1021, 4096, 100_000, 983_036)],
    }
    OUT.write_text(json.dumps(made, indent=1) + "\n", encoding="ascii")
    print(f"froze {OUT.relative_to(ROOT)}")
    return 0


def kids() -> list[dict[str, object]]:
    publics = {codes_pb2.KEY_USE_ORIGIN: story.ORIGIN.public, codes_pb2.KEY_USE_HPKE_DATA: story.HPKE.public}
    return [
        {"suite": 1, "use": use, "public": public.hex(), "kid": keys.kid(1, use, public).hex()}
        for use, public in publics.items()
    ]


def section(one: story.Signed) -> dict[str, object]:
    parts = sections.split(one.record, 16)
    block = sections.salt_block(one.seed, one.message_id, 16)
    leaves = sections.leaves(parts, block)
    return {
        "slots": 16,
        "record_seed": one.seed.hex(),
        "message_id": one.message_id.hex(),
        "record": one.record.hex(),
        "sections": [part.hex() for part in parts],
        "salts": [block[n : n + 32].hex() for n in range(0, 512, 32)],
        "blanks": [block[n : n + 32].hex() for n in range(512, 1024, 32)],
        "leaves": [leaf.hex() for leaf in leaves],
        "record_root": sections.record_root(leaves).hex(),
    }


def facts() -> dict[str, str]:
    salt = story.fixed("facts salt")
    return {"salt": salt.hex(), "facts": "", "commit": origin.facts_commit(salt, b"").hex()}


def signed_tree(one: story.Signed, other: story.Signed, batch: object) -> dict[str, object]:
    parsed = origin.parse_batch_statement(batch.statement)
    return {
        "public": story.ORIGIN.public.hex(),
        "ctx": keys.CTX_ORIGIN.hex(),
        "leaves": [
            {
                "statement": each.statement.hex(),
                "leaf": origin.origin_leaf(each.statement).hex(),
                "place": each.place,
                "siblings": [sibling.hex() for sibling in each.siblings],
            }
            for each in (one, other)
        ],
        "root": parsed.root.hex(),
        "batch_statement": batch.statement.hex(),
        "batch": H(batch.statement).hex(),
        "signature": batch.signature.hex(),
    }


def release(message: object) -> dict[str, object]:
    return {
        "entry": message.release_entry.hex(),
        "release": sealing.release_of(message.release_entry).hex(),
        "core": message.core.hex(),
        "commit_salt": message.commit_salt.hex(),
        "core_commit": sealing.core_commit(message.commit_salt, message.core).hex(),
        "shown": Core.FromString(message.core).shown,
        "message": encode(message).hex(),
    }


def envelope(content: Content) -> dict[str, object]:
    header = story.header()
    data, header_hash = sealing.seal(header, content, story.HPKE.public, story.ENVELOPE)
    return {
        "hpke_seed": story.HPKE.seed.hex(),
        "hpke_public": story.HPKE.public.hex(),
        "sender_public": story.ENVELOPE.public.hex(),
        "ctx": keys.CTX_ENVELOPE.hex(),
        "envelope": data.hex(),
        "header_hash": header_hash.hex(),
        "count": header.count,
        "root": header.root.hex(),
        "content": encode(content).hex(),
    }


def control(message: object) -> dict[str, object]:
    name, time_ms = sealing.release_of(message.release_entry), story.NOW + 5000
    key = keys.SigningKey.from_seed(story.fixed("receipt key", 64))
    state, reason = codes_pb2.STATE_ACKNOWLEDGED, codes_pb2.REASON_NONE
    signature = receipts.sign_agency(key, name, state, reason, time_ms)
    kid = keys.kid(1, codes_pb2.KEY_USE_RECEIPT, key.public)
    receipt = Receipt(
        release=name,
        state=state,
        reason=reason,
        entry=story.fixed("entry"),
        time_ms=time_ms + 1000,
        agency=AgencyReceipt(kid=kid, time_ms=time_ms, signature=signature),
    )
    items = [
        ControlItem(salt=story.fixed("item 1"), kind=CONTROL_KIND_RECEIPT, body=encode(receipt)),
        ControlItem(salt=story.fixed("item 2"), kind=CONTROL_KIND_HEADS, body=encode(Heads())),
    ]
    return {
        "items": [encode(item).hex() for item in items],
        "leaves": [sealing.control_leaf(item).hex() for item in items],
        "root": merkle.root([sealing.control_leaf(item) for item in items]).hex(),
        "agency_receipt": {
            "public": key.public.hex(),
            "kid": kid.hex(),
            "ctx": keys.CTX_RECEIPT.hex(),
            "release": name.hex(),
            "state": state,
            "reason": reason,
            "time_ms": time_ms,
            "signed": receipts.signing_input(name, state, reason, time_ms).hex(),
            "signature": signature.hex(),
        },
    }


def agreed() -> dict[str, object]:
    data = agreement_story.signed()
    return {"file": data.hex(), "digest": agreement.load(data).digest.hex()}


def key_item() -> dict[str, object]:
    """An origin key that an agency gets under the agreement, added by two of its party's roots."""
    added = agreement_story.signing("us origin 2")
    item = KeyItem(
        public_key=added.public,
        suite=1,
        use=codes_pb2.KEY_USE_ORIGIN,
        owner="us.cbp",
        not_before_ms=agreement_story.START + 1000,
        not_after_ms=agreement_story.START + 2000,
        act=KEY_ACT_ADD,
        version=1,
    )
    link_id = agreement.load(agreement_story.signed()).link_id
    return {
        "link_id": link_id.hex(),
        "ctx": keys.CTX_KEY.hex(),
        "kid": keyitem.kid_of(item).hex(),
        "signed": keyitem.signed_digest(item, link_id).hex(),
        "item": keyitem.sign(item, link_id, agreement_story.ROOTS["us"][:2]).hex(),
    }


if __name__ == "__main__":
    raise SystemExit(main())
