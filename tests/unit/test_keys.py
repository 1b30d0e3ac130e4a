"""Suite 1 against published vectors; both halves count; key files are nobody else's to read."""

import base64
import json
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.bindings._rust import openssl as rust_openssl
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from broker import keys
from broker.canonical import H
from broker.errors import KeyFileError, SignatureError
from broker.v1 import codes_pb2

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "samples" / "vectors"
KEY = keys.SigningKey.from_seed(bytes(range(64)))


def published(name):
    path = VECTORS / name
    if not path.exists():
        pytest.skip("shared samples are absent")
    return json.loads(path.read_text())


@pytest.mark.samples
def test_the_published_composite_vectors_verify_and_their_key_is_ours():
    published_set = published("composite_mldsa65_ed25519.json")
    message, ctx = (base64.b64decode(published_set[name]) for name in ("m", "ctx"))
    case = next(test for test in published_set["tests"] if test["tcId"] == "id-MLDSA65-Ed25519-SHA512")
    public, private = base64.b64decode(case["pk"]), base64.b64decode(case["sk"])
    key = keys.VerifyKey(public)
    key._verify(base64.b64decode(case["s"]), message, b"")
    key._verify(base64.b64decode(case["sWithContext"]), message, ctx)
    assert keys.SigningKey.from_seed(private).public == public
    with pytest.raises(SignatureError):
        key._verify(base64.b64decode(case["sWithContext"]), message, b"")


@pytest.mark.samples
def test_the_published_x_wing_seeds_expand_to_their_public_keys():
    for case in published("xwing.json"):
        assert keys.HpkeKey.from_seed(bytes.fromhex(case["sk"])).public.hex() == case["pk"]


def hpke_vectors(source):
    if source == "samples":
        return published("hpke_pq_647a.json")
    with cryptography_vectors.open_vector_file("HPKE/hpke-pq-test-vectors.json", "r") as file:
        return [case for case in json.load(file) if case["kem_id"] == 0x647A]


@pytest.mark.parametrize("source", [pytest.param("samples", marks=pytest.mark.samples), "cryptography_vectors"])
def test_the_published_hpke_vectors_of_our_kem_open(source):
    if not hasattr(rust_openssl.hpke, "_decrypt_with_aad"):
        pytest.skip("this cryptography has no HPKE with aad")
    kdfs = {1: KDF.HKDF_SHA256, 17: KDF.SHAKE256}
    cases = hpke_vectors(source)
    assert cases
    for case in cases:
        seed = bytes.fromhex(case["skRm"])
        assert keys.HpkeKey.from_seed(seed).public.hex() == case["pkRm"]
        suite = Suite(KEM.MLKEM768_X25519, kdfs[case["kdf_id"]], AEAD.CHACHA20_POLY1305)
        first = case["encryptions"][0]
        sealed = bytes.fromhex(case["enc"] + first["ct"])
        info, aad = bytes.fromhex(case["info"]), bytes.fromhex(first["aad"])
        opened = rust_openssl.hpke._decrypt_with_aad(suite, sealed, keys.HpkeKey.from_seed(seed)._key, info, aad)
        assert opened.hex() == first["pt"]


def test_what_is_signed_verifies_under_its_own_message_ctx_and_key_only():
    signature = KEY.sign(b"message", keys.CTX_ORIGIN)
    assert len(KEY.public) == keys.PUBLIC == 1984
    assert len(signature) == keys.SIGNATURE == 3373
    keys.verify(KEY.public, signature, b"message", keys.CTX_ORIGIN)
    keys.verify(keys.VerifyKey(KEY.public), signature, b"message", keys.CTX_ORIGIN)
    other = keys.SigningKey.generate().public
    for public, message, ctx in [
        (KEY.public, b"messagf", keys.CTX_ORIGIN),
        (KEY.public, b"message", keys.CTX_ENVELOPE),
        (other, b"message", keys.CTX_ORIGIN),
    ]:
        with pytest.raises(SignatureError):
            keys.verify(public, signature, message, ctx)


def test_half_a_signature_is_none():
    one, two = KEY.sign(b"one", keys.CTX_PACK), KEY.sign(b"two", keys.CTX_PACK)
    for mixed in (one[:3309] + two[3309:], two[:3309] + one[3309:], one[:3309], one[3309:], one + b"\x00", b""):
        with pytest.raises(SignatureError):
            keys.verify(KEY.public, mixed, b"one", keys.CTX_PACK)


def test_a_plain_ml_dsa_signature_of_the_same_seed_is_not_a_composite_half():
    plain = MLDSA65PrivateKey.from_seed_bytes(KEY.seed[:32]).sign(b"one")
    with pytest.raises(SignatureError):
        keys.verify(KEY.public, plain + KEY.sign(b"one", keys.CTX_PACK)[3309:], b"one", keys.CTX_PACK)


def test_a_ctx_outside_the_closed_list_is_not_signed():
    with pytest.raises(ValueError, match="closed list"):
        KEY.sign(b"m", b"puente/v1/other")
    with pytest.raises(ValueError, match="closed list"):
        keys.verify(KEY.public, bytes(3373), b"m", b"")


@pytest.mark.parametrize("public", [b"", bytes(1983), bytes(1985)])
def test_a_public_key_of_another_size_is_refused(public):
    with pytest.raises(SignatureError):
        keys.VerifyKey(public)


def test_hpke_opens_what_was_sealed_to_it_under_the_same_info_only():
    key = keys.HpkeKey.generate()
    sealed = keys.hpke_seal(b"plain", key.public, b"info")
    assert len(sealed) == keys.HPKE_ENC + 5 + 16
    assert key.open(sealed, b"info") == b"plain"
    for data, info in [(sealed, b"other"), (sealed[:-1], b"info"), (b"", b"info"), (bytes(2000), b"info")]:
        with pytest.raises((InvalidTag, ValueError)):
            key.open(data, info)
    with pytest.raises(InvalidTag):
        keys.HpkeKey.generate().open(sealed, b"info")


def test_a_kid_names_suite_use_and_key():
    made = keys.kid(1, 2, b"key")
    assert made == H(b"puente/v1/kid\x00\x00\x01\x02key")
    assert len({made, keys.kid(2, 2, b"key"), keys.kid(1, 3, b"key"), keys.kid(1, 2, b"kez")}) == 4


@pytest.mark.parametrize(("use", "size"), [("ORIGIN", 64), ("HPKE_CONTROL", 32)])
def test_a_key_file_gives_back_what_was_written(tmp_path, use, size):
    path = tmp_path / "a.key"
    number = codes_pb2.KeyUse.Value(f"KEY_USE_{use}")
    keys.write_key_file(path, number, b"s" * size, development=True)
    assert path.stat().st_mode & 0o777 == 0o600
    read = keys.read_key_file(path)
    assert (read.use, read.seed, read.development) == (number, b"s" * size, True)
    assert read.is_hpke == (size == 32)


def test_a_key_file_is_never_overwritten(tmp_path):
    path = tmp_path / "a.key"
    keys.write_key_file(path, 2, b"s" * 64, development=False)
    with pytest.raises(KeyFileError):
        keys.write_key_file(path, 2, b"t" * 64, development=False)
    assert keys.read_key_file(path).seed == b"s" * 64


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_file_that_others_can_read_is_refused(tmp_path, mode):
    path = tmp_path / "a.key"
    keys.write_key_file(path, 2, b"s" * 64, development=False)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        keys.read_key_file(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"suite": 1, "use": "origin", "seed": "00", "development": false}',
        '{"suite": 2, "use": "origin", "seed": "%s", "development": false}' % ("00" * 64),
        '{"suite": 1, "use": "nothing", "seed": "%s", "development": false}' % ("00" * 64),
        '{"suite": 1, "use": "origin", "seed": "%s", "development": 0}' % ("00" * 64),
        '{"suite": 1, "use": "hpke_data", "seed": "%s", "development": false}' % ("00" * 64),
    ],
)
def test_a_damaged_key_file_is_refused_without_repeating_it(tmp_path, text):
    path = tmp_path / "a.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(KeyFileError) as error:
        keys.read_key_file(path)
    assert "0000" not in str(error.value)


def test_a_missing_key_file_is_refused(tmp_path):
    with pytest.raises(KeyFileError):
        keys.read_key_file(tmp_path / "none.key")


def test_a_seed_of_another_size_is_refused(tmp_path):
    with pytest.raises(KeyFileError):
        keys.write_key_file(tmp_path / "a.key", 2, b"s" * 32, development=False)
    with pytest.raises(ValueError, match="64 bytes"):
        keys.SigningKey(b"s")
    with pytest.raises(ValueError, match="32 bytes"):
        keys.HpkeKey(b"s")
