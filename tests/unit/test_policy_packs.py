"""A bad pack is refused whole, and says why; a good one has a digest."""

import ast
from pathlib import Path

import pytest

import policy
from broker.v1 import category_pb2, codes_pb2, facts_pb2, passenger_pb2
from policy.check import check
from policy.pack import PACKS, PackError
from policy.request import FACT_DEFAULTS
from policy.rule import CAVEATS, NOTICES
from tests.unit.policy_story import SECTIONS, copy_packs, spoil

SCHEMA = (PACKS / "bilateral" / "schema.cedarschema").read_text(encoding="utf-8")


def names(enum, prefix):
    return [name.removeprefix(prefix).lower() for name in enum.keys()][1:]  # noqa: SIM118 - protobuf's wrapper


@pytest.mark.parametrize(
    ("file", "old", "new", "why"),
    [
        ("us/all.cedar", '@id("R18.release.2001")\n', "", "missing @id"),
        ("us/all.cedar", '@id("R18.release.2001")', '@id("R17.release.1996")', "is there twice"),
        ("us/all.cedar", '@cites("us.cfr.8.208.6")', '@cites("us.cfr.8.999")', "which no instruments.toml has"),
        ("us/all.cedar", '@effective("2001-01-05/..")', '@effective("1999-01-05/..")', "is not in force"),
        ("us/all.cedar", '@effective("2001-01-05/..")', '@effective("soon")', "from/to"),
        ("us/all.cedar", '@effective("2001-01-05/..")', '@effective("2001-01-05/2000-01-01")', "ends before"),
        ("us/all.cedar", '@rule("R18")', '@rule("R18")\n@approve("us.state")', "unknown @approve"),
        ("us/all.cedar", '@rule("R18")', '@rule("R18")\n@caveat("SEGREGATE")', "stands on oblige only"),
        ("us/all.cedar", '@rule("R18")', '@rule("R18")\n@reveals("classified")', "@reveals names a fact"),
        ("us/all.cedar", 'Party::"mx"', 'Party::"ca"', "not declared as a valid eid"),
        ("us/all.cedar", "context.facts.asylum_information", "context.facts.asylum", "not found"),
        ("us/all.cedar", "context.facts.classified", "context.facts.classified", "not Cedar"),
        ("us/passenger.cedar", '@reveals("source_system")\n', "", "does more than refuse"),
        ("us/passenger.cedar", '@retain("P12M")', '@retain("a year")', "PnYnMnD"),
        ("bilateral/all.cedar", '@caveat("SEGREGATE")', '@caveat("PLEASE")', "unknown code"),
        ("bilateral/passenger.cedar", '@notice("8:SENSITIVE")', '@notice("8:SECRET")', "slot:CODE"),
        ("bilateral/passenger.cedar", '"bil.jsp.2010", "mx.rlm"', '"bil.jsp.2011", "mx.rlm"', "its condition names"),
        ("mx/all.cedar", '@says_es("', '@says_es("" )\n@x("', "unknown @x"),
        ("mx/roles.toml", '"mx.inm"', "mx inm", "cannot be read"),
    ],
)
def test_a_bad_pack_is_refused_and_says_why(tmp_path, file, old, new, why):
    packs = copy_packs(tmp_path)
    if why == "not Cedar":
        (packs / "us" / "all.cedar").write_text("forbid perhaps;", encoding="utf-8")
    else:
        spoil(packs, file, old, new)
    with pytest.raises(PackError) as refused:
        policy.load("mx" if file.startswith("mx") else "us", packs)
    assert why in str(refused.value)
    assert why in " ".join(check(packs).problems)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (
            'permit (principal, action == Action::"release", resource)\nwhen { context.facts.classified };',
            "than refuse",
        ),
        ('forbid (principal, action == Action::"show", resource)\nwhen { context.facts.classified };', "no facts are"),
        ('forbid (principal, action == Action::"oblige", resource);', "a policy on oblige"),
        ('permit (principal, action == Action::"oblige", resource);', "with an obligation"),
        ("forbid (principal, action, resource);", "names no action"),
    ],
)
def test_a_policy_that_could_tell_a_fact_or_grant_by_a_duty_is_refused(tmp_path, body, why):
    packs = copy_packs(tmp_path)
    head = '@id("R99.x")\n@rule("R99")\n@family("all")\n@cites("us.eo.13526")\n@effective("2020-01-01/..")\n'
    path = packs / "us" / "all.cedar"
    text = path.read_text(encoding="utf-8")
    path.write_text(f'{text}\n{head}@says_en("x")\n@says_es("x")\n{body}\n', encoding="utf-8")
    with pytest.raises(PackError, match=why):
        policy.load("us", packs)


def test_a_party_without_a_pack_is_refused():
    for party in ("ca", "bilateral", "../us"):
        with pytest.raises(PackError):
            policy.load(party)


def test_the_digest_changes_with_a_rule_and_not_with_a_case(tmp_path):
    packs = copy_packs(tmp_path)
    before = policy.load("us", packs).pack_digest
    assert len(before) == 32
    assert before == policy.load("us").pack_digest
    (packs / "us" / "cases" / "R99-permit-x.toml").write_text("", encoding="utf-8")
    assert policy.load("us", packs).pack_digest == before
    spoil(packs, "us/all.cedar", "until a final denial", "until the final denial")
    assert policy.load("us", packs).pack_digest != before


def test_neither_party_sees_the_others_rules():
    assert {rule.pack for rule in policy.load("us").rules} == {"bilateral", "us"}
    assert {rule.pack for rule in policy.load("mx").rules} == {"bilateral", "mx"}


def test_the_facts_are_those_of_the_proto():
    fields = facts_pb2.Facts.DESCRIPTOR.fields
    assert list(FACT_DEFAULTS) == [field.name for field in fields]
    for field in fields:
        kind = {field.TYPE_BOOL: False, field.TYPE_STRING: "", field.TYPE_ENUM: "unspecified"}[field.type]
        assert FACT_DEFAULTS[field.name] == kind


@pytest.mark.parametrize(
    ("entity", "enum", "prefix"),
    [
        ("Purpose", codes_pb2.Purpose, "PURPOSE_"),
        ("Assurance", codes_pb2.Assurance, "ASSURANCE_"),
        ("Category", category_pb2.DataCategory, "DATA_CATEGORY_"),
        ("Presence", category_pb2.Presence, "PRESENCE_"),
        ("Claim", facts_pb2.ClaimStatus, "CLAIM_STATUS_"),
    ],
)
def test_the_closed_lists_are_those_of_the_proto(entity, enum, prefix):
    listed = SCHEMA.split(f"entity {entity} enum [")[1].split("]")[0]
    words = [word.strip().strip('"') for word in listed.split(",") if word.strip()]
    assert [word for word in words if word != "unspecified"] == names(enum, prefix)


def test_the_codes_are_those_of_the_proto():
    assert [code.lower() for code in CAVEATS] == names(codes_pb2.Caveat, "CAVEAT_")
    assert [code.lower() for code in NOTICES] == names(codes_pb2.NoticeCode, "NOTICE_CODE_")


def test_the_sections_of_the_family_are_those_of_the_proto():
    categories = [None, *names(category_pb2.DataCategory, "DATA_CATEGORY_")]
    presences = [None, *names(category_pb2.Presence, "PRESENCE_")]
    declared = []
    for field in passenger_pb2.Passenger.DESCRIPTOR.fields:
        options = field.GetOptions().Extensions[category_pb2.section]
        declared.append((field.number, field.name, categories[options.category], presences[options.presence]))
    assert declared == [(one.slot, one.name, one.category, one.presence) for one in SECTIONS.values()]


def test_policy_imports_nothing_of_ours():
    for path in Path(policy.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in modules if name.split(".")[0] in {"broker", "adapters"}], path.name
            assert path.name == "cedar.py" or "cedarpy" not in modules, path.name
