"""An agreement counts when both parties' roots signed these very bytes, and says exactly whose keys count."""

import pytest
from agreement_story import END, ROOTS, START, document, enough, key, signed, signing

from broker import agreement, keys
from broker.canonical import H, encode
from broker.errors import AgreementError
from broker.v1 import agreement_pb2, codes_pb2


def load(made=None, roots=None):
    return agreement.load(signed(made, roots))


def test_a_signed_agreement_says_who_and_with_which_keys():
    loaded = load()
    assert loaded.digest == H(b"puente/v1/agreement\x00", encode(document()))
    assert list(loaded.parties) == ["mx", "us"]
    assert loaded.agency("mx.inm").party == "mx"
    assert loaded.agency("mx.inm").roles == ("border",)
    assert loaded.family("passenger").slots == 16
    assert (loaded.peer("mx"), loaded.peer("us")) == ("us", "mx")
    assert loaded.in_force(START)
    assert not loaded.in_force(END)


def test_a_key_is_found_by_its_kid_with_owner_use_and_life():
    loaded = load()
    public = signing("mx origin").public
    found = loaded.key(keys.kid(1, codes_pb2.KEY_USE_ORIGIN, public))
    assert (found.public, found.owner, found.party, found.use) == (public, "mx.inm", "mx", codes_pb2.KEY_USE_ORIGIN)
    assert found.valid_at(START)
    assert not found.valid_at(START - 1)
    assert not found.valid_at(END + 1)
    with pytest.raises(AgreementError):
        loaded.key(keys.kid(1, codes_pb2.KEY_USE_RECEIPT, public))


def test_what_is_not_there_is_refused():
    loaded = load()
    for ask in (
        lambda: loaded.agency("mx.none"),
        lambda: loaded.family("none"),
        lambda: loaded.peer("xx"),
    ):
        with pytest.raises(AgreementError):
            ask()


def test_each_party_needs_its_own_threshold_of_distinct_roots():
    load(roots=enough(3))
    mx, us = ROOTS["mx"], ROOTS["us"]
    for roots in ([], mx, [*mx, us[0]], [mx[0], mx[0], *us], [*us, *us]):
        with pytest.raises(AgreementError, match="fewer"):
            load(roots=roots)


def test_one_changed_byte_of_the_document_voids_every_signature():
    file = agreement_pb2.Agreement.FromString(signed())
    changed = agreement_pb2.AgreementDocument.FromString(file.document)
    changed.development = False
    file.document = encode(changed)
    with pytest.raises(AgreementError, match="verify"):
        agreement.load(encode(file))


def test_bytes_that_are_not_canonical_are_refused():
    for data in (b"", b"\x00", signed() + b"\x08\x01"):
        with pytest.raises(AgreementError):
            agreement.load(data)


def edit(change):
    made = document()
    change(made)
    return made


WRONG = {
    "one party": lambda d: d.parties.pop(),
    "three parties": lambda d: d.parties.add(id="xx"),
    "a party twice": lambda d: setattr(d.parties[1], "id", "mx"),
    "version 0": lambda d: setattr(d, "version", 0),
    "version 2 that follows nothing": lambda d: setattr(d, "version", 2),
    "a short link id": lambda d: setattr(d, "link_id", b"l"),
    "an end before its beginning": lambda d: setattr(d, "expires_ms", START),
    "no protocol version of ours": lambda d: d.ClearField("protocol_versions"),
    "a threshold of none": lambda d: setattr(d.parties[0], "threshold", 0),
    "a threshold above its roots": lambda d: setattr(d.parties[0], "threshold", 4),
    "a root that counts twice": lambda d: d.parties[0].root_keys.append(d.parties[0].root_keys[0]),
    "an agency of another party": lambda d: setattr(d.parties[0].agencies[0], "id", "us.inm"),
    "an agency twice": lambda d: d.parties[0].agencies.add(id="mx.inm"),
    "an id in capitals": lambda d: setattr(d.parties[0].agencies[0], "id", "mx.INM"),
    "an origin key of a gateway": lambda d: d.parties[0].keys.append(key(signing("x").public, "ORIGIN")),
    "an envelope key of an agency": lambda d: (
        d.parties[0].agencies[0].keys.append(key(signing("x").public, "ENVELOPE"))
    ),
    "an approval key": lambda d: d.parties[0].keys.append(key(signing("x").public, "APPROVAL")),
    "a key of another size": lambda d: d.parties[0].keys.append(key(bytes(1216), "ENVELOPE")),
    "a key of another suite": lambda d: setattr(d.parties[0].keys[0], "suite", 2),
    "a key that ends before it begins": lambda d: setattr(d.parties[0].keys[0], "not_after_ms", START),
    "a key with two owners": lambda d: d.parties[1].keys.append(d.parties[0].keys[0]),
    "a key with two uses": lambda d: d.parties[0].keys.append(key(signing("mx envelope").public, "ATTEST")),
    "a root with another use": lambda d: d.parties[0].keys.append(key(ROOTS["mx"][0].public, "ATTEST")),
    "a family twice": lambda d: d.families.append(d.families[0]),
    "a family of 17 slots": lambda d: setattr(d.families[0], "slots", 17),
    "a family without partitions": lambda d: setattr(d.families[0], "partitions", 0),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG.keys())
def test_refused_though_signed_by_everybody(change):
    with pytest.raises(AgreementError):
        load(edit(change), enough(3))


def next_version(change=lambda _: None):
    made = document()
    made.version, made.previous, made.not_before_ms = 2, load().digest, START + 1
    change(made)
    return made


def test_the_next_version_names_the_one_before_and_its_roots_sign_it_too():
    data = signed(next_version())
    agreement.follows(agreement.load(data), load())


def test_new_roots_alone_do_not_make_a_next_version():
    fresh = [signing(f"fresh {n}") for n in range(2)]

    def replace(made):
        del made.parties[0].root_keys[:]
        made.parties[0].root_keys.extend(root.public for root in fresh)

    made = next_version(replace)
    without = signed(made, [*fresh, *ROOTS["us"]])
    with pytest.raises(AgreementError, match="threshold"):
        agreement.follows(agreement.load(without), load())
    both = signed(made, [*fresh, *ROOTS["mx"], *ROOTS["us"]])
    agreement.follows(agreement.load(both), load())


@pytest.mark.parametrize(
    "change",
    [
        lambda d: setattr(d, "version", 3),
        lambda d: setattr(d, "previous", b"p" * 32),
        lambda d: setattr(d, "link_id", b"l" * 16),
        lambda d: setattr(d, "development", False),
        lambda d: setattr(d, "not_before_ms", START),
    ],
)
def test_rollback_and_another_link_are_refused(change):
    data = signed(next_version(change), enough(3))
    with pytest.raises(AgreementError):
        agreement.follows(agreement.load(data), load())


@pytest.mark.parametrize("what", ["slots", "partitions"])
def test_a_familys_slots_and_partitions_never_change(what):
    made = next_version(lambda d: setattr(d.families[0], what, {"slots": 32, "partitions": 5}[what]))
    with pytest.raises(AgreementError, match="slots and partitions"):
        agreement.chain([load(), agreement.load(signed(made))])


def test_a_family_does_not_come_back_with_other_slots_after_a_version_without_it():
    def other(made):
        del made.families[:]
        made.families.add(id="other", revision=1, slots=16, partitions=1)

    second = agreement.load(signed(next_version(other)))
    third = next_version(lambda d: setattr(d.families[0], "slots", 32))
    third.version, third.previous, third.not_before_ms = 3, second.digest, START + 2
    with pytest.raises(AgreementError, match="slots and partitions"):
        agreement.chain([agreement.load(signed(third)), load(), second])


def test_agreements_of_two_links_are_no_chain():
    made = next_version(lambda d: setattr(d, "link_id", b"l" * 16))
    with pytest.raises(AgreementError, match="another link"):
        agreement.chain([load(), agreement.load(signed(made))])


def test_a_chain_is_ordered_by_version_and_has_no_gap():
    second = agreement.load(signed(next_version()))
    assert [one.version for one in agreement.chain([second, load()])] == [1, 2]
    for wrong in ([], [load(), load()]):
        with pytest.raises(AgreementError):
            agreement.chain(wrong)


def test_an_agreement_is_frozen():
    loaded = load()
    with pytest.raises(TypeError):
        loaded.keys[b"k"] = None
    with pytest.raises(AttributeError):
        loaded.version = 2
