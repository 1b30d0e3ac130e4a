"""What a decision obliges, carried out, or not permitted at all."""

import pytest

import policy
from broker import obligations
from broker.v1 import codes_pb2, passenger_pb2
from tests.simulator import person

DAY_MS = 86_400_000


def decision(*duties, withheld=()):
    found = tuple(policy.Obligation(*duty) for duty in duties)
    return policy.Decision(True, ("R38",), ("R38.release",), withheld, found, b"d" * 32, 0)


@pytest.mark.parametrize("kind", ["approve", "notify", "encrypt", ""])
def test_what_this_gateway_cannot_carry_out_is_not_permitted(kind):
    within = obligations.within_reach(decision(("account", ""), (kind, "x")))
    assert not within.permit
    assert within.failed
    assert not within.obligations


def test_what_it_can_carry_out_stays_as_it_was_decided():
    given = decision(("caveat", "SEGREGATE"), ("retain", "P1Y"), ("account", ""), ("notice", "5:SENSITIVE"))
    assert obligations.within_reach(given) is given


@pytest.mark.parametrize(
    ("text", "days"), [("P12M", 365), ("P1Y", 365), ("P15Y", 5475), ("P1M", 30), ("P90D", 90), ("P1Y2M3D", 428)]
)
def test_a_duration_is_never_longer_than_the_laws(text, days):
    assert obligations.duration_ms(text) == days * DAY_MS


@pytest.mark.parametrize("text", ["", "P", "12M", "P1W", "PT1H", "P-1D", "P1.5Y", "p1y"])
def test_a_duration_of_another_form_is_refused(text):
    with pytest.raises(ValueError):
        obligations.duration_ms(text)


def test_the_shortest_retention_wins():
    found = obligations.duties((policy.Obligation("retain", "P15Y"), policy.Obligation("retain", "P12M")))
    assert found.destroy_by(1000) == 1000 + 365 * DAY_MS


def test_without_a_rule_nothing_says_when_content_must_go():
    assert obligations.duties(()).destroy_by(1000) == 0


def test_a_caveat_that_stands_already_is_not_added():
    found = obligations.duties((policy.Obligation("caveat", "SEGREGATE"), policy.Obligation("caveat", "PURPOSE_ONLY")))
    assert found.added([codes_pb2.CAVEAT_SEGREGATE]) == [codes_pb2.CAVEAT_PURPOSE_ONLY]


def test_notices_of_withheld_sections_and_of_rules_travel_once_in_order():
    withheld = (
        policy.Withheld(8, "assistance", "medical", "R11", "SENSITIVE"),
        policy.Withheld(4, "documents", "document", "R01", None),
    )
    given = decision(("notice", "8:SENSITIVE"), ("notice", "5:NOT_FOR_THIS_PURPOSE"), withheld=withheld)
    assert obligations.notices(given) == [
        (5, codes_pb2.NOTICE_CODE_NOT_FOR_THIS_PURPOSE),
        (8, codes_pb2.NOTICE_CODE_SENSITIVE),
    ]


def test_a_subject_is_the_same_person_however_the_name_is_written():
    upper, lower = person(1), person(1)
    lower.identity.name.surname = lower.identity.name.surname.lower()
    assert obligations.subject_of(upper) == obligations.subject_of(lower) != obligations.subject_of(person(2))


def test_an_answer_has_no_subject():
    assert obligations.subject_of(passenger_pb2.Passenger(kind=4, answer=passenger_pb2.Answer(result=1))) == b""
