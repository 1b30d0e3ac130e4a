"""Which agreement and which key count, at which instant."""

import pytest
from agreement_story import END, START, document, hpke, key, signed, signing

from broker import agreement, keys
from broker.errors import AgreementError, KeySuspended, LinkError
from broker.link import CONTROL, CONTROL_GRACE_MS, Link
from broker.v1 import codes_pb2

DAY_MS = 86_400_000
NEXT = START + 1_000_000
ENVELOPE, ORIGIN = codes_pb2.KEY_USE_ENVELOPE, codes_pb2.KEY_USE_ORIGIN


def kid(label, use=ORIGIN):
    return keys.kid(1, use, signing(label).public)


def version_2(change=lambda _: None):
    made = document()
    made.version, made.previous, made.not_before_ms = 2, agreement.load(signed()).digest, NEXT
    change(made)
    return agreement.load(signed(made))


def link(*more, hold=("us envelope",)):
    chain = agreement.chain([*more, agreement.load(signed())])
    return Link(chain, "us", {kid(label, ENVELOPE): signing(label) for label in hold}, {})


def replace_origin(made):
    del made.parties[0].agencies[0].keys[:]
    made.parties[0].agencies[0].keys.append(key(signing("mx origin 2").public, "ORIGIN"))


def test_the_next_agreement_is_in_force_from_its_not_before_and_the_old_one_until_then():
    both = link(version_2())
    assert [both.at(t).version for t in (START - 1, START, NEXT - 1, NEXT, END + DAY_MS)] == [1, 1, 1, 2, 2]
    assert both.in_force(NEXT)
    assert not both.in_force(END)
    assert both.next_after(both.at(START)) is both.at(NEXT)
    assert both.next_after(both.at(NEXT)) is None


def test_a_statement_counts_by_the_key_of_the_time_at_which_it_was_signed():
    both = link(version_2(replace_origin))
    old, new = both.agreements
    assert both.signer(kid("mx origin"), NEXT - 1, new).owner == "mx.inm"
    assert both.signer(kid("mx origin 2"), NEXT, new).owner == "mx.inm"
    with pytest.raises(AgreementError):
        both.signer(kid("mx origin"), NEXT, new)  # the next agreement no longer has it
    with pytest.raises(AgreementError):
        both.signer(kid("mx origin 2"), NEXT - 1, old)  # nor had the first one this


def test_a_suspended_key_signs_nothing():
    one = link()
    one.ring.suspended = frozenset({kid("mx origin")})
    with pytest.raises(KeySuspended):
        one.signer(kid("mx origin"), START, one.at(START))


def test_a_sender_uses_the_newest_data_key_that_is_valid_now():
    one = link()
    assert one.recipient_key("passenger", START).public == hpke("mx data 1").public
    assert one.recipient_key("passenger", START + 1000).public == hpke("mx data 2").public
    assert one.recipient_key("passenger", END).public == hpke("mx data 1").public
    with pytest.raises(LinkError):
        one.recipient_key("passenger", END + 1)


def test_control_goes_on_with_keys_that_last_as_long_as_the_agreement():
    one = link()
    later = END + CONTROL_GRACE_MS - 1
    assert one.recipient_key(CONTROL, later).public == hpke("mx control").public
    assert one.own_key(ENVELOPE, later, family=CONTROL).kid == kid("us envelope", ENVELOPE)
    with pytest.raises(LinkError):
        one.own_key(ENVELOPE, later, family="passenger")
    with pytest.raises(LinkError):
        one.recipient_key(CONTROL, END + CONTROL_GRACE_MS + 1)


def test_the_spare_envelope_key_takes_over_when_the_other_is_suspended():
    def spare(made):
        made.parties[1].keys.append(key(signing("us spare").public, "ENVELOPE"))

    both = link(version_2(spare), hold=("us envelope", "us spare"))
    assert {both.own_key(ENVELOPE, START).kid} == {kid("us envelope", ENVELOPE)}
    both.ring.suspended = frozenset({kid("us envelope", ENVELOPE)})
    assert both.own_key(ENVELOPE, NEXT).kid == kid("us spare", ENVELOPE)
    with pytest.raises(LinkError):
        both.own_key(ENVELOPE, START)
