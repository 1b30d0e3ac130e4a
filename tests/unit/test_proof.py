"""Step 11: a message follows from its release and holds what an agency signed, whatever was withheld."""

import pytest
from message_story import FAMILY, ORIGIN, fixed, message_of, passenger, sign, submission

from broker import keys, sections
from broker.canonical import H, encode
from broker.errors import OriginError, ProofError
from broker.origin import parse_batch_statement
from broker.proof import prove_message, unpack_message
from broker.sealing import core_commit
from broker.v1.envelope_pb2 import Core, Message, Notice, Slot
from broker.v1.log_pb2 import ReleaseEntry


def made(withhold=(), **core_changes):
    one, other = submission(1), submission(2)
    batch = sign([one, other])
    return message_of(one, batch, withhold, **core_changes), batch


def committed(message, **changes):
    """The same message with another core, and a release entry that fits it."""
    core, entry = Core.FromString(message.core), ReleaseEntry.FromString(message.release_entry)
    for name, value in changes.items():
        core.ClearField(name)
        core.MergeFrom(Core(**{name: value}))
    entry.core_commit = core_commit(message.commit_salt, encode(core))
    return Message(release_entry=encode(entry), core=encode(core), commit_salt=message.commit_salt, slots=message.slots)


@pytest.mark.parametrize("withhold", [(), (2,), (4,), (2, 4)])
def test_the_agencys_signature_covers_what_came_whatever_was_withheld(withhold):
    message, batch = made(withhold)
    proven = prove_message(message, FAMILY)
    assert proven.batch == H(batch.statement)
    assert parse_batch_statement(batch.statement).root == proven.batch_root
    keys.verify(ORIGIN.public, batch.signature, batch.statement, keys.CTX_ORIGIN)
    expected = passenger(1)
    for section in FAMILY.sections:
        if section.slot in withhold:
            expected.ClearField(section.name)
    assert proven.record == expected


def test_what_step_10_has_read_is_not_read_again():
    message, _ = made()
    unpacked = unpack_message(message)
    assert unpacked.statement.origin_agency == "mx.inm"
    assert prove_message(message, FAMILY, unpacked=unpacked).statement is unpacked.statement


def test_an_agencys_view_may_show_less_than_was_released_and_never_more():
    released, _ = made()
    less, _ = made(withhold=(4,))
    narrowed = Message(
        release_entry=released.release_entry,
        core=released.core,
        commit_salt=released.commit_salt,
        slots=less.slots,
    )
    with pytest.raises(ProofError, match="open"):
        prove_message(narrowed, FAMILY)
    assert not prove_message(narrowed, FAMILY, narrowed=True).record.documents
    more = Message(release_entry=less.release_entry, core=less.core, commit_salt=less.commit_salt, slots=released.slots)
    for narrow in (True, False):
        with pytest.raises(ProofError, match="open"):
            prove_message(more, FAMILY, narrowed=narrow)


def test_the_kind_is_never_withheld():
    for narrowed in (True, False):
        with pytest.raises(ProofError, match="kind"):
            prove_message(made(withhold=(1,))[0], FAMILY, narrowed=narrowed)


def test_a_section_changed_under_the_agencys_signature_is_refused():
    message, _ = made()
    message.slots[1].section = message.slots[1].section.replace(b"NADIE1", b"OTHER1")
    with pytest.raises(ProofError, match="signed"):
        prove_message(message, FAMILY)


def test_salt_and_tag_games_are_refused():
    for change in ("move", "salt", "leaf"):
        message, _ = made()
        if change == "move":  # a byte from the section into the salt
            slot = message.slots[1]
            message.slots[1].CopyFrom(Slot(salt=slot.salt + slot.section[:1], section=slot.section[1:]))
        elif change == "salt":
            message.slots[1].salt = fixed("other")
        else:
            message.slots[8].leaf = fixed("other")
        with pytest.raises(ProofError):
            prove_message(message, FAMILY)


@pytest.mark.parametrize(
    "changes",
    [
        {"siblings": [b"x" * 32] * 7},
        {"place": 256},
        {"batch": b""},
        {"shown": 1},
        {"shown": 1 << 20},
        {"statement": submission(2).statement},
        {"notices": [Notice(slot=17, code=1)]},
        {"notices": [Notice(slot=1)]},
        {"gateway_caveats": [1] * 33},
        {"gateway_caveats": [0]},
    ],
    ids=str,
)
def test_a_core_that_does_not_fit_is_refused_though_its_gateway_released_it(changes):
    with pytest.raises(ProofError):
        prove_message(committed(made()[0], **changes), FAMILY)


def test_another_place_leads_to_another_root():
    message, batch = made()
    moved = committed(message, place=Core.FromString(message.core).place ^ 1)
    assert prove_message(moved, FAMILY).batch_root != parse_batch_statement(batch.statement).root


@pytest.mark.parametrize(
    "changes",
    [{"message_id": b"m" * 16}, {"origin_leaf": b"o" * 32}, {"core_commit": b"c" * 32}, {"blind": b""}, {"kind": 2}],
    ids=str,
)
def test_a_release_entry_that_does_not_fit_is_refused(changes):
    message, _ = made()
    entry = ReleaseEntry.FromString(message.release_entry)
    for name, value in changes.items():
        setattr(entry, name, value)
    message.release_entry = encode(entry)
    with pytest.raises(ProofError):
        prove_message(message, FAMILY)


def test_another_commit_salt_is_refused():
    message, _ = made()
    for salt in (b"", fixed("other")):
        message.commit_salt = salt
        with pytest.raises(ProofError, match="core"):
            prove_message(message, FAMILY)


def test_a_revision_that_is_not_known_is_refused():
    one = submission(1, family_revision=2)
    with pytest.raises(ProofError, match="revision"):
        prove_message(message_of(one, sign([one])), FAMILY)


def test_what_is_not_canonical_is_refused():
    message, _ = made()
    message.release_entry += b"\x08\x01"
    with pytest.raises(ProofError):
        unpack_message(message)
    message, _ = made()
    message.core += bytes(9000)
    with pytest.raises(ProofError, match="8 KiB"):
        unpack_message(message)


def test_a_statement_of_another_shape_fails_as_a_proof_and_not_as_the_callers_error():
    one = submission(1, version=3)
    with pytest.raises(ProofError) as error:
        unpack_message(message_of(one, sign([one])))
    assert not isinstance(error.value, OriginError)


def test_an_unknown_field_in_a_section_refuses_the_message():
    one = submission(1)
    parts = [b"\x08\x01", b"\x12\x03\xa0\x06\x01", *[b""] * 14]
    leaves = sections.leaves(parts, sections.salt_block(one.seed, one.message_id, 16))
    again = submission(1, record_root=sections.record_root(leaves))
    again.record = b"".join(parts)
    with pytest.raises(ProofError, match="canonical"):
        prove_message(message_of(again, sign([again])), FAMILY)
