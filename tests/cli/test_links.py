"""What operators do, as transcripts against two real gateways: a link and a key suspended, resumed and reinstated."""

import json
import os
import subprocess
import sys
import time
from importlib import resources

import pytest

from tests.fixtures import two_gateways


@pytest.fixture(scope="module")
def link():
    with two_gateways() as gateways:
        yield gateways


def puente(link, *arguments):
    environment = {**os.environ, "PUENTE_HOME": str(link.folder)}
    command = [sys.executable, "-m", "broker.cli", *arguments, "--output", "json"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, text=True, env=environment)
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def submit(link):
    path = str(resources.files("adapters").joinpath("demo/passengers.edi"))
    return puente(
        link, "submit", path, "--format", "paxlst", "--as", "us.cbp", "--to", "mx.inm", "--purpose", "border_security",
        "--basis", "us.usc.49.44909",
    )  # fmt: skip


def state(link, party):
    return puente(link, "links", "--as", f"{party}.operator")[1]["links"][0]["state"]


def keys_of(link, party):
    code, found, _ = puente(link, "keys", "list", "--as", f"{party}.auditor")
    assert (code, found["schema"], found["ok"]) == (0, "puente.keys/1", True)
    return {key["kid"]: key for key in found["keys"]}


def becomes(link, party, kid, wanted):
    """The key's view at a party's gateway once it stands so: within seconds."""
    end = time.monotonic() + 10
    while (view := keys_of(link, party)[kid])["state"] != wanted:
        assert time.monotonic() < end, view
    return view


def test_one_operator_suspends_the_link_and_two_resume_it(link):
    code, said, _ = puente(link, "links", "suspend", "--why", "a drill")
    assert (code, said["schema"], said["ok"]) == (0, "puente.links.suspend/1", True)
    assert (said["link"]["state"], said["link"]["why"]) == ("suspended", "OPERATOR")
    assert state(link, "mx") == "open"  # it is not told

    code, _, err = submit(link)
    assert code == 6
    assert "LINK_SUSPENDED" in err

    for _ in range(2):
        code, said, _ = puente(link, "links", "resume", "--why", "looked at")
        assert (code, said["resumed"], said["link"]["resume_asked_by"]) == (0, False, "us.operator")
    link.stop("us")
    link.start("us")
    assert state(link, "us") == "suspended"

    code, said, _ = puente(link, "links", "resume", "--why", "seen it too", "--as", "us.operator2")
    assert (code, said["schema"], said["ok"], said["resumed"]) == (0, "puente.links.resume/1", True, True)
    assert said["link"]["state"] == "open"
    assert submit(link)[0] == 0


def test_an_open_link_is_not_resumed_and_says_so(link):
    code, _, err = puente(link, "links", "resume", "--why", "x")
    assert code == 1
    assert "not suspended" in err


@pytest.mark.parametrize("caller", ["us.officer", "us.auditor", "us.cbp"])
def test_only_operators_suspend(link, caller):
    code, _, err = puente(link, "links", "suspend", "--why", "x", "--as", caller)
    assert code == 3
    assert "ROLE_REQUIRED" in err
    assert state(link, "us") == "open"


def test_a_suspended_origin_key_stops_its_agency_on_both_sides_until_the_roots_reinstate_it(link, tmp_path):
    [kid] = [k for k, key in keys_of(link, "us").items() if (key["owner"], key["use"]) == ("us.cbp", "origin")]
    code, said, _ = puente(link, "keys", "suspend", kid, "--why", "a laptop was stolen")
    assert (code, said["schema"], said["key"]["state"]) == (0, "puente.keys.suspend/1", "suspended")
    assert becomes(link, "mx", kid, "suspended")["version"] == 1
    code, _, err = submit(link)
    assert code == 6
    assert "KEY_SUSPENDED" in err

    item, agreed = str(tmp_path / "item"), str(link.folder / "us" / "agreement.bin")
    assert puente(link, "keys", "draft-reinstate", item, "--kid", kid, "--version", "2", "--agreement", agreed)[0] == 0
    code, _, err = puente(link, "keys", "issue", item, "--why", "found again")
    assert code == 2
    assert "KEY_ITEM_INVALID" in err

    root = str(link.folder / "roots" / "us.json")
    code, said, _ = puente(link, "keys", "sign", item, "--root", root, "--agreement", agreed)
    assert (code, said["act"], said["owner"], said["signatures"]) == (0, "reinstate", "us.cbp", 1)
    assert puente(link, "keys", "issue", item, "--why", "found again")[1]["key"]["state"] == "valid"
    assert becomes(link, "mx", kid, "valid")["version"] == 2
    assert submit(link)[0] == 0
    assert puente(link, "keys", "issue", item, "--why", "again")[0] == 2  # an old item lifts nothing


def test_an_operator_cannot_suspend_a_key_of_the_other_party(link):
    [kid] = [k for k, key in keys_of(link, "us").items() if (key["owner"], key["use"]) == ("mx.inm", "origin")]
    code, _, err = puente(link, "keys", "suspend", kid, "--why", "x")
    assert code == 1
    assert "this party" in err
    assert keys_of(link, "mx")[kid]["state"] == "valid"


def test_a_word_that_is_no_kid_is_told_so(link):
    code, _, err = puente(link, "keys", "suspend", "abc", "--why", "x")
    assert code == 2
    assert "64 hex digits" in err


def test_a_new_origin_key_is_added_and_what_it_signs_arrives_verified(link, tmp_path):
    key, item = tmp_path / "origin.json", str(tmp_path / "item")
    agreed, root = str(link.folder / "us" / "agreement.bin"), str(link.folder / "roots" / "us.json")
    kid = puente(link, "keys", "new", str(key), "--use", "origin")[1]["kid"]
    public = str(key.with_suffix(".pub"))
    draft = ("--public", public, "--use", "origin", "--owner", "us.cbp", "--days", "30")
    assert puente(link, "keys", "draft-add", item, *draft)[1]["kid"] == kid
    assert puente(link, "keys", "sign", item, "--root", root, "--agreement", agreed)[0] == 0
    assert puente(link, "keys", "issue", item, "--why", "the yearly change")[0] == 0
    assert becomes(link, "mx", kid, "valid")["added"]

    own = link.callers["us.cbp"] / "origin.json"
    own.unlink()
    key.rename(own)
    code, sent, _ = submit(link)
    assert code == 0
    command = [sys.executable, "-m", "broker.cli", "receive", "--as", "mx.inm", "--format", "json", "--ack"]
    environment = {**os.environ, "PUENTE_HOME": str(link.folder)}
    done = subprocess.run(command, capture_output=True, timeout=60, check=True, text=True, env=environment)
    came = {line["message_id"]: line["origin"] for line in map(json.loads, done.stdout.splitlines())}
    for one in sent["items"]:
        assert came[one["message_id"]] == {"agency": "us.cbp", "assurance": "agency_signed", "verified": True}
