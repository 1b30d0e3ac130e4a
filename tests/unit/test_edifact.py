"""Syntax and envelope: separators, release, places of deviations, character sets, and the caps."""

import contextlib
import time
import tracemalloc

import pytest

from adapters.findings import DecodeError, Limits, Rule
from adapters.paxlst import decode

BODY = "UNB+UNOA:4+PB+US+261112:0715+1'UNH+1+PAXLST:D:05B'BGM+745'TDT+20+PB7'LOC+125+JFK'LOC+87+MEX'{}UNT+{}+1'UNZ+1+1'"


def interchange(*segments, una="", syntax="UNOA:4"):
    inner = "".join(segment + "'" for segment in segments or ("NAD+FL+++NADIE",))
    return una + BODY.format(inner, 6 + len(segments or ("NAD",))).replace("UNOA:4", syntax)


def codes(text, **options):
    data = text if isinstance(text, bytes) else text.encode()
    return [one.code for one in decode(data, tolerant=True, **options).warnings]


def refusal(text, *, tolerant=False, **options):
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(DecodeError) as refused:
        decode(data, tolerant=tolerant, **options)
    return refused.value.code


def surname(text, **options):
    data = text if isinstance(text, bytes) else text.encode()
    return decode(data, **options).records[0].record.identity.name.surname


@pytest.mark.parametrize(
    "una",
    [
        "UNA:+.?'",  # eight characters
        "UNA:+.? ’",  # a curly terminator
        "UNA:+.?A'",
        "UNA::.? '",
        "UNA:+.? +",
        "UNA:+.? \x1c",
        "UNA:+.?1'",
        "UNA +.? '",
    ],
)
def test_a_damaged_service_string_is_refused_in_both_modes(una):
    for tolerant in (False, True):
        assert refusal(interchange(una=una), tolerant=tolerant) == "BAD_SERVICE_STRING"


@pytest.mark.parametrize("una", ["UNA:*.? $", "UNA:*.? #", "UNA:-.? '", "UNA:+.?*'", "UNA:+.\\*'", "UNA;^,! ~"])
def test_a_service_string_may_redefine_every_separator(una):
    component, data, *_, end = una[3:]
    text = interchange("NAD+FL+++ONE:TWO").replace("+", "\0").replace(":", component).replace("'", end)
    assert surname(una + text.replace("\0", data)) == "ONE"


@pytest.mark.parametrize("text", ["", "hello", "UNA:+.? '", "<xml/>", "UNH+1+PAXLST:D:05B'", "UNBELIEVABLE"])
def test_a_file_that_is_not_edifact_is_refused_in_both_modes(text):
    assert {refusal(text), refusal(text, tolerant=True)} == {"NOT_EDIFACT"}


@pytest.mark.parametrize(
    ("written", "read"),
    [("O?'LEARY", "O'LEARY"), ("A?+UNT?+50", "A+UNT+50"), ("A??", "A?"), ("A???'B", "A?'B"), ("A?:B", "A:B")],
)
def test_what_is_released_is_text(written, read):
    assert surname(interchange(f"NAD+FL+++{written}")) == read


def test_a_repeated_element_is_a_deviation_of_syntax_four_and_plain_text_before():
    repeated = interchange("NAD+FL+++ONE*TWO", una="UNA:+.?*'")
    assert codes(repeated) == ["REPETITION_UNEXPECTED"]
    assert surname(interchange("NAD+FL+++ONE*TWO", una="UNA:+.?*'", syntax="UNOA:3")) == "ONE*TWO"


@pytest.mark.parametrize(
    ("syntax", "name", "clean"),
    [
        ("UNOA:4", "SMITH", True),
        ("UNOA:4", "Smith", False),
        ("UNOB:4", "Smith", True),
        ("UNOC:3", "NUÑEZ".encode("latin-1"), True),
        ("UNOA:4", "NUÑEZ".encode("latin-1"), False),
        ("UNOY:4", "NUÑEZ", True),
        ("IATA:1", "SMITH", True),
    ],
)
def test_characters_are_those_of_the_declared_set(syntax, name, clean):
    raw = name if isinstance(name, bytes) else name.encode()
    data = interchange("NAD+FL+++@", syntax=syntax).encode().replace(b"@", raw)
    assert codes(data) == ([] if clean else ["CHARSET_VIOLATION"])
    assert surname(data, tolerant=True) == (raw.decode("latin-1") if isinstance(name, bytes) else name)


def test_bytes_of_no_set_and_control_characters_never_reach_a_record():
    data = interchange("NAD+FL+++A@B", syntax="UNOY:4").encode().replace(b"@", b"\x87\x00")
    assert codes(data) == ["CHARSET_VIOLATION"]
    assert surname(data, tolerant=True) == "A��B"


def test_an_unknown_syntax_identifier_is_named():
    assert codes(interchange(syntax="ABCD:4")) == ["CHARSET_UNKNOWN"]


def test_line_breaks_between_segments_are_no_deviation():
    assert decode(interchange().replace("'", "'\r\n").encode()).warnings == ()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda text: "QU ABCDE\r\n" + text, "TEXT_BEFORE"),
        (lambda text: text + "\r\n\x03", "TEXT_AFTER"),
        (lambda text: text.replace("BGM", " BGM"), "BLANKS_BEFORE_SEGMENT"),
        (lambda text: text.replace("JFK", "J\r\nFK"), "LINE_BREAK_IN_SEGMENT"),
        (lambda text: text.replace("BGM", "BGM "), "TAG_PADDED"),
        (lambda text: text.replace("TDT+", "XYZ+1'TDT+").replace("UNT+7", "UNT+8"), "TAG_UNKNOWN"),
        (lambda text: text[:-1], "TERMINATOR_MISSING"),
        (lambda text: text.replace("UNT+7", "UNT+8"), "UNT_COUNT"),
        (lambda text: text.replace("UNT+7+1", "UNT+7+9"), "UNT_REFERENCE"),
        (lambda text: text.replace("UNZ+1+1", "UNZ+2+1"), "UNZ_COUNT"),
        (lambda text: text.replace("UNZ+1+1", "UNZ+1+2"), "UNZ_REFERENCE"),
        (lambda text: text.replace("UNT+7+1'", ""), "UNT_MISSING"),
        (lambda text: text.replace("UNZ+1+1'", ""), "UNZ_MISSING"),
        (lambda text: text.replace("UNH", "LOC+1'UNH"), "SEGMENT_OUTSIDE_MESSAGE"),
    ],
)
def test_each_deviation_of_transport_and_envelope_has_its_own_code(change, code):
    changed = change(interchange())
    assert codes(changed) == [code]
    assert refusal(changed) == code
    assert surname(changed, tolerant=True) == "NADIE"


def test_a_release_character_cut_from_what_it_releases_by_a_line_break_still_releases_it():
    assert surname(interchange("NAD+FL+++O?\r\n'LEARY"), tolerant=True) == "O'LEARY"


def test_an_offset_counts_the_bytes_of_the_file_with_its_line_breaks():
    text = "QU\r\n" + interchange().replace("'", "'\r\n").replace("MEX", "ME!")
    (_, warning) = decode(text.encode(), tolerant=True).warnings
    assert (warning.code, warning.segment, warning.position) == ("BAD_VALUE", "LOC", 6)
    assert text.encode()[warning.offset :].startswith(b"LOC+87")


def test_a_second_interchange_is_refused_and_not_taken_for_a_mail_footer():
    assert refusal(interchange() + "\r\n" + interchange(), tolerant=True) == "SEVERAL_INTERCHANGES"


def test_an_interchange_without_a_message_is_refused():
    assert refusal("UNB+UNOA:4+PB+US+261112:0715+1'UNZ+0+1'", tolerant=True) == "NO_MESSAGE"


def test_an_error_names_no_value_and_no_tag_that_is_not_one():
    text = interchange("SECRET+1", "NAD+FL+++HIDDEN:NAME")
    with pytest.raises(DecodeError) as refused:
        decode(text.encode())
    assert refused.value.code == "TAG_UNKNOWN"
    assert not any(word in str(refused.value) for word in ("SECRET", "SEC", "HIDDEN"))


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(bytes=50), "TOO_LARGE"),
        (Limits(segments=3), "TOO_MANY_SEGMENTS"),
        (Limits(segment_bytes=8), "SEGMENT_TOO_LONG"),
        (Limits(components=2), "TOO_MANY_ELEMENTS"),
        (Limits(component_characters=2), "ELEMENT_TOO_LONG"),
        (Limits(messages=0), "TOO_MANY_MESSAGES"),
        (Limits(persons=0), "TOO_MANY_PERSONS"),
        (Limits(seconds=-1), "TIME_EXCEEDED"),
        (Limits(preamble_bytes=9), "NOT_EDIFACT"),
    ],
)
def test_every_cap_refuses_in_both_modes(limits, code):
    for tolerant in (False, True):
        assert refusal(interchange(), limits=limits, tolerant=tolerant) == code


def test_deviations_and_line_breaks_are_capped_too():
    assert refusal(interchange() + " ", tolerant=True, limits=Limits(deviations=0)) == "TOO_MANY_DEVIATIONS"
    assert refusal(interchange().replace("'", "'\n"), limits=Limits(line_breaks=2)) == "TOO_MANY_LINES"


HOSTILE = {
    "a million segments": b"LOC+1'" * 1_000_000,
    "a million persons": b"NAD+FL+++A'" * 700_000,
    "one endless segment": b"A" * 8_000_000,
    "nothing but release": b"?" * 8_000_000,
    "nothing but separators": b"+" * 8_000_000,
    "nothing but terminators": b"'" * 8_000_000,
    "a line break after each byte": b"L\n" * 4_000_000,
    "blanks": b" " * 8_000_000,
    "a million interchange heads": b"UNA" * 2_000_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_gives_no_record_within_ten_seconds_and_120_mib(name):
    head = BODY.partition("{}")[0].encode()
    data = head + HOSTILE[name]
    tracemalloc.start()
    began = time.monotonic()
    with contextlib.suppress(DecodeError):
        assert decode(data, tolerant=True).records == ()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.monotonic() - began < 10
    assert peak < 120 << 20


def test_every_rule_has_a_code_in_capitals_and_a_sentence_of_its_own():
    assert all(rule.name.isupper() and rule.value for rule in Rule)
    assert len({rule.value for rule in Rule}) == len(Rule)
