"""What the project says of itself is true: its documents, its commands, its names, and what is generated."""

import ast
import hashlib
import importlib
import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from importlib.metadata import packages_distributions
from pathlib import Path
from xml.etree import ElementTree as ET

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.rpc import error_details_pb2
from typer.testing import CliRunner

from adapters.paxlst import decode
from broker import config, errors, events
from broker.cli.demo_plan import plan
from broker.cli.main import app
from broker.gateway import status
from broker.v1 import agreement_pb2, codes_pb2, envelope_pb2, log_pb2

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SPEC = ROOT / "docs" / "spec"
PACKAGES = ("broker", "policy", "adapters")
# In pieces, or this file would be the first to hold them.
FORBIDDEN = [
    "/" + "root/", "/" + "home/", "py" + "pi.org", "files." + "pythonhosted", "registry." + "npmjs", "--index" + "-url",
    "--extra-index" + "-url", "repo1." + "maven", "proxy." + "golang",
]  # fmt: skip
ORDINARY = {Path("/"), Path("/tmp"), Path("/opt"), Path("/srv"), Path("/usr/src"), Path("/var/tmp")}
"""Folders that documents may name although a checkout lies in one."""

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def targets():
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def tracked():
    """Every file that git would track; without git, for a copy of the tree is a project too."""
    ignored = {".git", "node_modules"}
    ignored |= {line.rstrip("/").lstrip("*") for line in (ROOT / ".gitignore").read_text().splitlines() if line}
    folders = [ROOT]
    while folders:
        for path in sorted(folders.pop().iterdir()):
            if path.name in ignored or path.suffix in ignored:
                continue
            if path.is_dir():
                folders.append(path)
            else:
                yield path


@each_document
def test_every_make_target_that_a_document_names_exists(path):
    named = set(re.findall(r"`make ([a-z-]+)", path.read_text(encoding="utf-8")))
    named |= set(re.findall(r"^make ([a-z-]+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= targets()


def test_the_readme_names_the_two_commands():
    assert {"make demo", "make test"} <= set(re.findall(r"^make \w+", (ROOT / "README.md").read_text(), re.MULTILINE))


def test_the_readme_shows_what_the_demo_does():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    planned = plan(decode((ROOT / "adapters" / "demo" / "passengers.edi").read_bytes()).records)
    seen = Counter(one.expected for one in planned)
    kept = seen["shared"] + seen["minimised"]
    assert f"{len(planned)} submitted, {kept} acknowledged, {seen['refused']} refused" in text
    outcomes = {one.record.record.identity.name.given.upper(): one.expected for one in planned}
    shown = re.findall(r"^ [A-Z ]+, ([A-Z]+) +\w+ +(shared|minimised|refused|recalled) ", text, re.MULTILINE)
    assert len(shown) == 4
    assert all(outcomes[given] == outcome for given, outcome in shown)


def test_the_picture_of_the_way_has_the_steps_of_the_architecture():
    picture = ET.parse(ROOT / "docs" / "way-of-a-message.svg")
    drawn = [int(text) for element in picture.iter() if (text := (element.text or "").strip()).isdigit()]
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    listed = [int(n) for n in re.findall(r"^\| (\d+) \*{0,2}\w+\*{0,2} \|", text, re.MULTILINE)]
    assert sorted(drawn) == listed[: len(drawn)] == list(range(1, 16))


@each_document
def test_every_command_that_a_document_names_answers_to_help(path):
    text = path.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)(?:\.venv/bin/)?puente ([a-z]+(?: [a-z][a-z-]*)?)", text, re.MULTILINE))
    for words in sorted(named):
        first = words.split()[0]
        groups = {"policy", "decision", "message", "links", "keys"}
        arguments = words.split() if first in groups else [first]
        assert CliRunner().invoke(app, [*arguments, "--help"]).exit_code == 0, words


@each_document
def test_every_file_that_a_document_links_to_exists(path):
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / link).exists(), link


@each_document
def test_every_test_that_a_document_names_exists(path):
    for file, name in re.findall(r"(tests/[\w/]+\.py)::(\w+)", path.read_text(encoding="utf-8")):
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{name}"


def test_no_file_names_this_machine_or_a_package_registry():
    found = []
    here = [f"{folder}/" for folder in (ROOT, ROOT.parent) if folder not in ORDINARY]
    for path in tracked():
        data = path.read_bytes()
        found += [(str(path.relative_to(ROOT)), word) for word in FORBIDDEN + here if word.encode() in data]
    assert not found


def test_generated_code_is_what_the_protos_give():
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "generate_proto.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_nothing_else_that_is_installed_owns_our_import_names():
    owners = packages_distributions()
    for name in PACKAGES:
        assert set(owners.get(name, ())) <= {"puente-broker"}, name
        assert Path(importlib.import_module(name).__file__).is_relative_to(ROOT), name


def test_every_key_of_the_configuration_is_documented_and_no_other():
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    tables = {name for name in config._KNOWN if name}
    known = {f"{table}.{key}" if table else key for table, keys in config._KNOWN.items() for key in keys} - tables
    section = text.split("## Configuration", 1)[1].split("\n## ", 1)[0]
    assert set(re.findall(r"^\| `([a-z_.]+)` \|", section, re.MULTILINE)) == known


def logged():
    """(file, event, keys) of every call of `events.log`."""
    for path in sorted((ROOT / "broker").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "broker.events"]
        if not any(name.name == "log" and name.asname is None for node in imports for name in node.names):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "log":
                yield path.name, node.args[0], [keyword.arg for keyword in node.keywords]


def test_every_event_has_a_constant_name_allowed_keys_and_a_line_in_the_manual():
    manual = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    calls = list(logged())
    assert calls
    for file, event, keys in calls:
        assert isinstance(event, ast.Constant), file
        assert set(keys) <= events.ALLOWED, file
        assert f"| `{event.value}` |" in manual, event.value


def kinds(above):
    """Every error that the gateway may raise, by what is loaded."""
    for kind in above.__subclasses__():
        if not kind.__module__.startswith(("broker.client", "broker.cli", "tests")):
            yield kind
            yield from kinds(kind)


def heard():
    """(reason, status) of every error that a caller may hear, of a call or of one submission."""
    failures = [kind("", "") if kind is errors.ConfigError else kind("") for kind in kinds(errors.PuenteError)]
    answers = [status.of(failure, "") for failure in (*failures, RuntimeError())]
    answers += [status.of_item(reason, ()) for reason in status._ITEM_CODES]
    for answer in answers:
        info = error_details_pb2.ErrorInfo()
        answer.details[0].Unpack(info)
        yield info.reason, next(code.name for code in grpc.StatusCode if code.value[0] == answer.code)


def test_the_manual_says_of_every_error_what_to_do():
    manual = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    section = manual.split("## Errors", 1)[1].split("\n## ", 1)[0]
    assert set(re.findall(r"^\| `([A-Z_]+)` \| ([A-Z_]+)", section, re.MULTILINE)) == set(heard())


def test_the_manual_says_what_every_alarm_and_answer_means():
    manual = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "broker").glob("*.py"))
    words = re.findall(r"(?:\.alarm\(|\.evidence\(tx,)\s*\"([A-Z_]+)\"", source)
    words += re.findall(r"return \"([A-Z_]+)\"$", source, re.MULTILINE)
    assert {"EVIDENCE_TWO_HEADERS", "LEASE_LOST"} <= set(words)
    for word in words:
        assert f"| `{word}` |" in manual, word


def test_every_package_that_we_ask_for_has_its_reason():
    text = (ROOT / "docs" / "decisions" / "0001-libraries.md").read_text(encoding="utf-8")
    for file in ("runtime.in", "dev.in"):
        for line in (ROOT / "requirements" / file).read_text(encoding="utf-8").splitlines():
            name = re.match(r"[a-z][a-z0-9-]*", line)
            if name:
                assert f"`{name[0]}`" in text, name[0]


def test_the_picture_of_the_layers_is_the_contract_that_is_checked():
    picture = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("## Layers", 1)[1].split("```")[1]
    drawn = [re.findall(r"[a-z0-9]+", re.split(r"\s{4,}(?=\S+ \S)", line)[0]) for line in picture.strip().splitlines()]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [contract] = [c for c in project["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    assert [sorted(line) for line in drawn] == [sorted(re.findall(r"\w+", layer)) for layer in contract["layers"]]


# The specification


def rows_of(descriptor):
    """A message's fields as the specification lists them: number, name, type."""
    words = {number: name.removeprefix("TYPE_").lower() for name, number in _types()}
    for field in sorted(descriptor.fields, key=lambda field: field.number):
        below = field.message_type or field.enum_type
        kind = below.name if below else words[field.type]
        yield f"{field.number}", field.name, f"repeated {kind}" if field.is_repeated else kind


def _types():
    return [(name, getattr(FieldDescriptor, name)) for name in dir(FieldDescriptor) if name.startswith("TYPE_")]


def specified(name):
    """The table below a heading of docs/spec/messages.md."""
    text = (SPEC / "messages.md").read_text(encoding="utf-8")
    section = re.split(r"^##+ ", text.split(f"\n### {name}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(r"^\| (\d+) \| (\w+) \| ([\w ]+) \|", section, re.MULTILINE)


MESSAGES = {
    name: descriptor
    for file in (envelope_pb2, log_pb2, agreement_pb2)
    for name, descriptor in file.DESCRIPTOR.message_types_by_name.items()
}
ENUMS = {
    name: descriptor
    for file in (codes_pb2, envelope_pb2, log_pb2)
    for name, descriptor in file.DESCRIPTOR.enum_types_by_name.items()
}


@pytest.mark.parametrize("name", MESSAGES)
def test_the_specification_has_every_field_of_what_is_hashed_or_signed(name):
    assert specified(name) == list(rows_of(MESSAGES[name]))


@pytest.mark.parametrize("name", ENUMS)
def test_the_specification_has_every_code(name):
    text = (SPEC / "messages.md").read_text(encoding="utf-8")
    listed = re.search(rf"^\*\*{name}\*\* (.*?)$", text, re.MULTILINE)[1]
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper() + "_"
    values = [(value.number, value.name.removeprefix(prefix)) for value in ENUMS[name].values if value.number]
    assert listed == " · ".join(f"{number} {word}" for number, word in values)


def test_the_bytes_of_the_specifications_example_are_frozen_vectors():
    vectors = json.dumps(json.loads((ROOT / "tests" / "vectors" / "puente-v1.json").read_text()))
    text = (SPEC / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"\b[0-9a-f]{16,}\b", re.sub(r"(?<=[0-9a-f])\n +(?=[0-9a-f])", "", text))
    assert len(shown) >= 10
    for value in shown:
        assert value in vectors, value


def test_the_licence_is_apache_2_0_word_for_word():
    text = " ".join((ROOT / "LICENSE").read_text(encoding="utf-8").split())
    assert text.startswith("Apache License Version 2.0, January 2004")
    digest = hashlib.sha256(text.split("APPENDIX")[0].encode()).hexdigest()
    assert digest == "3412ff3c69243cdaf6a1c50654f4525972963ab0c8f76dc9991388e396523848"
